r"""A convex upper bound on the most violating ReLU unit, with rounding errors.

For q in R^n and a sign s let P be the points with s q_i > 0 and N those with s q_j < 0; r_i is the
norm of x_i and z_i = u.x_i. As ``relu(z) = (z + |z|) / 2``::

    s sum_i q_i relu(z_i) = (a.u + sum_P |q_i||z_i| - sum_N |q_j||z_j|) / 2,   a = s sum_i q_i x_i.

Let sigma_i be the sign of z_i for i in P, sigma_0 = 1, v_0 = a and v_i = ``|q_i|`` x_i, so that
the first two terms are sum_i sigma_i v_i.u over the rows i = 0 and i in P. For all real T_ij and
k_j >= 0 with::

    sum_i |T_ij| + k_j r_j <= |q_j|    there is    |q_j||z_j| >= sum_i T_ij sigma_i z_j + k_j z_j^2

on the unit ball, since ``z_j^2 / r_j`` is at most the modulus of z_j. So T_ij x_j is taken from
v_i: the transfer is paid for by the negative terms, and v_i = ``|q_i|`` x_i - sum_j T_ij x_j
becomes shorter.

What is left are the signs. With V the matrix of rows v_i and any positive semidefinite K::

    sum_i sigma_i v_i.u = sigma'V u <= (sigma'K sigma + u'V'K^-1 V u) / 2.

Here K = diag(t) - sum_c mu_c b_c b_c' with mu_c >= 0, where b_c has three entries, each -1 or +1. A
sum of three signs is odd, its square at least 1, and sigma'K sigma <= sum t - sum mu. Hence::

    s sum_i q_i relu(z_i) <= ((sum t - sum mu) / 2 + max(0, lambda_max(H))) / 2,
    H = V'K^-1 V / 2 - sum_N k_j x_j x_j'.

The bound is jointly convex in the weights, T, k, t and mu; every value of the multipliers gives a
bound.

With K diagonal it is the dual of a semidefinite relaxation with the inequalities ``sigma_i z_j <=
|z_j|``; mu adds the triangle inequalities between signs. All are derived for this project, as
triangle inequalities are known for cuts of graphs (Deza and Laurent, 1997).
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve

from kernelgap._numerics.verified import (
    above,
    gamma,
    largest_eigenvalue_bound,
    largest_row_sum,
    smallest_eigenvalue_bound,
)
from kernelgap.margins.certify.triangles import Triangles, no_triangles, scaled, sign_form

# The largest number of positive points that a negative one may transfer to, at first the most
# correlated ones, and of transfers on one side.
_PARTNERS = 64
_TRANSFERS = 50_000
_DEEP = 60.0  # logarithms are clipped there, so that no square underflows


class Side(NamedTuple):
    """One sign s of the violation: who is positive, who negative, and where its variables lie."""

    sign: int
    positive: np.ndarray
    negative: np.ndarray
    partners: np.ndarray  # (k, |N|): rows of `positive` that each negative point may transfer to
    triangles: Triangles
    start: int

    @property
    def stop(self) -> int:
        """The end of its variables."""
        shares = (3 + len(self.partners)) * len(self.negative)
        return self.start + 1 + len(self.positive) + shares + len(self.triangles.rows)


class Relaxation(NamedTuple):
    """Points, signs and the layout of the variables.

    The variables are the logits of p = |q| (n of them), then for each side the logarithms of t_0
    and of t_i / p_i, for each negative point weights w whose squares, normalised, share p_j
    between k_j r_j, T_0j > 0, T_0j < 0 and the other transfers (which carry the sign of w), and
    for each triangle mu over the scale of `triangles.scaled`.
    """

    x: np.ndarray
    signs: np.ndarray
    norms: np.ndarray
    sides: tuple[Side, Side]
    normalised: bool  # whether p sums to 1; else p = exp(logits)

    @property
    def size(self) -> int:
        """The number of variables."""
        return self.sides[-1].stop


class Multipliers(NamedTuple):
    """Multipliers of one side, as in the module's formula."""

    transfer: sparse.csc_array  # T (1 + |P|, |N|)
    quadratic: np.ndarray  # k
    scales: np.ndarray  # t
    triangles: Triangles
    weights: np.ndarray  # mu


