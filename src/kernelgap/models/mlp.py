"""Positively homogeneous multi-layer perceptrons.

A bias-free net of depth K = len(widths) + 1,

    f(Theta; x) = s_K W_K phi(s_{K-1} W_{K-1} phi(... phi(s_1 W_1 x))),

with phi positively homogeneous of degree p satisfies f(c Theta; x) = c^a f(Theta; x) for c > 0
with a = 1 + p + p^2 + ... + p^{K-1}; for ReLU, a = K. The factors s_k and the standard
deviations of the initial weights make the parameterization.
"""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from kernelgap import _checks
from kernelgap.models.activations import ACTIVATIONS, Activation
from kernelgap.models.model import MLPSpec, Model, Neurons, Parameterization, Params
from kernelgap.typing import Key


def homogeneous_mlp(
    widths: Sequence[int],
    *,
    activation: Literal["relu", "leaky_relu", "abs"] | Activation = "relu",
    parameterization: Parameterization = "standard",
    outputs: int | None = None,
    init_scale: float = 1.0,
) -> Model:
    r"""A bias-free multi-layer perceptron, positively homogeneous in its parameters.

    Parameters are a tuple (W_1, ..., W_K) with W_k of shape (fan_out, fan_in); the last has shape
    (fan_in,) when `outputs` is None. With c = `init_scale`, the factor s_k of the forward pass and
    the law of the initial weights of layer k are:

    - `"standard"`: s_k = 1, N(0, c^2 / fan_in);
    - `"ntk"`: s_k = 1 / sqrt(fan_in), N(0, c^2);
    - `"mean_field"`: s_1 = 1, N(0, c^2 / d) in the first layer, s_k = 1 / fan_in, N(0, c^2) above.

    Args:
        widths: hidden widths, each at least 1; an empty sequence gives a linear model.
        activation: `"relu"`, `"leaky_relu"` (slope 0.01), `"abs"`, or an `Activation` such as
            `models.leaky_relu(0.2)` or `models.relu_power(2)`.
        parameterization: `"standard"`, `"ntk"` or `"mean_field"`.
        outputs: None for one output of shape (n,); k >= 1 for outputs of shape (n, k).
        init_scale: multiplies all initial weights; positive. sqrt(2) gives He's initialisation.

    Returns:
        A `Model`. Its `init` takes `(key, d, dtype=None)`, its `apply` takes `(params, x)`.

    Raises:
        TypeError: if `widths` is no sequence of integers, or `outputs` is no integer.
        ValueError: if a width, `outputs` or `init_scale` is not positive, or an option is unknown.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((64, 64), activation=kg.models.relu_power(2))
        >>> params = model.init(jax.random.key(0), 10)
        >>> model.apply(params, jax.numpy.ones((5, 10))).shape, model.degree
        ((5,), 7.0)

    References:
        Paper A (homogeneous nets of degree a); the degree for powers is derived.
    """
    spec = _spec(widths, activation, parameterization, outputs, init_scale)
    power = spec.activation.power
    degree = float(sum(power**k for k in range(len(spec.widths) + 1)))

    def init(key: Key, d: int, dtype: DTypeLike | None = None) -> Params:
        _checks.random_key(key)
        d = _checks.integer(d, "d", minimum=1)
        layers = spec.layers(d)
        keys = jax.random.split(key, len(layers))
        params = [
            std * jax.random.normal(k, (fan_out, fan_in), dtype or float)
            for k, (fan_in, fan_out, _, std) in zip(keys, layers, strict=True)
        ]
        if spec.outputs is None:
            params[-1] = params[-1][0]
        return tuple(params)

    def apply(params: Params, x: jax.Array) -> jax.Array:
        layers = check_call(spec, params, x)
        h = x
        for k, (weights, (_, _, factor, _)) in enumerate(zip(params, layers, strict=True)):
            if k > 0:
                h = spec.activation(h)
            h = h @ weights.T
            h = h if factor == 1 else factor * h
        return h

    neurons = _two_layer_neurons(spec) if len(spec.widths) == 1 else None
    return Model(init, apply, degree, spec, neurons)


def preactivations(model: Model, params: Params, x: jax.Array) -> tuple[jax.Array, ...]:
    """What enters the activation of each hidden layer.

    Args:
        model: a `homogeneous_mlp` or `fixed_sign_net`.
        params: its parameters.
        x: inputs of shape (n, d).

    Returns:
        One array of shape (n, width) per hidden layer; none for a linear model.

    Raises:
        ValueError: if the shapes of `x` and `params` do not fit the model.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((5, 7))
        >>> params = model.init(jax.random.key(0), 3)
        >>> [z.shape for z in kg.models.preactivations(model, params, jax.numpy.ones((2, 3)))]
        [(2, 5), (2, 7)]
    """
    layers = check_call(model.spec, params, x)
    entering, h = [], x
    hidden = slice(len(model.spec.widths))
    for weights, (_, _, factor, _) in zip(params[hidden], layers[hidden], strict=True):
        z = h @ weights.T
        entering.append(z if factor == 1 else factor * z)
        h = model.spec.activation(entering[-1])
    return tuple(entering)


def _spec(
    widths: Sequence[int],
    activation: str | Activation,
    parameterization: Parameterization,
    outputs: int | None,
    init_scale: float,
) -> MLPSpec:
    if isinstance(widths, str) or not isinstance(widths, Sequence):
        raise TypeError(f"`widths` must be a sequence of hidden widths, such as (512,); "
                        f"got {widths!r:.40}")  # fmt: skip
    widths = tuple(_checks.integer(w, "widths", minimum=1) for w in widths)
    if not isinstance(activation, Activation):
        _checks.choice(activation, "activation", tuple(ACTIVATIONS))
        activation = ACTIVATIONS[activation]
    _checks.choice(parameterization, "parameterization", ("standard", "ntk", "mean_field"))
    if outputs is not None:
        outputs = _checks.integer(outputs, "outputs", minimum=1)
    _checks.number(init_scale, "init_scale", minimum=0, exclusive=True)
    return MLPSpec(widths, activation, parameterization, outputs, float(init_scale))


def check_call(spec: Any, params: Params, x: jax.Array) -> list[tuple]:
    """The layers of the model that `spec` describes; refuses parameters and inputs that misfit."""
    if np.ndim(x) != 2:
        raise ValueError(f"`x` must have shape (n, d); got {np.shape(x)}")
    expected = spec.shapes(np.shape(x)[1])
    shapes = [np.shape(w) for w in params]
    if shapes != expected:
        raise ValueError(f"`params` must have the shapes {expected} for inputs with "
                         f"d = {np.shape(x)[1]}; got {shapes}")  # fmt: skip
    return spec.layers(np.shape(x)[1])


def _two_layer_neurons(spec: MLPSpec) -> Neurons:
    k = spec.outputs or 1

    def pack(params: Params) -> jax.Array:
        hidden, readout = params
        return jnp.concatenate([readout.reshape(k, -1).T, hidden], axis=1)

    def unpack(neurons: jax.Array) -> Params:
        readout = neurons[:, 0] if spec.outputs is None else neurons[:, :k].T
        return neurons[:, k:], readout

    def radius(params: Params) -> float:
        return spec.neuron_radius(params[0].shape[1])

    return Neurons(pack, unpack, radius)
