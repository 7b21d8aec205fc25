"""Options and the norm penalty that regularised losses share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.trees import safe_power, squared_norm
from kernelgap.typing import Apply, PyTree, Scalar


def checked_form(power: float, reduction: str) -> float:
    """Return the power; refuse it unless positive, and reductions other than mean and sum."""
    checks.choice(reduction, "reduction", ("mean", "sum"))
    return checks.number(power, "power", minimum=0, exclusive=True)


def regularized(
    losses: Callable[[jax.Array, jax.Array], jax.Array],
    apply: Apply,
    params: PyTree,
    x: jax.Array,
    y: jax.Array,
    *,
    l2: float | jax.Array,
    power: float,
    reduction: str,
) -> Scalar:
    """Return reduce_i losses(apply(params, x), y)_i + l2 * ||params||^power."""
    values = losses(apply(params, x), y)
    data_term = (jnp.mean if reduction == "mean" else jnp.sum)(values)
    if array_checks.is_concrete(l2) and float(l2) == 0:
        return data_term  # also where the norm overflows
    return penalized(data_term, l2, safe_power(squared_norm(params), power / 2))


def penalized(value: jax.Array, strength: float | jax.Array, penalty: jax.Array) -> Scalar:
    """Return value + strength * penalty, in the dtype that JAX promotes both to."""
    value = jnp.asarray(value)
    dtype = array_checks.common_dtype(value, penalty)
    return value.astype(dtype) + jnp.asarray(strength, dtype) * penalty.astype(dtype)
