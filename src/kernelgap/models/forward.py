"""The forward pass of multi-layer perceptrons, layer by layer."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import jax
import numpy as np

from kernelgap import _checks
from kernelgap.models.model import Model, Params, check_layers
from kernelgap.typing import ArrayLike


def layer_outputs(spec: Any, params: Params, x: ArrayLike) -> Iterator[jax.Array]:
    """z_k = s_k W_k h_{k-1}, h_k = phi(z_k), h_0 = x, one layer after the other."""
    h0 = _checks.floating(x, "x")
    factors = [factor for _, _, factor, _ in checked_layers(spec, params, h0)]
    given = [_checks.array(weights, "params") for weights in params]
    dtype = _checks.common_dtype(h0, *given)

    def layers() -> Iterator[jax.Array]:
        h = h0.astype(dtype)
        for k, (weights, factor) in enumerate(zip(given, factors, strict=True)):
            if k > 0:
                h = spec.activation(h)
            h = h @ weights.astype(dtype).T
            h = h if factor == 1 else factor * h
            yield h

    return layers()


def preactivations(model: Model, params: Params, x: ArrayLike) -> tuple[jax.Array, ...]:
    """What enters the activation of each hidden layer.

    Args:
        model: an `mlp`, `homogeneous_mlp` or `fixed_sign_net`.
        params: its parameters.
        x: inputs of shape (n, d).

    Returns:
        One array of shape (n, width) per hidden layer; none for a linear model.

    Raises:
        TypeError: if `model` is no `Model`, x is not floating, or `params` are no tuple of arrays.
        ValueError: if the shapes of `x` and `params` do not fit the model.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((5, 7))
        >>> params = model.init(jax.random.key(0), 3)
        >>> [z.shape for z in kg.models.preactivations(model, params, jax.numpy.ones((2, 3)))]
        [(2, 5), (2, 7)]
    """
    check_layers(model)
    return tuple(islice(layer_outputs(model.spec, params, x), len(model.spec.widths)))


def checked_layers(spec: Any, params: Params, x: jax.Array) -> list[tuple]:
    """The layers of the model that `spec` describes; refuses parameters and inputs that misfit."""
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"`x` must have shape (n, d) with d >= 1; got {x.shape}")
    expected = spec.shapes(x.shape[1])
    if not isinstance(params, tuple | list) or any(not hasattr(w, "dtype") for w in params):
        raise TypeError(f"`params` must be the tuple of {len(expected)} weight arrays that "
                        f"model.init returns; got {params!r:.40}")  # fmt: skip
    shapes = [np.shape(w) for w in params]
    if shapes != expected:
        raise ValueError(f"`params` must have the shapes {expected} for inputs with "
                         f"d = {x.shape[1]}; got {shapes}")  # fmt: skip
    return spec.layers(x.shape[1])
