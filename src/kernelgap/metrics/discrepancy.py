r"""Discrepancy of units: how evenly their directions cover slices and halves of the sphere.

A slice S_xz = {w : w.x >= 0, w.z >= 0} has the share k(x, z) = 1/2 - theta / (2 pi) of the sphere.
dsp(W, S_xz) = (1/m) sum_i 1[w_i in S_xz] - k(x, z). Over independent uniform x and z, the mean of
its square has a closed form in the angles of the units, as E 1[u in S] 1[v in S] = k(u, v)^2:

    L2(W)^2 = (1/m^2) sum_ij k(w_i, w_j)^2 - E k^2,   E k^2 = 1/16 + psi_1(d/2) / (8 pi^2).

Slices are what the Gram matrix of a layer is made of: entry (l, l') of D'D / m - G, with G the
Gram matrix of `kernels.diversity_kernel`, is dsp(W, S) <x_l, x_l'> for the slice of x_l and x_l'.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap import _checks
from kernelgap._display import compact_repr, html_repr
from kernelgap._trees import safe_power
from kernelgap._wedges import mean_square, mean_wedge, unit_rows, wedge
from kernelgap.typing import ArrayLike, Key, Scalar

_CHUNK = 2**25  # entries of w.x and w.z that are held at a time


def slice_discrepancy(w: ArrayLike, *, squared: bool = False) -> Scalar:
    r"""L2(W): the root mean square discrepancy of the units over slices of the sphere.

    L2(W)^2 = (1/m^2) sum_ij k(w_i, w_j)^2 - [1/16 + psi_1(d/2) / (8 pi^2)], psi_1 the trigamma
    function. For m independent uniform units its mean is (3/16 - psi_1(d/2) / (8 pi^2)) / m.
    O(m^2 d) time, in tiles.

    Args:
        w: units of shape (m, d), one per row, of any positive norm: only directions count.
        squared: return L2(W)^2, whose rounding error of some 1e-8 (float32) may leave it negative.

    Returns:
        A scalar, differentiable. Under `jit`, zero units or NaN give NaN.

    Raises:
        TypeError: if w is not floating.
        ValueError: if w is not a finite matrix, or a unit is zero.

    Example:
        >>> import jax, kernelgap as kg
        >>> w = jax.random.normal(jax.random.key(0), (1000, 10))
        >>> value = kg.metrics.slice_discrepancy(w)
        >>> print(f"{float(1000 * value**2):.1f}")  # 3/16 - psi_1(5) / (8 pi^2) = 0.185 in the mean
        0.2

    References:
        Paper B (the L2 discrepancy over slices); the closed form and the mean are derived.
    """
    return _discrepancy(w, 2, squared)


def hemisphere_discrepancy(w: ArrayLike, *, squared: bool = False) -> Scalar:
    r"""The root mean square discrepancy of the units over hemispheres {w : w.x >= 0}.

    Its square is (1/m^2) sum_ij k(w_i, w_j) - 1/4, of mean 1 / (4m) for independent uniform units,
    and 0 for pairs of opposite units, which every hemisphere parts, however clustered the pairs.

    Args:
        w: units of shape (m, d), one per row, of any positive norm: only directions count.
        squared: return the square, whose rounding error may leave it negative.

    Returns:
        A scalar, differentiable. Under `jit`, zero units or NaN give NaN.

    Raises:
        TypeError: if w is not floating.
        ValueError: if w is not a finite matrix, or a unit is zero.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.metrics.hemisphere_discrepancy(jnp.ones((5, 3))))  # all in one place
        0.5

    References:
        Derived, as for slices: E 1[u.x >= 0] 1[v.x >= 0] = k(u, v). On discrepancies over
        hemispheres: D. Bilyk, F. Dai, R. Matzke, Constructive Approximation 2018 (recalled).
    """
    return _discrepancy(w, 1, squared)


class WorstSlice(NamedTuple):
    """A slice of the sphere on which the units are far from uniform.

    Attributes:
        lower: the size of dsp(W, S_xz), a LOWER bound of the supremum over all slices.
        x: unit vector of shape (d,).
        z: unit vector of shape (d,): the slice is {w : w.x >= 0, w.z >= 0}.
    """

    lower: Scalar
    x: Float[Array, " d"]
    z: Float[Array, " d"]

    __repr__ = compact_repr
    _repr_html_ = html_repr


def max_slice_discrepancy(
    w: ArrayLike, *, key: Key, slices: int = 4096, kept: int = 64, steps: int = 200
) -> WorstSlice:
    r"""A lower bound of sup ``|dsp(W, S_xz)|`` over all slices, by sampling and local search.

    Random slices are tried; the best are moved by random steps, each taken if the discrepancy
    grows, their lengths growing after a success and shrinking after a failure. The value belongs
    to the slice returned, so it is a bound; it is not the supremum, which is hard to compute, and
    sampling falls the shorter the larger d is. For the same key more steps never lower it.

    Args:
        w: units of shape (m, d), one per row, of any positive norm: only directions count.
        key: JAX random key.
        slices: how many random slices are tried, at least 1; half of them at random angles, the
            others at small ones.
        kept: how many of the best slices are refined, 1 <= kept <= slices.
        steps: steps of the refinement, at least 0.

    Returns:
        `WorstSlice(lower, x, z)`. Under `jit`, zero units or NaN give NaN.

    Raises:
        TypeError: if w is not floating, `key` no JAX key, or a count no integer.
        ValueError: if w is not a finite matrix, a unit is zero, or a count is out of range.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> worst = kg.metrics.max_slice_discrepancy(jnp.ones((5, 3)), key=jax.random.key(0))
        >>> bool(0.9 < worst.lower <= 1)  # a thin slice with all units in it
        True

    References:
        Paper B (the discrepancy over slices); the search is ours.
    """
    w = _units(w)
    _checks.random_key(key)
    slices = _checks.integer(slices, "slices", minimum=1)
    kept = _checks.integer(kept, "kept", minimum=1)
    steps = _checks.integer(steps, "steps", minimum=0)
    if kept > slices:
        raise ValueError(f"`kept` must be at most `slices`, {slices}; got {kept}")
    return _search(w, key, slices, kept, steps)


def _units(w: ArrayLike) -> jax.Array:
    w = _checks.inputs(w, "w")
    if _checks.is_concrete(w) and not (some := np.asarray(w).any(axis=1)).all():
        raise ValueError(f"`w` must hold units other than 0, which have no direction; "
                         f"row {int(np.argmin(some))} is zero")  # fmt: skip
    return w


def _discrepancy(w: ArrayLike, power: int, squared: bool) -> Scalar:
    w = _units(w)
    uniform = mean_square(w.shape[1]) if power == 2 else 0.25
    found = mean_wedge(w, power, uniform)
    found = jnp.where(jnp.all(jnp.any(w != 0, axis=1)), found, jnp.nan)
    if squared:
        return found
    return jnp.where(jnp.isnan(found), found, safe_power(jnp.maximum(found, 0), 0.5))


@partial(jax.jit, static_argnames=("samples", "kept", "steps"))
def _search(
    w: Float[Array, "m d"], key: jax.Array, samples: int, kept: int, steps: int
) -> WorstSlice:
    m, d = w.shape
    w = jnp.where(jnp.all(jnp.any(w != 0, axis=1)), unit_rows(w)[0], jnp.nan)

    def sizes(slices: Float[Array, "s 2 d"]) -> Float[Array, " s"]:
        inside = jnp.matmul(slices, w.T, precision=jax.lax.Precision.HIGHEST) >= 0
        share = jnp.mean(jnp.all(inside, axis=1).astype(w.dtype), axis=1)
        # NaN units are on no side; let them be seen.
        return jnp.abs(share - wedge(slices[:, 0], slices[:, 1])) + 0 * jnp.sum(w)

    def unit(slices: jax.Array) -> jax.Array:
        return slices / jnp.linalg.norm(slices, axis=-1, keepdims=True)

    start_key, angle_key, search_key = jax.random.split(key, 3)
    slices = unit(jax.random.normal(start_key, (samples, 2, d), w.dtype))
    angles = jax.random.uniform(angle_key, (samples // 2,), w.dtype)[:, None]
    close = unit(slices[: samples // 2, 0] + angles * slices[: samples // 2, 1])
    slices = slices.at[: samples // 2, 1].set(close)
    batch = max(1, min(samples, _CHUNK // (2 * m)))
    found = jax.lax.map(lambda one: sizes(one[None])[0], slices, batch_size=batch)
    found, best = jax.lax.top_k(found, kept)
    lengths = jnp.full((kept,), 0.5, w.dtype)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        slices, found, lengths = carry
        moves = jax.random.normal(key, slices.shape, w.dtype) / d**0.5
        moved = unit(slices + lengths[:, None, None] * moves)
        after = sizes(moved)
        better = after > found
        slices = jnp.where(better[:, None, None], moved, slices)
        lengths = jnp.clip(lengths * jnp.where(better, 1.5, 0.9), 1e-4, 1)
        return (slices, jnp.maximum(found, after), lengths), None

    carry = (slices[best], found, lengths)
    # The first keys are the same for any number of steps.
    keys = jax.vmap(partial(jax.random.fold_in, search_key))(jnp.arange(steps))
    (slices, found, _), _ = jax.lax.scan(step, carry, keys)
    best = jnp.argmax(found)
    return WorstSlice(found[best], slices[best, 0], slices[best, 1])
