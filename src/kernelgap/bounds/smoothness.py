r"""How fast the Jacobian of a smooth multi-layer perceptron can change: bounds on second derivatives.

For z_k = s_k W_k h_{k-1}, h_k = phi(z_k), with |phi'| <= c1 and |phi''| <= c2, unrolling the second
derivative of the output in directions D, D' gives, with B_k = d f / d h_k, G_k = d f / d z_k and
dz_k, dh_k the first derivatives of z_k, h_k,

    D2f[D, D'] = sum_{k<K} B_k (phi''(z_k) dz_k[D] dz_k[D'])
               + sum_{k>=2} s_k G_k (D_k dh_{k-1}[D'] + D'_k dh_{k-1}[D]).

On the ball of radius R around Theta_0 every factor is bounded by its value at Theta_0, computed on
the sample, and its drift: with w_k = ||W_k|| + R,

    ||z_k - z_k0|| <= s_k (R ||h_{k-1,0}|| + w_k ||h_{k-1} - h_{k-1,0}||),
    ||B_{k-1} - B_{k-1,0}|| <= s_k (w_k (c1 ||B_k - B_k0|| + c2 max_j |B_k0 e_j| ||z_k - z_k0||)
                                    + R ||G_k0||),
    ||dz_k[D]|| <= s_k (||D_k|| ||h_{k-1}|| + w_k c1 ||dz_{k-1}[D]||),

and in the first sum B_k is measured by its largest column, of size 1 / sqrt(width) in the NTK
parameterization: the bound falls like 1 / sqrt(width) (up to a logarithm) at a fixed radius. The
result is a quadratic form in the norms of the layers of D, whose largest eigenvalue is taken. Over
the sample, one factor of each product is summed and the other at its maximum, so that ||X|| in
operator norm enters and not in Frobenius norm. For two layers this is

    L = (q + sqrt(q^2 + 4 p^2)) / 2,  p = s_1 s_2 c1 ||X||,
    q = s_1^2 s_2 c2 (max_j |w_j| + R) max_i ||x_i|| ||X||.

Derived by this project; that second derivatives of wide nets are small because of the largest
column: C. Liu, L. Zhu, M. Belkin, "On the linearity of large non-linear models", NeurIPS 2020.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import _checks
from kernelgap.bounds.eigenvalues import operator_norm
from kernelgap.models import Activation, Model, Params
from kernelgap.typing import ArrayLike


class _Start(NamedTuple):
    """What the bounds need of the net at Theta_0, per layer; (n,) arrays are per sample."""

    factors: list[float]
    weights: list[float]  # ||W_k||
    features: list[np.ndarray]  # ||h_{k-1}(x_i)||, k = 1..K
    together: list[float]  # the operator norm of all h_{k-1}(x_i)
    columns: list[np.ndarray]  # max_j |B_k e_j|, k = 1..K-1
    signals: list[np.ndarray]  # ||G_k||, likewise
    slope: float
    curvature: float


def tangent_lipschitz(
    model: Model,
    params: Params,
    x: ArrayLike,
    *,
    slope: float | None = None,
    curvature: float | None = None,
) -> Callable[[float], float]:
    r"""A Lipschitz constant of the Jacobian of a smooth net on the balls around its start.

    ||J(Theta) - J(Theta')|| <= L(R) ||Theta - Theta'|| in operator norm, for the Jacobian of all
    outputs on the sample x, and for all parameters within R of `params`.

    Args:
        model: a `models.mlp` with a smooth activation, any depth and parameterization.
        params: its parameters Theta_0.
        x: inputs of shape (n, d).
        slope: c1, a bound on |phi'|; by default that of the model's activation.
        curvature: c2, a bound on |phi''|; likewise.

    Returns:
        The function R -> L(R), for R >= 0; it rises with R, and each call is cheap. In float64 on
        the host, up to the rounding of one pass through the net. Not under `jit`.

    Raises:
        TypeError: if x is not floating, or something is being traced.
        ValueError: if shapes do not fit, x is not finite, a bound is not positive, or the activation
            has no bounded second derivative (ReLU and its relatives) or unknown ones.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 20, 5)
        >>> for width in (100, 10000):
        ...     model = kg.models.mlp((width,), activation="tanh", parameterization="ntk")
        ...     params = model.init(jax.random.key(1), 5)
        ...     lipschitz = kg.bounds.tangent_lipschitz(model, params, x)
        ...     print(f"{lipschitz(1.0):.1f}")
        2.7
        0.3

    References:
        See the head of this file.
    """
    start = _start(model, params, x, slope, curvature)

    def lipschitz(radius: float) -> float:
        _checks.number(radius, "radius", minimum=0)
        features, together, columns, signals = _on_ball(start, float(radius))
        reach, depth = _reach(start, [np.max(h, keepdims=True) for h in features], radius), len(features)
        joint = _reach(start, [np.array([h]) for h in together], radius)
        form = np.zeros((depth, depth))
        for k in range(depth - 1):
            # The bound of the product at its worst sample: columns and reach of the same sample.
            worst = np.max(columns[k][:, None] * _reach(start, features, radius)[k], axis=0)
            form += start.curvature * np.outer(worst, joint[k][0])
        for k in range(1, depth):
            form[k] += 2 * start.slope * start.factors[k] * np.max(signals[k]) * joint[k - 1][0]
        del reach
        return float(np.linalg.eigvalsh((form + form.T) / 2)[-1])

    return lipschitz


def output_curvature(
    model: Model,
    params: Params,
    x: ArrayLike,
    *,
    slope: float | None = None,
    curvature: float | None = None,
) -> Callable[[float], np.ndarray]:
    r"""Bounds on the second derivatives of a smooth net's outputs, one per sample.

    ||D2f(Theta; x_i)|| <= h_i(R) for all parameters within R of `params`; hence
    ||f(Theta; x_i) - f_lin(Theta; x_i)|| <= h_i(R) R^2 / 2 there.

    Args:
        model: as in `tangent_lipschitz`.
        params: its parameters Theta_0.
        x: inputs of shape (n, d).
        slope: as in `tangent_lipschitz`.
        curvature: as in `tangent_lipschitz`.

    Returns:
        The function R -> h(R) of shape (n,), for R >= 0.

    Raises:
        TypeError: as `tangent_lipschitz`.
        ValueError: as `tangent_lipschitz`.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 20, 5)
        >>> model = kg.models.mlp((512, 512), activation="tanh", parameterization="ntk")
        >>> params = model.init(jax.random.key(1), 5)
        >>> kg.bounds.output_curvature(model, params, x)(0.5).shape
        (20,)

    References:
        See the head of this file.
    """
    start = _start(model, params, x, slope, curvature)

    def bounds(radius: float) -> np.ndarray:
        _checks.number(radius, "radius", minimum=0)
        features, _, columns, signals = _on_ball(start, float(radius))
        reach, depth = _reach(start, features, radius), len(features)
        forms = np.zeros((len(features[0]), depth, depth))
        for k in range(depth - 1):
            forms += start.curvature * columns[k][:, None, None] * reach[k][:, :, None] * reach[k][:, None]
        for k in range(1, depth):
            cross = start.slope * start.factors[k] * signals[k][:, None] * reach[k - 1]
            forms[:, k] += cross
            forms[:, :, k] += cross
        return np.linalg.eigvalsh(forms)[:, -1]

    return bounds
