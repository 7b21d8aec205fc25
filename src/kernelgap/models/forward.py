"""Initial weights and the forward pass of multi-layer perceptrons, layer by layer."""

from functools import partial
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


def propagate(spec: Any, params: Params, x: ArrayLike, *, hidden: bool = False) -> Any:
    """Return the outputs of a net or, if `hidden`, the arguments of its activations."""
    x = array_checks.floating(x, "x")
    checked_layers(spec, params, x)
    weights = tuple(array_checks.array(matrix, "params") for matrix in params)
    return _propagate(spec, weights, x, hidden)


@partial(quick_jit, static_argnames=("spec", "hidden"))
def _propagate(spec: Any, weights: Params, x: jax.Array, hidden: bool) -> Any:
    """Compute z_k = s_k W_k h_{k-1}, h_k = phi(z_k), h_0 = x, layer after layer."""
    dtype = array_checks.common_dtype(x, *weights)
    h, arguments = x.astype(dtype), []
    for layer, matrix in zip(spec.layers(x.shape[1]), weights, strict=True):
        if arguments:
            h = spec.activation(arguments[-1])
        z = h @ matrix.astype(dtype).T
        arguments.append(z if layer.scale == 1 else layer.scale * z)
    return tuple(arguments[: len(spec.widths)]) if hidden else arguments[-1]


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
    return propagate(model.spec, params, x, hidden=True)


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
