r"""Closed-form NTK and NNGP kernels of bias-free MLPs with ReLU-like activations.

For phi(z) = a max(z,0)^p + b max(-z,0)^p and (u, v) centred Gaussian with unit variances and
correlation cos(theta), Cho and Saul's arc-cosine kernels J_p give

    E[phi(u) phi(v)]   = ((a^2+b^2) J_p(theta) + 2ab J_p(pi-theta)) / (2 pi),
    E[phi'(u) phi'(v)] = p^2 ((a^2+b^2) J_{p-1}(theta) - 2ab J_{p-1}(pi-theta)) / (2 pi).

With forward factor s_k, initial standard deviation t_k and fan-in F_k of layer k, the kernels of
its pre-activations obey, from Q_0 = <x,z> / d and Theta_0 = 0 with phi' = 1 below layer 1,

    Sigma_k = s_k^2 t_k^2 F_k Q_{k-1},
    Theta_k = s_k^2 F_k Q_{k-1} + s_k^2 t_k^2 F_k Q'_{k-1} Theta_{k-1},

where Q_k and Q'_k are the two expectations under Sigma_k. Sigma_K is the NNGP kernel and Theta_K
the NTK, of the model with its own parameterization and widths.

References: Y. Cho, L. Saul, NeurIPS 2009 (J_p); A. Jacot et al., NeurIPS 2018 (recursion). The form
for two-sided powers and general parameterizations is derived by this project, and held against
neural_tangents and Monte Carlo by its tests.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap._angles import tail_polynomial
from kernelgap.models import Activation, MLPSpec
from kernelgap.typing import PyTree

POWERS = (1, 2, 3)
"""Powers of the activation for which the expectations are written out."""


class _Pairs(NamedTuple):
    """Variances of both sides, covariances and kernel values of one layer's pre-activations."""

    variance1: jax.Array
    variance2: jax.Array
    covariance: jax.Array
    tangent: jax.Array


@partial(jax.jit, static_argnames=("spec", "get"))
def gram(
    spec: MLPSpec,
    params: PyTree,
    x1: Float[Array, "n1 d"],
    x2: Float[Array, "n2 d"] | None,
    get: str,
) -> Float[Array, "n1 n2"]:
    """The kernel between all rows of x1 and x2, or among x1 when x2 is None."""
    del params
    norms1 = jnp.sum(jnp.square(x1), axis=1)
    norms2 = norms1 if x2 is None else jnp.sum(jnp.square(x2), axis=1)
    # TF32 or bfloat16 products would move kernel values by 1e-3; ask for full precision.
    products = jnp.matmul(x1, (x1 if x2 is None else x2).T, precision=jax.lax.Precision.HIGHEST)
    same = None
    if x2 is None:
        same = jnp.eye(x1.shape[0], dtype=bool)
        products = jnp.where(same, norms1[:, None], products)
    return _recursion(spec, x1.shape[1], norms1[:, None], norms2[None, :], products, same, get)


@partial(jax.jit, static_argnames=("spec", "get"))
def diagonal(spec: MLPSpec, params: PyTree, x: Float[Array, "n d"], get: str) -> Float[Array, " n"]:
    """k(x_i, x_i) for each row."""
    del params
    norms = jnp.sum(jnp.square(x), axis=1)
    return _recursion(spec, x.shape[1], norms, norms, norms, jnp.ones(norms.shape, bool), get)


def _recursion(
    spec: MLPSpec,
    d: int,
    norms1: jax.Array,
    norms2: jax.Array,
    products: jax.Array,
    same: jax.Array | None,
    get: str,
) -> jax.Array:
    layers = spec.layers(d)
    fan_in, _, factor, std = layers[0]
    own, both = factor**2, (factor * std) ** 2
    k = _Pairs(both * norms1, both * norms2, both * products, own * products)
    for fan_in, _, factor, std in layers[1:]:
        own = factor**2 * fan_in
        both = own * std**2
        value, slope, variance1, variance2 = _expectations(spec.activation, k, same)
        k = _Pairs(
            both * variance1,
            both * variance2,
            both * value,
            own * value + both * slope * k.tangent,
        )
    return k.tangent if get == "ntk" else k.covariance


def _expectations(phi: Activation, k: _Pairs, same: jax.Array | None) -> tuple[jax.Array, ...]:
    """E[phi phi] and E[phi' phi'] over pairs, and E[phi^2] on both sides."""
    p = int(phi.power)
    straight = (phi.positive**2 + phi.negative**2) / (2 * np.pi)
    crossed = 2 * phi.positive * phi.negative / (2 * np.pi)
    # Two products instead of a quotient: n^2 divisions would not be fused with what follows.
    inverse1, inverse2 = (1 / jnp.sqrt(_positive(v)) for v in (k.variance1, k.variance2))
    cosine = k.covariance * (inverse1 * inverse2)
    if same is not None:
        cosine = jnp.where(same, 1, cosine)
    size = (k.variance1 * inverse1) * (k.variance2 * inverse2)  # 0 for a zero input
    (value, opposite), (slope, against) = arccosines(p, cosine), arccosines(p - 1, cosine)
    value, slope = straight * value, straight * slope
    if crossed:
        value, slope = value + crossed * opposite, slope - crossed * against
    if p > 1:
        slope = p**2 * size ** (p - 1) * slope
    second = straight * np.pi * math.prod(range(1, 2 * p, 2))  # J_p(0) = pi (2p - 1)!!
    return size**p * value, slope, second * k.variance1**p, second * k.variance2**p


def _positive(variance: jax.Array) -> jax.Array:
    """The variance, or 1 where it is 0: keeps roots and quotients differentiable there."""
    return jnp.where(variance > 0, variance, 1)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def arccosines(p: int, cosine: jax.Array) -> tuple[jax.Array, jax.Array]:
    """J_p at theta and at pi - theta, from c = cos(theta).

    A cosine within rounding of 1 says nothing of the angle but that it is small: it is taken for 1,
    so that equal inputs have equal kernel values wherever they meet.
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
