"""Activation patterns: which unit is on for which input, and how many changed in training.

While no pattern changes, a ReLU net is a fixed polynomial of its weights on the data; lazy training
is the regime in which few do.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kernelgap import _checks
from kernelgap.models import Activation, Model, Params, preactivations
from kernelgap.models.model import check_layers
from kernelgap.typing import ArrayLike


def activation_change(
    model: Model, params0: Params, params: Params, x: ArrayLike
) -> Float[Array, " layers"]:
    r"""The share of activation patterns that differ between two parameter vectors, per layer.

    For layer k with m_k units, ``(1 / (n m_k)) sum_ij 1[(z_ij > 0) != (z0_ij > 0)]`` with z the
    inputs of its activations at `params` and z0 those at `params0`: 0 where no unit changed side
    on any sample, 1/2 for unrelated random weights. Scaling a layer by c > 0 changes nothing.

    A smooth activation has no patterns. What a pattern is for, the slope with which a unit passes
    signals on, changes by ``(1 / (n m_k)) sum_ij (phi'(z_ij) - phi'(z0_ij))^2``: for ReLU that is
    the share above, for a smooth phi this is what is returned. It does depend on scale.

    Args:
        model: an `mlp` or `homogeneous_mlp` with a hidden layer.
        params0: parameters to compare with, such as the initial ones.
        params: parameters.
        x: inputs of shape (n, d).

    Returns:
        Shares in [0, 1], shape (hidden layers,); NaN where a parameter is. Piecewise constant;
        gradients are 0. For a smooth activation mean squares, at most the square of the range of
        phi', and differentiable.

    Raises:
        TypeError: if `model` is none of these, or x or a parameter is not floating.
        ValueError: if the model has no hidden layer, x is not finite, or shapes do not fit.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((64,))
        >>> params = model.init(jax.random.key(0), 10)
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(1), 50, 10)
        >>> turned = (-params[0], params[1])
        >>> print(kg.metrics.activation_change(model, params, turned, x))
        [1.]

    References:
        The usual measure of lazy training; the form is ours.
    """
    check_layers(model)
    params0 = _checks.parameters(params0, "params0", finite=False)
    if not model.spec.widths:
        raise ValueError("`model` must have a hidden layer to have activation patterns; got none")
    x = _checks.inputs(x)
    layers = zip(preactivations(model, params0, x), preactivations(model, params, x), strict=True)
    phi = model.spec.activation
    if isinstance(phi, Activation):
        return jnp.stack([jnp.mean(_changed(z0, z)) for z0, z in layers])

    def slope(z: jax.Array) -> jax.Array:
        return jax.jvp(phi, (z,), (jnp.ones_like(z),))[1]

    return jnp.stack([jnp.mean(jnp.square(slope(z) - slope(z0))) for z0, z in layers])


def _changed(z0: jax.Array, z: jax.Array) -> jax.Array:
    """1 where the signs differ, 0 where they agree, NaN where one is not known."""
    changed = ((z0 > 0) != (z > 0)).astype(z.dtype)
    return jnp.where(jnp.isnan(z0) | jnp.isnan(z), jnp.nan, changed)
