"""What is minimised: the regularised logistic loss and its logarithm."""

from kernelgap.objectives.logistic import (
    log_logistic_losses,
    log_regularized_logistic,
    logistic_losses,
    regularized_logistic,
    soft_margins,
)

__all__ = [
    "log_logistic_losses",
    "log_regularized_logistic",
    "logistic_losses",
    "regularized_logistic",
    "soft_margins",
]
