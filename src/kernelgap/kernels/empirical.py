r"""The empirical NTK: inner products of the gradients of one net, at its own parameters.

For the layers z_k = s_k W_k h_{k-1}, h_k = phi(z_k) of a `homogeneous_mlp`, the gradient of output
a in W_k is the outer product s_k delta_k^a h_{k-1}' with delta_k^a = d f_a / d z_k, so that

    K(x, z)_{ab} = sum_k s_k^2 <h_{k-1}(x), h_{k-1}(z)> <delta_k^a(x), delta_k^b(z)>:

per layer one Gram matrix of features and one of backward signals. No Jacobian is formed. Any other
function goes to `kernelgap.kernels.jacobian`.

References: A. Jacot et al., NeurIPS 2018 (the kernel). That the gradient of a dense layer is an
outer product is the chain rule; the form of the sum is derived by this project and held against
Jacobians and neural_tangents by its tests.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._support.registry import register
from kernelgap.kernels import jacobian
from kernelgap.kernels.kernel import Kernel
from kernelgap.models import Model, Params
from kernelgap.models.model import MLPSpec, model_of
from kernelgap.typing import Apply, PyTree

_HIGHEST = jax.lax.Precision.HIGHEST


class NetworkSpec(NamedTuple):
    """Static description of the empirical NTK of a net: the model, and the layers to sum over."""

    model: MLPSpec
    layers: tuple[int, ...]


def empirical_ntk(
    model: Model | Apply,
    params: PyTree,
    *,
    layers: Literal["first", "last"] | Sequence[int] | None = None,
    chunk: int | None = None,
) -> Kernel:
    r"""Return the neural tangent kernel of a finite net at the given parameters.

    K(x, z)_{ab} = <grad f_a(params; x), grad f_b(params; z)>. For a `homogeneous_mlp` it is
    evaluated layer by layer without a Jacobian,

        K(x, z)_{ab} = sum_k s_k^2 <h_{k-1}(x), h_{k-1}(z)> <delta_k^a(x), delta_k^b(z)>,

    which takes memory for a few arrays of shapes (n1, n2, k, k) and (n, width, k). In other
    functions, dense layers are found in the trace of the gradient and treated alike. Jacobians are
    formed for other parameters only, such as those of convolutions or used twice, of `chunk`
    examples at a time, and two of them are held.

    Args:
        model: A `homogeneous_mlp`, or a pure function `apply(params, x)` of inputs (n, ...) that
            returns (n,) or (n, k), each row from its own example alone. Batch statistics are
            refused where arrays are concrete. A function must be hashable, and every new function
            object is compiled anew.
        params: The model's parameters; for a function, any tree of floating arrays. To keep
            parameters fixed, close over them: `lambda p, x: apply((p, fixed), x)`.
        layers: For a `homogeneous_mlp` only. Sum over these layers: `"first"`, `"last"`, or
            distinct indices such as `(0, -1)`. The kernels of a partition of the layers sum to the
            kernel of all of them.
        chunk: For a function only. The largest number of examples, at least 1, in a block of
            gradients; it need not divide n. By default a block has at most 2^27 entries (0.5 GiB in
            float32), and the product of two at most 2^25. Larger blocks are faster.

    Returns:
        A `Kernel` with the parameters as its arrays. `kernel(x1, x2=None)` has shape (n1, n2) for
        outputs of shape (n,), (n1, n2, k, k) for (n, k), also when k = 1; without `x2` it is
        exactly symmetric, K[i, j, a, b] = K[j, i, b, a]. `kernel.diag(x)` is (n,) or (n, k, k).
        The derivative of an activation at 0 counts as 0, as in `models.Activation`. The inputs of
        the kernel of a `homogeneous_mlp` must have the dtype of its parameters, which is also the
        dtype of the result; the kernel of a function has the dtype of the function's outputs.

    Raises:
        ValueError: If `chunk` is given for a `homogeneous_mlp` or `layers` for a function; when the
            kernel is called, if the outputs of a function have the wrong shape.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 4, 10)
        >>> model = kg.models.homogeneous_mlp((512,))
        >>> params = model.init(jax.random.key(1), 10)
        >>> kernel = kg.kernels.empirical_ntk(model, params)
        >>> kernel(x).shape, kernel(x, x[:2]).shape
        ((4, 4), (4, 2))
        >>> kg.kernels.empirical_ntk(model, params, layers="last").diag(x).shape
        (4,)

        For any function, here with all parameters but the readout held fixed:

        >>> readout = lambda w, x: model.apply((params[0], w), x)
        >>> kg.kernels.empirical_ntk(readout, params[1])(x).shape
        (4, 4)

    References:
        A. Jacot et al., NeurIPS 2018; R. Novak et al., ICML 2022 (ways to evaluate it). The sum
        over layers is derived by this project.
    """
    if isinstance(model, Model) and isinstance(model.spec, MLPSpec):
        if chunk is not None:
            raise ValueError("`chunk` is for functions; the kernel of a homogeneous_mlp forms no "
                             "Jacobian, so leave it out")  # fmt: skip
        params = _checked_params(model.spec, params)
        chosen = _checked_layers(layers, len(params))
        spec = NetworkSpec(model.spec, chosen)
        return Kernel(gram, diagonal, spec, "ntk", params, ("ntk",))
    if layers is not None:
        raise ValueError("`layers` is for a homogeneous_mlp; for a function pass the parameters of "
                         "these layers as `params` and close over the others")  # fmt: skip
    apply = model.apply if isinstance(model, Model) else model
    spec = jacobian.checked_function(apply, chunk)
    params = array_checks.parameters(params)
    return Kernel(jacobian.gram, jacobian.diagonal, spec, "ntk", params, ("ntk",), None)


def _checked_params(spec: MLPSpec, params: Params) -> Params:
    depth = len(spec.widths) + 1
    if not isinstance(params, tuple | list) or len(params) != depth:
        raise ValueError(f"`params` must be the tuple of {depth} weight arrays that model.init "
                         f"returns; got {jax.tree.structure(params)!s:.80}")  # fmt: skip
    params = array_checks.parameters(tuple(params))
    d = max((np.shape(params[0]) or (1,))[-1], 1)
    shapes = [np.shape(weights) for weights in params]
    if shapes != (expected := spec.shapes(d)):
        raise ValueError(f"`params` must have the shapes {expected} for inputs with "
                         f"d = {d}; got {shapes}")  # fmt: skip
    if len(dtypes := {str(weights.dtype) for weights in params}) > 1:
        raise TypeError(f"`params` must have one dtype; got {', '.join(sorted(dtypes))}")
    return params


def _checked_layers(layers: str | Sequence[int] | None, depth: int) -> tuple[int, ...]:
    if layers is None:
        return tuple(range(depth))
    if isinstance(layers, str):
        checks.choice(layers, "layers", ("first", "last"))
        return (0 if layers == "first" else depth - 1,)
    if not isinstance(layers, Sequence):
        raise TypeError(f"`layers` must be 'first', 'last' or a sequence of layer indices such as "
                        f"(0,); got {layers!r:.40}")  # fmt: skip
    chosen = [checks.integer(layer, "layers", minimum=-depth) for layer in layers]
    if not chosen or max(chosen) >= depth:
        raise ValueError(f"`layers` must hold indices from {-depth} to {depth - 1}, at least one, "
                         f"for a model of {depth} layers; got {layers!r:.40}")  # fmt: skip
    chosen = [layer % depth for layer in chosen]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"`layers` must be distinct; got {layers!r:.40}, that is {chosen}")
    return tuple(sorted(chosen))


def gram(
    spec: NetworkSpec, params: Params, x1: jax.Array, x2: jax.Array | None, get: str
) -> jax.Array:
    """Return the kernel between all rows of x1 and x2, or among x1 when x2 is None."""
    del get
    _check_inputs(params, x1, "x1")
    if x2 is not None:
        _check_inputs(params, x2, "x2")
    # The slopes of ReLU units hide NaN parameters.
    return array_checks.nan_unless(array_checks.all_finite(params), _gram(spec, params, x1, x2))


def diagonal(spec: NetworkSpec, params: Params, x: jax.Array, get: str) -> jax.Array:
    """Return K(x_i, x_i) for each row."""
    del get
    _check_inputs(params, x, "x")
    return array_checks.nan_unless(array_checks.all_finite(params), _diagonal(spec, params, x))


def _check_inputs(params: Params, x: jax.Array, name: str) -> None:
    d, dtype = params[0].shape[-1], params[0].dtype
    if x.shape[1] != d:
        raise ValueError(f"`{name}` must have shape (n, {d}) as the parameters do; got {x.shape}")
    if x.dtype != dtype:
        raise TypeError(f"`{name}` must have the dtype of the parameters, {dtype}; got {x.dtype}. "
                        f"Convert one, for example with {name}.astype({dtype})")  # fmt: skip


@partial(jax.jit, static_argnames="spec")
def _gram(
    spec: NetworkSpec,
    params: Params,
    x1: Float[Array, "n1 d"],
    x2: Float[Array, "n2 d"] | None,
) -> Float[Array, "n1 n2 *outputs"]:
    left = _signals(spec.model, params, x1)
    right = left if x2 is None else _signals(spec.model, params, x2)
    factors = [layer.scale for layer in spec.model.layers(x1.shape[1])]
    total = jnp.zeros((), x1.dtype)
    for k in spec.layers:
        (h1, delta1), (h2, delta2) = left[k], right[k]
        inner = jnp.matmul(h1, h2.T, precision=_HIGHEST)
        signals = jnp.einsum("iap,jbp->iajb", delta1, delta2, precision=_HIGHEST)
        total += factors[k] ** 2 * inner[:, None, :, None] * signals
    if x2 is None:  # products of a matrix with itself are symmetric only up to rounding
        total = (total + total.transpose(2, 3, 0, 1)) / 2
    return total[:, 0, :, 0] if spec.model.outputs is None else total.transpose(0, 2, 1, 3)


@partial(jax.jit, static_argnames="spec")
def _diagonal(
    spec: NetworkSpec, params: Params, x: Float[Array, "n d"]
) -> Float[Array, "n *outputs"]:
    signals = _signals(spec.model, params, x)
    factors = [layer.scale for layer in spec.model.layers(x.shape[1])]
    total = jnp.zeros((), x.dtype)
    for k in spec.layers:
        h, delta = signals[k]
        products = jnp.einsum("iap,ibp->iab", delta, delta, precision=_HIGHEST)
        total += factors[k] ** 2 * jnp.sum(jnp.square(h), axis=1)[:, None, None] * products
    return total[:, 0, 0] if spec.model.outputs is None else total


def _signals(spec: MLPSpec, params: Params, x: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Return features h_{k-1} (n, fan_in) and signals delta_k (n, outputs, fan_out) per layer.

    The signals of the last layer are the identity for every row, of shape (1, outputs, outputs).
    """
    factors = [layer.scale for layer in spec.layers(x.shape[1])]
    features, slopes = [x], []
    for weights, factor in zip(params[:-1], factors[:-1], strict=True):
        z = factor * jnp.matmul(features[-1], weights.T, precision=_HIGHEST)
        h, slope = jax.jvp(spec.activation, (z,), (jnp.ones_like(z),))
        features.append(h)
        slopes.append(slope)
    delta = jnp.eye(spec.outputs or 1, dtype=x.dtype)[None]
    deltas = [delta]
    for k in reversed(range(len(slopes))):
        weights = params[k + 1].reshape(-1, params[k + 1].shape[-1])
        back = factors[k + 1] * jnp.matmul(delta, weights, precision=_HIGHEST)
        delta = back * slopes[k][:, None, :]
        deltas.append(delta)
    return list(zip(features, reversed(deltas), strict=True))


def _fields(kernel: Kernel) -> dict[str, Any] | None:
    if not isinstance(kernel.spec, NetworkSpec):
        return None
    return {"spec": kernel.spec.model, "params": kernel.params, "layers": kernel.spec.layers}


def _from_fields(spec: Any, params: PyTree, layers: Sequence[int]) -> Kernel:
    return empirical_ntk(model_of(spec), params, layers=layers)


register(Kernel, _fields, _from_fields, kind="empirical")
