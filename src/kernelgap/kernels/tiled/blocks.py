"""K(x1, x2) on the host, in blocks of few shapes: other numbers of inputs compile nothing."""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np

from kernelgap._numerics.quick import quick_jit, runs_alone
from kernelgap.kernels.functions import KernelFunction, check_rows, checked_block, diagonal
from kernelgap.kernels.kernel import Kernel, is_extreme

_ROWS, _COLUMNS = 1024, 512  # the largest block
_HELD = 4096  # inputs up to which evaluating both halves costs less than a compilation


def has_blocks(kernel: KernelFunction, *arrays: jax.Array) -> bool:
    """Return True on a single CPU, whose memory NumPy shares, unless something is traced.

    Functions that are not a `Kernel` are called as they are: errors name the shapes they get. Nor
    are arrays taken from the device on which a user has put them.
    """
    if not isinstance(kernel, Kernel) or kernel.ndim != 2:
        return False
    leaves = [*arrays, *jax.tree.leaves(kernel)]
    return runs_alone(leaves) and not any(getattr(leaf, "committed", False) for leaf in leaves)


def cross_blocks(
    kernel: KernelFunction, x1: jax.Array | np.ndarray, x2: jax.Array | np.ndarray, tile: int
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yield rows, columns and values of each block of K(x1, x2), row after row."""
    for i, rows in _parts(x1, min(tile, _ROWS)):
        for j, columns in _parts(x2, min(tile, _COLUMNS)):
            block = np.asarray(_block(kernel, rows, columns))
            yield i, j, block[: i.stop - i.start, : j.stop - j.start]


def gram_matrix(kernel: KernelFunction, x: jax.Array) -> jax.Array:
    """Return kernel(x); a matrix that is not large is made of blocks."""
    if x.shape[0] > _HELD or not has_blocks(kernel, x) or is_extreme(x):
        return checked_block(kernel, x, None)
    check_rows(kernel, x)
    n = x.shape[0]
    if n <= _COLUMNS:
        ((_, rows),) = _parts(x, _COLUMNS)
        return jax.device_put(np.asarray(_block(kernel, rows, None))[:n, :n])
    gram = np.zeros((n, n), x.dtype)
    for i, j, block in cross_blocks(kernel, x, x, _HELD):
        gram[i, j] = block
    gram = np.tril(gram, -1)
    gram += gram.T
    np.fill_diagonal(gram, host_diagonal(kernel, x))
    return jax.device_put(gram)


def host_diagonal(kernel: KernelFunction, x: jax.Array) -> np.ndarray:
    """Return k(x_i, x_i) for each row."""
    values = [
        np.asarray(_diagonal(kernel, rows))[: i.stop - i.start] for i, rows in _parts(x, _ROWS)
    ]
    return np.concatenate(values)


def _parts(x: jax.Array | np.ndarray, largest: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices, and their rows of x, to which copies of the last are added."""
    host, n = np.asarray(x), x.shape[0]
    side = largest // 4 if n <= largest // 4 else largest
    for start in range(0, n, side):
        part = slice(start, min(start + side, n))
        yield part, np.pad(host[part], ((0, side - (part.stop - start)), (0, 0)), mode="edge")


@quick_jit
def _block(kernel: KernelFunction, x1: jax.Array, x2: jax.Array | None) -> jax.Array:
    return checked_block(kernel, x1, x2)


@partial(quick_jit, rows=_ROWS)
def _diagonal(kernel: KernelFunction, x: jax.Array) -> jax.Array:
    return diagonal(kernel, x)
