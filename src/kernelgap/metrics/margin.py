"""Normalised margins of homogeneous networks.

gamma(Theta) = min_i y_i f(Theta; x_i) / ||Theta||^a, with a the degree of homogeneity, does not
change under Theta -> c Theta. Weakly regularised minimisers converge to its maximum (paper A).
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.outputs import (
    check_apply,
    check_labels,
    check_outputs,
    rival_gaps,
    signed_outputs,
    soft_margins,
)
from kernelgap._numerics.quick import quick_jit
from kernelgap._numerics.trees import safe_power, squared_norm
from kernelgap.models import Activation, Model, Params
from kernelgap.models.model import check_layers, homogeneous_degree
from kernelgap.typing import ArrayLike, Scalar

Norm = Literal["l2", "balanced", "mean_field", "layer_product"]


def output_margins(outputs: ArrayLike, y: ArrayLike, *, smooth: bool = False) -> jax.Array:
    """Return the margin of each sample, y_i f_i, or f_{y_i} - max_{j != y_i} f_j for k classes.

    Args:
        outputs: (n,) or (n, k) with k >= 2.
        y: (n,) labels: -1 or +1 for outputs (n,), integers 0..k-1 for outputs (n, k).
        smooth: Return the margins q_i that the logistic loss sees: the loss of a sample is
            log(1 + exp(-q_i)). For k classes, q_i = -log sum_{j != y_i} exp(f_j - f_{y_i}), which
            is below the margin by at most log(k - 1).

    Returns:
        Margins of shape (n,). A sample is classified correctly if its margin, with `smooth` False,
        is positive.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> outputs = jnp.array([[2.0, 0.0, -1.0], [0.0, 3.0, 4.0]])
        >>> print(kg.metrics.output_margins(outputs, jnp.array([0, 1])))
        [ 2. -1.]

    References:
        Smooth: derived, softmax cross-entropy written as a logistic loss.
    """
    outputs = check_outputs(outputs)
    return _output_margins(outputs, check_labels(outputs, y), smooth)


def error_rate(outputs: ArrayLike, y: ArrayLike) -> Scalar:
    """Return the share of samples that are not classified correctly.

    A sample is classified correctly if its `output_margins` is positive: ties and NaN outputs are
    errors, so that a net that diverged never looks good.

    Args:
        outputs: (n,) or (n, k) with k >= 2.
        y: (n,) labels: -1 or +1 for outputs (n,), integers 0..k-1 for outputs (n, k).

    Returns:
        A scalar in [0, 1] of the dtype of the outputs; NaN where a traced label is out of range.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> outputs = jnp.array([0.3, -2.0, 0.0, jnp.nan])
        >>> print(kg.metrics.error_rate(outputs, jnp.array([1.0, -1.0, 1.0, 1.0])))
        0.5
    """
    outputs = check_outputs(outputs)
    return _error_rate(outputs, check_labels(outputs, y))


def normalized_margin(
    model: Model,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    norm: Norm = "l2",
    smooth: bool = False,
) -> Scalar:
    r"""Return the smallest margin divided by the norm of the parameters to the power of the degree.

    With a the degree of the model, theta_j the parameters of unit j and r the radius of `noisy_gd`,
    the denominators are:

    - `"l2"`: ||Theta||^a over all parameters; any depth.
    - `"balanced"`: the smallest ||Theta||^a over rescalings of units that preserve f, which is
      ``2 sum_j |w_j| ||u_j||`` for ReLU; two layers.
    - `"mean_field"`: mean_j ||theta_j / r||^2, which bounds the F1 norm; two layers, degree 2.
    - `"layer_product"`: the product of the Frobenius norms of the layers, each raised to the
      degree of its layer; any depth.

    Args:
        model: A `homogeneous_mlp`; for `norm="l2"`, any `Model` with a `degree`, such as
            ``models.Model(init, apply, degree=2)`` with your own functions.
        params: Parameters of the model.
        x: Inputs of shape (n, d).
        y: (n,) labels: -1 or +1 for one output, integers 0..k-1 for k outputs.
        norm: The denominator. The balanced margin is never smaller than the l2 margin.
        smooth: Replace the minimum by -log sum_i exp(-margin_i), where the sum also runs over the
            rival classes for k classes. The result is smooth in the parameters and below the margin
            by at most log(n) / denominator, or log(n (k-1)) / denominator for k classes.

    Returns:
        A scalar; NaN for zero parameters. If `smooth` is False, it is positive if and only if all
        samples are classified correctly.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 50, 10, signal="cube")
        >>> model = kg.models.homogeneous_mlp((4,))
        >>> params = kg.datasets.planted_xor(10, signal="cube")
        >>> print(f"{kg.metrics.normalized_margin(model, params, x, y):.6f}")  # 1 / (4 sqrt 2)
        0.176777

    References:
        Paper A, the normalised margin. Smoothed: K. Lyu, J. Li, "Gradient Descent Maximizes the
        Margin of Homogeneous Neural Networks", ICLR 2020. Mean-field: L. Chizat, F. Bach, COLT
        2020. The balanced form, and the extension to powers and several outputs, are derived.
    """
    checks.choice(norm, "norm", ("l2", "balanced", "mean_field", "layer_product"))
    degree = homogeneous_degree(model)
    if norm != "l2":
        check_layers(model, f"for norm={norm!r} `model`")
    if norm in ("balanced", "mean_field") and model.neurons is None:
        depth = len(model.spec.shapes(1))
        raise ValueError(
            f"norm={norm!r} is defined for two-layer models; this one has "
            f"{depth} trained layer{'s' if depth > 1 else ''}"
        )
    if norm == "mean_field" and degree != 2:
        raise ValueError(
            f"norm='mean_field' is defined for models of degree 2; this one has degree {degree:g}"
        )
    x = array_checks.inputs(x)
    if model.spec is None:
        check_apply(model.apply, params, x)
    outputs = check_outputs(model.apply(params, x))
    y = check_labels(outputs, y)
    # The functions of a model may be new at every call, and then compile again.
    described = None if norm == "l2" else model
    return _normalized_margin(described, degree, params, outputs, y, norm, smooth)


@partial(quick_jit, static_argnames="smooth")
def _output_margins(outputs: jax.Array, y: jax.Array, smooth: bool) -> jax.Array:
    if smooth:
        return soft_margins(outputs, y)
    if outputs.ndim == 1:
        return signed_outputs(outputs, y)
    return -jnp.max(rival_gaps(outputs, y), axis=1)


@quick_jit
def _error_rate(outputs: jax.Array, y: jax.Array) -> Scalar:
    rate = jnp.mean((~(_output_margins(outputs, y, False) > 0)).astype(outputs.dtype))
    # Labels that would be refused, were they not traced, make every margin NaN, of zeros too.
    return rate + jnp.sum(_output_margins(jnp.zeros_like(outputs), y, False))


@partial(quick_jit, static_argnames=("degree", "norm", "smooth"))
def _normalized_margin(
    model: Model | None,
    degree: float,
    params: Params,
    outputs: jax.Array,
    y: jax.Array,
    norm: Norm,
    smooth: bool,
) -> Scalar:
    if smooth:
        exponents = (
            -signed_outputs(outputs, y) if outputs.ndim == 1 else rival_gaps(outputs, y).ravel()
        )
        margin = -jax.scipy.special.logsumexp(exponents)
    else:
        margin = jnp.min(_output_margins(outputs, y, False))
    norms = _denominator(model, degree, params, norm)
    dtype = array_checks.common_dtype(margin, norms)
    return margin.astype(dtype) / norms.astype(dtype)


def _denominator(model: Model | None, degree: float, params: Params, norm: Norm) -> jax.Array:
    if model is None:
        return safe_power(squared_norm(params), degree / 2)
    assert isinstance(model.spec.activation, Activation)  # homogeneous, checked by the caller
    power = model.spec.activation.power
    if norm == "layer_product":
        depth = len(params)
        factors = [
            safe_power(squared_norm(w), power ** (depth - 1 - k) / 2) for k, w in enumerate(params)
        ]
        return jnp.prod(jnp.stack(factors))
    assert model.neurons is not None  # two layers, checked by the caller
    theta = model.neurons.pack(params)
    if norm == "mean_field":
        return squared_norm(theta) / theta.shape[0] / model.neurons.radius(params) ** 2
    outgoing = jnp.sum(theta[:, : model.spec.outputs or 1] ** 2, axis=1)
    incoming = jnp.sum(theta[:, model.spec.outputs or 1 :] ** 2, axis=1)
    # min over c > 0 of c^2 A + B / c^(2p) is (1 + 1/p) A^(p/(p+1)) (p B)^(1/(p+1)).
    least = (1 + 1 / power) * (
        safe_power(incoming, power / (power + 1)) * safe_power(power * outgoing, 1 / (power + 1))
    )
    return safe_power(jnp.sum(least), degree / 2)
