r"""The convex losses of one output, with what their minimisation and its dual need.

For R(f) = sum_i ell(y_i, f_i) and the dual point q_i = -d ell / d f_i,

    min_f R(f) + c ||alpha||_1  =  max { sum_i D(y_i, q_i) : h(q) <= c },

D(y, q) = min_f ell(y, f) + q f, with h the largest violation of a unit (`margins.gap`).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import entr, expit

from kernelgap._numerics.verified import UNIT

Name = Literal["logistic", "squared", "hinge"]

_SMALLEST = 1e-300


class ConvexLoss(NamedTuple):
    """A loss ell(y, f), elementwise in arrays y and f (or q).

    Attributes:
        value: ell(y, f).
        pull: -d ell / d f, the dual point of outputs f.
        curvature: The second derivative by f.
        dual: D(y, q).
        dual_slope: dD / dq = f at the minimum.
        dual_error: What the rounding of D can be, over u; q is off by one rounding itself.
        most: The largest ``|q|`` with D finite.
        smooth: Whether ell is.
        labels: Whether y are labels -1 and +1.
    """

    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    pull: Callable[[np.ndarray, np.ndarray], np.ndarray]
    curvature: Callable[[np.ndarray, np.ndarray], np.ndarray]
    dual: Callable[[np.ndarray, np.ndarray], np.ndarray]
    dual_slope: Callable[[np.ndarray, np.ndarray], np.ndarray]
    dual_error: Callable[[np.ndarray, np.ndarray], np.ndarray]
    most: float = 1.0
    smooth: bool = True
    labels: bool = True


def _share(y: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return c in [0, 1] with q = c y."""
    return np.clip(q * y, 0.0, 1.0)


def _entropy(y: np.ndarray, q: np.ndarray) -> np.ndarray:
    c = _share(y, q)
    return entr(c) + entr(1 - c)


def _entropy_slope(y: np.ndarray, q: np.ndarray) -> np.ndarray:
    c = _share(y, q)
    return y * np.log(np.maximum(1 - c, UNIT) / np.maximum(c, _SMALLEST))


_LOSSES: dict[Name, ConvexLoss] = {
    "logistic": ConvexLoss(
        value=lambda y, f: np.logaddexp(0, -y * f),
        pull=lambda y, f: y * expit(-y * f),
        curvature=lambda y, f: expit(f) * expit(-f),
        dual=_entropy,
        dual_slope=_entropy_slope,
        # 1 - c is off by u, which entr makes at most 40 u of, and so is c.
        dual_error=lambda y, q: np.full(len(q), 80.0) + 8 * _entropy(y, q),
    ),
    "squared": ConvexLoss(
        value=lambda y, f: (f - y) ** 2 / 2,
        pull=lambda y, f: y - f,
        curvature=lambda y, f: np.ones(len(f)),
        dual=lambda y, q: y * q - q**2 / 2,
        dual_slope=lambda y, q: y - q,
        dual_error=lambda y, q: 8 * (np.abs(y * q) + q**2),
        most=np.inf,
        labels=False,
    ),
    "hinge": ConvexLoss(
        value=lambda y, f: np.maximum(1 - y * f, 0),
        pull=lambda y, f: np.where(y * f < 1, y, 0.0),
        curvature=lambda y, f: np.zeros(len(f)),
        dual=_share,
        dual_slope=lambda y, q: y * np.ones(len(q)),
        dual_error=lambda y, q: 8 * _share(y, q),
        smooth=False,
    ),
}


def smooth_hinge(smoothing: float) -> ConvexLoss:
    """Return the loss s log(1 + exp((1 - y f) / s)), at most s log 2 above the hinge loss."""
    s = smoothing

    def odds(y: np.ndarray, f: np.ndarray) -> np.ndarray:
        return (1 - y * f) / s

    return _LOSSES["hinge"]._replace(
        smooth=True,
        value=lambda y, f: s * np.logaddexp(0, odds(y, f)),
        pull=lambda y, f: y * expit(odds(y, f)),
        # Not zero far from the kink, where Newton steps would be unbounded.
        curvature=lambda y, f: np.maximum(expit(odds(y, f)) * expit(-odds(y, f)) / s, 1e-10),
    )


def convex_loss(name: Name) -> ConvexLoss:
    """Return the loss of that name."""
    return _LOSSES[name]
