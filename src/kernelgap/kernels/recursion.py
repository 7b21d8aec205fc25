r"""NTK and NNGP kernels of bias-free MLPs, layer by layer.

With forward factor s_k, initial standard deviation t_k and fan-in F_k of layer k, the kernels of
its pre-activations obey, from Q_0 = <x,z> / d and Theta_0 = 0 with phi' = 1 below layer 1,

    Sigma_k = s_k^2 t_k^2 F_k Q_{k-1},
    Theta_k = s_k^2 F_k Q_{k-1} + s_k^2 t_k^2 F_k Q'_{k-1} Theta_{k-1},

where Q_k = E[phi(u) phi(v)] and Q'_k = E[phi'(u) phi'(v)] for (u, v) centred Gaussian with
covariances Sigma_k. Sigma_K is the NNGP kernel and Theta_K the NTK, of the model with its own
parameterization and widths. The expectations are those of `arccosine` or `sigmoidal`.

References: A. Jacot et al., NeurIPS 2018. The form for general parameterizations is derived by this
project, and held against neural_tangents and Monte Carlo by its tests.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kernelgap._numerics.quick import quick_jit
from kernelgap.kernels import arccosine, sigmoidal
from kernelgap.kernels.inner import inner_products, rescaled, scaled_rows
from kernelgap.models import Activation
from kernelgap.models.model import MLPSpec
from kernelgap.typing import PyTree


class _Pairs(NamedTuple):
    """Variances of both sides, covariances and kernel values of one layer's pre-activations."""

    variance1: jax.Array
    variance2: jax.Array
    covariance: jax.Array
    tangent: jax.Array


@partial(quick_jit, static_argnames=("spec", "get"))
def gram(
    spec: MLPSpec,
    params: PyTree,
    x1: Float[Array, "n1 d"],
    x2: Float[Array, "n2 d"] | None,
    get: str,
) -> Float[Array, "n1 n2"]:
    """Return the kernel between all rows of x1 and x2, or among x1 when x2 is None."""
    del params
    rows1, root1 = _scaled(spec, x1)
    rows2, root2 = (None, root1) if x2 is None else _scaled(spec, x2)
    norms1, norms2, products = inner_products(rows1, rows2)
    same = jnp.eye(x1.shape[0], dtype=bool) if x2 is None else None
    moments = norms1[:, None], norms2[None, :], products
    return _recursion(spec, x1.shape[1], *moments, root1[:, None], root2[None, :], same, get)


@partial(quick_jit, static_argnames=("spec", "get"))
def diagonal(spec: MLPSpec, params: PyTree, x: Float[Array, "n d"], get: str) -> Float[Array, " n"]:
    """Return k(x_i, x_i) for each row."""
    del params
    rows, root = _scaled(spec, x)
    norms = jnp.sum(jnp.square(rows), axis=1)
    same = jnp.ones(norms.shape, bool)
    return _recursion(spec, x.shape[1], norms, norms, norms, root, root, same, get)


def _scaled(spec: MLPSpec, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return `scaled_rows`; for a smooth activation only huge and tiny rows are scaled."""
    phi, d = spec.activation, x.shape[1]
    if not spec.widths or isinstance(phi, Activation):
        return scaled_rows(x)
    first = spec.layers(d)[0]
    linear = (
        min(1, phi.scale / (first.scale * first.init_std * d**0.5))
        * float(jnp.finfo(x.dtype).eps)
        / 16
    )
    return scaled_rows(x, between=(linear, 1e3))


def _recursion(
    spec: MLPSpec,
    d: int,
    norms1: jax.Array,
    norms2: jax.Array,
    products: jax.Array,
    root1: jax.Array,
    root2: jax.Array,
    same: jax.Array | None,
    get: str,
) -> jax.Array:
    layers, phi = spec.layers(d), spec.activation
    units = tuple(jnp.square(jnp.maximum(root, 1)) for root in (root1, root2))
    degree = 1
    own, both = layers[0].scale ** 2, (layers[0].scale * layers[0].init_std) ** 2
    k = _Pairs(both * norms1, both * norms2, both * products, own * products)
    for layer in layers[1:]:
        own = layer.scale**2 * layer.fan_in
        both = own * layer.init_std**2
        moments = k.variance1, k.variance2, k.covariance
        if isinstance(phi, Activation):
            value, slope, variance1, variance2 = arccosine.expectations(phi, *moments, same)
            degree *= int(phi.power)
        else:
            value, slope, variance1, variance2 = sigmoidal.expectations(phi, *moments, same, *units)
            if not phi.gated:  # bounded: from here on values are of order 1
                root1, root2 = jnp.minimum(root1, 1), jnp.minimum(root2, 1)
                units = jnp.ones_like(root1), jnp.ones_like(root2)
        k = _Pairs(
            both * variance1,
            both * variance2,
            both * value,
            own * value + both * slope * k.tangent,
        )
    return rescaled(k.tangent if get == "ntk" else k.covariance, root1, root2, degree)
