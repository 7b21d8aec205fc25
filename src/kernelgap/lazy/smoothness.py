r"""Smoothness of a smooth multi-layer perceptron: bounds on the change of its Jacobian.

For z_k = s_k W_k h_{k-1}, h_k = phi(z_k), with ``|phi'|`` <= c1 and ``|phi''|`` <= c2, unrolling
the second derivative of the output in directions D, D' gives, with B_k = d f / d h_k,
G_k = d f / d z_k and dz_k, dh_k the first derivatives of z_k, h_k::

    D2f[D, D'] = sum_{k<K} B_k (phi''(z_k) dz_k[D] dz_k[D'])
               + sum_{k>=2} s_k G_k (D_k dh_{k-1}[D'] + D'_k dh_{k-1}[D]).

On the ball of radius R around Theta_0 every factor is bounded by its value at Theta_0, computed on
the sample, and its drift: with w_k = ||W_k|| + R::

    ||z_k - z_k0|| <= s_k (R ||h_{k-1,0}|| + w_k ||h_{k-1} - h_{k-1,0}||),
    ||B_{k-1} - B_{k-1,0}|| <= s_k (w_k (c1 ||B_k - B_k0|| + c2 max_j |B_k0 e_j| ||z_k - z_k0||)
                                    + R ||G_k0||),
    ||dz_k[D]|| <= s_k (||D_k|| ||h_{k-1}|| + w_k c1 ||dz_{k-1}[D]||),

and in the first sum B_k is measured by its largest column, of size 1 / sqrt(width) in the NTK
parameterization: the bound falls like 1 / sqrt(width) (up to a logarithm) at a fixed radius. The
result is a quadratic form in the norms of the layers of D, whose largest eigenvalue is taken. Over
the sample, one factor of each product is summed and the other at its maximum, so that ||X|| in
operator norm enters and not in Frobenius norm. For two layers this is::

    L = (q + sqrt(q^2 + 4 p^2)) / 2,  p = s_1 s_2 c1 ||X||,
    q = s_1^2 s_2 c2 (max_j |w_j| + R) max_i ||x_i|| ||X||.

Derived by this project; that second derivatives of wide nets are small because of the largest
column: C. Liu, L. Zhu, M. Belkin, "On the linearity of large non-linear models", NeurIPS 2020.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.quick import quick_jit
from kernelgap._numerics.verified import spectral_norm_bound
from kernelgap.models import Activation, Model, Params, preactivations
from kernelgap.models.model import check_layers
from kernelgap.typing import ArrayLike

# sup |phi'| and sup |phi''| of the sigmoids and of what they gate, all at scale 1.
_SLOPES = {
    ("tanh", False): (1.0, 4 / 27**0.5),
    ("erf", False): (2 / np.pi**0.5, (8 / (np.pi * np.e)) ** 0.5),
    ("tanh", True): (1.0998394, 1.0),
    ("erf", True): (1.1289042, 2 / np.pi**0.5),
}


class _Start(NamedTuple):
    """Norms of the net at Theta_0; lists are over layers, arrays (n,) over samples."""

    factors: list[float]  # s_k
    weights: list[float]  # ||W_k||
    features: list[np.ndarray]  # ||h_{k-1}(x_i)||, k = 1..K
    together: list[float]  # the operator norm of all h_{k-1}(x_i)
    backward: list[np.ndarray]  # ||B_k||, k = 1..K-1
    columns: list[np.ndarray]  # max_j |B_k e_j|, likewise
    signals: list[np.ndarray]  # ||G_k||, k = 1..K
    slope: float
    curvature: float


class _Ball(NamedTuple):
    """Bounds on the same norms on a ball, as far as they are needed there."""

    features: list[np.ndarray]
    together: list[float]
    columns: list[np.ndarray]
    signals: list[np.ndarray]


def tangent_lipschitz(
    model: Model,
    params: Params,
    x: ArrayLike,
) -> Callable[[float], float]:
    r"""Return a Lipschitz constant of the Jacobian of a smooth net on balls around its start.

    ||J(Theta) - J(Theta')|| <= L(R) ||Theta - Theta'|| in operator norm, for the Jacobian of all
    outputs on the sample x, and for all parameters within R of `params`.

    Args:
        model: A `models.mlp` with a smooth activation, any depth and parameterization.
        params: Its parameters Theta_0.
        x: Inputs of shape (n, d).

    Returns:
        The function R -> L(R), for R >= 0; it rises with R, and each call is cheap. In float64 on
        the host, up to the rounding of one pass through the net. Not under `jit`.

    Raises:
        TypeError: If something is being traced.
        ValueError: If the activation has no second derivative (ReLU and its relatives).

    Example:
        >>> import jax, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 20, 5)
        >>> for width in (100, 10000):
        ...     model = kg.models.mlp((width,), activation="tanh", parameterization="ntk")
        ...     params = model.init(jax.random.key(1), 5)
        ...     lipschitz = kg.lazy.tangent_lipschitz(model, params, x)
        ...     print(f"{lipschitz(1.0):.2f}")
        0.68
        0.09

    References:
        Derived by this project, with the proof in `kernelgap.lazy.smoothness`; that second
        derivatives of wide nets are small: C. Liu, L. Zhu, M. Belkin, "On the linearity of large
        non-linear models", NeurIPS 2020.
    """
    start = _start(model, params, x)

    def lipschitz(radius: float) -> float:
        checks.number(radius, "radius", minimum=0)
        ball = _on_ball(start, float(radius))
        depth = len(start.factors)
        reach = _reach(start, ball.features, radius)
        joint = _reach(start, [np.array([norm]) for norm in ball.together], radius)
        form = np.zeros((depth, depth))
        for k in range(depth - 1):
            worst = np.max(ball.columns[k][:, None] * reach[k], axis=0)
            form += start.curvature * np.outer(worst, joint[k][0])
        for k in range(1, depth):
            form[k] += (
                2 * start.slope * start.factors[k] * np.max(ball.signals[k]) * joint[k - 1][0]
            )
        return float(np.linalg.eigvalsh((form + form.T) / 2)[-1])

    return lipschitz


def output_curvature(
    model: Model,
    params: Params,
    x: ArrayLike,
) -> Callable[[float], np.ndarray]:
    r"""Return bounds on the second derivatives of a smooth net's outputs, one per sample.

    ||D2f(Theta; x_i)|| <= h_i(R) for all parameters within R of `params`; hence
    ||f(Theta; x_i) - f_lin(Theta; x_i)|| <= h_i(R) R^2 / 2 there.

    Args:
        model: As in `tangent_lipschitz`.
        params: Its parameters Theta_0.
        x: Inputs of shape (n, d).

    Returns:
        The function R -> h(R) of shape (n,), for R >= 0.

    Raises:
        TypeError: As `tangent_lipschitz`.
        ValueError: As `tangent_lipschitz`.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 20, 5)
        >>> model = kg.models.mlp((512, 512), activation="tanh", parameterization="ntk")
        >>> params = model.init(jax.random.key(1), 5)
        >>> kg.lazy.output_curvature(model, params, x)(0.5).shape
        (20,)

    References:
        Derived by this project, with the proof in `kernelgap.lazy.smoothness`; that second
        derivatives of wide nets are small: C. Liu, L. Zhu, M. Belkin, "On the linearity of large
        non-linear models", NeurIPS 2020.
    """
    start = _start(model, params, x)

    def bounds(radius: float) -> np.ndarray:
        checks.number(radius, "radius", minimum=0)
        ball = _on_ball(start, float(radius))
        depth = len(start.factors)
        reach = _reach(start, ball.features, radius)
        forms = np.zeros((len(ball.features[0]), depth, depth))
        for k in range(depth - 1):
            products = reach[k][:, :, None] * reach[k][:, None]
            forms += start.curvature * ball.columns[k][:, None, None] * products
        for k in range(1, depth):
            cross = start.slope * start.factors[k] * ball.signals[k][:, None] * reach[k - 1]
            forms[:, k] += cross
            forms[:, :, k] += cross
        return np.linalg.eigvalsh(forms)[:, -1]

    return bounds


def _start(model: Model, params: Params, x: ArrayLike) -> _Start:
    check_layers(model)
    phi = model.spec.activation
    if isinstance(phi, Activation):
        raise ValueError("`model` must have a smooth activation, such as gelu or tanh: with ReLU "
                         "and its relatives the Jacobian has no Lipschitz constant")  # fmt: skip
    known = _SLOPES[phi.sigmoid, phi.gated]
    powers = (0, 1) if phi.gated else (1, 2)
    slope, curvature = (
        bound / phi.scale**power for bound, power in zip(known, powers, strict=True)
    )
    x = array_checks.inputs(x)
    params = array_checks.parameters(params)
    if not array_checks.is_concrete(x, *jax.tree.leaves(params)):
        raise TypeError("certificates are computed on the host: call this outside of jit and vmap")
    entering = preactivations(model, params, x)
    pairs = _with_slopes(phi, entering)
    features = [np.asarray(h, np.float64) for h in (x, *(h for h, _ in pairs))]
    slopes = [np.asarray(s, np.float64) for _, s in pairs]
    weights = [np.asarray(w, np.float64) for w in params]
    weights[-1] = weights[-1].reshape(-1, weights[-1].shape[-1])
    factors = [layer.scale for layer in model.spec.layers(x.shape[1])]
    n, depth = x.shape[0], len(weights)
    backward, columns, signals = [], [], [np.ones(n)]
    flow = np.eye(len(weights[-1]))[None]  # G_K
    for k in reversed(range(depth - 1)):
        flow = factors[k + 1] * flow @ weights[k + 1]  # B_k
        backward.insert(0, np.broadcast_to(np.linalg.norm(flow, axis=(1, 2)), n))
        largest = np.max(np.linalg.norm(flow, axis=1), axis=1)
        columns.insert(0, np.broadcast_to(largest, n))
        flow = flow * slopes[k][:, None]
        signals.insert(0, np.linalg.norm(flow, axis=(1, 2)))
    return _Start(
        factors,
        [spectral_norm_bound(w) for w in weights],
        [np.linalg.norm(h, axis=1) for h in features],
        [spectral_norm_bound(h) for h in features],
        backward,
        columns,
        signals,
        slope,
        curvature,
    )


def _on_ball(start: _Start, radius: float) -> _Ball:
    """Each quantity at the start plus its largest drift."""
    depth, c1, c2 = len(start.factors), start.slope, start.curvature
    features, together = [start.features[0]], [start.together[0]]
    drift, joint = np.zeros_like(start.features[0]), 0.0
    entering = []  # drift of z_k
    for k in range(depth - 1):
        factor, weight = start.factors[k], start.weights[k] + radius
        entering.append(factor * (radius * start.features[k] + weight * drift))
        drift = c1 * entering[-1]
        joint = c1 * factor * (radius * start.together[k] + weight * joint)
        features.append(start.features[k + 1] + drift)
        together.append(start.together[k + 1] + joint)
    columns, signals = [], [start.signals[-1]]
    moved = np.zeros_like(drift)  # drift of G_{k+1}; that of G_K = I is none
    for k in reversed(range(depth - 1)):
        weight = start.weights[k + 1] + radius
        moved = start.factors[k + 1] * (weight * moved + radius * start.signals[k + 1])  # of B_k
        columns.insert(0, start.columns[k] + moved)
        whole = c1 * (start.backward[k] + moved)
        moved = c1 * moved + c2 * start.columns[k] * entering[k]  # of G_k
        signals.insert(0, np.minimum(start.signals[k] + moved, whole))
    return _Ball(features, together, columns, signals)


def _reach(start: _Start, features: list[np.ndarray], radius: float) -> list[np.ndarray]:
    """Coefficients of ||D_1||, ..., ||D_K|| in the bound on ||dz_k[D]||, (samples, K) for k < K."""
    depth, coefficients = len(start.factors), []
    current = np.zeros((len(features[0]), depth))
    for k in range(depth - 1):
        current = start.slope * (start.weights[k] + radius) * current
        current[:, k] = features[k]
        current = start.factors[k] * current
        coefficients.append(current)
    return coefficients


@partial(quick_jit, static_argnames="phi")
def _with_slopes(
    phi: Callable[[jax.Array], jax.Array], entering: Sequence[jax.Array]
) -> list[tuple[jax.Array, jax.Array]]:
    return [jax.jvp(phi, (z,), (jnp.ones_like(z),)) for z in entering]
