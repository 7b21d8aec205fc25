"""What is minimised: the regularised logistic loss and its logarithm, the diversity penalty."""

from kernelgap.objectives.diversity import diversity_penalty, with_diversity
from kernelgap.objectives.logistic import (
    log_logistic_losses,
    log_regularized_logistic,
    logistic_losses,
    regularized_logistic,
    soft_margins,
)

__all__ = [
    "diversity_penalty",
    "log_logistic_losses",
    "log_regularized_logistic",
    "logistic_losses",
    "regularized_logistic",
    "soft_margins",
    "with_diversity",
]
