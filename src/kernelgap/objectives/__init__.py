"""Logistic and squared losses with weight decay, and the diversity penalty on units."""

from kernelgap.objectives.diversity import diversity_penalty, with_diversity
from kernelgap.objectives.logistic import (
    log_logistic_losses,
    log_regularized_logistic,
    logistic_losses,
    regularized_logistic,
    soft_margins,
)
from kernelgap.objectives.squared import regularized_squared, squared_losses

__all__ = [
    "diversity_penalty",
    "log_logistic_losses",
    "log_regularized_logistic",
    "logistic_losses",
    "regularized_logistic",
    "regularized_squared",
    "soft_margins",
    "squared_losses",
    "with_diversity",
]
