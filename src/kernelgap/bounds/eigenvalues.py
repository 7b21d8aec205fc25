r"""Proven ends of the spectrum of a Gram matrix, in float64 on the host.

That a Cholesky factorisation runs to its end proves something whatever LAPACK's rounding was: the
factor R of a symmetric A of order n satisfies R'R = A + E with ||E|| <= c tr(A), where
c = g / (1 - g), g = m u / (1 - m u), u = 2^-53 and m = n + 1, so that lambda_min(A) >= -c tr(A).
Applied to K - s I it bounds lambda_min(K) below, to s I - K it bounds lambda_max(K) above. Here
m = 2 (n + 2), which leaves room for implementations that multiply by reciprocals. The other sides
are Rayleigh quotients of the computed eigenvectors.

References: S. Rump, "Verification of positive definiteness", BIT 46, 2006; N. Higham, "Accuracy and
Stability of Numerical Algorithms", theorem 10.3 (both recalled; the constants are derived from
|E| <= g |R'||R|).
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import _checks
from kernelgap._display import compact_repr, html_repr
from kernelgap.typing import ArrayLike

_UNIT = 2.0**-53
_SMALL = 512  # up to here a singular value decomposition costs nothing


class EigenvalueRange(NamedTuple):
    """The smallest and largest eigenvalue of a Gram matrix, and what encloses the spectrum.

    Attributes:
        smallest: the computed smallest eigenvalue.
        largest: the computed largest eigenvalue.
        lower: proven: lambda_min >= lower, for every matrix within `gram_error` of the given one.
        upper: proven: lambda_max <= upper, likewise.
        error: how far `smallest` can be from the truth, on either side; `gram_error` included.
        gram_error: the assumed error of the matrix itself, in operator norm.
    """

    smallest: float
    largest: float
    lower: float
    upper: float
    error: float
    gram_error: float

    __repr__ = compact_repr
    _repr_html_ = html_repr


def gram_range(
    gram: ArrayLike,
    *,
    gram_error: float | None = None,
    singular: Literal["raise", "keep"] = "raise",
) -> EigenvalueRange:
    r"""The ends of the spectrum of a Gram matrix, with proven error bounds.

    O(n^3) on the host, in float64 whatever the dtype of the matrix. Not under `jit`.

    Args:
        gram: (n, n), or (n, n, k, k) for k outputs; its symmetric part is taken.
        gram_error: a bound on the error of the matrix itself, in operator norm: of the kernel
            values, in the dtype they were computed in. By default 16 eps lambda_max for the eps of
            its dtype: an estimate, not a bound, and the only part of the result that is not proven.
        singular: `"raise"` refuses a matrix that is not proven to be positive definite; `"keep"`
            returns it with `lower` <= 0.

    Returns:
        `EigenvalueRange`.

    Raises:
        TypeError: if the matrix is not floating or is being traced, or `gram_error` no number.
        ValueError: if it is not square or not finite, `gram_error` < 0, an option is unknown, or
            the matrix is singular up to its error, with the rows that are equal.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 50, 10)
        >>> gram = kg.kernels.ntk(kg.models.homogeneous_mlp((64,), parameterization="ntk"))(x)
        >>> found = kg.bounds.gram_range(gram)
        >>> bool(0 < found.lower < found.smallest < found.largest < found.upper)
        True

    References:
        S. Rump, "Verification of positive definiteness", BIT 46, 2006; N. Higham, "Accuracy and
        Stability of Numerical Algorithms", theorem 10.3 (both recalled; the constants are derived).
    """
    _checks.choice(singular, "singular", ("raise", "keep"))
    matrix = _checks.gram(gram)
    if not _checks.is_concrete(matrix):
        raise TypeError("`gram_range` runs on the host: call it outside of jit, vmap and grad")
    eps = float(jnp.finfo(matrix.dtype).eps)
    host = np.asarray(matrix, np.float64)
    host = (host + host.T) / 2
    n = len(host)
    values, vectors = np.linalg.eigh(host)
    smallest, largest = float(values[0]), float(values[-1])
    if gram_error is None:
        gram_error = 16 * eps * max(abs(largest), abs(smallest))
    _checks.number(gram_error, "gram_error", minimum=0)
    size = float(np.linalg.norm(host))
    taken = 2 * _UNIT * size  # the symmetric part is rounded too
    lower = _proven_lower(host, smallest) - taken - gram_error
    upper = -_proven_lower(-host, -largest) + taken + gram_error
    least = vectors[:, 0]
    ritz = float(least @ host @ least / (least @ least))
    above = ritz + _gamma(4 * n + 8) * size + taken + gram_error
    if lower <= 0 and singular == "raise":
        raise ValueError(_why_singular(jnp.asarray(gram), lower, above, str(matrix.dtype)))
    error = max(smallest - lower, above - smallest, 0.0)
    return EigenvalueRange(smallest, largest, lower, upper, error, float(gram_error))


def operator_norm(matrix: np.ndarray) -> float:
    """An upper bound on the largest singular value, within some percent of it."""
    if min(matrix.shape) <= _SMALL:
        return float(np.linalg.norm(matrix, 2)) * (1 + 1e-10)
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    square = matrix @ matrix.T
    v = np.random.default_rng(0).normal(size=len(square))
    for _ in range(30):
        v = square @ (v / np.linalg.norm(v))
    guess = float(np.linalg.norm(v))
    rounding = _gamma(matrix.shape[1] + 2) * np.sum(matrix**2)  # of the product matrix @ matrix.T
    for factor in (1.01, 1.03, 1.1, 1.3):
        bound = _proved(-square, -factor * guess)
        if bound is not None:
            return float(np.sqrt(-bound + rounding))
    return float(np.linalg.norm(matrix)) * (1 + 1e-10)


def _gamma(m: int) -> float:
    return m * _UNIT / (1 - m * _UNIT)


def _proved(matrix: np.ndarray, shift: float) -> float | None:
    """A lower bound on lambda_min, if matrix - shift I has a Cholesky factor."""
    n = len(matrix)
    shifted = matrix.copy()
    diagonal = np.diagonal(matrix)
    np.fill_diagonal(shifted, diagonal - shift)
    try:
        np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError:
        return None
    growth = _gamma(2 * (n + 2))
    rounding = _UNIT * (float(np.max(np.abs(diagonal))) + abs(shift))
    return shift - growth / (1 - growth) * float(np.sum(diagonal - shift)) * 1.01 - rounding


def _proven_lower(matrix: np.ndarray, guess: float) -> float:
    """A lower bound on lambda_min, close below the computed value `guess`."""
    n = len(matrix)
    step = 2 * _gamma(2 * (n + 2)) * (float(np.sum(np.abs(np.diagonal(matrix)))) + n * abs(guess))
    step = max(step, np.finfo(float).tiny)
    for _ in range(20):
        bound = _proved(matrix, guess - step)
        if bound is not None:
            return bound
        step *= 4
    return -float(np.linalg.norm(matrix)) * (1 + 1e-10)


def _why_singular(gram: jax.Array, lower: float, above: float, dtype: str) -> str:
    """What is wrong with a singular Gram matrix, and which samples are to blame."""
    text = (f"`gram` is singular up to its error: lambda_min lies in [{lower:.2g}, {above:.2g}] "
            f"for a matrix in {dtype}.")  # fmt: skip
    host = np.asarray(gram, np.float64)
    if host.ndim == 4:
        host = np.trace(host, axis1=2, axis2=3)
    diagonal = np.diagonal(host)
    apart = diagonal[:, None] + diagonal[None] - host - host.T
    apart[np.diag_indices_from(apart)] = np.inf
    i, j = np.unravel_index(np.argmin(apart), apart.shape)
    if apart[i, j] <= 1e-3 * min(diagonal[i], diagonal[j]):
        off = max(apart[i, j], 0) / diagonal[i]
        text += (f" Samples {min(i, j)} and {max(i, j)} have the same features up to {off:.1g}: "
                 "drop one if the inputs are equal.")  # fmt: skip
    else:
        text += " No two samples coincide; are there fewer parameters than outputs?"
    if dtype != "float64":
        text += " Near-duplicates need float64."
    return text
