r"""The least squared error in the span of kernel functions, on the XOR distribution itself.

Paper A's lower bound is about EVERY f = sum_i beta_i K(x_i, .), whatever beta. In squared error the
best of them is known exactly on `datasets.xor_noise` with sign noise. Let m_i = E y K(x_i, x) and
M_ij = E K(x_i, x) K(x_j, x); then

    min_beta E (f(x) - y)^2 = 1 - rho,    rho = m' M^-1 m = max_beta (E y f)^2 / E f^2.

The kernel of a network depends on x and x_i through their signal parts and the number of signs of
noise on which they agree. Where x_i and x_j differ in h of D = d - 2 signs, x agrees with x_i on p
of the others and q of those, hence on p + q with x_i and on p + h - q with x_j, where p and q are
binomial: M and m are finite sums, without a sample of the population.

Rounding. An entry of M is a sum of k terms, off by at most g = gamma_(k+8) times the sum of their
absolute values, which is at most c, the largest M_ii; hence the matrix by at most e = g n c in
norm, and m by at most g sqrt(n c). For every beta, 2 ``|beta' (error of m)|`` is at most
e ||beta||^2 + g. Thus for Q = M - 2 e I and any b with residual r = Q b - m

    1 - rho >= 1 - m'b + b'r - ||r||^2 / lambda_min(Q) - g.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.verified import above, gamma, smallest_eigenvalue_bound
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.datasets.xor import Signal
from kernelgap.kernels.functions import KernelFunction, checked_block, checked_kernel
from kernelgap.typing import ArrayLike

_SAME = 1e-3  # relative difference of kernel values that the symmetries should make equal


@saveable(coef="n")
class SpanBound(NamedTuple):
    """`squared_error` <= E (f(x) - y)^2 for every f in the span of the kernel functions.

    Attributes:
        squared_error: The proven lower bound, between 0 and 1; it includes the rounding of all but
            the kernel values. 0, without a proof, where the functions are dependent to rounding.
        attained: The squared error of `coef`, up to rounding: the bound's other side.
        coef: (n,) coefficients beta of the best f, 0 for centres that repeat an earlier one.
    """

    squared_error: float
    attained: float
    coef: Float[np.ndarray, " n"]

    __repr__ = compact_repr
    _repr_html_ = html_repr

    @property
    def r_squared(self) -> float:
        """No f of the span has a larger (E y f)^2 / (E f^2): 1 - `squared_error`."""
        return 1 - self.squared_error


def xor_span_bound(
    kernel: KernelFunction, centers: ArrayLike, *, signal: Signal = "axis"
) -> SpanBound:
    r"""Bound the squared error of every f = sum_i beta_i K(x_i, .) on XOR with sign noise.

    The minimum over all beta, by the law of the distribution and not on a sample of it. It says
    nothing on the share of wrong signs, which can be small while the squared error is not.

    O(n^3) on the host in float64, from kernel values in the dtype of `centers`. Not under `jit`.

    Args:
        kernel: `kernel(x1, x2=None)` whose values do not change when signs of noise are permuted
            or flipped in both inputs, as for `kernels.ntk(model)` and every function of
            ``<x1, x2>``.
        centers: (n, d) points x_i of `xor_noise(..., noise="sign")`, d >= 2.
        signal: `"axis"` or `"cube"`, as in `xor_noise`.

    Returns:
        A `SpanBound`.

    Raises:
        TypeError: If `centers` is traced.
        ValueError: If a centre is not a point of the distribution, or the kernel lacks the
            symmetries.

    Example:
        >>> import jax, kernelgap as kg
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
        >>> centers, _ = kg.datasets.xor_noise(jax.random.key(0), 50, 20)
        >>> bound = kg.bounds.xor_span_bound(kernel, centers)  # n = d^2 / 8
        >>> print(f"{bound.squared_error:.2f} {bound.attained:.2f}")
        0.99 0.99

    References:
        Paper A, the kernel lower bound of its separation theorem; the exact minimum is derived
        here.
    """
    kernel = checked_kernel(kernel)
    centers = array_checks.inputs(centers, "centers")
    checks.choice(signal, "signal", ("axis", "cube"))
    if not array_checks.is_concrete(centers):
        raise TypeError("`centers` is traced: xor_span_bound runs on the host. Call it outside of "
                        "jit, vmap and grad")  # fmt: skip
    x, first, place = np.unique(np.asarray(centers), axis=0, return_index=True, return_inverse=True)
    points, labels = _signals(signal)
    kind = _kinds(x, points)
    n, noise = len(x), x[:, 2:].astype(float)
    values = _kernel_values(kernel, x, kind, points)
    size = float(np.max(np.abs(values))) or 1.0
    second, mean = _moments(values / size, labels)
    differing = np.rint((noise.shape[1] - noise @ noise.T) / 2).astype(int)
    matrix, m = second[differing, kind[:, None], kind[None, :]], mean[kind]

    terms = 4 * (noise.shape[1] // 2 + 1) ** 2
    g = gamma(2 * (terms + 8))
    e = above(g * n * float(np.max(matrix.diagonal())), 3)
    shifted = matrix - 2 * e * np.eye(n)
    factor = _factor(shifted)
    least = 0.0 if factor is None else smallest_eigenvalue_bound(shifted, _guess(factor))
    if factor is not None and least > 0:
        b = cho_solve(factor, m)
        r = shifted @ b - m
        lost = gamma(2 * (n + 4)) * (np.abs(shifted) @ np.abs(b) + np.abs(m))
        square = above(float(np.sum((np.abs(r) + lost) ** 2)) / least, n + 4)
        rounding = gamma(4 * (n + 4)) * (1 + np.sum(np.abs(b) * (np.abs(m) + np.abs(r) + lost)))
        floor = 1 - m @ b + b @ r - np.abs(b) @ lost - square - g - rounding
    else:
        b, floor = np.linalg.pinv(matrix, hermitian=True) @ m, 0.0
    attained = float(1 - 2 * m @ b + b @ matrix @ b)
    coef = np.where(first[place.ravel()] == np.arange(len(place)), b[place.ravel()], 0) / size
    return SpanBound(float(np.clip(floor, 0, 1)), max(attained, 0.0), coef)


def _factor(matrix: np.ndarray) -> tuple[np.ndarray, bool] | None:
    try:
        return cho_factor(matrix)
    except LinAlgError:
        return None


def _guess(factor: tuple[np.ndarray, bool]) -> float:
    """Return the smallest eigenvalue, within some percent, by inverse iteration."""
    v = np.random.default_rng(0).normal(size=len(factor[0]))
    for _ in range(30):
        v = cho_solve(factor, v / np.linalg.norm(v))
    return 0.95 / float(np.linalg.norm(v))


def _signals(signal: Signal) -> tuple[np.ndarray, np.ndarray]:
    """Return the four signals (4, 2) and their labels."""
    if signal == "axis":
        return np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], float), np.array([1, 1, -1, -1], float)
    return np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]], float), np.array([1, 1, -1, -1], float)


def _kinds(x: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the number of each row's signal; refuse rows that are not of the distribution."""
    if x.shape[1] < 2:
        raise ValueError(f"`centers` must have shape (n, d) with d >= 2; got {x.shape}")
    same = (x[:, None, :2] == points).all(axis=2)
    wrong = ~same.any(axis=1) | (np.abs(x[:, 2:]) != 1).any(axis=1)
    if wrong.any():
        raise ValueError('`centers` must be points of xor_noise(..., noise="sign") with the same '
                         f"`signal`; got the row {x[np.argmax(wrong)]}")  # fmt: skip
    return np.argmax(same, axis=1)


