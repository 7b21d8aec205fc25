"""Changes of the tangent kernel and of activation patterns, the sets of active units per input.

While no pattern changes, the outputs of a ReLU net on the data are a fixed polynomial in its
weights; in lazy training few patterns change.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks
from kernelgap._numerics.quick import quick_jit
from kernelgap.metrics.alignment import frobenius_norm, gram_pair
from kernelgap.models import Activation, Model, Params, SmoothActivation, preactivations
from kernelgap.models.model import check_layers
from kernelgap.typing import ArrayLike, Scalar


def activation_change(
    model: Model, params0: Params, params: Params, x: ArrayLike
) -> Float[Array, " layers"]:
    r"""Return the fraction of activations that changed sides between two parameters, per layer.

    For layer k with m_k units it is ``(1 / (n m_k)) sum_ij 1[(z_ij > 0) != (z0_ij > 0)]``, where z
    and z0 are the preactivations at `params` and `params0`. It is 0 if no unit changed sides on any
    sample, 1/2 on average for unrelated random weights, and invariant to scaling a layer by c > 0.

    A smooth activation phi has no patterns, but the slopes of its units change. The result is then
    ``(1 / (n m_k)) sum_ij (phi'(z_ij) - phi'(z0_ij))^2``, which equals the fraction above for ReLU.
    It depends on the scale of the weights.

    Args:
        model: An `mlp` or `homogeneous_mlp` with a hidden layer.
        params0: Reference parameters, such as the initial ones.
        params: Parameters to compare with `params0`.
        x: Inputs of shape (n, d).

    Returns:
        Shape (hidden layers,), NaN if a parameter is NaN. For piecewise linear activations and
        their powers: fractions in [0, 1], piecewise constant with gradient 0. For smooth
        activations: mean squares, differentiable, at most the square of the range of phi'.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((64,))
        >>> params = model.init(jax.random.key(0), 10)
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(1), 50, 10)
        >>> flipped = (-params[0], params[1])
        >>> print(kg.lazy.activation_change(model, params, flipped, x))
        [1.]

    References:
        A common measure of lazy training; the exact form is ours.
    """
    check_layers(model)
    params0 = array_checks.parameters(params0, "params0", finite=False)
    if not model.spec.widths:
        raise ValueError("`model` must have a hidden layer to have activation patterns; got none")
    x = array_checks.inputs(x)
    before, after = preactivations(model, params0, x), preactivations(model, params, x)
    return _activation_change(model.spec.activation, before, after)


def kernel_change(gram0: ArrayLike, gram: ArrayLike) -> Scalar:
    r"""Return the relative change of a kernel, ||K - K0||_F / ||K0||_F.

    Args:
        gram0: Reference Gram matrix, such as the initial one, of shape (n, n) or (n, n, k, k).
        gram: Gram matrix of the same shape.

    Returns:
        A scalar >= 0; exactly 0 for equal matrices, not finite if `gram0` is zero.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.lazy.kernel_change(jnp.eye(3), 1.5 * jnp.eye(3)))
        0.5

    References:
        L. Chizat, E. Oyallon, F. Bach, "On Lazy Training in Differentiable Programming", 2019.
    """
    return _kernel_change(*gram_pair(gram0, gram, "gram0", "gram"))


@partial(quick_jit, static_argnames="phi")
def _activation_change(
    phi: Activation | SmoothActivation, before: tuple[jax.Array, ...], after: tuple[jax.Array, ...]
) -> Float[Array, " layers"]:
    def slope(z: jax.Array) -> jax.Array:
        return jax.jvp(phi, (z,), (jnp.ones_like(z),))[1]

    def change(z0: jax.Array, z: jax.Array) -> jax.Array:
        if isinstance(phi, Activation):
            return jnp.mean(_sign_changes(z0, z))
        return jnp.mean(jnp.square(slope(z) - slope(z0)))

    return jnp.stack([change(z0, z) for z0, z in zip(before, after, strict=True)])


@quick_jit
def _kernel_change(before: jax.Array, after: jax.Array) -> Scalar:
    size = jnp.max(jnp.abs(before))  # squares of large entries overflow
    return frobenius_norm((after - before) / size) / frobenius_norm(before / size)


def _sign_changes(z0: jax.Array, z: jax.Array) -> jax.Array:
    """Return 1 where the signs differ, 0 where they agree, and NaN where either is NaN."""
    changed = ((z0 > 0) != (z > 0)).astype(z.dtype)
    return jnp.where(jnp.isnan(z0) | jnp.isnan(z), jnp.nan, changed)
