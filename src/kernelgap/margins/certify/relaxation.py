r"""A convex upper bound on the most violating ReLU unit: smoothed, and with rounding errors.

For q in R^n and a sign s let P be the points with s q_i > 0 and N those with s q_j < 0; r_i is the
norm of x_i and z_i = u.x_i. As ``relu(z) = (z + |z|) / 2``::

    s sum_i q_i relu(z_i) = (a.u + sum_P |q_i||z_i| - sum_N |q_j||z_j|) / 2,   a = s sum_i q_i x_i.

For every real T_ij and l_j and every t_i > 0, k_j >= 0 with::

    sum_i |T_ij| + |l_j| + k_j r_j <= |q_j|,

there hold on the unit ball::

    |q_i||z_i| <= |v_i.u| + sum_j |T_ij||z_j|   with v_i = |q_i| x_i - sum_j T_ij x_j,
    |v_i.u|    <= (t_i + (v_i.u)^2 / t_i) / 2,
    |q_j||z_j| >= sum_i |T_ij||z_j| + l_j z_j + k_j z_j^2,

the last one since z_j^2 / r_j is at most the modulus of z_j. What is transferred in the first line
is paid for by the negative terms in the last, and v_i is shorter than what it replaces.

What is left is quadratic in u, b.u + u'Mu with b = a - sum_N l_j x_j and
M = sum_P v_i v_i' / (2 t_i) - sum_N k_j x_j x_j', and for every real rho at most
2 max(0, lambda_max(H)) - rho with H = [[rho, b'/2], [b/2, M]]. The bound is
jointly convex in the weights, T, l, k, t and rho; every value of the multipliers gives a bound.

The bound without transfer is the dual of a semidefinite relaxation; the transfer adds to it the
inequalities ``sign(z_i) z_j <= |z_j|``. Both are derived for this project.
"""

import math
import os
from typing import NamedTuple

import numpy as np
from scipy import sparse

from kernelgap._numerics.blas import map_in_threads
from kernelgap._numerics.verified import above, gamma, largest_eigenvalue_bound

# The largest number of positive points that a negative one may transfer to, at first the most
# correlated ones, and of transfers on one side.
_PARTNERS = 64
_TRANSFERS = 50_000
_LARGE = 2**14  # entries of the data from which a thread for each side pays
_DEEP = 60.0  # logarithms are clipped there, so that no square underflows


class Side(NamedTuple):
    """One sign s of the violation: who is positive, who negative, and where its variables lie."""

    sign: int
    positive: np.ndarray
    negative: np.ndarray
    partners: np.ndarray  # (k, |N|): rows of `positive` that each negative point may transfer to
    start: int
    stop: int


class Relaxation(NamedTuple):
    """Points, signs and the layout of the variables.

    The variables are the logits of p = |q| (n of them), then for each side the logarithms of
    t_i / p_i, rho, and for each negative point weights w whose squares, normalised, share p_j
    between k_j r_j, l_j > 0, l_j < 0 and the transfers (which carry the sign of w).
    """

    x: np.ndarray
    signs: np.ndarray
    norms: np.ndarray
    sides: tuple[Side, ...]
    size: int


class Multipliers(NamedTuple):
    """Multipliers of one side, as in the module's formula."""

    transfer: sparse.csc_array  # T (|P|, |N|)
    linear: np.ndarray  # l
    quadratic: np.ndarray  # k
    scales: np.ndarray  # t
    rho: float


class Value(NamedTuple):
    """The smoothed bound, its gradient, the bound without smoothing and each side's matrix H."""

    smooth: float
    gradient: np.ndarray
    bound: float
    matrices: tuple[np.ndarray, ...]


