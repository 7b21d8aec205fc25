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

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
    straight = (phi.positive**2 + phi.negative**2) / (2 * jnp.pi)
    crossed = 2 * phi.positive * phi.negative / (2 * jnp.pi)
    size = jnp.sqrt(_positive(k.variance1)) * jnp.sqrt(_positive(k.variance2))
    zero = (k.variance1 <= 0) | (k.variance2 <= 0)
    cosine = jnp.clip(k.covariance / size, -1, 1)
    if same is not None:
        cosine = jnp.where(same, 1, cosine)
    theta, sine = _angle(cosine)
    value = straight * _arccosine(p, theta, sine, cosine)
    slope = straight * _arccosine(p - 1, theta, sine, cosine)
    if crossed:
        value += crossed * _arccosine(p, jnp.pi - theta, sine, -cosine)
        slope -= crossed * _arccosine(p - 1, jnp.pi - theta, sine, -cosine)
    value = jnp.where(zero, 0, size**p * value)
    slope = jnp.where(zero, 0, p**2 * size ** (p - 1) * slope)
    second = straight * jnp.pi * _odd_factorial(p)
    return value, slope, second * k.variance1**p, second * k.variance2**p


def _positive(variance: jax.Array) -> jax.Array:
    """The variance, or 1 where it is 0: keeps roots and quotients differentiable there."""
    return jnp.where(variance > 0, variance, 1)


# arccos(a) = sqrt(1 - a) * polynomial(a) on [0, 1], to 2e-8: Abramowitz and Stegun, 4.4.46. XLA's
# arccos takes most of the time of a kernel; this shares its root with the sine and vectorises.
_ARCCOS = (
    1.5707963050, -0.2145988016, 0.0889789874, -0.0501743046,
    0.0308918810, -0.0170881256, 0.0066700901, -0.0012624911,
)  # fmt: skip


@jax.custom_jvp
def _angle(cosine: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Theta and sin(theta), with derivative 0 where |cosine| = 1 (it is infinite there).

    A cosine within rounding of 1 says nothing of the angle but that it is small: it is taken for 1,
    so that equal inputs have equal kernel values wherever they meet.
    """
    size = jnp.abs(cosine)
    size = jnp.where(size > 1 - 8 * jnp.finfo(cosine.dtype).eps, 1, size)
    root = jnp.sqrt(1 - size)
    if cosine.dtype == jnp.float64:
        acute = jnp.arccos(size)
    else:
        polynomial = jnp.full_like(size, _ARCCOS[-1])
        for coefficient in _ARCCOS[-2::-1]:
            polynomial = polynomial * size + coefficient
        acute = root * polynomial
    return jnp.where(cosine < 0, jnp.pi - acute, acute), root * jnp.sqrt(1 + size)


@_angle.defjvp
def _angle_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    (cosine,), (tangent,) = primals, tangents
    theta, sine = _angle(cosine)
    inside = sine > 0
    slope = -jnp.where(inside, 1 / jnp.where(inside, sine, 1), 0)
    return (theta, sine), (slope * tangent, cosine * slope * tangent)


def _arccosine(p: int, theta: jax.Array, sine: jax.Array, cosine: jax.Array) -> jax.Array:
    """J_p(theta) of Cho and Saul (2009), eq. 4 and 5."""
    rest = jnp.pi - theta
    if p == 0:
        return rest
    if p == 1:
        return sine + rest * cosine
    if p == 2:
        return 3 * sine * cosine + rest * (1 + 2 * cosine**2)
    return (4 * sine**2 + 15 * cosine**2) * sine + rest * cosine * (9 * sine**2 + 15 * cosine**2)


def _odd_factorial(p: int) -> int:
    """(2p - 1)!!, so that J_p(0) = pi (2p - 1)!!."""
    return {1: 1, 2: 3, 3: 15}[p]
