r"""Means of k(w_i, w_j)^p over all pairs of units, k = 1/2 - theta / (2 pi), tile by tile.

k(u, v) is the fraction of the sphere in the wedge where the half-spaces of u and v meet. For unit
vectors

    dk / du = (v - c u) / (2 pi sin theta),   c = cos theta,

is bounded, with a kink at theta = 0, where the derivative is set to 0; k itself is 1/2 there. Each
tile of a symmetric pair of blocks is evaluated once and gives value and gradient together: with
C_ij = p k^(p-1) / (2 pi sin theta), the sum of C_ij (v_j - c_ij u_i) over j is the sum of C_ij v_j,
projected off u_i. A tile costs three products: the cosines, C V_j and C' V_i. No (n, n) array is
stored.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float
from scipy import special

from kernelgap._numerics.angles import tail_polynomial
from kernelgap._numerics.quick import quick_jit
from kernelgap.typing import Scalar

_HIGHEST = jax.lax.Precision.HIGHEST
_TILE = 1024
_NEAR = 1e-3  # closer to 1, a cosine loses digits of the angle, which then comes from u - v


def wedge(x: Float[Array, "*n d"], z: Float[Array, "*n d"]) -> Float[Array, " *n"]:
    """Return k for pairs of unit vectors, accurately at any angle."""
    difference, total = (jnp.linalg.norm(part, axis=-1) for part in (x - z, x + z))
    return 0.5 - jnp.arctan2(difference, total) / np.pi


def unit_rows(w: Float[Array, "n d"]) -> tuple[Float[Array, "n d"], Float[Array, "n 1"]]:
    """Return unit rows and inverse norms, both 0 for zero rows, without overflow."""
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(w), axis=1, keepdims=True))
    zero = top == 0
    scaled = w / jnp.where(zero, 1, top)
    norms = jnp.sqrt(jnp.where(zero, 1, jnp.sum(jnp.square(scaled), axis=1, keepdims=True)))
    return scaled / norms, jnp.where(zero, 0, 1 / jnp.where(zero, 1, norms * top))


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def mean_wedge(w: Float[Array, "n d"], power: int, centre: float) -> Scalar:
    """Return (1/n^2) sum_ij (k(w_i, w_j)^power - centre), power 1 or 2.

    The constant is subtracted from every term, so that small differences keep their digits. Only
    the directions of the units matter. A zero unit counts as orthogonal to all others: k = 1/4,
    with gradient 0.
    """
    return _sums(w, power, centre, gradient=False)[0]


@mean_wedge.defjvp
def _mean_wedge_jvp(power: int, centre: float, primals: tuple, tangents: tuple) -> tuple:
    # The result is linear in the tangent, so that both modes of differentiation work.
    (w,), (change,) = primals, tangents
    value, gradient = _sums(w, power, centre, gradient=True)
    return value, jnp.sum(gradient * change)


@partial(quick_jit, static_argnames=("power", "centre", "gradient"))
def _sums(
    w: Float[Array, "n d"], power: int, centre: float, gradient: bool
) -> tuple[Scalar, Float[Array, "n d"]]:
    n, d = w.shape
    units, inverse = unit_rows(w)
    count = -(-n // _TILE)
    side = -(-n // count)
    blocks = jnp.pad(units, ((0, count * side - n), (0, 0))).reshape(count, side, d)
    inside = (jnp.arange(count * side) < n).astype(w.dtype).reshape(count, side)

    def add(carry: tuple, pair: tuple) -> tuple[tuple, None]:
        total, sums = carry
        i, j = pair
        u, v = blocks[i], blocks[j]
        diagonal = (i == j) & jnp.eye(side, dtype=bool)
        value, slope = _tile(u, v, diagonal, power, gradient)
        weights = inside[i][:, None] * inside[j][None, :]
        value = jnp.where(diagonal, 0, value - centre) * weights
        # An off-diagonal tile counts twice.
        total = total + jnp.where(i == j, 1, 2) * jnp.sum(jnp.sum(value, axis=1))
        if gradient:
            below = jnp.where(i == j, 0, 1).astype(w.dtype)
            sums = sums.at[i].add(jnp.matmul(slope, v, precision=_HIGHEST))
            back = jax.lax.dot_general(slope, u, (((0,), (0,)), ((), ())), precision=_HIGHEST)
            sums = sums.at[j].add(below * back)
        return (total, sums), None

    pairs = tuple(index.astype(np.int32) for index in np.tril_indices(count))
    start = jnp.zeros((), w.dtype), jnp.zeros_like(blocks if gradient else blocks[:0])
    (total, sums), _ = jax.lax.scan(jax.checkpoint(add), start, pairs)
    total = total / n**2 + (0.5**power - centre) / n
    sums = sums.reshape(-1, d)[:n] if gradient else jnp.zeros_like(w)
    sums = sums - jnp.sum(sums * units, axis=1, keepdims=True) * units
    return total, (2 / n**2) * sums * inverse


def _tile(
    u: jax.Array, v: jax.Array, diagonal: jax.Array, power: int, gradient: bool
) -> tuple[jax.Array, jax.Array]:
    """Return k^power for all pairs of two blocks of unit vectors, and C, off the diagonal.

    Both are computed from h = sin^2(phi / 2), where phi = min(theta, pi - theta).
    """
    c = jnp.matmul(u, v.T, precision=_HIGHEST)
    obtuse = c < 0
    h = jnp.maximum(0.5 - 0.5 * jnp.abs(c), 0)
    near = h < _NEAR / 2

    def exact() -> jax.Array:
        signs = jnp.where(obtuse, -1, 1).astype(u.dtype)[:, :, None]
        chords = jnp.sum(jnp.square(u[:, None, :] - signs * v[None, :, :]), axis=2)
        return jnp.where(near, chords / 4, h)

    h = jax.lax.cond(_anywhere(near & ~diagonal), exact, lambda: h)
    # Vectors that are not apart differ at most by the rounding of their norms.
    apart = ~(h <= (2 * float(jnp.finfo(h.dtype).eps)) ** 2)  # True for NaN, which must survive
    root = jnp.sqrt(jnp.where(apart, h, 1))
    phi = jnp.where(apart, root * tail_polynomial(0, h), 0)
    k = jnp.where(obtuse, phi, np.pi - phi) / (2 * np.pi)
    value = k * k if power == 2 else k
    if not gradient:
        return value, value
    sine = 2 * root * jnp.sqrt(1 - h)
    slope = jnp.where(power == 1, 1.0, 2 * k) / (2 * np.pi * sine)
    return value, jnp.where(apart & ~diagonal, slope, 0)


@custom_vmap
def _anywhere(condition: jax.Array) -> jax.Array:
    """Return `jnp.any`, also over the axes of `vmap`, under which a `cond` takes both branches."""
    return jnp.any(condition)


@_anywhere.def_vmap
def _anywhere_in_the_batch(size: int, batched: list, condition: jax.Array) -> tuple:
    del size, batched
    return _anywhere(condition), False


def mean_square(d: int) -> float:
    """Return E k(x, z)^2 for uniform x and z; theta has mean pi/2 and variance psi_1(d/2) / 2."""
    return 1 / 16 + float(special.polygamma(1, d / 2)) / (8 * np.pi**2)
