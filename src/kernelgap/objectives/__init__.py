"""Logistic and squared losses with weight decay."""

from kernelgap.objectives.logistic import (
    log_logistic_losses,
    log_regularized_logistic,
    logistic_losses,
    regularized_logistic,
    soft_margins,
)
from kernelgap.objectives.squared import regularized_squared, squared_losses

__all__ = [
    "log_logistic_losses",
    "log_regularized_logistic",
    "logistic_losses",
    "regularized_logistic",
    "regularized_squared",
    "soft_margins",
    "squared_losses",
]
