r"""Separation of the inputs, and the rounding error of the smallest eigenvalue of a kernel.

For the kernels of ReLU-like networks, lambda_min of the Gram matrix is at most of the order of the
smallest angle between two inputs (take v = e_i - e_j), and rounding moves an entry of two inputs
at angle t by about 4 eps K / t, at most 4 sqrt(eps) K, because the angle has fewer correct digits
than the cosine. All other rounding errors are estimated by 16 eps lambda_max: half of it is the
worst effect of relative errors of 8 eps in all entries, half is for solvers (measured: up to 8 in
float64, below 1 in float32). Both are derived by this project and held against float64 by its
tests; they are estimates, not bounds.
"""

import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.kernels.kernel import Kernel
from kernelgap.typing import ArrayLike

Metric = Literal["euclidean", "angle"]
_TILE = 2**23


@saveable()
class NearestPair(NamedTuple):
    """Two rows of x.

    Attributes:
        i: Index of the first row.
        j: Index of the second row, j > i.
        distance: ||x_i - x_j||, computed from the difference in float64.
        angle: The angle between the rows in radians, from the difference of the normalised rows in
            float64; NaN where one of them is zero.
    """

    i: int
    j: int
    distance: float
    angle: float

    __repr__ = compact_repr
    _repr_html_ = html_repr


def nearest_pair(x: ArrayLike, *, metric: Metric = "euclidean") -> NearestPair:
    """Return the two inputs that are nearest to each other, which measures the separation of x.

    Candidates come from tiles of a matrix product; distances that a product cannot tell apart are
    computed from differences in float64. No (n, n) array is formed. The result is the minimum up to
    the rounding of those differences. It takes time O(n^2 d), and more where most inputs lie within
    rounding of each other. It runs on the host and cannot be traced.

    Args:
        x: Inputs of shape (n, d), n >= 2.
        metric: `"euclidean"`, or `"angle"` for the distance of the normalised rows, which matters
            for the kernels of bias-free homogeneous networks. Opposite rows are far apart in both
            metrics; zero rows have no angle and are left out.

    Returns:
        A `NearestPair` with indices, distance and angle.

    Raises:
        TypeError: If x is traced.
        ValueError: If less than two rows have an angle, for `metric="angle"`.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 0.1]])
        >>> kg.kernels.nearest_pair(x)[:2], kg.kernels.nearest_pair(x, metric="angle")[:2]
        ((0, 1), (0, 2))

    References:
        The method is this project's.
    """
    x = concrete_inputs(x, "nearest_pair")
    checks.choice(metric, "metric", ("euclidean", "angle"))
    if x.shape[0] < 2:
        raise ValueError(f"`x` must have n >= 2 rows to have a nearest pair; got {x.shape}")
    rows = np.asarray(x, np.float64)
    if metric == "angle" and np.count_nonzero(np.any(rows != 0, axis=1)) < 2:
        raise ValueError("`x` must have at least two rows that are not zero for metric='angle'")
    return close_pairs(x, metric)[0]


def close_pairs(x: jax.Array, metric: Metric, count: int = 1) -> list[NearestPair]:
    """Return the nearest pair, and up to `count` - 1 other close ones, not exhaustively."""
    raw = np.asarray(x, np.float64)
    unit = np.ldexp(1.0, np.frexp(np.max(np.abs(raw)))[1])  # keeps squares within the range
    raw = raw / unit
    norms = np.linalg.norm(raw, axis=1)
    keep = np.arange(len(raw)) if metric == "euclidean" else np.flatnonzero(norms > 0)
    points = raw[keep] / (norms[keep, None] if metric == "angle" else 1)
    work = points.astype(np.float32 if x.dtype.itemsize < 4 else x.dtype)
    nearest_by_row, doubtful = _candidates(work)
    pairs = {(i, j): _squares(points, i, np.array([j]))[0] for i, j in nearest_by_row}
    best = min(pairs.values())
    for i in np.flatnonzero(doubtful <= best).tolist():
        if best == 0:
            break
        others = np.arange(i + 1, len(points))
        squares = _squares(points, i, others)
        nearest = int(np.argmin(squares))
        pairs[i, int(others[nearest])] = squares[nearest]
        best = min(best, squares[nearest])
    ordered = sorted(pairs, key=lambda pair: pairs[pair])[:count]
    described = (_describe(raw, norms, int(keep[i]), int(keep[j])) for i, j in ordered)
    return [pair._replace(distance=float(unit * pair.distance)) for pair in described]


