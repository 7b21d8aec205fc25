"""Learning rates of Adam that transfer across widths: each layer's updates over its fan-in.

An optimizer such as Adam changes all weights by about its learning rate eta, whatever the size of
the gradient. The product W h of such a change with the F entries of h grows like eta F, since the
change is aligned with h. With s_k W_k the weights that act in the forward pass, maximal updates
therefore change them by eta in the first layer and by eta / fan_in above.
"""

from typing import Any

import jax
import optax

from kernelgap._numerics import checks
from kernelgap._numerics.closure import Closure
from kernelgap.models import Model
from kernelgap.models.model import check_layers


def scale_by_fan_in(model: Model, d: int) -> optax.GradientTransformation:
    r"""Divide the updates of each layer so that rates of Adam transfer across widths.

    Updates of layer k are multiplied by 1 / s_1 for k = 1 and by 1 / (s_k fan_in) above, s_k being
    the factor of the forward pass. An update u of Adam then changes the weights s_k W_k by u in the
    first layer and by u / fan_in in the others, in every parameterization. Chain it after the
    optimizer: `optax.chain(optax.adam(eta), optim.scale_by_fan_in(model, d))`. With
    `parameterization="mup"` these are maximal updates for Adam. The `eps` of Adam must stay below
    the gradients, which fall like 1 / width: choose 1e-12 or so for wide nets.

    Gradient descent needs nothing of the kind: its updates are proportional to s_k, and "mup" has
    the s_k with which one rate suits all widths.

    Args:
        model: A `Model` that describes its layers: an `mlp`, `homogeneous_mlp` or `fixed_sign_net`.
        d: The input dimension, at least 1.

    Returns:
        An `optax.GradientTransformation` without state, for the parameters of the model.

    Example:
        >>> import jax, optax, kernelgap as kg
        >>> model = kg.models.mlp((256, 256), parameterization="mup")
        >>> rates = kg.optim.scale_by_fan_in(model, 10)
        >>> params = model.init(jax.random.key(0), 10)
        >>> ones = jax.tree.map(jax.numpy.ones_like, params)
        >>> [float(u.ravel()[0]) for u in rates.update(ones, rates.init(params))[0]]
        [0.0625, 0.00390625, 0.0625]
        >>> optimizer = optax.chain(optax.adam(0.01, eps=1e-12), rates)

    References:
        G. Yang et al., "Tensor Programs V", arXiv:2203.03466 (rates of Adam of order 1 in the first
        layer and 1 / fan_in above, for s_k = 1; recalled). The form with s_k is derived.
    """
    check_layers(model)
    layers = model.spec.layers(checks.integer(d, "d", minimum=1))
    factors = tuple(
        1 / (layer.scale * (layer.fan_in if k else 1)) for k, layer in enumerate(layers)
    )
    return optax.GradientTransformation(_init, Closure(_update, factors))


def _init(params: Any) -> optax.EmptyState:
    del params
    return optax.EmptyState()


def _update(factors: tuple[float, ...], updates: Any, state: Any, params: Any = None) -> tuple:
    del params
    if not isinstance(updates, tuple | list) or len(updates) != len(factors):
        raise ValueError(f"`updates` must be a tuple of {len(factors)} arrays, one for each layer "
                         f"of the model; got {jax.tree.structure(updates)}")  # fmt: skip
    return tuple(c * u for c, u in zip(factors, updates, strict=True)), state