def _kernel_values(
    kernel: KernelFunction, x: np.ndarray, kind: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Return K by the signals of both points and the number of signs of noise that agree."""
    noise = x.shape[1] - 2
    agree = np.arange(noise) < np.arange(noise + 1)[:, None]
    shape = 4, noise + 1
    left = np.hstack([points, np.ones((4, noise))])
    right = np.concatenate(
        [
            np.broadcast_to(points[:, None], (*shape, 2)),
            np.where(agree, 1.0, -1.0)[None].repeat(4, 0),
        ],
        axis=2,
    ).reshape(-1, noise + 2)

    def block(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(checked_block(kernel, *(jnp.asarray(v, x.dtype) for v in (a, b))), float)

    values = block(left, right).reshape(4, *shape)
    few = np.arange(64) % len(x)  # one shape, one program
    count = np.rint((noise + x[few, 2:] @ x[few, 2:].T) / 2).astype(int)
    table = values[kind[few][:, None], kind[few][None, :], count]
    apart = np.max(np.abs(block(x[few], x[few]) - table))
    if not apart <= _SAME * np.max(np.abs(values)):
        raise ValueError(
            "`kernel` must depend on the noise of its inputs only through the number of signs that "
            f"agree; two values that should be equal differ by {apart:.3g}"
        )
    return values


def _moments(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return E K(a, x) K(b, x) by the differing signs and both signals, and E y K(a, x)."""
    noise = values.shape[2] - 1

    def binomial(count: int) -> np.ndarray:
        return np.array([math.comb(count, k) / 2**count for k in range(count + 1)])

    second = np.empty((noise + 1, 4, 4))
    for h in range(noise + 1):
        p, q = np.arange(noise - h + 1)[:, None], np.arange(h + 1)[None, :]
        weights = binomial(noise - h)[:, None] * binomial(h) / 4
        left = (values[:, :, p + q] * weights).reshape(4, 4, -1)
        right = values[:, :, p + h - q].reshape(4, 4, -1)
        second[h] = np.einsum("sak,sbk->ab", left, right, optimize=True)
    return second, np.einsum("s,sak,k->a", labels, values, binomial(noise)) / 4
