r"""The hard-margin kernel support vector machine without bias.

Over f in the kernel's Hilbert space, maximise min_i y_i f(x_i) / ||f||. With Q = (y y') o K the
dual problem is min_{alpha >= 0} alpha' Q alpha / 2 - 1' alpha. It is the limit, as lambda -> 0, of
l2-regularised kernel logistic regression.

For every alpha >= 0 the margin of its own f is a lower bound and, with p = alpha / sum(alpha),
sqrt(p' Q p) is an upper bound on the best margin: the pair is the certificate.
"""

import warnings
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from kernelgap import _checks
from kernelgap._blas import limit_blas_threads
from kernelgap._modes import forward_only
from kernelgap.kernels.functions import KernelFunction, check_rows, checked_kernel
from kernelgap.kernels.tiled import sharding
from kernelgap.predictors import dual
from kernelgap.predictors.certificate import Certificate
from kernelgap.predictors.conflicts import conflict, refuse_vanishing
from kernelgap.predictors.exchange import exchange
from kernelgap.predictors.operators import GramMatrix, Operator, normalised, prepare, unscaled
from kernelgap.predictors.predictor import KernelPredictor, one_versus_rest
from kernelgap.typing import ArrayLike

_SMALL = 1500  # inputs up to which factorisations are as fast as products
_FALLBACK = 8000  # inputs up to which factorisations are tried where products failed


