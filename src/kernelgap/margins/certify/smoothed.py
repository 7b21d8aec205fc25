"""The bound of `margins.certify.relaxation` smoothed, and its gradient, for its minimisation."""

import os
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from kernelgap._numerics.blas import map_in_threads
from kernelgap.margins.certify.relaxation import (
    Multipliers,
    Relaxation,
    Side,
    quadratic_form,
    rows_of_v,
    side_multipliers,
    views,
    weights_of,
)
from kernelgap.margins.certify.triangles import scaled, sign_form

_LARGE = 2**14  # entries of the data from which a thread for each side pays


class Value(NamedTuple):
    """The smoothed bound, its gradient, the bound without smoothing and each side's matrix H."""

    smooth: float
    gradient: np.ndarray
    bound: float
    matrices: tuple[np.ndarray, ...]


class Seen(NamedTuple):
    """H, the smooth maximum of its eigenvalues and 0, the largest, and what derivatives need."""

    form: np.ndarray
    top: float
    largest: float
    g: np.ndarray  # (d, d) d(top) / dH, second moments of the violating units
    z: np.ndarray  # K^-1 V
    moments: np.ndarray  # Z g Z', second moments of their signs


def evaluate(relaxation: Relaxation, theta: np.ndarray, smoothing: float) -> Value:
    """Evaluate the bound on h(q), q = p o signs, with lambda_max replaced by a log-sum-exp.

    Where a K is not positive definite the bound is inf, and `smooth` rises from the border on.
    """
    p = weights_of(relaxation, theta)

    def part(side: Side) -> tuple[float, float, np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):  # a thread does not inherit it
            return _side(relaxation, side, theta, p, smoothing)

    large = relaxation.x.size >= _LARGE and (os.cpu_count() or 1) > 1
    parts = map_in_threads(part, relaxation.sides) if large else list(map(part, relaxation.sides))
    bounds, smooth = [part[1] for part in parts], np.array([part[0] for part in parts])
    value, shares = _smooth_max(smooth, smoothing)
    gradient = shares[0] * parts[0][2] + shares[1] * parts[1][2]
    return Value(value, gradient, max(bounds), tuple(part[3] for part in parts))


def _side(
    relaxation: Relaxation, side: Side, theta: np.ndarray, p: np.ndarray, smoothing: float
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """The smoothed and the plain bound of one side, the gradient of the former, and H."""
    x, n = relaxation.x, len(relaxation.x)
    points, others = x[side.positive], x[side.negative]
    m, shares, squares = side_multipliers(relaxation, side, theta, p)
    gradient = np.zeros_like(theta)
    out, now = views(side, gradient), views(side, theta)
    seen = look(relaxation, side, p, m, smoothing)
    if seen is None:
        trivial = float(p @ relaxation.norms)
        slopes, least = _towards_definite(m)
        out.triangles[:] = trivial * slopes
        return trivial * (2 - least), np.inf, gradient, np.zeros((x.shape[1],) * 2)
    constant = (m.scales.sum() - m.weights.sum()) / 2
    smooth, bound = (constant + seen.top) / 2, (constant + max(seen.largest, 0.0)) / 2

    # d(bound) = (sum dt - sum dmu) / 4 + <g, dH> / 2 with g = d(top)/dH.
    moments = seen.moments
    dt = (1 - np.diagonal(moments)) / 4
    if len(m.weights):
        heights = scaled(m.scales, m.triangles)
        dmu = (m.triangles.values(moments) - 1) / 4
        out.triangles[:] = dmu * heights
        shares_of_t = dmu * now.triangles * heights**2
        dt = dt + m.triangles.sums(shares_of_t, len(dt)) / m.scales**2
    out.logs[:] = dt * m.scales
    dv, direct = slopes_of(relaxation, side, seen)
    if len(side.positive) <= 16 * len(side.partners):
        paid = -np.take_along_axis(dv[1:] @ others.T, side.partners, axis=0)
    else:
        paid = -np.sum(dv[1:][side.partners] * others, axis=2)
    d_shares = np.concatenate([direct, paid])
    dp = side.sign * relaxation.signs * (x @ dv[0])
    dp[side.positive] += out.logs[1:] / p[side.positive] + np.sum(dv[1:] * points, axis=1)
    dp[side.negative] += np.sum(d_shares * shares, axis=0)
    d_shares *= p[side.negative]
    slope = np.sum(d_shares * shares, axis=0)
    out.shares[:3] = 2 * now.shares[:3] / squares * (d_shares[:3] - slope)
    out.shares[3:] = 2 / squares * (np.abs(now.shares[3:]) * d_shares[3:] - now.shares[3:] * slope)
    gradient[:n] = by_logits(relaxation, p, dp)
    return smooth, bound, gradient, seen.form


def look(
    relaxation: Relaxation, side: Side, p: np.ndarray, m: Multipliers, smoothing: float
) -> Seen | None:
    """Return what a side's multipliers lead to; None where K is not definite or overflows."""
    v = rows_of_v(relaxation, side, p, m)
    if len(m.weights):
        try:
            factor = cho_factor(sign_form(m.scales, m.triangles, m.weights), check_finite=False)
        except np.linalg.LinAlgError:
            return None
        z = cho_solve(factor, v, check_finite=False)
    else:
        z = v / m.scales[:, None]
    h = quadratic_form(relaxation, side, m, z, v)
    if not np.isfinite(h).all():
        return None
    top, largest, g = smooth_eigenvalue(h, smoothing)
    return Seen(h, top, largest, g, z, z @ g @ z.T)


def slopes_of(relaxation: Relaxation, side: Side, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives by V, and by the shares of k_j r_j, T_0j and -T_0j, over p_j."""
    others, dv = relaxation.x[side.negative], seen.z @ seen.g / 2
    along, squared = others @ dv[0], np.sum((others @ seen.g) * others, axis=1) / 2
    return dv, np.stack([-squared / relaxation.norms[side.negative], -along, along])


def _towards_definite(m: Multipliers) -> tuple[np.ndarray, float]:
    """The derivative of minus the least eigenvalue of K, scaled to diagonal 1, and that value."""
    root = 1 / np.sqrt(m.scales)
    k = sign_form(m.scales, m.triangles, m.weights) * root[:, None] * root
    if not np.isfinite(k).all():
        return np.zeros(len(m.weights)), 0.0
    values, vectors = np.linalg.eigh(k)
    worst = vectors[:, 0] * root
    along = np.sum(m.triangles.signs * worst[m.triangles.rows], axis=1)
    return along**2 * scaled(m.scales, m.triangles), float(values[0])


def smooth_eigenvalue(h: np.ndarray, smoothing: float) -> tuple[float, float, np.ndarray]:
    """Return a smooth maximum of 0 and the eigenvalues, the largest of them, and a gradient."""
    eigenvalues, vectors = np.linalg.eigh(h)
    top, occupation = _smooth_max(np.append(eigenvalues, 0.0), smoothing)
    return top, float(eigenvalues[-1]), (vectors * occupation[:-1]) @ vectors.T


def by_logits(relaxation: Relaxation, p: np.ndarray, by_p: np.ndarray) -> np.ndarray:
    """Return the derivative by the logits from that by p."""
    return p * (by_p - p @ by_p) if relaxation.normalised else p * by_p


def _smooth_max(values: np.ndarray, smoothing: float) -> tuple[float, np.ndarray]:
    """Smoothing * log sum exp(values / smoothing), at least the maximum, and its gradient."""
    top = values.max()
    powers = np.exp((values - top) / smoothing)
    total = powers.sum()
    return float(top + smoothing * np.log(total)), powers / total
