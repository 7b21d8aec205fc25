"""Losses, and the values of their dual points, in floating point: the checker has the exact ones.

For every q, loss(f, y) >= g(q) - q f with g(q) = min_f loss(f, y) + q f.
"""

from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import entr, expit

LOSSES = ("logistic", "squared", "hinge")
Loss = Literal["logistic", "squared", "hinge"]


def loss_values(loss: Loss, f: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the loss of each output."""
    if loss == "squared":
        return (f - y) ** 2 / 2
    return np.logaddexp(0, -y * f) if loss == "logistic" else np.maximum(1 - y * f, 0)


def dual_point(loss: Loss, f: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return q = -d loss / df at each output."""
    if loss == "squared":
        return y - f
    return y * (expit(-y * f) if loss == "logistic" else (y * f < 1))


def dual_values(loss: Loss, q: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return g(q) of each entry; y q is in [0, 1] but for the squared loss."""
    if loss == "squared":
        return q * y - q**2 / 2
    c = np.clip(q * y, 0, 1)
    return entr(c) + entr(1 - c) if loss == "logistic" else c


def best_multiple(loss: Loss, q: np.ndarray, y: np.ndarray, largest: float) -> float:
    """Return s <= largest for which the sum of g(s q) is largest; it is concave in s."""
    if loss != "squared":
        largest = min(largest, (1 - 1e-9) / float(np.max(np.abs(q))))

    def negative(s: float) -> float:
        return -float(np.sum(dual_values(loss, s * q, y)))

    inner: Any = minimize_scalar(
        negative, bounds=(0.0, largest), method="bounded", options={"xatol": 1e-9 * largest}
    )
    return largest if negative(largest) <= inner.fun else float(inner.x)
