r"""The ends of the spectrum of a Gram matrix, from products with it alone.

SciPy's LOBPCG on a block of vectors: a product with a block costs hardly more than one with a
vector, because evaluating the kernel dominates. At the lower end the residuals are preconditioned
by a Nystroem approximation U S U' of the matrix from a random subset of the inputs,

    M = U mu / (S + mu) U' + (1 - U U'),    mu the least entry of S,

and the block starts from e_i - e_j for the nearest pairs of inputs: where two inputs nearly
coincide, that is the eigenvector. The choices were made by measurement, on NTK matrices of Gaussian,
XOR and digits data: Lanczos (ARPACK) without inverting took about ten times the products.

For a Ritz pair (theta, v) with unit v, some eigenvalue lies within ||Kv - theta v|| of theta, and
theta >= lambda_min. References: A. Knyazev, SIAM J. Sci. Comput. 23, 2001 (LOBPCG); B. Parlett,
The Symmetric Eigenvalue Problem, chapters 10 and 11 (bounds).
"""

import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jaxtyping import Array, Bool, Float

from kernelgap import _checks
from kernelgap.kernels.gram import matmul
from kernelgap.kernels.separation import (
    checked_kernel,
    concrete_inputs,
    pairs_for,
    rounding_error,
    warn_if_hidden,
)
from kernelgap.typing import ArrayLike

Which = Literal["smallest", "largest", "both"]


class ExtremeEigenvalues(NamedTuple):
    """Eigenvalues at the ends of a spectrum, with what is known of their errors.

    Attributes:
        values: Ritz values, ascending; with `which="both"` the k smallest, then the k largest.
        vectors: unit Ritz vectors as columns, (n, k) or (n, 2k).
        lower: lower ends of the eigenvalues of the same rank. Holds up to `rounding` for the
            largest; for the smallest it is theta - ||R|| - rounding, R the residuals of the k
            pairs together, which assumes that no eigenvalue below the found ones was missed.
        upper: upper ends: holds up to `rounding` for the smallest (theta_i >= lambda_i for the
            exact matrix), assumes the same of the largest.
        residuals: ||K v - theta v||: some eigenvalue lies within residual + rounding of theta.
        rounding: estimated error of the products and kernel values in this dtype, included in
            `lower` and `upper`. An estimate, usually pessimistic, not a bound.
        converged: whether the residual is at most tol |theta|, or below `rounding`.
        products: how often the Gram matrix was multiplied with a block of vectors.
    """

    values: Float[Array, " k"]
    vectors: Float[Array, "n k"]
    lower: Float[Array, " k"]
    upper: Float[Array, " k"]
    residuals: Float[Array, " k"]
    rounding: float
    converged: Bool[Array, " k"]
    products: int


