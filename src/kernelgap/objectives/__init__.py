"""Logistic and squared losses.

- `regularized_logistic`, `regularized_squared`: `loss(params, x, y)` of a network, with weight
  decay; `log_regularized_logistic` is the logarithm of the first, which does not underflow;
- `logistic_losses`, `squared_losses`: the losses of single samples, from outputs.
"""

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
