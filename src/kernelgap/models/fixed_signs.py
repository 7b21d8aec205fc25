r"""The one-hidden-layer net of paper B: hidden weights are trained, output signs are fixed.

    f(W; x) = s sum_k v_k relu(<w_k, x>),    v_k = -1 or +1,

is positively homogeneous of degree 1 in W. Its gradient in w_k is s v_k 1[<w_k, x> > 0] x, so that
its tangent kernel does not depend on the signs: with s^2 = 1/width it tends to the g of paper B.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.closure import Closure
from kernelgap._numerics.quick import quick_jit
from kernelgap._support.registry import saveable
from kernelgap.models.activations import HOMOGENEOUS, Activation
from kernelgap.models.forward import checked_layers
from kernelgap.models.model import Layer, Model, Params, model_of
from kernelgap.typing import ArrayLike, DTypeLike, Key


@saveable()
class FixedSignSpec(NamedTuple):
    """The static, hashable description of a `fixed_sign_net`.

    It has the attributes of the description of a `homogeneous_mlp`, for the one trained layer.
    """

    width: int
    given: tuple | None
    outputs: int | None
    scale: float
    init_scale: float

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of the hidden layer."""
        return (self.width,)

    @property
    def activation(self) -> Activation:
        """The ReLU."""
        return HOMOGENEOUS["relu"]

    @property
    def signs(self) -> np.ndarray:
        """The output signs, of shape (width,), or (width, k) with k outputs."""
        if self.given is not None:
            return np.asarray(self.given, np.int8)
        signs = walsh_signs(self.width, self.outputs or 1)
        return signs[:, 0] if self.outputs is None else signs

    def layers(self, d: int) -> list[Layer]:
        """Return the trained layer, in a list."""
        return [Layer(d, self.width, 1.0, self.init_scale)]

    def shapes(self, d: int) -> list[tuple[int, ...]]:
        """Return the shape of the trained weights, in a list."""
        return [(self.width, d)]


def fixed_sign_net(
    width: int,
    *,
    signs: ArrayLike | None = None,
    outputs: int | None = None,
    scale: float | None = None,
    init_scale: float = 1.0,
) -> Model:
    r"""Return a one-hidden-layer ReLU net whose output weights are fixed signs.

    f(W; x) = s sum_k v_k relu(<w_k, x>), with s = `scale`. Parameters are the tuple (W,) with W of
    shape (width, d), its rows the units w_k, drawn from N(0, c^2 I) with c = `init_scale`. On
    inputs of norm 1 the outputs of a fresh net with as many +1 as -1 have mean 0 and variance
    s^2 c^2 width (1 - 1/pi) / 2: of order one for the default s = 1/sqrt(width).

    With k outputs each unit has a sign for each of them, f_a = s sum_k v_ka relu(<w_k, x>). By
    default signs are those of Walsh functions: +1, -1, +1, -1, ... for one output; for several,
    half of the signs of each output are +1 and any two outputs agree on half of the units, exactly
    where `width` is a multiple of the least power of two above k. Outputs then share no
    direction of the tangent kernel. For this to make all outputs different, `width` must be
    above the greatest power of two that is at most k: 9 for ten outputs.

    Args:
        width: Number of hidden units, at least 1; at least 2 for outputs of both signs.
        signs: -1 and +1, of shape (width,), or (width, k) with k outputs.
        outputs: None for one output of shape (n,); k >= 1 for outputs of shape (n, k).
        scale: Positive; 1/sqrt(width) when None. Paper B has 1.
        init_scale: Standard deviation of the initial weights; positive.

    Returns:
        A `Model` of degree 1, without `neurons` (it has one trained layer). Its `init` takes
        `(key, d, dtype=None)`, its `apply` takes `(params, x)`.

    Raises:
        ValueError: If `signs` is left out with too few units for different outputs.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.fixed_sign_net(64)
        >>> params = model.init(jax.random.key(0), 10)
        >>> x = kg.datasets.sphere(jax.random.key(1), 5, 10)
        >>> model.apply(params, x).shape, model.spec.signs[:4].tolist()
        ((5,), [1, -1, 1, -1])

    References:
        B. Xie, Y. Liang, L. Song, "Diverse Neural Network Learns True Target Functions", AISTATS
        2017 (the net, with s = 1). The scale and the signs of several outputs are ours.
    """
    width = checks.integer(width, "width", minimum=1)
    if outputs is not None:
        outputs = checks.integer(outputs, "outputs", minimum=1)
    if scale is None:
        scale = width**-0.5
    scale = checks.static_number(scale, "scale", minimum=0, exclusive=True)
    init_scale = checks.static_number(init_scale, "init_scale", minimum=0, exclusive=True)
    least = 1 << (outputs or 1).bit_length() - 1
    if signs is None and outputs is not None and width <= least and outputs > 1:
        raise ValueError(f"`width` must be at least {least + 1} for {outputs} different outputs, "
                         f"or `signs` given; got {width}")  # fmt: skip
    given = None if signs is None else _given_signs(signs, width, outputs)
    spec = FixedSignSpec(width, given, outputs, scale, init_scale)

    return Model(Closure(_init, spec), Closure(_apply, spec), 1.0, spec, None)


def _init(spec: FixedSignSpec, key: Key, d: int, dtype: DTypeLike | None = None) -> Params:
    checks.random_key(key)
    d = checks.integer(d, "d", minimum=1)
    dtype = array_checks.floating_dtype(dtype)
    return (spec.init_scale * jax.random.normal(key, (spec.width, d), dtype),)


def _apply(spec: FixedSignSpec, params: Params, x: jax.Array) -> jax.Array:
    x = array_checks.floating(x, "x")
    checked_layers(spec, params, x)
    return _forward(spec, array_checks.array(params[0], "params"), x)


@partial(quick_jit, static_argnames="spec")
def _forward(spec: FixedSignSpec, w: jax.Array, x: jax.Array) -> jax.Array:
    dtype = array_checks.common_dtype(x, w)
    hidden = spec.activation(x.astype(dtype) @ w.astype(dtype).T)
    return spec.scale * (hidden @ jnp.asarray(spec.signs, hidden.dtype))


def walsh_signs(width: int, outputs: int) -> Int[np.ndarray, "width outputs"]:
    """Return v_ja = (-1)^b, with b the number of ones that j and a + 1 share in binary."""
    shared = np.arange(width)[:, None] & (np.arange(outputs) + 1)
    parity = np.zeros_like(shared)
    while shared.any():
        parity ^= shared & 1
        shared >>= 1
    return (1 - 2 * parity).astype(np.int8)


def _given_signs(signs: ArrayLike, width: int, outputs: int | None) -> tuple:
    values = np.asarray(signs)
    shape = (width,) if outputs is None else (width, outputs)
    if values.shape != shape:
        raise ValueError(f"`signs` must have shape {shape}; got {values.shape}")
    wrong = ~np.isin(values, (-1, 1)) if values.dtype.kind in "fiu" else np.ones(shape, bool)
    if wrong.any():
        raise ValueError(f"`signs` must be -1 and +1 only; got {values[wrong][:3].tolist()}")
    entries = values.astype(int).tolist()
    return tuple(map(tuple, entries)) if outputs else tuple(entries)


@model_of.register(FixedSignSpec)
def _fixed_sign_net_of(spec: FixedSignSpec) -> Model:
    return fixed_sign_net(
        spec.width,
        signs=None if spec.given is None else np.asarray(spec.given),
        outputs=spec.outputs,
        scale=spec.scale,
        init_scale=spec.init_scale,
    )