def relax(x: np.ndarray, signs: np.ndarray, *, partners: int | None = None) -> Relaxation:
    """Lay out the variables for points x (n, d), none zero, and the signs of q."""
    norms = np.linalg.norm(x, axis=1)
    sides, stop = [], len(x)
    for sign in (1, -1):
        positive, negative = np.flatnonzero(signs == sign), np.flatnonzero(signs == -sign)
        allowed = min(_PARTNERS, _TRANSFERS // max(len(negative), 1))
        k = min(allowed if partners is None else partners, len(positive))
        if k and len(negative):
            similar = np.abs(x[positive] @ x[negative].T) / norms[positive, None]
            chosen = np.sort(np.argpartition(-similar, k - 1, axis=0)[:k], axis=0)
        else:
            chosen = np.zeros((k, len(negative)), int)
        start, stop = stop, stop + len(positive) + 1 + (3 + k) * len(negative)
        sides.append(Side(sign, positive, negative, chosen, start, stop))
    return Relaxation(x, signs, norms, tuple(sides), stop)


def multipliers(relaxation: Relaxation, theta: np.ndarray) -> tuple[np.ndarray, list[Multipliers]]:
    """Read the weights p and each side's multipliers from the variables."""
    p = softmax(theta[: len(relaxation.x)])
    return p, [side_multipliers(relaxation, side, theta, p)[0] for side in relaxation.sides]


def evaluate(relaxation: Relaxation, theta: np.ndarray, smoothing: float) -> Value:
    """Evaluate the bound on h(q), q = p o signs, with lambda_max replaced by a log-sum-exp."""
    p = softmax(theta[: len(relaxation.x)])

    def part(side: Side) -> tuple[float, float, np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):  # a thread does not inherit it
            return _side(relaxation, side, theta, p, smoothing)

    large = relaxation.x.size >= _LARGE and (os.cpu_count() or 1) > 1
    parts = map_in_threads(part, relaxation.sides) if large else list(map(part, relaxation.sides))
    bounds, smooth = [part[1] for part in parts], np.array([part[0] for part in parts])
    value, shares = _smooth_max(smooth, smoothing)
    gradient = shares[0] * parts[0][2] + shares[1] * parts[1][2]
    return Value(value, gradient, max(bounds), tuple(part[3] for part in parts))


def certified_bound(relaxation: Relaxation, p: np.ndarray, multipliers: list[Multipliers]) -> float:
    """Bound max_s s sum_i q_i relu(u.x_i), q = p o signs, from above, for p taken as exact.

    Multipliers may be any floating-point numbers: what they fail to satisfy is paid for. Errors of
    sums are bounded by gamma_k times the sum of absolute values, with twice the k that is needed to
    cover the rounding of these bounds themselves; see `kernelgap._numerics.verified`.
    """
    pairs = zip(relaxation.sides, multipliers, strict=True)
    return max(_certified_side(relaxation, side, p, m) for side, m in pairs)


def _certified_side(relaxation: Relaxation, side: Side, p: np.ndarray, m: Multipliers) -> float:
    n, d = relaxation.x.shape
    if len(side.positive) == 0:
        return 0.0
    relative = gamma(4 * (n + d + 8))
    norms = relaxation.norms * (1 + gamma(2 * (d + 4)))
    own, other = norms[side.positive], norms[side.negative]

    v, h = quadratic_form(relaxation, side, p, m)
    moved = abs(m.transfer)
    rows, columns = np.asarray(moved @ other), np.asarray(moved.sum(axis=0))
    # What the negative terms were charged beyond |q_j|, at most r_j on the ball for each unit.
    charged = columns + np.abs(m.linear) + m.quadratic * other
    excess = np.maximum(charged - p[side.negative], 0) + relative * (charged + p[side.negative])
    # Errors of v_i, of b and of M; the last two are at most their Frobenius norms.
    v_error = relative * (p[side.positive] * own + rows)
    lengths = np.sum(v * v, axis=1) / (2 * m.scales)
    form_error = relative * (lengths.sum() + (m.quadratic * other**2).sum())
    b_error = relative * ((p * norms).sum() + (np.abs(m.linear) * other).sum())

    # The bound without multipliers, should they be of no use: relu(u.x_i) <= ||x_i||.
    trivial = above(float(p[side.positive] @ own), 2 * (n + 4))
    top = max(largest_eigenvalue_bound(h), 0.0)
    if math.isinf(top):
        return trivial
    terms = np.concatenate([m.scales / 2, excess * other, v_error])
    total = math.fsum([*terms, form_error, b_error, 2 * top, -m.rho])
    size = float(terms.sum()) + 2 * top + abs(m.rho)
    return min(max(total + relative * size, 0.0) / 2, trivial)


def quadratic_form(
    relaxation: Relaxation, side: Side, p: np.ndarray, m: Multipliers
) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors v_i and the matrix H."""
    x, d = relaxation.x, relaxation.x.shape[1]
    points, others = x[side.positive], x[side.negative]
    v = p[side.positive, None] * points - m.transfer @ others
    b = side.sign * ((p * relaxation.signs) @ x) - m.linear @ others
    h = np.empty((d + 1, d + 1))
    h[0, 0] = m.rho
    h[0, 1:] = h[1:, 0] = b / 2
    # A product of a matrix with its own transpose is exactly symmetric after averaging.
    form = (v / (2 * m.scales[:, None])).T @ v - (others * m.quadratic[:, None]).T @ others
    h[1:, 1:] = (form + form.T) / 2
    return v, h


def side_multipliers(
    relaxation: Relaxation, side: Side, theta: np.ndarray, p: np.ndarray
) -> tuple[Multipliers, np.ndarray, np.ndarray]:
    """Return one side's multipliers, the shares of p_j behind them, and sums of squared weights."""
    logs, rho, weights = views(side, theta)
    squares = np.sum(weights**2, axis=0)
    shares = weights * np.abs(weights) / squares  # signed only where they transfer
    shares[:3] = np.abs(shares[:3])
    k, n = side.partners.shape
    other = p[side.negative]
    transfer = sparse.csc_array(
        ((shares[3:] * other).T.ravel(), side.partners.T.ravel(), k * np.arange(n + 1)),
        shape=(len(side.positive), n),
    )
    one_side = Multipliers(
        transfer,
        other * (shares[1] - shares[2]),
        other * shares[0] / relaxation.norms[side.negative],
        p[side.positive] * np.exp(np.clip(logs, -_DEEP, _DEEP)),
        float(rho[0]),
    )
    return one_side, shares, squares


def _side(
    relaxation: Relaxation, side: Side, theta: np.ndarray, p: np.ndarray, smoothing: float
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """The smoothed and the plain bound of one side, the gradient of the former, and H."""
    x, n = relaxation.x, len(relaxation.x)
    points, others = x[side.positive], x[side.negative]
    m, shares, squares = side_multipliers(relaxation, side, theta, p)
    v, h = quadratic_form(relaxation, side, p, m)
    top, largest, g = smooth_eigenvalue(h, smoothing)
    constant = m.scales.sum() / 2 - m.rho
    smooth = (constant + 2 * top) / 2
    bound = (constant + 2 * max(largest, 0.0)) / 2

    # d(bound) = sum dt/4 + <g, dH> - drho/2 with g = d(top)/dH.
    corner, mixed, form = g[0, 0], g[0, 1:], g[1:, 1:]
    gradient = np.zeros_like(theta)
    logs_out, rho_out, weights_out = views(side, gradient)
    _, _, weights = views(side, theta)
    image = v @ form
    dv = image / m.scales[:, None]
    dt = 0.25 - np.sum(image * v, axis=1) / (2 * m.scales**2)
    logs_out[:] = dt * m.scales
    rho_out[:] = corner - 0.5
    along, squared = others @ mixed, np.sum((others @ form) * others, axis=1)
    if len(side.positive) <= 16 * len(side.partners):
        paid = -np.take_along_axis(dv @ others.T, side.partners, axis=0)
    else:
        paid = -np.sum(dv[side.partners] * others, axis=2)
    d_shares = np.concatenate(
        [np.stack([-squared / relaxation.norms[side.negative], -along, along]), paid]
    )
    dp = side.sign * relaxation.signs * (x @ mixed)
    dp[side.positive] += dt * m.scales / p[side.positive] + np.sum(dv * points, axis=1)
    dp[side.negative] += np.sum(d_shares * shares, axis=0)
    d_shares *= p[side.negative]
    slope = np.sum(d_shares * shares, axis=0)
    weights_out[:3] = 2 * weights[:3] / squares * (d_shares[:3] - slope)
    weights_out[3:] = 2 / squares * (np.abs(weights[3:]) * d_shares[3:] - weights[3:] * slope)
    gradient[:n] = p * (dp - p @ dp)
    return smooth, bound, gradient, h


def smooth_eigenvalue(h: np.ndarray, smoothing: float) -> tuple[float, float, np.ndarray]:
    """Return a smooth maximum of 0 and the eigenvalues, the largest of them, and a gradient."""
    eigenvalues, vectors = np.linalg.eigh(h)
    top, occupation = _smooth_max(np.append(eigenvalues, 0.0), smoothing)
    return top, float(eigenvalues[-1]), (vectors * occupation[:-1]) @ vectors.T


def views(side: Side, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return views of one side: logarithms of scales, rho (1,), weights (3 + k, |N|)."""
    part = theta[side.start : side.stop]
    count = len(side.positive)
    return part[:count], part[count : count + 1], part[count + 1 :].reshape(
        3 + len(side.partners), len(side.negative)
    )  # fmt: skip


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return positive weights that sum to one."""
    powers = np.exp(np.maximum(logits - logits.max(), -_DEEP))
    return powers / powers.sum()


def _smooth_max(values: np.ndarray, smoothing: float) -> tuple[float, np.ndarray]:
    """Smoothing * log sum exp(values / smoothing), at least the maximum, and its gradient."""
    top = values.max()
    powers = np.exp((values - top) / smoothing)
    total = powers.sum()
    return float(top + smoothing * np.log(total)), powers / total
