"""The regularised logistic loss, and its logarithm.

Paper A trains L(Theta) = reduce_i log(1 + exp(-y_i f(Theta; x_i))) + lambda ||Theta||^r. As lambda
falls, the margins y_i f grow like log(1 / lambda) and the loss with its gradient underflows: log L
has the same minimisers and does not.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.closure import Closure
from kernelgap._numerics.outputs import (
    check_labels,
    check_outputs,
    checked_classes,
    signed_outputs,
    soft_margins,
)
from kernelgap._numerics.quick import quick_jit
from kernelgap._numerics.trees import squared_norm
from kernelgap.objectives.form import checked_form, regularized
from kernelgap.typing import Apply, ArrayLike, Loss, PyTree, Scalar


def regularized_logistic(
    apply: Apply,
    *,
    l2: float | jax.Array,
    power: float = 2,
    reduction: Literal["mean", "sum"] = "mean",
) -> Loss:
    r"""Return the logistic loss of a network plus l2 * ||Theta||^power.

    With outputs of shape (n,) and labels in {-1, +1} the loss of a sample is
    log(1 + exp(-y f)); with outputs (n, k) and integer labels it is the softmax cross-entropy.
    Both are stable at logits of 1e4 and more. ||Theta|| is the Euclidean norm of all parameters.

    Args:
        apply: `apply(params, x) -> (n,)` or `(n, k)`, such as `model.apply`.
        l2: Strength lambda >= 0; may be traced, so that one compiled function serves a path.
        power: Exponent r > 0 of the norm.
        reduction: `"mean"` or `"sum"` over samples. The paper uses the sum in its general theorem
            and the mean for two layers; the same minimisers need l2_sum = n * l2_mean.

    Returns:
        `loss(params, x, y) -> scalar`, differentiable everywhere in the sense of JAX, with
        gradient 0 of the norm at Theta = 0. Losses of equal arguments are equal.

    Raises:
        ValueError: From the loss, if concrete labels are outside {-1, +1} (or 0..k-1).

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
    checks.function(apply, "apply", "apply(params, x), such as model.apply")
    l2 = checks.number(l2, "l2", minimum=0)
    power = checked_form(power, reduction)
    return Closure(regularized, logistic_losses, apply, l2=l2, power=power, reduction=reduction)


def log_regularized_logistic(
    apply: Apply,
    *,
    log_l2: float | jax.Array,
    power: float = 2,
    reduction: Literal["mean", "sum"] = "mean",
) -> Loss:
    r"""Return the logarithm of the regularised logistic loss, which does not underflow.

    log L = log(reduce_i l_i + lambda ||Theta||^power), with every sum taken in logarithms: value
    and gradient are as accurate at lambda = 1e-100 as at lambda = 1, in float32 too. The gradient
    is grad L / L, so that a step of gradient descent on log L is one on L with the learning rate
    divided by the loss, as in the experiments of Lyu and Li.

    Args:
        apply: `apply(params, x) -> (n,)` or `(n, k)`, k >= 2, such as `model.apply`.
        log_l2: log(lambda), so that lambda itself need not be a number of the dtype; may be
            traced. ``-inf`` for no regularisation.
        power: Exponent r > 0 of the norm.
        reduction: `"mean"` or `"sum"` over samples, as in `regularized_logistic`.

    Returns:
        `loss(params, x, y) -> scalar`, the natural logarithm of `regularized_logistic`.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 32, 10)
        >>> model = kg.models.homogeneous_mlp((4,))
        >>> params = tuple(12.0 * w for w in kg.datasets.planted_xor(10))  # margins of 144
        >>> loss = kg.objectives.log_regularized_logistic(model.apply, log_l2=-1000.0)
        >>> print(f"{loss(params, x, y):.3f}")
        -144.000

    References:
        The loss: paper A. Rescaling it by itself: K. Lyu, J. Li, "Gradient Descent Maximizes the
        Margin of Homogeneous Neural Networks", ICLR 2020, section 5 (recalled). The form in
        logarithms is ours.
    """
    checks.function(apply, "apply", "apply(params, x), such as model.apply")
    known = array_checks.is_concrete(log_l2)
    unregularized = known and np.ndim(log_l2) == 0 and log_l2 == -np.inf
    if not unregularized:
        finite = checks.number(log_l2, "log_l2")
        log_l2 = finite if known else jnp.where(log_l2 == -jnp.inf, log_l2, finite)
    power = checked_form(power, reduction)

    penalty = None if unregularized else log_l2
    return Closure(_log_loss, apply, log_l2=penalty, power=power, reduction=reduction)


def _log_loss(
    apply: Apply,
    params: PyTree,
    x: jax.Array,
    y: jax.Array,
    *,
    log_l2: float | jax.Array | None,
    power: float,
    reduction: str,
) -> Scalar:
    logs = logistic_losses(apply(params, x), y, log=True)
    data_term = jax.nn.logsumexp(logs)
    if reduction == "mean":
        data_term -= float(np.log(logs.shape[0]))
    if log_l2 is None:
        return data_term
    squared = squared_norm(params)
    dtype = array_checks.common_dtype(data_term, squared)
    data_term, squared = data_term.astype(dtype), squared.astype(dtype)
    zero = squared == 0
    log_norm = jnp.log(jnp.where(zero, 1, squared)) / 2
    penalty = jnp.asarray(log_l2, squared.dtype) + power * log_norm
    # At Theta = 0 the penalty is log 0, with no gradient.
    return jnp.where(zero, data_term, jnp.logaddexp(data_term, penalty))


def logistic_losses(outputs: ArrayLike, y: ArrayLike, *, log: bool = False) -> jax.Array:
    """Return the logistic loss of each sample: log(1 + exp(-y f)), or softmax cross-entropy.

    Args:
        outputs: (n,) or (n, k) with k >= 2.
        y: (n,) labels: -1 or +1 for outputs (n,), integers 0..k-1 for outputs (n, k).
        log: Return the logarithms of the losses, which are accurate and differentiable where the
            losses themselves are zero.

    Returns:
        Losses of shape (n,), or their logarithms.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> outputs = jnp.array([1e4, 0.0, -1e4])
        >>> print(kg.objectives.logistic_losses(outputs, jnp.ones(3)).round(3))
        [0.00e+00 6.93e-01 1.00e+04]
        >>> print(kg.objectives.logistic_losses(outputs, jnp.ones(3), log=True).round(3))
        [-1.00e+04 -3.67e-01  9.21e+00]

    References:
        The loss: paper A. Its logarithm: as `log_regularized_logistic`.
    """
    outputs = check_outputs(outputs)
    return _losses(outputs, check_labels(outputs, y), log)


@partial(quick_jit, static_argnames="log")
def _losses(outputs: jax.Array, y: jax.Array, log: bool) -> jax.Array:
    if log:
        return _log_losses(soft_margins(outputs, y))
    if outputs.ndim == 1:
        return jax.nn.softplus(-signed_outputs(outputs, y))
    outputs, y = checked_classes(outputs, y)
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs, axis=1), y[:, None], axis=1)[:, 0]


def _log_losses(soft_margins: jax.Array) -> jax.Array:
    z = -soft_margins
    # Below, log(1 + e^z) = e^z but for rounding, long before e^z itself underflows.
    tiny = z < np.log(jnp.finfo(z.dtype).eps)
    return jnp.where(tiny, z, jnp.log(jax.nn.softplus(jnp.where(tiny, 0, z))))
