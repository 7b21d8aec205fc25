r"""Discrepancies between the directions of hidden units and the uniform distribution on the sphere.

A slice S_xz = {w : w.x >= 0, w.z >= 0} covers a fraction k(x, z) = 1/2 - theta / (2 pi) of the
sphere, and dsp(W, S_xz) = (1/m) sum_i 1[w_i in S_xz] - k(x, z). For independent uniform x and z,
the mean of its square has a closed form in the angles of the units, since
E 1[u in S] 1[v in S] = k(u, v)^2:

    L2(W)^2 = (1/m^2) sum_ij k(w_i, w_j)^2 - E k^2,   E k^2 = 1/16 + psi_1(d/2) / (8 pi^2).

Slices determine the tangent kernel of a layer: entry (l, l') of D'D / m - G, where G is the Gram
matrix of `diversity.diversity_kernel`, is dsp(W, S) <x_l, x_l'> for the slice of x_l and x_l'.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.quick import quick_jit
from kernelgap._numerics.trees import safe_power
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.diversity.wedges import mean_square, mean_wedge, unit_rows, wedge
from kernelgap.typing import ArrayLike, Key, Scalar

_CHUNK = 2**25  # entries of w.x and w.z that are in memory at a time


def slice_discrepancy(w: ArrayLike, *, squared: bool = False) -> Scalar:
    r"""Return L2(W), the root mean square discrepancy of the units over slices of the sphere.

    L2(W)^2 = (1/m^2) sum_ij k(w_i, w_j)^2 - [1/16 + psi_1(d/2) / (8 pi^2)], where psi_1 is the
    trigamma function. For m independent uniform units its mean is
    (3/16 - psi_1(d/2) / (8 pi^2)) / m. The computation takes O(m^2 d) time and works in tiles.

    Args:
        w: Nonzero units of shape (m, d), one per row; only their directions matter.
        squared: Return L2(W)^2, which rounding (about 1e-8 in float32) may make negative.

    Returns:
        A scalar, differentiable. Under `jit`, zero units or NaN give NaN.

    Example:
        >>> import jax, kernelgap as kg
        >>> w = jax.random.normal(jax.random.key(0), (1000, 10))
        >>> value = kg.diversity.slice_discrepancy(w)
        >>> print(f"{float(1000 * value**2):.1f}")  # 3/16 - psi_1(5) / (8 pi^2) = 0.185 in the mean
        0.2

    References:
        Paper B (the L2 discrepancy over slices); the closed form and the mean are derived.
    """
    return _discrepancy(w, 2, squared)


def hemisphere_discrepancy(w: ArrayLike, *, squared: bool = False) -> Scalar:
    r"""Return the root mean square discrepancy of the units over hemispheres {w : w.x >= 0}.

    Its square is (1/m^2) sum_ij k(w_i, w_j) - 1/4, with mean 1 / (4m) for independent uniform
    units. It is 0 for pairs of opposite units, even clustered ones, since almost every hemisphere
    contains exactly one unit of each pair.

    Args:
        w: Nonzero units of shape (m, d), one per row; only their directions matter.
        squared: Return the square, which rounding may make negative.

    Returns:
        A scalar, differentiable. Under `jit`, zero units or NaN give NaN.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> value = kg.diversity.hemisphere_discrepancy(jnp.ones((5, 3)))  # all units coincide
        >>> print(value.round(4))
        0.5

    References:
        Derived, as for slices: E 1[u.x >= 0] 1[v.x >= 0] = k(u, v). On discrepancies over
        hemispheres: D. Bilyk, F. Dai, R. Matzke, Constructive Approximation 2018 (recalled).
    """
    return _discrepancy(w, 1, squared)


@saveable()
class WorstSlice(NamedTuple):
    """A slice of the sphere with a large discrepancy.

    Attributes:
        lower: ``|dsp(W, S_xz)|``, a LOWER bound on the supremum over all slices.
        x: Unit vector of shape (d,).
        z: Unit vector of shape (d,): the slice is {w : w.x >= 0, w.z >= 0}.
    """

    lower: Scalar
    x: Float[Array, " d"]
    z: Float[Array, " d"]

    __repr__ = compact_repr
    _repr_html_ = html_repr


def max_slice_discrepancy(
    w: ArrayLike, *, key: Key, slices: int = 4096, kept: int = 64, steps: int = 200
) -> WorstSlice:
    r"""Return a lower bound on sup ``|dsp(W, S_xz)|`` over all slices, found by local search.

    The search samples random slices and refines the best of them by random steps. A step is
    accepted if it increases the discrepancy; step lengths grow after a success and shrink after a
    failure. The value is attained by the returned slice, so it is a lower bound. The supremum
    itself is hard to compute, and the bound becomes looser as d grows. With the same key, more
    steps never decrease the bound.

    Args:
        w: Nonzero units of shape (m, d), one per row; only their directions matter.
        key: JAX random key.
        slices: Number of random slices, at least 1; half of them are thin.
        kept: Number of slices to refine, 1 <= kept <= slices.
        steps: Number of refinement steps, at least 0.

    Returns:
        `WorstSlice(lower, x, z)`. Under `jit`, zero units or NaN give NaN.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> worst = kg.diversity.max_slice_discrepancy(jnp.ones((5, 3)), key=jax.random.key(0))
        >>> bool(0.9 < worst.lower <= 1)  # a thin slice that contains all units
        True

    References:
        Paper B (the discrepancy over slices); the search is ours.
    """
    w = _units(w)
    checks.random_key(key)
    slices = checks.integer(slices, "slices", minimum=1)
    kept = checks.integer(kept, "kept", minimum=1)
    steps = checks.integer(steps, "steps", minimum=0)
    if kept > slices:
        raise ValueError(f"`kept` must be at most `slices`, {slices}; got {kept}")
    return _search(w, key, slices, kept, steps)


def _units(w: ArrayLike) -> jax.Array:
    w = array_checks.inputs(w, "w")
    if array_checks.is_concrete(w) and not (nonzero := np.asarray(w).any(axis=1)).all():
        raise ValueError(
            f"`w` must hold nonzero units, since 0 has no direction; "
            f"row {int(np.argmin(nonzero))} is zero"
        )
    return w


def _discrepancy(w: ArrayLike, power: int, squared: bool) -> Scalar:
    w = _units(w)
    uniform = mean_square(w.shape[1]) if power == 2 else 0.25
    return _mean_square(w, power, uniform, squared)


@partial(quick_jit, static_argnames=("power", "uniform", "squared"))
def _mean_square(w: Float[Array, "m d"], power: int, uniform: float, squared: bool) -> Scalar:
    square = mean_wedge(w, power, uniform)
    square = jnp.where(jnp.all(jnp.any(w != 0, axis=1)), square, jnp.nan)
    if squared:
        return square
    return jnp.where(jnp.isnan(square), square, safe_power(jnp.maximum(square, 0), 0.5))


@partial(jax.jit, static_argnames=("samples", "kept", "steps"))
def _search(
    w: Float[Array, "m d"], key: jax.Array, samples: int, kept: int, steps: int
) -> WorstSlice:
    m, d = w.shape
    w = jnp.where(jnp.all(jnp.any(w != 0, axis=1)), unit_rows(w)[0], jnp.nan)

    def discrepancies(slices: Float[Array, "s 2 d"]) -> Float[Array, " s"]:
        inside = jnp.matmul(slices, w.T, precision=jax.lax.Precision.HIGHEST) >= 0
        fraction = jnp.mean(jnp.all(inside, axis=1).astype(w.dtype), axis=1)
        # NaN units are inside no slice; the last term makes the result NaN.
        return jnp.abs(fraction - wedge(slices[:, 0], slices[:, 1])) + 0 * jnp.sum(w)

    def unit(slices: jax.Array) -> jax.Array:
        return slices / jnp.linalg.norm(slices, axis=-1, keepdims=True)

    start_key, angle_key, search_key = jax.random.split(key, 3)
    slices = unit(jax.random.normal(start_key, (samples, 2, d), w.dtype))
    angles = jax.random.uniform(angle_key, (samples // 2,), w.dtype)[:, None]
    close = unit(slices[: samples // 2, 0] + angles * slices[: samples // 2, 1])
    slices = slices.at[: samples // 2, 1].set(close)
    batch = max(1, min(samples, _CHUNK // (2 * m)))
    values = jax.lax.map(lambda pair: discrepancies(pair[None])[0], slices, batch_size=batch)
    values, best = jax.lax.top_k(values, kept)
    lengths = jnp.full((kept,), 0.5, w.dtype)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        slices, values, lengths = carry
        moves = jax.random.normal(key, slices.shape, w.dtype) / d**0.5
        moved = unit(slices + lengths[:, None, None] * moves)
        after = discrepancies(moved)
        better = after > values
        slices = jnp.where(better[:, None, None], moved, slices)
        lengths = jnp.clip(lengths * jnp.where(better, 1.5, 0.9), 1e-4, 1)
        return (slices, jnp.maximum(values, after), lengths), None

    carry = (slices[best], values, lengths)
    # The first keys do not depend on the number of steps.
    keys = jax.vmap(partial(jax.random.fold_in, search_key))(jnp.arange(steps))
    (slices, values, _), _ = jax.lax.scan(step, carry, keys)
    best = jnp.argmax(values)
    return WorstSlice(values[best], slices[best, 0], slices[best, 1])