def _candidates(work: np.ndarray) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Return the nearest j > i by products for each row i, and a lower bound on its square."""
    n, d = work.shape
    squares = np.sum(np.square(work), axis=1)
    # The largest rounding error of |a|^2 + |b|^2 - 2 a.b.
    error = 2 * (d + 4) * float(np.finfo(work.dtype).eps) * float(np.max(squares))
    pairs, lowest = [], np.full(n, np.inf)
    tile = max(1, _TILE // n)
    for start in range(0, n - 1, tile):
        rows = np.arange(start, min(start + tile, n - 1))
        distances = squares[rows, None] + squares[None, start:] - 2 * work[rows] @ work[start:].T
        distances[np.arange(start, n)[None, :] <= rows[:, None]] = np.inf
        nearest = np.argmin(distances, axis=1)
        lowest[rows] = distances[np.arange(len(rows)), nearest] - error
        pairs += [(int(i), int(start + j)) for i, j in zip(rows, nearest, strict=True)]
    return pairs, lowest


def _squares(points: np.ndarray, i: int, others: np.ndarray) -> np.ndarray:
    """Return ||x_i - x_j||^2 from differences, in pieces of bounded memory."""
    piece = max(1, _TILE // points.shape[1])
    parts = [others[start : start + piece] for start in range(0, len(others), piece)]
    return np.concatenate([np.sum(np.square(points[part] - points[i]), axis=1) for part in parts])


def _describe(raw: np.ndarray, norms: np.ndarray, i: int, j: int) -> NearestPair:
    distance, angle = float(np.linalg.norm(raw[i] - raw[j])), np.nan
    if norms[i] > 0 and norms[j] > 0:
        a, b = raw[i] / norms[i], raw[j] / norms[j]
        angle = 2 * float(np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b)))
    return NearestPair(i, j, distance, angle)


def concrete_inputs(x: ArrayLike, name: str) -> jax.Array:
    """Return checked inputs; raise if they are traced."""
    x = array_checks.inputs(x)
    if not array_checks.is_concrete(x):
        raise TypeError(f"`{name}` runs on the host: call it outside of jit, vmap and grad")
    return x


def pairs_for(kernel: Callable, x: jax.Array, count: int = 1) -> list[NearestPair]:
    """Return close pairs as a kernel sees them: by angle for kernels of homogeneous networks."""
    if x.shape[0] < 2:
        return []
    angles = isinstance(kernel, Kernel) and np.count_nonzero(np.any(np.asarray(x) != 0, axis=1)) > 1
    return close_pairs(x, "angle" if angles else "euclidean", count)


def rounding_error(
    dtype: np.dtype, largest: float, diagonal: float = 0.0, pair: NearestPair | None = None
) -> float:
    """Estimate the rounding error of an eigenvalue; see the docstring of this module."""
    eps = float(jnp.finfo(dtype).eps)
    error = 16 * eps * abs(largest)
    if pair is not None and not np.isnan(pair.angle):
        error += 4 * diagonal * eps / max(pair.angle, eps**0.5)
    return error


def warn_if_hidden(
    smallest: float, rounding: float, dtype: np.dtype, pair: NearestPair | None, stacklevel: int = 3
) -> None:
    """Warn where rounding hides the smallest eigenvalue, and name the likely cause."""
    if smallest >= rounding:
        return
    text = (f"{dtype} does not resolve the smallest eigenvalue: got {smallest:.2g} with a rounding "
            f"error of about {rounding:.1g}.")  # fmt: skip
    if pair is not None:
        text += (f" The nearest inputs are rows {pair.i} and {pair.j}, at distance "
                 f"{pair.distance:.2g} and angle {pair.angle:.2g}.")  # fmt: skip
    if pair is not None and pair.angle == 0:
        text += " They are parallel, so that the Gram matrix may be singular: drop one of them"
    elif dtype != np.float64:
        text += " Use float64: jax.config.update('jax_enable_x64', True) and x in float64"
    warnings.warn(text, RuntimeWarning, stacklevel=stacklevel)
