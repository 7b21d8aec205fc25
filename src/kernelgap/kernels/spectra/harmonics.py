r"""Eigenvalues of profiles on the sphere, by power series and by quadrature.

Under the uniform distribution on S^{d-1}, a kernel kappa(cos(x, z)) has for each degree t one
eigenvalue on the N(d, t) = (2t+d-2)/t binom(t+d-3, t-1) spherical harmonics of that degree (Funk
and Hecke):

    lambda_t = E[kappa(c) P_t(c)],   c of density |S^{d-2}| / |S^{d-1}| (1-c^2)^{(d-3)/2},

with Gegenbauer's polynomial, P_t(1) = 1. Quadrature in the angle has an absolute error near 1e-16
kappa(1), which hides eigenvalues lambda_t of the order 1 / N(d, t). For kappa(c) = sum_k a_k c^k,

    lambda_t = sum_k a_k m(k, t),  m(t, t) = t! / (d (d+2) ... (d+2t-2)),
    m(k+2, t) / m(k, t) = (k+2)(k+1) / ((k-t+2)(k+t+d)),  and m(k, t) = 0 for odd k - t or k < t;

with nonnegative a_k nothing cancels, so that relative errors stay small. m follows from Rodrigues'
formula and is derived by this project; the tests hold it against exact values.

References: K. Atkinson, W. Han, Spherical Harmonics and Approximations on the Unit Sphere, 2012
(Funk-Hecke, multiplicities, Rodrigues); I. Schoenberg, Duke Math. J. 9, 1942 (a_k >= 0).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

EPS = float(np.finfo(float).eps)


def peak(d: int, t: int) -> float:
    """Return the k from which m(k, t) decreases."""
    return max(((t - 2) * (t + d) + 2) / (d - 1), t)


def series(a: np.ndarray, d: int, degree: int, tails: Sequence[float]) -> tuple:
    """Return eigenvalues and errors; `tails` bound omitted even and odd coefficients."""
    values, errors = np.zeros(degree + 1), np.zeros(degree + 1)
    first = 0.0  # log m(t, t)
    for t in range(degree + 1):
        k = np.arange(t, max(len(a), math.ceil(peak(d, t)) + 1) + 3, 2.0)
        ratios = (k + 2) * (k + 1) / ((k - t + 2) * (k + t + d))
        logs = first + np.concatenate([[0.0], np.cumsum(np.log(ratios[:-1]))])
        own = a[t::2]
        inside, beyond = logs[: len(own)], logs[len(own) :]
        present = own != 0
        parts = np.exp(np.log(np.abs(own[present])) + inside[present])
        values[t] = math.fsum(np.sign(own[present]) * parts)
        errors[t] = 1e-12 * float(np.sum(parts)) + tails[t % 2] * math.exp(np.max(beyond))
        first += math.log((t + 1) / (d + 2 * t))
    return values, errors


def quadrature(profile: Callable, d: int, degree: int) -> tuple:
    """Return eigenvalues and errors by Gauss-Legendre on panels of the angle.

    Network kernels are smooth in the angle, not in c.
    """
    panels = 2 + math.ceil((d**0.5 * (1 + degree**0.5) + degree) / 6)
    (coarse, _), (fine, rounding) = (_rule(profile, d, degree, p) for p in (panels, 2 * panels))
    return fine, np.abs(fine - coarse) + rounding


def _rule(profile: Callable, d: int, degree: int, panels: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(32)
    starts = np.arange(panels)[:, None]
    angles = (np.pi / panels * (starts + (1 + nodes) / 2)).ravel()
    density = np.tile(weights, panels) * np.sin(angles) ** (d - 2)
    density /= np.sum(density)
    c = np.cos(angles)
    raw = np.asarray(profile(c))
    if raw.shape != c.shape or not np.issubdtype(raw.dtype, np.floating):
        raise ValueError(f"`kernel`, as a profile, must map cosines of shape {c.shape} to floating "
                         f"values of that shape; got {raw.dtype} of shape {raw.shape}")  # fmt: skip
    if not np.isfinite(raw).all():
        raise ValueError("`kernel` returned NaN or inf for cosines in [-1, 1]")
    kappa = raw.astype(float)
    # Single precision comes from JAX kernels, whose own error is a few units.
    eps = EPS if raw.dtype == np.float64 else 8 * float(np.finfo(raw.dtype).eps)
    values, rounding = np.zeros(degree + 1), np.zeros(degree + 1)
    below, now = np.zeros_like(c), np.ones_like(c)
    for t in range(degree + 1):
        values[t] = (density * kappa) @ now
        rounding[t] = (4 + t) * eps * float(np.max(np.abs(kappa)) * (density @ np.abs(now)))
        # (t+d-2) P_{t+1} = (2t+d-2) c P_t - t P_{t-1}; at d = 2, t = 0 it is 0 = 0.
        below, now = now, c if t == 0 else ((2 * t + d - 2) * c * now - t * below) / (t + d - 2)
    return values, rounding