class Views(NamedTuple):
    """One side's part of an array of variables, or of their gradient."""

    logs: np.ndarray  # (1 + |P|,)
    shares: np.ndarray  # (3 + k, |N|)
    triangles: np.ndarray  # (c,)


def relax(
    x: np.ndarray, signs: np.ndarray, *, partners: int | None = None, normalised: bool = True
) -> Relaxation:
    """Lay out the variables for points x (n, d), none zero, and the signs of q."""
    norms = np.linalg.norm(x, axis=1)
    sides, start = [], len(x)
    for sign in (1, -1):
        positive, negative = np.flatnonzero(signs == sign), np.flatnonzero(signs == -sign)
        allowed = min(_PARTNERS, _TRANSFERS // max(len(negative), 1))
        k = min(allowed if partners is None else partners, len(positive))
        if k and len(negative):
            similar = np.abs(x[positive] @ x[negative].T) / norms[positive, None]
            chosen = np.sort(np.argpartition(-similar, k - 1, axis=0)[:k], axis=0)
        else:
            chosen = np.zeros((k, len(negative)), int)
        sides.append(Side(sign, positive, negative, chosen, no_triangles(), start))
        start = sides[-1].stop
    return Relaxation(x, signs, norms, (sides[0], sides[1]), normalised)


def multipliers(relaxation: Relaxation, theta: np.ndarray) -> tuple[np.ndarray, list[Multipliers]]:
    """Read the weights p and each side's multipliers from the variables."""
    p = weights_of(relaxation, theta)
    return p, [side_multipliers(relaxation, side, theta, p)[0] for side in relaxation.sides]


def certified_bound(relaxation: Relaxation, p: np.ndarray, multipliers: list[Multipliers]) -> float:
    """Bound max_s s sum_i q_i relu(u.x_i), q = p o signs, from above, for p taken as exact.

    Multipliers may be any floating-point numbers: what they fail to satisfy is paid for. Errors of
    sums are bounded by gamma_k times the sum of absolute values, with twice the k that is needed to
    cover the rounding of these bounds themselves; see `kernelgap._numerics.verified`.
    """
    pairs = zip(relaxation.sides, multipliers, strict=True)
    return max(_certified_side(relaxation, side, p, m) for side, m in pairs)


def _certified_side(relaxation: Relaxation, side: Side, p: np.ndarray, m: Multipliers) -> float:
    r"""With any matrix Z in the place of K^-1 V.

    As 0 <= (sigma - Zu)'K(sigma - Zu), sigma'V u is at most (sigma'K sigma + u'Z'KZ u) / 2 plus the
    lengths of the rows of V - KZ; if K >= -delta only, delta (sqrt(1 + |P|) + ||Z||_F)^2 / 2 more.
    """
    n, d = relaxation.x.shape
    if len(side.positive) == 0:
        return 0.0
    m = m._replace(weights=np.maximum(m.weights, 0))
    relative = gamma(4 * (n + d + len(m.weights) + 16))
    norms = relaxation.norms * (1 + gamma(2 * (d + 4)))
    own, other = norms[side.positive], norms[side.negative]
    # The bound without multipliers, should they be of no use: relu(u.x_i) <= ||x_i||.
    trivial = above(float(p[side.positive] @ own), 2 * (n + 4))

    with np.errstate(all="ignore"):
        v, k = rows_of_v(relaxation, side, p, m), sign_form(m.scales, m.triangles, m.weights)
        z = _solved(k, v, m)
        image = k @ z
        h = quadratic_form(relaxation, side, m, z, image)
    if not (np.isfinite(h).all() and np.isfinite(k).all()):
        return trivial
    top = max(largest_eigenvalue_bound(h), 0.0)

    moved = abs(m.transfer)
    rows, columns = np.asarray(moved @ other), np.asarray(moved.sum(axis=0))
    # What the negative terms were charged beyond |q_j|, at most r_j on the ball for each unit.
    charged = columns + m.quadratic * other
    excess = np.maximum(charged - p[side.negative], 0) + relative * (charged + p[side.negative])
    v_sizes = np.concatenate([[p @ norms], p[side.positive] * own]) + rows
    # Sums of absolute values: of K, and of the norms of what is multiplied with it.
    absolute, lengths = (
        sign_form(m.scales, m.triangles, m.weights, absolute=True),
        np.linalg.norm(z, axis=1),
    )
    product = absolute @ lengths
    left = np.linalg.norm(v - image, axis=1) + relative * (v_sizes + product)
    form_error = relative * (lengths @ product / 2 + (m.quadratic * other**2).sum())
    negative = 0.0
    if len(m.weights):
        least = smallest_eigenvalue_bound(k, float(np.linalg.eigvalsh(k)[0]))
        lost = max(-least, 0.0) + relative * largest_row_sum(absolute)
        negative = lost / 2 * (math.sqrt(len(k)) + np.linalg.norm(lengths)) ** 2

    terms = np.concatenate([m.scales / 2, excess * other, left, [form_error, negative, top]])
    total = math.fsum([*terms, *(-m.weights / 2)])
    size = float(np.abs(terms).sum() + m.weights.sum())
    value = max(total + relative * size, 0.0) / 2
    return min(value, trivial) if np.isfinite(value) else trivial


def _solved(k: np.ndarray, v: np.ndarray, m: Multipliers) -> np.ndarray:
    """Return K^-1 V, or what it is without triangles where K is not positive definite."""
    if len(m.weights) and np.isfinite(k).all():
        try:
            return cho_solve(cho_factor(k, check_finite=False), v, check_finite=False)
        except np.linalg.LinAlgError:
            pass
    return v / m.scales[:, None]


def rows_of_v(relaxation: Relaxation, side: Side, p: np.ndarray, m: Multipliers) -> np.ndarray:
    """Return V."""
    x = relaxation.x
    v = np.empty((1 + len(side.positive), x.shape[1]))
    v[0] = side.sign * ((p * relaxation.signs) @ x)
    v[1:] = p[side.positive, None] * x[side.positive]
    v -= m.transfer @ x[side.negative]
    return v


def quadratic_form(
    relaxation: Relaxation, side: Side, m: Multipliers, z: np.ndarray, image: np.ndarray
) -> np.ndarray:
    """Return H from Z and KZ; a product of a matrix with its transpose is symmetric on average."""
    others = relaxation.x[side.negative]
    h = z.T @ image / 2 - (others * m.quadratic[:, None]).T @ others
    return (h + h.T) / 2


def side_multipliers(
    relaxation: Relaxation, side: Side, theta: np.ndarray, p: np.ndarray
) -> tuple[Multipliers, np.ndarray, np.ndarray]:
    """Return one side's multipliers, the shares of p_j behind them, and sums of squared weights."""
    logs, weights, cuts = views(side, theta)
    squares = np.sum(weights**2, axis=0)
    shares = weights * np.abs(weights) / squares  # signed only where they transfer
    shares[:3] = np.abs(shares[:3])
    k, n = side.partners.shape
    other = p[side.negative]
    amounts = np.vstack([shares[1] - shares[2], shares[3:]]) * other
    rows = np.vstack([np.zeros((1, n), int), 1 + side.partners])
    transfer = sparse.csc_array(
        (amounts.T.ravel(), rows.T.ravel(), (1 + k) * np.arange(n + 1)),
        shape=(1 + len(side.positive), n),
    )
    scales = np.exp(np.clip(logs, -_DEEP, _DEEP))
    scales[1:] *= p[side.positive]
    one_side = Multipliers(
        transfer,
        other * shares[0] / relaxation.norms[side.negative],
        scales,
        side.triangles,
        cuts * scaled(scales, side.triangles),
    )
    return one_side, shares, squares


def views(side: Side, theta: np.ndarray) -> Views:
    """Return views of one side's variables."""
    part = theta[side.start : side.stop]
    first = 1 + len(side.positive)
    last = len(part) - len(side.triangles.rows)
    shares = part[first:last].reshape(3 + len(side.partners), len(side.negative))
    return Views(part[:first], shares, part[last:])


def weights_of(relaxation: Relaxation, theta: np.ndarray) -> np.ndarray:
    """Return the positive weights p = |q|."""
    logits = theta[: len(relaxation.x)]
    if not relaxation.normalised:
        return np.exp(np.clip(logits, -_DEEP, _DEEP))
    powers = np.exp(np.maximum(logits - logits.max(), -_DEEP))
    return powers / powers.sum()
