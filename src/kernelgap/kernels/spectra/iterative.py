r"""SciPy's LOBPCG on products with a Gram matrix, and a Nystroem preconditioner for its lower end.

A product with a block of vectors costs hardly more than one with a vector, because evaluating the
kernel dominates. With U S U' the Nystroem approximation from a random subset of the inputs,
residuals are preconditioned by

    M = U mu / (S + mu) U' + (1 - U U'),    where mu is the least entry of S.

Reference: A. Knyazev, SIAM J. Sci. Comput. 23, 2001 (LOBPCG). The preconditioner was chosen by
measurement, see `extreme`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg

from kernelgap._numerics import checks
from kernelgap._support.warning_filters import ignore_warnings
from kernelgap.kernels.tiled import sharding
from kernelgap.kernels.tiled.products import multiply

NOISE = 0.125
"""Residuals below this part of the rounding error are noise (measured: about 0.02 of it)."""


class Ritz(NamedTuple):
    """Ritz values, ascending, with unit vectors and residual vectors as columns."""

    values: np.ndarray
    vectors: np.ndarray
    residual: np.ndarray


class Gram:
    """Products with the Gram matrix in the dtype of x, of float64 vectors, counted."""

    def __init__(self, kernel: Callable, x: jax.Array, block: int, tile: Any, mesh: Any) -> None:
        self.kernel, self.x, self.block = kernel, x, block
        tile = None if tile is None else checks.integer(tile, "tile", minimum=1)
        self.how = tile, sharding.checked_mesh(mesh)
        self.products = 0

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Return K @ vectors, padded to one width so that jit does not trace anew."""
        columns = vectors.reshape(len(vectors), -1)
        width = max(self.block, columns.shape[1])
        padded = np.zeros((len(vectors), width), self.x.dtype)
        padded[:, : columns.shape[1]] = columns
        product = np.asarray(multiply(self.kernel, self.x, jnp.asarray(padded), None, *self.how))
        self.products += 1
        if not np.isfinite(product).all():
            raise ValueError("`kernel` returned NaN or inf on `x`; expected a finite Gram matrix")
        return product[:, : columns.shape[1]].astype(np.float64).reshape(vectors.shape)

    def symmetric(self) -> np.ndarray:
        """Return the matrix itself, for small n."""
        product = self(np.eye(self.x.shape[0]))
        return (product + product.T) / 2

    def ritz(self, vectors: np.ndarray) -> Ritz:
        """Apply the Rayleigh-Ritz method in the span of the columns."""
        basis = np.linalg.qr(vectors)[0]
        image = self(basis)
        inner = basis.T @ image
        values, turn = np.linalg.eigh((inner + inner.T) / 2)
        vectors = basis @ turn
        return Ritz(values, vectors, image @ turn - values * vectors)


def lobpcg(
    gram: Gram,
    start: np.ndarray,
    precondition: Any,
    k: int,
    largest: bool,
    tol: float,
    rounding: float,
    max_products: int,
) -> Ritz:
    """Run LOBPCG in pieces: SciPy would go on until the whole block has converged, not only k."""
    n, first = start.shape[0], gram.products
    operator = _operator(n, gram)
    ritz = gram.ritz(start)
    part = slice(-k, None) if largest else slice(0, k)
    for piece in (5, 15, *[20] * max_products):
        wanted = np.maximum(tol * np.abs(ritz.values[part]), NOISE * rounding)
        left = max_products - (gram.products - first) - 4  # SciPy adds 3, the check 1
        if np.all(np.linalg.norm(ritz.residual[:, part], axis=0) <= wanted) or left < 1:
            break
        try:
            with ignore_warnings():  # SciPy warns of residuals, which are checked here
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


def nystroem(kernel: Callable, x: jax.Array, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvectors and eigenvalues, ascending, of the approximation from random inputs."""
    chosen = np.sort(np.random.default_rng(1).choice(x.shape[0], rank, replace=False))
    columns = np.asarray(kernel(x, x[chosen]), np.float64)
    if not np.isfinite(columns).all():
        raise ValueError("`kernel` returned NaN or inf on `x`; expected a finite Gram matrix")
    values, vectors = np.linalg.eigh((columns[chosen] + columns[chosen].T) / 2)
    keep = values > 1e-6 * values[-1]  # below, float32 has only noise
    features = columns @ (vectors[:, keep] / np.sqrt(values[keep]))
    squared, turn = np.linalg.eigh(features.T @ features)
    return features @ (turn / np.sqrt(squared)), squared


def preconditioner(basis: np.ndarray, spectrum: np.ndarray) -> Any:
    """Return the operator M."""
    shrink = spectrum[0] / (spectrum + spectrum[0]) - 1

    def apply(vectors: np.ndarray) -> np.ndarray:
        return vectors + basis @ ((shrink * (vectors.T @ basis)).T)

    n = basis.shape[0]
    return _operator(n, apply)


def _operator(n: int, apply: Callable[[np.ndarray], np.ndarray]) -> Any:
    make: Any = scipy.sparse.linalg.LinearOperator
    return make((n, n), matvec=apply, matmat=apply, dtype=np.float64)
