"""Bias-free multi-layer perceptrons.

A net of depth K = len(widths) + 1 is

    f(Theta; x) = s_K W_K phi(s_{K-1} W_{K-1} phi(... phi(s_1 W_1 x))).

The factors s_k and the standard deviations of the initial weights make the parameterization. With
phi positively homogeneous of degree p, f(c Theta; x) = c^a f(Theta; x) for c > 0, where
a = 1 + p + p^2 + ... + p^{K-1}; for ReLU, a = K.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.closure import Closure
from kernelgap.models.activations import Activation, SmoothActivation, checked_activation
from kernelgap.models.forward import normal_layers, propagate
from kernelgap.models.model import MLPSpec, Model, Neurons, Parameterization, Params, model_of
from kernelgap.typing import DTypeLike, Key


def mlp(
    widths: Sequence[int],
    *,
    activation: Literal["gelu", "silu", "tanh", "erf", "relu", "leaky_relu", "abs"]
    | Activation
    | SmoothActivation = "gelu",
    parameterization: Parameterization = "standard",
    outputs: int | None = None,
    init_scale: float = 1.0,
) -> Model:
    r"""Return a bias-free multi-layer perceptron, smooth or positively homogeneous.

    `homogeneous_mlp` with more activations: the same parameters, the same initial weights from the
    same key and, for its activations, the same functions. The smooth ones are

    - `"gelu"`: z Phi(z), Phi the cumulative distribution function of N(0, 1): the exact form, not
      the approximation by tanh;
    - `"silu"`: z / (1 + exp(-z));
    - `"tanh"`: the hyperbolic tangent;
    - `"erf"`: the error function.

    Args:
        widths: Hidden widths, each at least 1; an empty sequence gives a linear model.
        activation: One of these names, `"relu"`, `"leaky_relu"`, `"abs"`, an `Activation`, or a
            `SmoothActivation` such as ``models.SmoothActivation("tanh", scale=0.5)``.
        parameterization: `"standard"`, `"ntk"`, `"mean_field"` or `"mup"`, as in `homogeneous_mlp`.
        outputs: None for one output of shape (n,); k >= 1 for outputs of shape (n, k).
        init_scale: Multiplies all initial weights; positive.

    Returns:
        A `Model`. With a smooth activation its `degree` and `neurons` are None, and it is refused
        where homogeneity is needed, as by normalised margins.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.mlp((64, 64), activation="tanh", parameterization="ntk")
        >>> params = model.init(jax.random.key(0), 10)
        >>> model.apply(params, jax.numpy.ones((5, 10))).shape, model.degree
        ((5,), None)

    References:
        GELU: D. Hendrycks, K. Gimpel, arXiv 1606.08415 (both forms).
    """
    return _model(_spec(widths, activation, parameterization, outputs, init_scale, smooth=True))


def homogeneous_mlp(
    widths: Sequence[int],
    *,
    activation: Literal["relu", "leaky_relu", "abs"] | Activation = "relu",
    parameterization: Parameterization = "standard",
    outputs: int | None = None,
    init_scale: float = 1.0,
) -> Model:
    r"""Return a bias-free multi-layer perceptron, positively homogeneous in its parameters.

    Parameters are a tuple (W_1, ..., W_K) with W_k of shape (fan_out, fan_in); the last has shape
    (fan_in,) when `outputs` is None. With c = `init_scale`, the factor s_k of the forward pass and
    the distribution of the initial weights of layer k are:

    - `"standard"`: s_k = 1, N(0, c^2 / fan_in);
    - `"ntk"`: s_k = 1 / sqrt(fan_in), N(0, c^2);
    - `"mean_field"`: s_1 = 1, N(0, c^2 / d) in the first layer, s_k = 1 / fan_in, N(0, c^2) above;
    - `"mup"`, maximal updates: s_1 = sqrt(fan_out), N(0, c^2 / (fan_in fan_out)) in the first
      layer, s_k = sqrt(fan_out / fan_in), N(0, c^2 / fan_out) between, s_K = 1 / sqrt(fan_in),
      N(0, c^2 / fan_in) in the last; a linear model is the standard one.

    With "mup" a step of gradient descent changes the arguments of all activations and the output by
    amounts that do not depend on the width, so that one learning rate suits all widths. For Adam
    chain `optim.scale_by_fan_in` to it. With one hidden layer it is the mean-field parameterization
    at learning rate * width.

    Args:
        widths: Hidden widths, each at least 1; an empty sequence gives a linear model.
        activation: `"relu"`, `"leaky_relu"` (slope 0.01), `"abs"`, or an `Activation` such as
            `models.leaky_relu(0.2)` or `models.relu_power(2)`.
        parameterization: `"standard"`, `"ntk"`, `"mean_field"` or `"mup"`.
        outputs: None for one output of shape (n,); k >= 1 for outputs of shape (n, k).
        init_scale: Multiplies all initial weights; positive. sqrt(2) gives He's initialisation.

    Returns:
        A `Model`. Its `init` takes `(key, d, dtype=None)`, its `apply` takes `(params, x)`.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((64, 64), activation=kg.models.relu_power(2))
        >>> params = model.init(jax.random.key(0), 10)
        >>> model.apply(params, jax.numpy.ones((5, 10))).shape, model.degree
        ((5,), 7.0)

    References:
        Paper A (homogeneous nets of degree a); the degree for powers is derived. Maximal updates:
        G. Yang, E. Hu, "Feature Learning in Infinite-Width Neural Networks", ICML 2021 (recalled);
        the factors for unequal widths and the powers of d are ours.
    """
    return _model(_spec(widths, activation, parameterization, outputs, init_scale, smooth=False))


def _model(spec: MLPSpec) -> Model:
    init, apply = Closure(_init, spec), Closure(_apply, spec)
    if isinstance(spec.activation, SmoothActivation):
        return Model(init, apply, None, spec, None)
    power = spec.activation.power
    degree = float(sum(power**k for k in range(len(spec.widths) + 1)))
    neurons = None
    if len(spec.widths) == 1:
        neurons = Neurons(*(Closure(read, spec) for read in (_pack, _unpack, _radius)))
    return Model(init, apply, degree, spec, neurons)


def _init(spec: MLPSpec, key: Key, d: int, dtype: DTypeLike | None = None) -> Params:
    checks.random_key(key)
    d = checks.integer(d, "d", minimum=1)
    dtype = array_checks.floating_dtype(dtype)
    stds = tuple(layer.init_std for layer in spec.layers(d))
    return normal_layers(key, stds, tuple(spec.shapes(d)), dtype)


def _apply(spec: MLPSpec, params: Params, x: jax.Array) -> jax.Array:
    return propagate(spec, params, x)


def _spec(
    widths: Sequence[int],
    activation: str | Activation | SmoothActivation,
    parameterization: Parameterization,
    outputs: int | None,
    init_scale: float,
    *,
    smooth: bool,
) -> MLPSpec:
    if isinstance(widths, str) or not isinstance(widths, Sequence):
        raise TypeError(f"`widths` must be a sequence of hidden widths, such as (512,); "
                        f"got {widths!r:.40}")  # fmt: skip
    widths = tuple(checks.integer(w, "widths", minimum=1) for w in widths)
    activation = checked_activation(activation, smooth=smooth)
    checks.choice(parameterization, "parameterization", get_args(Parameterization))
    if outputs is not None:
        outputs = checks.integer(outputs, "outputs", minimum=1)
    init_scale = checks.static_number(init_scale, "init_scale", minimum=0, exclusive=True)
    return MLPSpec(widths, activation, parameterization, outputs, init_scale)


def _pack(spec: MLPSpec, params: Params) -> jax.Array:
    if not isinstance(params, tuple | list) or len(params) != 2:
        raise TypeError("`params` must be (hidden, readout), as the model's `init` makes them; "
                        f"got {type(params).__name__} of {len(params)}. For a net of your own "
                        "write models.Neurons(pack, unpack, radius)")  # fmt: skip
    if not all(hasattr(weights, "reshape") for weights in params):
        kinds = " and ".join(type(weights).__name__ for weights in params)
        raise TypeError(f"`params` must be two arrays, (hidden, readout); got {kinds}. Under a "
                        "mask, give both layers of a neuron the same label")  # fmt: skip
    hidden, readout = params
    return jnp.concatenate([readout.reshape(spec.outputs or 1, -1).T, hidden], axis=1)


def _unpack(spec: MLPSpec, neurons: jax.Array) -> Params:
    k = spec.outputs or 1
    return neurons[:, k:], neurons[:, 0] if spec.outputs is None else neurons[:, :k].T


def _radius(spec: MLPSpec, params: Params) -> float:
    return spec.neuron_radius(params[0].shape[1])


@model_of.register(MLPSpec)
def _mlp_of(spec: MLPSpec) -> Model:
    return mlp(**spec._asdict())
