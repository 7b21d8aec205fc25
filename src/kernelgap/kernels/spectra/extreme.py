r"""The ends of the spectrum of a Gram matrix, from products with it alone.

They are computed by SciPy's LOBPCG on a block of vectors. At the lower end the residuals are
preconditioned by a Nystroem approximation of the matrix, and the block starts from e_i - e_j for
the nearest pairs of inputs: where two inputs nearly coincide, that is the eigenvector. These
choices were made by measurement on NTK matrices of Gaussian, XOR and digits data: Lanczos (ARPACK)
without inverting took about ten times the products, or did not converge.

For a Ritz pair (theta, v) with unit v, some eigenvalue lies within ||Kv - theta v|| of theta, and
theta >= lambda_min. Reference: B. Parlett, The Symmetric Eigenvalue Problem, chapters 10 and 11.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from kernelgap._numerics import checks
from kernelgap._support import extras
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.kernels.functions import check_rows, checked_kernel, diagonal
from kernelgap.kernels.kernel import widened
from kernelgap.kernels.spectra.iterative import NOISE, Gram, Ritz, lobpcg, nystroem, preconditioner
from kernelgap.kernels.spectra.separation import (
    concrete_inputs,
    pairs_for,
    rounding_error,
    warn_if_hidden,
)
from kernelgap.typing import ArrayLike

if TYPE_CHECKING:
    from pandas import DataFrame

Which = Literal["smallest", "largest", "both"]


@saveable()
class ExtremeEigenvalues(NamedTuple):
    """Eigenvalues at the ends of a spectrum, with residuals and estimates of their errors.

    Attributes:
        values: Ritz values, ascending; with `which="both"` the k smallest, then the k largest.
        vectors: Unit Ritz vectors as columns, (n, k) or (n, 2k); orthogonal within each end.
        lower: Lower bounds on the eigenvalues of the same rank. For the largest ones they hold up
            to `error`; for the smallest they are theta - norm(R) - error, with R the residuals of
            all k pairs, which assumes that no smaller eigenvalue was missed.
        upper: Upper bounds. For the smallest ones they hold up to `error` (theta_i >= lambda_i for
            the exact matrix); for the largest they assume that no larger eigenvalue was missed.
        residuals: Norms of K v - theta v: an eigenvalue lies within residual + error of theta.
        error: Estimated rounding error of each value, from the products and the kernel values in
            this dtype; `lower` and `upper` include it. It is usually pessimistic, but not a bound.
        converged: True where the residual is at most tol times abs(theta), or at the level of
            noise, an eighth of `error`.
        products: Number of products of the Gram matrix with a block of vectors.
    """

    values: Float[Array, " k"]
    vectors: Float[Array, "n k"]
    lower: Float[Array, " k"]
    upper: Float[Array, " k"]
    residuals: Float[Array, " k"]
    error: float
    converged: Bool[Array, " k"]
    products: int

    __repr__ = compact_repr
    _repr_html_ = html_repr

    def to_pandas(self) -> "DataFrame":
        """Return a row per eigenvalue with its interval and residual (extra `studies`)."""
        names = ("lower", "upper", "residuals", "converged")
        return extras.data_frame({"value": self.values} | {n: getattr(self, n) for n in names})


def extreme_eigenvalues(
    kernel: Callable[..., jax.Array],
    x: ArrayLike,
    *,
    k: int = 1,
    which: Which = "smallest",
    tol: float = 1e-2,
    max_products: int = 300,
    rank: int = 400,
    tile: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> ExtremeEigenvalues:
    """Return the smallest or largest eigenvalues of a Gram matrix, without forming the matrix.

    Memory is O(n (rank + k)) plus tiles. Vectors are iterated in float64 on the host, and products
    are computed in the dtype of x. The start has a fixed seed, so that results repeat. Up to a few
    hundred inputs the matrix is formed and its eigenvalues come from a dense solver. It runs on the
    host and cannot be traced.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`.
        x: Inputs of shape (n, d).
        k: Number of eigenvalues at each end, 1 <= k < n; 2k <= n for both ends.
        which: `"smallest"`, `"largest"` or `"both"`.
        tol: Residual to reach, relative to the value. The value itself is usually far more
            accurate, because its error is of the order of the squared residual.
        max_products: Largest number of products for each end (one more determines the scale).
        rank: Number of inputs drawn for the preconditioner of the lower end; at most n / 4 are
            used.
        tile: Side of a tile, as in `kernels.matmul`.
        mesh: Devices that share the work, as in `kernels.matmul`.

    Returns:
        An `ExtremeEigenvalues`, in float32 for inputs of half precision.

    Raises:
        TypeError: If x is traced.
        ValueError: If the kernel returns NaN or inf.

    Warns:
        RuntimeWarning: If `max_products` did not suffice, with the residual reached; or if rounding
            hides the smallest eigenvalue, with the nearest pair of inputs.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 400, 20)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> ends = kg.kernels.extreme_eigenvalues(kernel, x)
        >>> bool(ends.converged[0]), bool(0 < ends.lower[0] < ends.upper[0])
        (True, True)

    References:
        A. Knyazev, SIAM J. Sci. Comput. 23, 2001 (LOBPCG, SciPy's); B. Parlett, The Symmetric
        Eigenvalue Problem, chapters 10 and 11 (residual bounds). The preconditioner and the
        estimate of the rounding error are this project's.
    """
    kernel = checked_kernel(kernel)
    x = widened(concrete_inputs(x, "extreme_eigenvalues"))
    n = x.shape[0]
    k = checks.integer(k, "k", minimum=1)
    checks.choice(which, "which", ("smallest", "largest", "both"))
    limit = n // 2 if which == "both" else n - 1
    if k > limit:
        raise ValueError(f"`k` must be at most {limit} for n = {n} and which={which!r}; got {k}")
    checks.number(tol, "tol", minimum=0, exclusive=True)
    max_products = checks.integer(max_products, "max_products", minimum=1)
    rank = min(checks.integer(rank, "rank", minimum=1), max(n // 4, 1))

    block = k + 8
    gram = Gram(kernel, x, block, tile, mesh)
    pairs = pairs_for(kernel, x, block // 2)
    dense = n <= max(256, 6 * block)  # LOBPCG wants n >= 5 block
    if dense:
        check_rows(kernel, x)
        start = basis = spectrum = np.eye(n)
        low = high = gram.ritz(np.linalg.eigh(gram.symmetric())[1])
    else:
        basis, spectrum = nystroem(kernel, x, rank)
        start = np.random.default_rng(0).normal(size=(n, block))
        top = start.copy()
        top[:, : basis.shape[1]] = basis[:, ::-1][:, :block]
        low = high = gram.ritz(top)
    largest = float(high.values[-1])
    top = float(np.max(np.asarray(_diagonal(kernel, x))))
    rounding = rounding_error(x.dtype, largest, top, pairs[0] if pairs else None)

    ends = []
    if which != "largest":
        if not dense:
            for column, pair in enumerate(pairs):
                start[:, column] = 0
                start[[pair.i, pair.j], column] = 1, -1
            low = lobpcg(
                gram, start, preconditioner(basis, spectrum), k, False, tol, rounding, max_products
            )
        ends.append(_end(low, slice(0, k), False, tol, rounding))
    if which != "smallest":
        if not dense:
            high = lobpcg(gram, high.vectors, None, k, True, tol, rounding, max_products)
        ends.append(_end(high, slice(-k, None), True, tol, rounding))
    parts = [np.concatenate([end[p] for end in ends], axis=-1) for p in range(6)]
    values, vectors, lower, upper, residuals, converged = parts
    if not converged.all():
        worst = int(np.argmax(residuals / np.abs(values)))
        warnings.warn(
            f"{np.sum(~converged)} of {len(values)} eigenvalues did not converge in "
            f"{gram.products} products: {values[worst]:.4g} has residual {residuals[worst]:.2g}, "
            f"wanted tol = {tol:g} relative. Raise max_products or rank, or use kernels.spectrum",
            RuntimeWarning,
            stacklevel=2,
        )
    if which != "largest":
        warn_if_hidden(float(values[0]), rounding, x.dtype, pairs[0] if pairs else None)
    values, vectors, lower, upper, residuals = (
        jnp.asarray(part.astype(x.dtype)) for part in (values, vectors, lower, upper, residuals)
    )
    return ExtremeEigenvalues(
        values, vectors, lower, upper, residuals, rounding, jnp.asarray(converged), gram.products
    )


def _end(ritz: Ritz, part: slice, largest: bool, tol: float, rounding: float) -> tuple:
    """Return values, vectors, lower and upper ends, residuals and convergence at one end."""
    values, residual = ritz.values[part], ritz.residual[:, part]
    sizes, together = np.linalg.norm(residual, axis=0), np.linalg.norm(residual, 2)
    below, above = (0.0, together) if largest else (together, 0.0)
    converged = sizes <= np.maximum(tol * np.abs(values), NOISE * rounding)
    return (
        values,
        ritz.vectors[:, part],
        values - below - rounding,
        values + above + rounding,
        sizes,
        converged,
    )


_diagonal = jax.jit(diagonal)
