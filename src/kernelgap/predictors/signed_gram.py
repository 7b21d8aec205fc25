"""Q = (y y') o K for NumPy: blocks of it, and products with few of its columns."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap.kernels.functions import checked_block
from kernelgap.kernels.tiled.products import multiply
from kernelgap.predictors.operators import GramMatrix, KernelOperator, Operator, operator_jit
from kernelgap.predictors.separability import negligible

_ROWS = 64  # rows of the matrix that are read at once, so that they stay in the caches
_EVALUATED = 1024  # rows that are evaluated at once


class SignedGram:
    """The matrix for all points; the kernel is evaluated where its Gram matrix is not held."""

    def __init__(self, operator: Operator, x: np.ndarray, y: np.ndarray) -> None:
        self.operator, self.x, self.y, self.dtype = operator, x, y, np.dtype(operator.dtype)
        held = isinstance(operator, GramMatrix)
        self.gram: Any = np.asarray(operator.gram) if held else None
        self.size, self.eps = operator.size, float(np.finfo(self.dtype).eps)
        own = operator.diagonal() if self.gram is None else self.gram.diagonal()
        self.diagonal = np.asarray(own)
        self.scale = float(np.median(own))
        self.least = 32 * self.eps * self.scale  # of rho: kernels of many points are that inexact
        self.zero = float(negligible(np.asarray(own, float), self.eps))

    def block(
        self, rows: np.ndarray, dtype: np.dtype, columns: np.ndarray | None = None
    ) -> np.ndarray:
        """Return a copy of the entries in the given rows and columns, the rows by default."""
        others = rows if columns is None else columns
        signs, values = self.y[others].astype(dtype), np.empty((len(rows), len(others)), dtype)
        for part in _parts(len(rows), _ROWS if self.gram is not None else _EVALUATED):
            np.multiply(self._values(rows[part], others), signs, out=values[part])
        if columns is None:  # that of the kernel itself, which is exact
            values.flat[:: len(rows) + 1] = self.diagonal[rows]
        return values

    def _values(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return entries of K times the signs of their rows."""
        signs = self.y[rows, None].astype(self.dtype)
        if self.gram is not None:
            whole = len(columns) == self.size
            return (self.gram[rows] if whole else self.gram[rows].take(columns, 1)) * signs
        operator = self.operator
        assert isinstance(operator, KernelOperator)
        left, right = (jnp.asarray(self.x[_padded(index)]) for index in (rows, columns))
        values = np.asarray(checked_block(operator.kernel, left, right))
        return values[: len(rows), : len(columns)] * signs

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
        for part in _parts(len(index), _ROWS):
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


def _parts(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _padded(index: np.ndarray) -> np.ndarray:
    """Return indices whose number is one of few, so that few programs are compiled."""
    count = 64
    while count < len(index):
        count = count * 5 // 4 + 1
    return np.pad(index, (0, count - len(index)), mode="edge")