def hard_margin_svm(
    kernel: KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    *,
    classes: int | None = None,
    tol: float = 1e-4,
    max_iterations: int = 1000,
    method: Literal["auto", "direct", "iterative", "matrix_free"] = "auto",
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> KernelPredictor:
    r"""The maximum-margin classifier without bias in a kernel's Hilbert space.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`.
        x: inputs of shape (n, d).
        y: (n,) labels, -1 or +1, both present; or, with `classes`, integers 0..classes-1, all
            present, for one machine per class against the rest.
        classes: number of classes, at least 2, or None for labels -1 and +1.
        tol: relative duality gap to reach, positive. The iteration goes on to a tenth of it as
            long as that helps.
        max_iterations: at most this many linear systems (one more refines a direct solution).
        method: `"direct"` factorises the Gram matrix, three to five times where most points are
            support vectors, and moves one support vector at a time where that stalls, as on
            singular matrices. `"iterative"` holds the Gram matrix and uses only products with it,
            50 to 100 as a rule. `"matrix_free"` does not hold it either. `"auto"` chooses by n and
            by the memory at hand, and turns to factorisations where products did not succeed.
        tile: largest side of a tile, for `"matrix_free"`; see `kernels.matmul`.
        mesh: devices that share the products, for `"matrix_free"`.

    Returns:
        A `KernelPredictor` whose `coef` are alpha_i y_i, scaled so that support vectors have
        y f(x) = 1, with `margin` (a lower bound on the best), `gap` = 1 - (margin / upper)^2,
        which is the relative duality gap, and `residual`, the largest violation of the optimality
        conditions, ``|y_i f(x_i) - 1|`` on the support or 1 - y_i f(x_i) off it; with `classes`,
        coef has shape (n, classes) and the rest (classes,). They are about the kernel as evaluated
        in its dtype, and computed with compensated sums: float32 carries gaps of about 1e-5 for n
        in the ten thousands. Under `jit` or `vmap`, what is refused otherwise gives NaN, data that
        are not separable among it; where neither a margin nor its absence was found, the margin is
        not positive but for rounding, and the gap 1.
        Derivatives pass in forward mode only (`jax.jvp`, `jax.jacfwd`); reverse mode says so.

    Raises:
        TypeError: if `kernel` is not callable, x is not float32 or float64, or `mesh` is no mesh.
        ValueError: if shapes disagree, x is not finite, labels are not what is said above or a
            class is missing, `tol` <= 0, `method` is unknown, `mesh` is given to another method
            than `"matrix_free"`, or the data are not separable by this kernel.
        MemoryError: if the Gram matrix does not fit and `method` asks for it.

    Warns:
        RuntimeWarning: if the gap stays above `tol`; float64 then goes further. A gap of 1 means
            that neither a margin nor its absence was found.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 200, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> svm = kg.predictors.hard_margin_svm(kernel, x, y)
        >>> bool(svm.gap < 1e-4), bool((svm.predict(x) == y).all())
        (True, True)

    References:
        Paper A (the kernel predictor it compares with). Methods: L. Portugal et al., Math. Comp.
        1994 (block pivoting); C. Lawson, R. Hanson, Solving Least Squares Problems, 1974, ch. 23;
        Z. Frangella, J. Tropp, M. Udell, SIAM J. Matrix Anal. Appl. 2023 (preconditioner for large
        n). Inexact exchanges and the certificate are ours.
    """
    kernel = checked_kernel(kernel)
    x = _checks.solvable(x)
    check_rows(kernel, x)
    _checks.number(tol, "tol", minimum=0, exclusive=True)
    max_iterations = _checks.integer(max_iterations, "max_iterations", minimum=1)
    _checks.choice(method, "method", ("auto", "direct", "iterative", "matrix_free"))
    if classes is None:
        y = _checks.signs(y, x.shape[0]).astype(x.dtype)
        if _checks.is_concrete(y) and len(present := np.unique(np.asarray(y))) == 1:
            raise ValueError(f"`y` must hold both classes -1 and +1; got only {present[0]:+g}")
        signs = y[:, None]
    else:
        signs = one_versus_rest(y, x, classes)
    x, signs = sharding.placed(mesh, x, signs)
    operator = prepare(kernel, x, method, tile, mesh)
    refuse_vanishing(operator, x, any_row=True)
    operator, root = normalised(operator)

    found = []
    for j in range(signs.shape[1]):
        alpha, certificate, iterations, factorised = _solve(
            operator, x, signs[:, j], tol, max_iterations, method
        )
        which = "the data" if classes is None else f"class {j} and the rest"
        message = _judge(operator, x, signs[:, j], certificate, tol, iterations, factorised, which)
        if message:
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        margin, _, gap, residual = certificate
        coef = unscaled(alpha * signs[:, j], 1 / jnp.square(root), x.dtype)
        fit = (coef, root * margin, gap, residual, iterations)
        found.append(_checks.nan_unless(_solved(operator, x, signs[:, j], certificate, tol), fit))
    parts = found[0] if classes is None else [
        jnp.stack(each, axis=-1) for each in zip(*found, strict=True)
    ]  # fmt: skip
    return KernelPredictor(kernel, x, *forward_only(parts, "hard_margin_svm"))


def _solve(
    operator: Operator, x: jax.Array, y: jax.Array, tol: float, max_iterations: int, method: str
) -> tuple[jax.Array, Certificate, jax.Array, bool]:
    """What was found, the number of linear systems, and whether factorisations solved them."""
    n, d = x.shape
    dense = isinstance(operator, GramMatrix)

    def factorise() -> tuple[jax.Array, Certificate, jax.Array]:
        assert isinstance(operator, GramMatrix)
        return dual.solve(operator.gram, y, tol, max_iterations)

    if dense and (method == "direct" or (method == "auto" and n <= _SMALL)):
        return *limit_blas_threads(n, factorise), True
    target = jnp.asarray(tol / 10, x.dtype)  # exchanges are content with ten times that
    found = limit_blas_threads(0, lambda: exchange(operator, y, target, d, max_iterations))
    gap = found.certificate.gap
    failed = _checks.is_concrete(gap) and not bool(gap <= tol)
    if failed and dense and method == "auto" and n <= _FALLBACK:
        return *limit_blas_threads(n, factorise), True
    return found.alpha, found.certificate, found.iterations, False


def _solved(
    operator: Operator, x: jax.Array, y: jax.Array, certificate: Certificate, tol: float
) -> jax.Array | Literal[True]:
    """Whether nothing would be refused if it were concrete; True where it is, and was not."""
    if _checks.is_concrete(certificate.gap):
        return True
    both = jnp.any(y > 0) & jnp.any(y < 0)
    return _checks.all_finite(x, y) & both & _separable(operator, certificate, tol)


def _separable(operator: Operator, certificate: Certificate, tol: float) -> jax.Array:
    """Whether the data may be separable.

    An upper bound that is 0 to rounding is a proof that they are not, whatever rounding made of the
    margin, unless it is one small row that bounds it; a point that does not separate is none.
    """
    diagonal, eps = operator.diagonal(), float(jnp.finfo(operator.dtype).eps)
    least = jnp.min(diagonal)
    zero = jnp.minimum(4 * eps * jnp.median(diagonal), 1e-4 * least)
    _, upper, gap, _ = certificate
    return (gap <= tol) | ((jnp.square(upper) > zero) & jnp.isfinite(upper) & (least > 0))


def _judge(
    operator: Operator,
    x: jax.Array,
    y: jax.Array,
    certificate: Certificate,
    tol: float,
    iterations: jax.Array,
    factorised: bool,
    which: str,
) -> str:
    """Refuse data that are not separable; a warning where the gap is above `tol`, or nothing."""
    _, upper, gap, _ = certificate
    if not _checks.is_concrete(gap):
        return ""
    dtype = operator.dtype
    hopeless = not bool(_separable(operator, certificate, tol))
    pair = conflict(operator, x, y) if hopeless else ""
    if hopeless and bool(jnp.isfinite(upper)):
        raise ValueError(
            f"{which} are not separable by this kernel in {dtype}: a convex combination of the "
            f"signed points has kernel norm {float(upper):.2g}, and no margin exceeds that. "
            + (
                f"The cause: {pair}"
                if pair
                else "Look for nearly equal inputs with different "
                "labels, or try float64 (jax_enable_x64)"
            )
        )
    if hopeless:
        raise ValueError(
            f"no solver succeeds in {dtype}: the Gram matrix of `x` is not positive definite to "
            + (
                f"rounding: {pair}"
                if pair
                else "rounding. Look for equal or nearly equal inputs, "
                "or try float64 (jax_enable_x64)"
            )
        )
    if bool(gap <= tol):
        return ""
    other = "" if factorised else "method='direct' or "
    return (
        f"hard_margin_svm stopped at a relative duality gap of {float(gap):.1e}, above "
        f"tol={tol:.1e}, for {which} after {int(iterations)} iterations in {dtype}; "
        f"{other}float64 (jax_enable_x64) goes further"
    )
