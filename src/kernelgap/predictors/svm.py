r"""The hard-margin kernel support vector machine without bias.

Over f in the kernel's Hilbert space, maximise min_i y_i f(x_i) / ||f||. With Q = (y y') o K the
dual problem is min_{alpha >= 0} alpha' Q alpha / 2 - 1' alpha. It is the limit, as lambda -> 0, of
l2-regularised kernel logistic regression.

For every alpha >= 0 the margin of its own f is a lower bound and, with p = alpha / sum(alpha),
sqrt(p' Q p) is an upper bound on the best margin: the pair is the certificate.
"""

import warnings

import jax.numpy as jnp
import numpy as np

from kernelgap import _checks
from kernelgap.predictors.dual import solve
from kernelgap.predictors.predictor import (
    KernelFunction,
    KernelPredictor,
    checked_gram,
    checked_kernel,
)
from kernelgap.typing import ArrayLike


def hard_margin_svm(
    kernel: KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    *,
    tol: float = 1e-4,
    max_iterations: int = 1000,
) -> KernelPredictor:
    r"""The maximum-margin classifier without bias in a kernel's Hilbert space.

    Solved to high accuracy by a primal-dual active-set method on the dense Gram matrix (three to
    five Cholesky factorisations where most points are support vectors); where that stalls, as on
    singular Gram matrices, one support vector at a time. Sums that decide the certificate are
    compensated, so that float32 reaches gaps of about 1e-5 for n in the thousands.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`.
        x: inputs of shape (n, d).
        y: (n,) labels, -1 or +1, both present.
        tol: relative duality gap to reach, positive; the iteration may stop below it.
        max_iterations: at most this many linear systems.

    Returns:
        A `KernelPredictor` whose `coef` are alpha_i y_i, scaled so that support vectors have
        y f(x) = 1, with `margin` (a lower bound on the best), `gap` = 1 - (margin / upper)^2,
        which is the relative duality gap, and `residual`, the largest violation of the optimality
        conditions, ``|y_i f(x_i) - 1|`` on the support or 1 - y_i f(x_i) off it. Under `jit` or
        `vmap`, inseparable data give a margin <= 0 or NaN and a gap of 1 or NaN.

    Raises:
        TypeError: if `kernel` is not callable or x is not floating.
        ValueError: if shapes disagree, x is not finite, labels are not -1 and +1 or only one class
            is there, `tol` <= 0, or the data are not separable by this kernel.

    Warns:
        RuntimeWarning: if the gap stays above `tol`; float64 then goes further.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 200, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> svm = kg.predictors.hard_margin_svm(kernel, x, y)
        >>> bool(svm.gap < 1e-4), bool((svm.predict(x) == y).all())
        (True, True)

    References:
        Paper A (the kernel predictor it compares with). Methods: L. Portugal et al., Math. Comp.
        1994 (block pivoting); C. Lawson, R. Hanson, Solving Least Squares Problems, 1974, ch. 23.
    """
    kernel = checked_kernel(kernel)
    x = _checks.inputs(x)
    y = _checks.signs(y, x.shape[0]).astype(x.dtype)
    _checks.number(tol, "tol", minimum=0, exclusive=True)
    max_iterations = _checks.integer(max_iterations, "max_iterations", minimum=1)
    if _checks.is_concrete(y) and len(present := np.unique(np.asarray(y))) == 1:
        raise ValueError(f"`y` must hold both classes -1 and +1; got only {present[0]:+g}")
    gram = checked_gram(kernel, x)
    alpha, (margin, upper, gap, residual), iterations = solve(gram, y, tol, max_iterations)
    if _checks.is_concrete(margin):
        if not bool(margin > 0):
            why = (
                f"a convex combination of the signed points has kernel norm {float(upper):.2g}, "
                "and no margin exceeds that"
                if bool(jnp.isfinite(upper))
                else "its Gram matrix is not positive definite to rounding"
            )
            raise ValueError(
                f"the data are not separable by this kernel in {x.dtype}: {why}. Look for equal or "
                "nearly equal inputs with different labels, or try float64 (jax_enable_x64)"
            )
        if not bool(gap <= tol):
            warnings.warn(
                f"hard_margin_svm stopped at a relative duality gap of {float(gap):.1e}, above "
                f"tol={tol:.1e}, after {int(iterations)} iterations in {x.dtype}; "
                "float64 (jax_enable_x64) goes further",
                RuntimeWarning,
                stacklevel=2,
            )
    return KernelPredictor(kernel, x, alpha * y, margin, gap, residual, iterations)