class _Ritz(NamedTuple):
    values: np.ndarray
    vectors: np.ndarray
    residual: np.ndarray


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
    """The smallest or largest eigenvalues of a Gram matrix, without the matrix.

    Memory is O(n (rank + k)) and tiles. The vectors are iterated in float64 on the host, the
    products are made in the dtype of x. Starts from a fixed seed, so that results repeat. Below a
    few hundred inputs the matrix is formed and the result is dense. Not under `jit`.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`.
        x: inputs of shape (n, d).
        k: number of eigenvalues at each end, 1 <= k < n; 2k <= n for both ends.
        which: `"smallest"`, `"largest"` or `"both"`.
        tol: residual to reach, relative to the value. The value itself is usually far closer:
            its error goes with the square of the residual.
        max_products: where to give up, for each end.
        rank: inputs drawn for the preconditioner of the lower end; at most n / 4 are used.
        tile: passed on to `kernels.matmul`.
        mesh: passed on to `kernels.matmul`.

    Returns:
        `ExtremeEigenvalues`: values with vectors, bounds, residuals and what they rest on.

    Raises:
        TypeError: if `kernel` is no function, x not floating or traced, or an option no number.
        ValueError: if x is not a finite matrix, an option is out of range, or the kernel returns
            NaN or inf.

    Warns:
        RuntimeWarning: if `max_products` did not suffice, with what was reached; or if rounding
            hides the smallest eigenvalue, with the nearest pair of inputs.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 400, 20)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> found = kg.kernels.extreme_eigenvalues(kernel, x)
        >>> bool(found.converged[0]), bool(0 < found.lower[0] < found.upper[0])
        (True, True)
    """
    kernel = checked_kernel(kernel)
    x = concrete_inputs(x, "extreme_eigenvalues")
    n = x.shape[0]
    k = _checks.integer(k, "k", minimum=1)
    _checks.choice(which, "which", ("smallest", "largest", "both"))
    limit = n // 2 if which == "both" else n - 1
    if k > limit:
        raise ValueError(f"`k` must be at most {limit} for n = {n} and which={which!r}; got {k}")
    _checks.number(tol, "tol", minimum=0, exclusive=True)
    max_products = _checks.integer(max_products, "max_products", minimum=1)
    rank = min(_checks.integer(rank, "rank", minimum=1), max(n // 4, 1))

    block = k + 8
    gram = _Gram(kernel, x, block, tile, mesh)
    pairs = pairs_for(kernel, x, block // 2)
    dense = n <= max(256, 6 * block)  # LOBPCG wants n >= 5 block
    if dense:
        start = np.eye(n)
        low = high = gram.ritz(np.linalg.eigh(gram.symmetric())[1])
    else:
        basis, spectrum = _nystroem(kernel, x, rank)
        start = np.random.default_rng(0).normal(size=(n, block))
        top = start.copy()
        top[:, : basis.shape[1]] = basis[:, ::-1][:, :block]
        low = high = gram.ritz(top)
    largest = float(high.values[-1])
    diagonal = float(np.max(np.asarray(_diagonal(kernel, x))))
    rounding = rounding_error(x.dtype, largest, diagonal, pairs[0] if pairs else None)

    ends = []
    if which != "largest":
        if not dense:
            for column, pair in enumerate(pairs):
                start[:, column] = 0
                start[[pair.i, pair.j], column] = 1, -1
            precondition = _preconditioner(basis, spectrum)
            low = _lobpcg(gram, start, precondition, k, False, tol, rounding, max_products)
        ends.append(_end(low, slice(0, k), False, tol, rounding))
    if which != "smallest":
        if not dense:
            high = _lobpcg(gram, high.vectors, None, k, True, tol, rounding, max_products)
        ends.append(_end(high, slice(-k, None), True, tol, rounding))
    parts = [np.concatenate([end[p] for end in ends], axis=-1) for p in range(6)]
    values, vectors, lower, upper, residuals, converged = parts
    if not converged.all():
        worst = int(np.argmax(residuals / np.abs(values)))
        warnings.warn(
            f"{np.sum(~converged)} of {len(values)} eigenvalues did not converge in {gram.products} "
            f"products: {values[worst]:.4g} has residual {residuals[worst]:.2g}, wanted tol = "
            f"{tol:g} relative. Raise max_products or rank, or use kernels.spectrum",
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


class _Gram:
    """Products with the Gram matrix in the dtype of x, of float64 vectors, counted."""

    def __init__(self, kernel: Callable, x: jax.Array, block: int, tile: Any, mesh: Any) -> None:
        self.kernel, self.x, self.block = kernel, x, block
        self.options = {"tile": tile, "mesh": mesh}
        self.products = 0

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """K @ vectors; padded to one width, as LOBPCG drops columns and jit would trace anew."""
        columns = vectors.reshape(len(vectors), -1)
        width = max(self.block, columns.shape[1])
        padded = np.zeros((len(vectors), width), self.x.dtype)
        padded[:, : columns.shape[1]] = columns
        found = np.asarray(matmul(self.kernel, self.x, jnp.asarray(padded), **self.options))
        self.products += 1
        if not np.isfinite(found).all():
            raise ValueError("`kernel` returned NaN or inf on `x`; expected a finite Gram matrix")
        return found[:, : columns.shape[1]].astype(np.float64).reshape(vectors.shape)

    def symmetric(self) -> np.ndarray:
        """The matrix itself, for small n."""
        found = self(np.eye(self.x.shape[0]))
        return (found + found.T) / 2

    def ritz(self, vectors: np.ndarray) -> _Ritz:
        """Rayleigh-Ritz in the span of the columns."""
        basis = np.linalg.qr(vectors)[0]
        image = self(basis)
        inner = basis.T @ image
        values, turn = np.linalg.eigh((inner + inner.T) / 2)
        vectors = basis @ turn
        return _Ritz(values, vectors, image @ turn - values * vectors)


def _lobpcg(
    gram: _Gram,
    start: np.ndarray,
    precondition: Any,
    k: int,
    largest: bool,
    tol: float,
    rounding: float,
    max_products: int,
) -> _Ritz:
    """LOBPCG in pieces: SciPy would go on until the whole block has converged, not only k."""
    n, first = start.shape[0], gram.products
    operator = scipy.sparse.linalg.LinearOperator(
        (n, n),
        matvec=gram,  # pyright: ignore[reportCallIssue]
        matmat=gram,
        dtype=np.float64,
    )
    ritz = gram.ritz(start)
    part = slice(-k, None) if largest else slice(0, k)
    for piece in (5, 15, *[20] * max_products):
        wanted = np.maximum(tol * np.abs(ritz.values[part]), rounding)
        left = max_products - (gram.products - first) - 3
        if np.all(np.linalg.norm(ritz.residual[:, part], axis=0) <= wanted) or left < 1:
            break
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # SciPy's, of what is judged here
                vectors = scipy.sparse.linalg.lobpcg(
                    operator,
                    ritz.vectors,
                    M=precondition,
                    largest=largest,
                    maxiter=min(piece, left),
                    tol=0.1 * float(np.min(wanted)),
                )[1]
        except np.linalg.LinAlgError:
            break
        ritz = gram.ritz(vectors)
    return ritz


def _end(ritz: _Ritz, part: slice, largest: bool, tol: float, rounding: float) -> tuple:
    """Values, vectors, lower and upper ends, residuals and convergence of one end."""
    values, residual = ritz.values[part], ritz.residual[:, part]
    sizes, together = np.linalg.norm(residual, axis=0), np.linalg.norm(residual, 2)
    below, above = (0.0, together) if largest else (together, 0.0)
    converged = sizes <= np.maximum(tol * np.abs(values), rounding)
    return (
        values,
        ritz.vectors[:, part],
        values - below - rounding,
        values + above + rounding,
        sizes,
        converged,
    )


def _nystroem(kernel: Callable, x: jax.Array, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors and eigenvalues, ascending, of the approximation from `rank` random inputs."""
    chosen = np.sort(np.random.default_rng(1).choice(x.shape[0], rank, replace=False))
    columns = np.asarray(kernel(x, x[chosen]), np.float64)
    if not np.isfinite(columns).all():
        raise ValueError("`kernel` returned NaN or inf on `x`; expected a finite Gram matrix")
    values, vectors = np.linalg.eigh((columns[chosen] + columns[chosen].T) / 2)
    keep = values > 1e-6 * values[-1]  # below, float32 has only noise
    features = columns @ (vectors[:, keep] / np.sqrt(values[keep]))
    squared, turn = np.linalg.eigh(features.T @ features)
    return features @ (turn / np.sqrt(squared)), squared


def _preconditioner(basis: np.ndarray, spectrum: np.ndarray) -> Any:
    shrink = spectrum[0] / (spectrum + spectrum[0]) - 1

    def apply(vectors: np.ndarray) -> np.ndarray:
        return vectors + basis @ ((shrink * (vectors.T @ basis)).T)

    n = basis.shape[0]
    return scipy.sparse.linalg.LinearOperator(
        (n, n),
        matvec=apply,  # pyright: ignore[reportCallIssue]
        matmat=apply,
        dtype=np.float64,
    )


@jax.jit
def _diagonal(kernel: Callable, x: jax.Array) -> jax.Array:
    """k(x_i, x_i); one by one, for any function of two sets of inputs."""
    return jax.lax.map(lambda row: kernel(row[None], None)[0, 0], x)
