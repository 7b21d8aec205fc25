"""The squared loss of papers B and C, with weight decay."""

from typing import Literal

import jax
import jax.numpy as jnp

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.closure import Closure
from kernelgap.objectives.form import checked_form, regularized
from kernelgap.typing import Apply, ArrayLike, Loss


def regularized_squared(
    apply: Apply,
    *,
    l2: float | jax.Array = 0.0,
    power: float = 2,
    reduction: Literal["mean", "sum"] = "mean",
) -> Loss:
    r"""Return the squared loss (1/2n) sum_i (f(x_i) - y_i)^2 of a network plus l2 ||Theta||^power.

    With k outputs the square is that of the Euclidean norm, and targets have shape (n, k): one-hot
    vectors for classes, as `jax.nn.one_hot` makes them.

    Args:
        apply: `apply(params, x) -> (n,)` or `(n, k)`, such as `model.apply`.
        l2: Strength lambda >= 0; may be traced. ||Theta|| is the Euclidean norm of all parameters.
        power: Exponent r > 0 of the norm.
        reduction: `"mean"` over samples, as in the papers, or `"sum"`, which leaves 1/2 sum_i.

    Returns:
        `loss(params, x, y) -> scalar`, with y real and of the shape of the outputs. Losses of
        equal arguments are equal.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.teacher(jax.random.key(0), 32, 10, inputs="sphere", labels="value")
        >>> model = kg.models.fixed_sign_net(4)
        >>> loss = kg.objectives.regularized_squared(model.apply)
        >>> params = model.init(jax.random.key(1), 10)
        >>> bool(loss(params, x, y) == ((model.apply(params, x) - y) ** 2).mean() / 2)
        True

    References:
        B. Xie, Y. Liang, L. Song, AISTATS 2017 (the loss with l2 = 0).
    """
    checks.function(apply, "apply", "apply(params, x), such as model.apply")
    l2 = checks.number(l2, "l2", minimum=0)
    power = checked_form(power, reduction)
    return Closure(regularized, squared_losses, apply, l2=l2, power=power, reduction=reduction)


def squared_losses(outputs: ArrayLike, y: ArrayLike) -> jax.Array:
    """Return half the squared distance of each output to its target, (1/2) ||f_i - y_i||^2.

    Args:
        outputs: (n,) or (n, k).
        y: Real targets of the same shape.

    Returns:
        Losses of shape (n,).

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.objectives.squared_losses(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0])))
        [0. 2.]
    """
    outputs = array_checks.floating(outputs, "outputs")
    if outputs.ndim not in (1, 2) or 0 in outputs.shape:
        raise ValueError(f"`outputs` must have shape (n,) or (n, k) with n, k >= 1; "
                         f"got {outputs.shape}")  # fmt: skip
    y = array_checks.targets(y, outputs.shape[0], columns=True)
    if y.shape != outputs.shape:
        raise ValueError(f"`y` must have the shape of the outputs, {outputs.shape}; got {y.shape}")
    dtype = array_checks.common_dtype(outputs, y)
    squares = jnp.square(outputs.astype(dtype) - y.astype(dtype))
    return (squares if squares.ndim == 1 else jnp.sum(squares, axis=1)) / 2
