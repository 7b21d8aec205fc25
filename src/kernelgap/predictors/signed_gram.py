"""Q = (y y') o K for NumPy: blocks of it, and products with few of its columns."""

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap.kernels.functions import checked_block
from kernelgap.kernels.tiled.products import multiply
from kernelgap.predictors.operators import GramMatrix, KernelOperator, Operator, operator_jit
from kernelgap.predictors.separability import negligible

_ROWS = 64  # of the matrix that are read at once, so that they stay in the caches


class SignedGram:
    """The matrix for all points; the kernel is evaluated where its Gram matrix is not held."""

    def __init__(self, operator: Operator, x: np.ndarray, y: np.ndarray) -> None:
        self.operator, self.x, self.y, self.dtype = operator, x, y, np.dtype(operator.dtype)
        self.gram = np.asarray(operator.gram) if isinstance(operator, GramMatrix) else None
        self.size, self.eps = operator.size, float(np.finfo(self.dtype).eps)
        diagonal = operator.diagonal() if self.gram is None else self.gram.diagonal()
        self.scale = float(np.median(diagonal))
        self.least = 32 * self.eps * self.scale  # of rho: kernels of many points are that inexact
        self.zero = float(negligible(np.asarray(diagonal, float), self.eps))

    def block(
        self, rows: np.ndarray, dtype: np.dtype, columns: np.ndarray | None = None
    ) -> np.ndarray:
        """Return a copy of the entries in the given rows and columns, the rows by default."""
        others = rows if columns is None else columns
        signs = self.y[others].astype(dtype)
        if isinstance(self.operator, KernelOperator):
            left = jnp.asarray(self.x[_padded(rows)])
            right = None if columns is None else jnp.asarray(self.x[_padded(columns)])
            values = np.asarray(checked_block(self.operator.kernel, left, right))
            values = values[: len(rows), : len(others)] * signs  # promotes to the wider dtype
        else:
            values = np.empty((len(rows), len(others)), dtype)
            for part in _parts(len(rows)):
                np.multiply(self.gram[rows[part]].take(others, 1), signs, out=values[part])
        values *= self.y[rows, None].astype(dtype)
        return values

    def product(self, alpha: np.ndarray, accurate: bool = False) -> np.ndarray:
        """Return Q alpha = y f for f = sum_i alpha_i y_i K(., x_i)."""
        index = np.flatnonzero(alpha)
        if not len(index):
            return np.zeros(self.size)
        weights = alpha[index] * self.y[index]
        product = self._evaluated if self.gram is None else self._held
        return self.y * product(index, weights, accurate)

    def _held(self, index: np.ndarray, weights: np.ndarray, accurate: bool) -> np.ndarray:
        dtype = np.dtype(float) if accurate else self.dtype
        values, weights = np.zeros(self.size, dtype), weights.astype(dtype)
        for part in _parts(len(index)):
            rows = self.gram[index[part]]
            values += weights[part] @ rows.astype(dtype, copy=False)
        return values

    def _evaluated(self, index: np.ndarray, weights: np.ndarray, accurate: bool) -> np.ndarray:
        operator = self.operator
        assert isinstance(operator, KernelOperator)
        if accurate or 8 * len(index) >= self.size:  # a symmetric product evaluates half as much
            full = np.zeros(self.size, self.dtype)
            full[index] = weights
            v = jnp.asarray(full)
            return np.asarray(_accurate(operator, v) if accurate else operator.product(v), float)
        padded = _padded(index)
        weights = np.pad(weights, (0, len(padded) - len(index)))
        x, x2, v = (jnp.asarray(a, self.dtype) for a in (self.x, self.x[padded], weights))
        return np.asarray(multiply(operator.kernel, x, v, x2, operator.tile, operator.mesh), float)


@operator_jit
def _accurate(operator: Operator, v: jax.Array) -> jax.Array:
    return operator.accurate(v, jnp.zeros((), v.dtype))


def _parts(count: int) -> list[slice]:
    return [slice(start, start + _ROWS) for start in range(0, count, _ROWS)]


def _padded(index: np.ndarray) -> np.ndarray:
    """Return indices whose number is one of few, so that few programs are compiled."""
    count = 64
    while count < len(index):
        count = count * 5 // 4 + 1
    return np.pad(index, (0, count - len(index)), mode="edge")
