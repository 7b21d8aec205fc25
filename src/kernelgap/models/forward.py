"""Initial weights and the forward pass of multi-layer perceptrons, layer by layer."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import jax
import numpy as np

from kernelgap._numerics import array_checks
from kernelgap._numerics.quick import quick_jit
from kernelgap.models.model import Layer, Model, Params, check_layers
from kernelgap.typing import ArrayLike, DTypeLike, Key


@partial(quick_jit, static_argnames=("shapes", "dtype"), level=1)
def normal_layers(
    key: Key, stds: tuple[float, ...], shapes: tuple[tuple[int, ...], ...], dtype: DTypeLike
) -> Params:
    """Draw normal weights of several layers in one program, a key for each layer."""
    keys = jax.random.split(key, len(shapes))
    draws = [jax.random.normal(k, shape, dtype) for k, shape in zip(keys, shapes, strict=True)]
    draws = jax.lax.optimization_barrier(draws)  # XLA would merge two factors, and round anew
    return tuple(std * draw for std, draw in zip(stds, draws, strict=True))


def layer_outputs(spec: Any, params: Params, x: ArrayLike) -> Iterator[jax.Array]:
    """Yield z_k = s_k W_k h_{k-1}, h_k = phi(z_k), h_0 = x, one layer after the other."""
    h0 = array_checks.floating(x, "x")
    layers = checked_layers(spec, params, h0)
    weights = [array_checks.array(matrix, "params") for matrix in params]
    dtype = array_checks.common_dtype(h0, *weights)

    def outputs() -> Iterator[jax.Array]:
        h = h0.astype(dtype)
        for k, (layer, matrix) in enumerate(zip(layers, weights, strict=True)):
            if k > 0:
                h = spec.activation(h)
            h = h @ matrix.astype(dtype).T
            h = h if layer.scale == 1 else layer.scale * h
            yield h

    return outputs()


def preactivations(model: Model, params: Params, x: ArrayLike) -> tuple[jax.Array, ...]:
    """Return the arguments of the activation in each hidden layer.

    Args:
        model: An `mlp`, `homogeneous_mlp` or `fixed_sign_net`.
        params: Its parameters.
        x: Inputs of shape (n, d).

    Returns:
        One array of shape (n, width) per hidden layer; none for a linear model.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((5, 7))
        >>> params = model.init(jax.random.key(0), 3)
        >>> [z.shape for z in kg.models.preactivations(model, params, jax.numpy.ones((2, 3)))]
        [(2, 5), (2, 7)]
    """
    check_layers(model)
    return tuple(islice(layer_outputs(model.spec, params, x), len(model.spec.widths)))


def checked_layers(spec: Any, params: Params, x: jax.Array) -> list[Layer]:
    """Return the layers that `spec` describes; refuse parameters and inputs that do not fit."""
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
