"""The fit of `span.py` by NumPy and SciPy, on one CPU: only blocks of the kernel are compiled.

As one program, every number of centres and of inputs would take a second to compile, which is
longer than most fits.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular

from kernelgap._numerics.arrays import cast
from kernelgap.kernels.functions import KernelFunction
from kernelgap.kernels.tiled.blocks import cross_blocks
from kernelgap.predictors.interface import Status
from kernelgap.predictors.scaling import power_of_two


class Fit(NamedTuple):
    """A fit in the span, and what is known about it."""

    coef: Float[Array, " n"]
    residual: Float[Array, ""]  # the relative distance from the best fit
    iterations: Int[Array, ""]
    status: Int[Array, ""]
    sound: Bool[Array, ""]  # False if a matrix turned out to be singular to rounding
    lost: Bool[Array, ""]  # True if coefficients leave the range of the dtype


@np.errstate(over="ignore", invalid="ignore")  # results that are not finite are refused
def fit_on_host(
    kernel: KernelFunction,
    root: Float[Array, ""],
    gram: Float[Array, "n n"],
    centers: Float[Array, "n d"],
    x: Float[Array, "N d"],
    y: Float[Array, " N"],
    tol: Float[Array, ""],
    tile: int,
    max_iterations: int,
) -> Fit | None:
    """Return the fit, or None if a matrix is singular to rounding or not finite."""
    # Equal centres span no more than one of them.
    chosen = np.sort(np.unique(np.asarray(centers), axis=0, return_index=True)[1])
    spanning, matrix = np.asarray(centers)[chosen], np.asarray(gram)[np.ix_(chosen, chosen)]
    n, dtype = len(chosen), matrix.dtype
    eps, factor = float(np.finfo(dtype).eps), 1 / np.square(np.asarray(root))
    largest = power_of_two(np.max(np.abs(np.asarray(y))))
    targets = np.asarray(y) / largest
    sizes = np.sqrt(matrix.diagonal())
    median = np.sort(sizes)[n // 2]
    # Scaling the centres to one size does not change their span.
    unit = 1 / power_of_two(sizes / (median if median > 0 else 1), ordinary=32.0)
    matrix = unit[:, None] * matrix * unit
    ridge = 16 * eps * float(np.mean(matrix.diagonal()))
    whitening = _factor(matrix, ridge, max(n, 64) * eps * np.max(matrix.diagonal()))
    if whitening is None:
        return None

    def orthonormal(v: np.ndarray, trans: int = 0) -> np.ndarray:
        return solve_triangular(whitening, v, lower=True, trans=trans, check_finite=False)

    def rows() -> Iterator[tuple[slice, np.ndarray]]:
        """Yield slices of x, and the values of the centres' functions there."""
        parts: list[np.ndarray] = []
        for i, j, block in cross_blocks(kernel, x, spanning, tile):
            parts.append(block)
            if j.stop == n:
                yield i, np.hstack(parts) * (factor * unit)
                parts.clear()

    second, first = np.zeros_like(matrix), np.zeros_like(unit)
    for i, values in rows():
        features = orthonormal(values.T)
        second += features @ features.T
        first += features @ targets[i]
    ridge = eps / 8 * np.trace(second)
    diagonal = np.max(second.diagonal()) + ridge
    normal = _factor(second, ridge, max(n, 16) * eps * diagonal)
    if normal is None or not np.isfinite(np.sum(first)):
        return None

    def inverse(v: np.ndarray) -> np.ndarray:
        return cho_solve((normal, True), v, check_finite=False)

    def left(coef: np.ndarray) -> np.ndarray:
        """Return the gradient in orthonormal coordinates, from the values of f itself."""
        total = np.zeros_like(coef)
        for i, values in rows():
            total += values.T @ (targets[i] - values @ coef)
        return orthonormal(total)

    def size(gradient: np.ndarray, change: np.ndarray) -> float:
        return float(np.sqrt(max(gradient @ change, 0)))

    change = inverse(first)
    whole = size(first, change) or 1.0
    coef, error, iterations, progress = np.zeros_like(first), 1.0, 0, True
    limit = float(tol)
    while error > limit and progress and iterations < max_iterations:
        after = coef + orthonormal(change, trans=1)
        remainder = left(after)
        correction = inverse(remainder)
        apart = size(remainder, correction) / whole
        progress, iterations = apart < 0.9 * error, iterations + 1
        if apart < error:
            coef, change, error = after, correction, apart
    error = error if np.any(first) else 0.0
    coef, values = unit * coef, np.zeros(centers.shape[0], dtype)
    values[chosen] = scaled = (coef * (largest * factor)).astype(dtype)
    lost = np.any((coef != 0) & ((scaled == 0) | ~np.isfinite(scaled)))
    status = Status.CONVERGED if error <= limit else Status.ABOVE_TOL
    numbers = cast(error, dtype), cast(iterations, np.int32), cast(int(status), np.int32)
    return Fit(jax.device_put(values), *numbers, cast(True, bool), cast(lost, bool))


def _factor(matrix: np.ndarray, ridge: float, least: float) -> np.ndarray | None:
    """Return Cholesky's factor; None if its least pivot is hidden by rounding, or NaN."""
    system = matrix + np.diag(np.full(len(matrix), ridge, matrix.dtype))
    try:
        factor = cholesky(system, lower=True, check_finite=False)
    except LinAlgError:
        return None
    return factor if np.min(np.square(factor.diagonal())) > least else None
