r"""Climb the smoothed margin of many two-layer ReLU networks at once, on the host.

With m_i = y_i f(x_i) / (||Theta||^2 / 2) the smoothed margin is -T log sum_i exp(-m_i / T): smooth
in the parameters where f is, within T log n below min_i m_i, and growing to it as the temperature T
falls. Adam climbs it while T and the step size fall geometrically: a homotopy like the path
lambda -> 0 of the weakly regularised loss, without a loss that underflows. A step that XLA
compiled is not faster, and the compilation takes longer than most searches.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_DECAY = (0.9, 0.99)  # of Adam's first and second moments
_SMALL = 1e-8


class Nets(NamedTuple):
    """Output weights and hidden weights of r networks of m units."""

    readout: Float[np.ndarray, "r m"]
    hidden: Float[np.ndarray, "r m d"]


class Adam:
    """Adam's steps on one array of parameters, upwards and in place."""

    def __init__(self, theta: np.ndarray) -> None:
        self.count = 0
        self.first, self.second = np.zeros_like(theta), np.zeros_like(theta)
        self.step = np.empty_like(theta)

    def ascend(self, theta: np.ndarray, gradient: np.ndarray, rate: float | np.ndarray) -> None:
        """Take a step; `gradient` is overwritten."""
        slow, fast = map(theta.dtype.type, _DECAY)
        self.count += 1
        self.first *= slow
        self.first += np.multiply(gradient, 1 - slow, out=self.step)
        self.second *= fast
        np.multiply(gradient, gradient, out=gradient)
        self.second += np.multiply(gradient, 1 - fast, out=gradient)
        np.sqrt(self.second, out=self.step)
        self.step /= np.sqrt(1 - fast**self.count)
        self.step += theta.dtype.type(_SMALL)
        np.divide(self.first, self.step, out=self.step)
        self.step *= rate / (1 - slow**self.count)
        theta += self.step


def random_nets(rng: np.random.Generator, count: int, width: int, d: int) -> Nets:
    """Draw `count` networks with output weights +-1 and hidden weights on the sphere."""
    hidden = rng.standard_normal((count, width, d))
    hidden /= np.linalg.norm(hidden, axis=2, keepdims=True)
    return Nets(rng.choice([-1.0, 1.0], (count, width)), hidden)


def ascend_margin(
    nets: Nets,
    x: Float[np.ndarray, "#r n d"],
    y: Float[np.ndarray, "#r n"],
    *,
    temperatures: Float[np.ndarray, "r 2"],
    rates: Float[np.ndarray, "r 2"],
    steps: int,
) -> Nets:
    """Climb the smoothed margin of r networks at once with Adam, in the dtype of `x`.

    Args:
        nets: Units that are zero stay so.
        x: Inputs of each network, or of all.
        y: Labels -1 and +1, likewise.
        temperatures: First and last T of each network.
        rates: First and last step size of each network, for parameters with ||Theta||^2 = 2.
        steps: Number of steps.

    Returns:
        For each network, the parameters of its best iterate by min_i m_i, ||Theta||^2 = 2.
    """
    dtype, transposed = x.dtype.type, np.ascontiguousarray(x.transpose(0, 2, 1))
    y = y.astype(dtype)
    theta = np.concatenate([nets.readout[..., None], nets.hidden], axis=2, dtype=x.dtype)
    _normalise(theta)
    best, best_theta = np.full(len(theta), -np.inf), theta.copy()
    gradient, adam = np.empty_like(theta), Adam(theta)
    scores = np.empty((*theta.shape[:2], x.shape[1]), x.dtype)
    active, pulls = np.empty(scores.shape, bool), np.empty_like(scores)
    for k in range(steps):
        t, rate = (
            (pair[:, 0] * (pair[:, 1] / pair[:, 0]) ** (k / steps)).astype(dtype)[:, None]
            for pair in (temperatures, rates)
        )
        np.matmul(theta[:, :, 1:], transposed, out=scores)
        np.greater(scores, 0, out=active)
        np.maximum(scores, 0, out=scores)
        margins = y * np.matmul(theta[:, None, :, 0], scores)[:, 0]
        least = margins.min(axis=1)
        better = least > best
        best[better], best_theta[better] = least[better], theta[better]

        p = np.exp((least[:, None] - margins) / t)
        p /= p.sum(axis=1, keepdims=True)
        np.multiply(active, (p * y)[:, None], out=pulls)
        gradient[:, :, 0] = np.matmul(scores, (p * y)[..., None])[..., 0]
        np.matmul(pulls, x, out=gradient[:, :, 1:])
        gradient[:, :, 1:] *= theta[:, :, :1]
        # Of f / (||Theta||^2 / 2) where ||Theta||^2 = 2.
        gradient -= np.sum(p * margins, axis=1)[:, None, None] * theta

        adam.ascend(theta, gradient, rate[..., None])
        _normalise(theta)
    return Nets(best_theta[:, :, 0], best_theta[:, :, 1:])


def _normalise(theta: np.ndarray) -> None:
    """Scale each network to ||Theta||^2 = 2; one that is zero stays so."""
    size = np.sqrt(np.einsum("rmk,rmk->r", theta, theta) / 2)
    theta /= np.where(size > 0, size, 1)[:, None, None]


def ascend_units(
    x: Float[np.ndarray, "n d"],
    q: Float[np.ndarray, " n"],
    units: Float[np.ndarray, "k d"],
    *,
    steps: int,
    kept: int,
) -> Float[np.ndarray, "best d"]:
    """Climb |sum_i q_i relu(u.x_i)| by steps on the sphere, as `search.units.ascend` does.

    After a tenth and after a third of the steps only the best units go on, 4 `kept` and 2 `kept`.
    """
    q, units = (q / np.max(np.abs(q), initial=1e-30)).astype(x.dtype), units.astype(x.dtype)
    scores = units @ x.T
    values = np.maximum(scores, 0) @ q
    signs = np.where(values < 0, -1, 1).astype(x.dtype)
    values *= signs
    angles = np.full(len(units), 0.5, x.dtype)
    for k in range(steps):
        if k in (steps // 10, steps // 3):
            best = np.argsort(-values)[: kept * (4 if k < steps // 3 else 2)]
            units, scores, values = units[best], scores[best], values[best]
            signs, angles = signs[best], angles[best]
        tangents = signs[:, None] * (np.multiply(scores > 0, q) @ x)
        tangents -= np.sum(tangents * units, axis=1, keepdims=True) * units
        lengths = np.linalg.norm(tangents, axis=1)
        tangents *= (np.sin(angles) / np.where(lengths > 0, lengths, 1))[:, None]
        moved = np.cos(angles)[:, None] * units + tangents
        moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-30)
        moved_scores = moved @ x.T
        reached = signs * (np.maximum(moved_scores, 0) @ q)
        better = reached > values
        angles = np.where(better, np.minimum(1.5 * angles, np.pi / 2), angles / 2)
        units[better], scores[better] = moved[better], moved_scores[better]
        values[better] = reached[better]
    return units
