r"""The bound on the loss from the smallest singular value of the extended features.

Let L(W) = ell(f(x_1), ..., f(x_n)) for f(x) = sum_k v_k relu(w_k . x), v_k = +-1. Then
grad_W L = D grad ell, with the extended feature matrix D of `kernelgap.diversity.features`, so that
||grad_W L|| >= s_min(D) ||grad ell||. If ||grad ell||^2 >= 2 mu (ell - ell*), then

    L - ell* <= ||grad ell||^2 / (2 mu) <= ||grad_W L||^2 / (2 mu s_min(D)^2).

The squared loss (1/2n) sum_l (f(x_l) - y_l)^2 has mu = 1/n. Powers of the ReLU and any subgradient
at 0 are allowed, if they are those of D.
"""

import jax
import jax.numpy as jnp

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.trees import squared_norm
from kernelgap.diversity.features import SmallestSingularValue
from kernelgap.typing import ArrayLike, PyTree, Scalar


def pl_bound(
    gradient: PyTree,
    smallest: SmallestSingularValue | ArrayLike,
    *,
    n: int | None = None,
    pl: float | jax.Array | None = None,
    scale: float | jax.Array = 1.0,
) -> Scalar:
    r"""Return an upper bound on the loss from its gradient, (n/2) ||grad_W L||^2 / (scale s_min)^2.

    It holds for L = (1/2n) sum_l (f(x_l) - y_l)^2 and f = scale * sum_k v_k relu(w_k . x) with
    v_k = +-1 and s_min at the same W. It is a Polyak-Lojasiewicz inequality whose constant depends
    on the weights.

    For another loss ell of the outputs, with ||grad ell||^2 >= 2 mu (ell - ell*), give mu as `pl`;
    the bound is then ||grad_W L||^2 / (2 mu (scale s_min)^2) on L - ell*. A mu-strongly convex ell
    has this property, and so have some that are not, on a part of their range: for the logistic
    loss, mu = `lazy.logistic_loss_constants(...).pl` where the loss is between `target` and
    `initial_loss`, and the bound is at least the loss or the loss is below `target`.

    Args:
        gradient: grad_W L in the first layer, as any tree of arrays, without gradients of
            penalties; entries for other parameters only weaken the bound. It takes the same
            derivative of the relu at 0 as s_min: 0 in `models.Activation`.
        smallest: The result of `smallest_singular_value(w, x)`, whose `lower` is used so that
            rounding does not invalidate the bound; or a value of s_min >= 0.
        n: Number of samples, at least 1, for the squared loss above.
        pl: mu > 0, for any other loss; either this or `n`.
        scale: Nonzero factor of the outputs, such as 1 / sqrt(m).

    Returns:
        An upper bound on the loss over its infimum ell*, infinite (vacuous) if s_min is 0.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> w = jax.random.normal(jax.random.key(0), (60, 10))
        >>> x = jax.random.normal(jax.random.key(1), (40, 10))
        >>> loss = lambda w: jnp.mean(jnp.square(jnp.sum(jax.nn.relu(x @ w.T), axis=1) - 1)) / 2
        >>> smallest = kg.diversity.smallest_singular_value(w, x)
        >>> bool(loss(w) <= kg.diversity.pl_bound(jax.grad(loss)(w), smallest, n=40))
        True

    References:
        Paper B (the loss at stationary points and s_min; other losses in its appendix F). The
        inequality in terms of mu is derived.
    """
    if (n is None) == (pl is None):
        raise ValueError("give either `n`, for the squared loss, or `pl`, for another loss")
    if n is not None:
        inverse = checks.integer(n, "n", minimum=1)
    else:
        inverse = 1 / checks.number(pl, "pl", minimum=0, exclusive=True)
    scale = checks.number(scale, "scale")
    if array_checks.is_concrete(scale) and float(scale) == 0:
        raise ValueError("`scale` must not be 0: the outputs would not depend on the weights")
    gradient = array_checks.parameters(gradient, "gradient")
    s_min = smallest.lower if isinstance(smallest, SmallestSingularValue) else smallest
    s_min = checks.number(s_min, "smallest", minimum=0)
    squared = squared_norm(gradient)
    s_min = jnp.abs(jnp.asarray(scale, squared.dtype)) * jnp.asarray(s_min, squared.dtype)
    positive = s_min > 0
    # NaN stays NaN instead of counting as 0.
    size = jnp.where(s_min == 0, 1, s_min)
    bound = inverse / 2 * jnp.square(jnp.sqrt(squared) / size)
    return jnp.where(positive | jnp.isnan(s_min), bound, jnp.inf)
