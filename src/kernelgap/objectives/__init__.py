"""Logistic and squared losses with weight decay."""

from kernelgap.objectives.logistic import (
    log_regularized_logistic,
    logistic_losses,
    regularized_logistic,
)
from kernelgap.objectives.squared import regularized_squared, squared_losses

__all__ = [
    "log_regularized_logistic",
    "logistic_losses",
    "regularized_logistic",
    "regularized_squared",
    "squared_losses",
]
