"""Training objectives.

Paper A trains L(Theta) = reduce_i log(1 + exp(-y_i f(Theta; x_i))) + lambda ||Theta||^r.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from kernelgap import _checks
from kernelgap._trees import safe_power, squared_norm
from kernelgap.typing import Apply, Loss, PyTree, Scalar


def regularized_logistic(
    apply: Apply,
    *,
    l2: float | jax.Array,
    power: float = 2,
    reduction: Literal["mean", "sum"] = "mean",
) -> Loss:
    r"""The logistic loss of a network plus l2 * ||Theta||^power.

    With outputs of shape (n,) and labels in {-1, +1} the loss of a sample is
    log(1 + exp(-y f)); with outputs (n, k) and integer labels it is the softmax cross-entropy.
    Both are stable at logits of 1e4 and more. ||Theta|| is the Euclidean norm of all parameters.

    Args:
        apply: `apply(params, x) -> (n,)` or `(n, k)`, such as `model.apply`.
        l2: strength lambda >= 0; may be traced, so that one compiled function serves a path.
        power: exponent r > 0 of the norm.
        reduction: `"mean"` or `"sum"` over samples. The paper uses the sum in its general theorem
            and the mean for two layers; the same minimisers need l2_sum = n * l2_mean.

    Returns:
        `loss(params, x, y) -> scalar`, differentiable everywhere in the sense of JAX, with
        gradient 0 of the norm at Theta = 0.

    Raises:
        TypeError: if `apply` is not callable or `l2`, `power` are not numbers.
        ValueError: if `l2` < 0, `power` <= 0 or `reduction` is unknown; from the loss, if
            shapes disagree or concrete labels are outside {-1, +1} (or 0..k-1).

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 32, 10)
        >>> model = kg.models.homogeneous_mlp((4,))
        >>> loss = kg.objectives.regularized_logistic(model.apply, l2=1e-3)
        >>> print(round(float(loss(kg.datasets.planted_xor(10), x, y)), 4))
        0.3213

    References:
        Paper A, the regularised objective (binary and multi-class).
    """
    if not callable(apply):
        raise TypeError(f"`apply` must be a function apply(params, x), such as model.apply; "
                        f"got {type(apply).__name__}")  # fmt: skip
    _checks.number(l2, "l2", minimum=0)
    _checks.number(power, "power", minimum=0, exclusive=True)
    _checks.choice(reduction, "reduction", ("mean", "sum"))
    reduce = jnp.mean if reduction == "mean" else jnp.sum

    def loss(params: PyTree, x: jax.Array, y: jax.Array) -> Scalar:
        data_term = reduce(logistic_losses(apply(params, x), y))
        if _checks.is_concrete(l2) and float(l2) == 0:
            return data_term  # also where the norm overflows
        return data_term + l2 * safe_power(squared_norm(params), power / 2)

    return loss


def logistic_losses(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """The logistic loss of each sample: log(1 + exp(-y f)), or softmax cross-entropy.

    Args:
        outputs: (n,) or (n, k).
        y: (n,) labels: -1 or +1 for outputs (n,), integers 0..k-1 for outputs (n, k).

    Returns:
        Losses of shape (n,).

    Raises:
        ValueError: if shapes disagree or concrete labels are out of range.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.objectives.logistic_losses(jnp.array([1e4, -1e4]), jnp.array([1.0, 1.0])))
        [    0. 10000.]
    """
    if outputs.ndim == 1:
        y = _checks.signs(y, outputs.shape[0])
        return jax.nn.softplus(-y.astype(outputs.dtype) * outputs)
    if outputs.ndim != 2:
        raise ValueError(f"`apply` must return shape (n,) or (n, k); got {outputs.shape}")
    y = _checks.classes(y, outputs.shape[0], outputs.shape[1])
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs, axis=1), y[:, None], axis=1)[:, 0]
