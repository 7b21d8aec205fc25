r"""Gaussian expectations of ReLU-like activations in closed form: the arc-cosine kernels.

For phi(z) = a max(z,0)^p + b max(-z,0)^p and (u, v) centred Gaussian with unit variances and
correlation cos(theta), Cho and Saul's arc-cosine kernels J_p give

    E[phi(u) phi(v)]   = ((a^2+b^2) J_p(theta) + 2ab J_p(pi-theta)) / (2 pi),
    E[phi'(u) phi'(v)] = p^2 ((a^2+b^2) J_{p-1}(theta) - 2ab J_{p-1}(pi-theta)) / (2 pi).

References: Y. Cho, L. Saul, NeurIPS 2009 (J_p). The form for two-sided powers is derived by this
project, and held against neural_tangents and Monte Carlo by its tests.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics.angles import tail_polynomial
from kernelgap.models import Activation

POWERS = (1, 2, 3)
"""Powers of the activation for which the expectations are written out."""


def expectations(
    phi: Activation,
    variance1: jax.Array,
    variance2: jax.Array,
    covariance: jax.Array,
    same: jax.Array | None,
) -> tuple[jax.Array, ...]:
    """Return E[phi phi] and E[phi' phi'] over pairs, and E[phi^2] on both sides.

    Variances and covariances broadcast; `same` marks the pairs whose members are equal.
    """
    p = int(phi.power)
    straight = (phi.positive**2 + phi.negative**2) / (2 * np.pi)
    crossed = 2 * phi.positive * phi.negative / (2 * np.pi)
    # Two products instead of a quotient: n^2 divisions would not be fused with what follows.
    inverse1, inverse2 = (1 / jnp.sqrt(_positive(v)) for v in (variance1, variance2))
    cosine = covariance * (inverse1 * inverse2)
    if same is not None:
        cosine = jnp.where(same, 1, cosine)
    size = (variance1 * inverse1) * (variance2 * inverse2)  # 0 for a zero input
    (value, opposite), (slope, against) = arccosines(p, cosine), arccosines(p - 1, cosine)
    value, slope = straight * value, straight * slope
    if crossed:
        value, slope = value + crossed * opposite, slope - crossed * against
    if p > 1:
        slope = p**2 * size ** (p - 1) * slope
    second = straight * np.pi * math.prod(range(1, 2 * p, 2))  # J_p(0) = pi (2p - 1)!!
    return size**p * value, slope, second * variance1**p, second * variance2**p


def _positive(variance: jax.Array) -> jax.Array:
    """Return the variance, or 1 where it is 0, which keeps roots and quotients differentiable."""
    return jnp.where(variance > 0, variance, 1)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def arccosines(p: int, cosine: jax.Array) -> tuple[jax.Array, jax.Array]:
    """J_p at theta and at pi - theta, from c = cos(theta).

    A cosine within rounding of 1 determines the angle only up to being small. It counts as 1, so
    that equal inputs have equal kernel values in every block of a Gram matrix.
    """
    obtuse = cosine < 0
    size = jnp.where(obtuse, -cosine, cosine)
    w = jnp.maximum(0.5 - 0.5 * size, 0)
    root = jnp.sqrt(w) * (w > 4 * float(jnp.finfo(w.dtype).eps)).astype(w.dtype)
    tail = tail_polynomial(p, w)
    tail = root * w**p * tail if p else root * tail
    # J_p(theta) = pi q_p(c) -+ J_p(pi - theta): what is small is never a difference.
    polynomial = (1, size, 1 + 2 * size**2, size * (9 + 6 * size**2))[p]
    bulk = np.pi * polynomial + (tail if p % 2 else -tail)
    return jnp.where(obtuse, tail, bulk), jnp.where(obtuse, bulk, tail)


@arccosines.defjvp
def _arccosines_jvp(p: int, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    """J_p' = p^2 J_{p-1} in c, and J_0' = 1 / sin(theta), here 0 where that is infinite."""
    (cosine,), (tangent,) = primals, tangents
    if p:
        slope, against = arccosines(p - 1, cosine)
        slope, against = p**2 * slope, p**2 * against
    else:
        square = (1 - cosine) * (1 + cosine)
        inside = square > 8 * jnp.finfo(cosine.dtype).eps
        slope = against = jnp.where(inside, 1 / jnp.sqrt(jnp.where(inside, square, 1)), 0)
    return arccosines(p, cosine), (slope * tangent, -against * tangent)
