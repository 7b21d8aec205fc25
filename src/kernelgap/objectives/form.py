"""What regularised losses share: their options, and the penalty on the norm."""

import jax
import jax.numpy as jnp

from kernelgap import _checks
from kernelgap._trees import safe_power, squared_norm
from kernelgap.typing import PyTree, Scalar


def checked_form(power: float, reduction: str) -> float:
    """The power, refused unless positive; so is a reduction that is neither mean nor sum."""
    _checks.choice(reduction, "reduction", ("mean", "sum"))
    return _checks.number(power, "power", minimum=0, exclusive=True)


def regularized(
    losses: jax.Array, params: PyTree, *, l2: float | jax.Array, power: float, reduction: str
) -> Scalar:
    """reduce_i losses_i + l2 * ||params||^power."""
    data_term = (jnp.mean if reduction == "mean" else jnp.sum)(losses)
    if _checks.is_concrete(l2) and float(l2) == 0:
        return data_term  # also where the norm overflows
    return data_term + l2 * safe_power(squared_norm(params), power / 2)
