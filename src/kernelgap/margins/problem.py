"""A margin problem, checked, scaled and tested for separability once."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks
from kernelgap._numerics.verified import above
from kernelgap.typing import ArrayLike

_ZERO = 1e-100  # inputs below it, when the largest entry is near 1, count as zero


class Conflict(NamedTuple):
    """A proof that no network separates the data.

    Attributes:
        weights: (n,) weights p of the simplex, on a zero input or on a point with both labels.
        violation: An upper bound on h(p o y), zero but for the size of that input.
    """

    weights: Float[np.ndarray, " n"]
    violation: float


class Problem(NamedTuple):
    """Inputs and labels in float64 on the host; the margin is `scale` times that of `x`.

    Attributes:
        inputs: (n, d) the inputs as given, not rounded to JAX's default dtype.
        x: (n, d) `inputs` divided by `scale`, the largest entry in [1/2, 1).
        y: (n,) labels -1 and +1, or real targets.
        scale: A power of two.
        device_x: The inputs as a JAX array, in the dtype that came or JAX's default.
        dtype: The dtype of networks for these inputs, at least float32.
        conflict: A proof that there is no positive margin, where one is evident; else None.
    """

    inputs: Float[np.ndarray, "n d"]
    x: Float[np.ndarray, "n d"]
    y: Float[np.ndarray, " n"]
    scale: float
    device_x: Float[Array, "n d"]
    dtype: np.dtype
    conflict: Conflict | None


def prepare_problem(x: ArrayLike, y: ArrayLike, *, labels: bool = True) -> Problem:
    """Check inputs and labels, scale the inputs and look for evident conflicts.

    Without `labels`, y are real targets, which are not in conflict with each other.
    """
    inputs, device_x = host_inputs(x)
    device_y = (array_checks.signs if labels else array_checks.targets)(y, len(inputs))
    if not array_checks.is_concrete(device_y):
        raise TypeError("`y` is traced: margins are computed on the host. Call this outside of "
                        "jit, vmap and grad")  # fmt: skip
    dtype = device_x.dtype if device_x.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
    y = np.asarray(device_y if labels else y, np.float64)
    scaled, scale = divide_by_power_of_two(inputs)
    conflict = _find_conflict(scaled, y) if labels else None
    return Problem(inputs, scaled, y, scale, device_x, dtype, conflict)


def host_inputs(x: ArrayLike) -> tuple[np.ndarray, jax.Array]:
    """Return checked inputs in float64, as they came, and as a JAX array."""
    device_x = array_checks.inputs(x)
    if not array_checks.is_concrete(device_x):
        raise TypeError("`x` is traced: margins are computed on the host. Call this outside of "
                        "jit, vmap and grad")  # fmt: skip
    return np.asarray(x, np.float64), device_x


def divide_by_power_of_two(a: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the array over a power of two, its largest entry in [1/2, 1), and that power."""
    largest = float(np.max(np.abs(a), initial=0.0))
    if largest == 0:
        return a, 1.0
    exponent = math.frexp(largest)[1]
    return np.ldexp(a, -exponent), math.ldexp(1.0, exponent)


def _find_conflict(x: np.ndarray, y: np.ndarray) -> Conflict | None:
    p = np.zeros(len(x))
    sizes = np.abs(x).max(axis=1)
    if sizes.min() < _ZERO:
        p[np.argmin(sizes)] = 1
        return Conflict(p, above(x.shape[1] * float(sizes.min())) if sizes.min() else 0.0)
    _, which = np.unique(x, axis=0, return_inverse=True)
    which = which.ravel()
    first = np.full(len(x), -1)
    first[which[y > 0]] = np.flatnonzero(y > 0)
    for j in np.flatnonzero(y < 0):
        if first[which[j]] >= 0:
            p[[first[which[j]], j]] = 0.5
            return Conflict(p, 0.0)
    return None
