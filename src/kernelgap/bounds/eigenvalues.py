r"""Proven ends of the spectrum of a Gram matrix, in float64 on the host.

The inner sides are Rayleigh quotients of computed eigenvectors, the outer sides are proved by
Cholesky factorisations that run to their end: see `kernelgap._numerics.verified`.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.verified import (
    UNIT,
    rayleigh_bound,
    smallest_eigenvalue_bound,
)
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.typing import ArrayLike


@saveable()
class EigenvalueEnclosure(NamedTuple):
    """The smallest and largest eigenvalue of a Gram matrix, with proven bounds on the spectrum.

    Attributes:
        smallest: The computed smallest eigenvalue.
        largest: The computed largest eigenvalue.
        lower: Proven: lambda_min >= lower, for every matrix within `gram_error` of the given one.
        upper: Proven: lambda_max <= upper, likewise.
        error: How far `smallest` can be from the truth, on either side; `gram_error` included.
        gram_error: The assumed error of the matrix itself, in operator norm.
    """

    smallest: float
    largest: float
    lower: float
    upper: float
    error: float
    gram_error: float

    __repr__ = compact_repr
    _repr_html_ = html_repr


def eigenvalue_enclosure(
    gram: ArrayLike,
    *,
    gram_error: float | None = None,
    singular: Literal["raise", "keep"] = "raise",
) -> EigenvalueEnclosure:
    r"""Enclose the spectrum of a Gram matrix between proven bounds.

    O(n^3) on the host, in float64 whatever the dtype of the matrix. Not under `jit`.

    Args:
        gram: (n, n), or (n, n, k, k) for k outputs; its symmetric part is taken.
        gram_error: A bound on the error of the matrix itself, in operator norm: of the kernel
            values, in the dtype they were computed in. By default 16 eps lambda_max for the eps of
            its dtype: an estimate, not a bound, and the only part of the result that is not proven.
        singular: `"raise"` refuses a matrix that is not proven to be positive definite; `"keep"`
            returns it with `lower` <= 0.

    Returns:
        `EigenvalueEnclosure`.

    Raises:
        TypeError: If the matrix is being traced.
        ValueError: If it is singular up to its error; the message names rows that are equal.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 50, 10)
        >>> gram = kg.kernels.ntk(kg.models.homogeneous_mlp((64,), parameterization="ntk"))(x)
        >>> ends = kg.bounds.eigenvalue_enclosure(gram)
        >>> bool(0 < ends.lower < ends.smallest < ends.largest < ends.upper)
        True

    References:
        S. Rump, "Verification of positive definiteness", BIT 46, 2006; N. Higham, "Accuracy and
        Stability of Numerical Algorithms", theorem 10.3 (both recalled; the constants are derived
        in `kernelgap._numerics.verified`).
    """
    checks.choice(singular, "singular", ("raise", "keep"))
    matrix = array_checks.gram(gram)
    if not array_checks.is_concrete(matrix):
        raise TypeError(
            "`eigenvalue_enclosure` runs on the host: call it outside of jit, vmap and grad"
        )
    eps = float(jnp.finfo(matrix.dtype).eps)
    host = np.asarray(matrix, np.float64)
    host = (host + host.T) / 2
    values, vectors = np.linalg.eigh(host)
    smallest, largest = float(values[0]), float(values[-1])
    if gram_error is None:
        gram_error = 16 * eps * max(abs(largest), abs(smallest))
    checks.number(gram_error, "gram_error", minimum=0)
    # Taking the symmetric part rounds every entry once; twice that covers the norm's own rounding.
    off = 2 * UNIT * float(np.linalg.norm(host)) + gram_error
    lower = smallest_eigenvalue_bound(host, smallest) - off
    upper = -smallest_eigenvalue_bound(-host, -largest) + off
    above = rayleigh_bound(host, vectors[:, 0]) + off
    if lower <= 0 and singular == "raise":
        raise ValueError(_why_singular(jnp.asarray(gram), lower, above, str(matrix.dtype)))
    error = max(smallest - lower, above - smallest, 0.0)
    return EigenvalueEnclosure(smallest, largest, lower, upper, error, float(gram_error))


def _why_singular(gram: jax.Array, lower: float, above: float, dtype: str) -> str:
    """Return an error message that names the samples which make a Gram matrix singular."""
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
