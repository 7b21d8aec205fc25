r"""The smallest ball around the start that no path of gradient descent leaves.

On the ball of radius R let a(R) and b(R) bound the singular values of the Jacobian and S(R) the
smoothness of the loss. A step eta leaves a path no longer than needed / (c a) with
c = 1 - eta S / 2 >= 1/2 and needed = sqrt(2 delta_0 / mu): it stays in the ball if

    needed <= R c a(R),    that is    eta <= min(1, 2 (1 - needed / (R a(R)))) / S(R).

Roots and maxima are found by SciPy; each radius that is returned was tested against this condition.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar, root_scalar

from kernelgap.lazy.losses import LossConstants

_SAFE = 1 + 1e-12  # above the rounding of a few float64 operations


class Ball(NamedTuple):
    """Entries of a `Convergence` that belong to one run: see there."""

    decrease: float
    path_length: float
    learning_rate: float
    max_learning_rate: float
    smoothness: float
    sigma_min: float
    sigma_max: float
    nonlinearity: float


class _Constants(NamedTuple):
    """Constants on a ball: bounds on the singular values, and the smoothness S."""

    sigma_min: float
    sigma_max: float
    smoothness: float


def smallest_ball(
    loss: LossConstants,
    initial_loss: float,
    lambda_min: float,
    lambda_max: float,
    learning_rate: float,
    lipschitz: Callable[[float], float],
    *,
    limit: float,
    drifts: bool,
) -> Ball:
    """Return the smallest ball for a step size; NaN asks for the largest step that has one.

    Args:
        loss: Constants of the loss.
        initial_loss: f(Theta_0).
        lambda_min: Lower bound on the eigenvalues of the tangent kernel.
        lambda_max: Upper bound on them.
        learning_rate: The step size eta, or NaN.
        lipschitz: R -> L on the ball of radius R.
        limit: The largest radius allowed.
        drifts: False takes the eigenvalues as they are, on all of the ball.
    """
    delta = initial_loss - loss.optimum
    if lambda_min <= 0:
        return _no_ball(learning_rate, 0.0, np.inf)
    needed = (2 * delta / loss.pl) ** 0.5 * _SAFE
    slope = (2 * loss.smoothness * delta) ** 0.5

    def constants(radius: float) -> _Constants:
        drift = float(lipschitz(radius))
        moved = drift * radius if drifts else 0.0
        sigma_max = lambda_max**0.5 + moved
        smoothness = loss.smoothness * sigma_max**2 + drift * slope
        return _Constants(lambda_min**0.5 - moved, sigma_max, smoothness)

    def reach(radius: float) -> float:
        """R a(R): the path bound is at most R if c is at least needed / reach."""
        return radius * constants(radius).sigma_min

    def admissible(radius: float) -> float:
        """The largest step for which no path leaves the ball; negative where there is none."""
        on_ball = constants(radius)
        reached = radius * on_ball.sigma_min
        if reached <= 0 < needed:
            return -radius
        share = needed / reached if needed > 0 else 0.0
        return min(1.0, 2 * (1 - share)) / on_ball.smoothness

    low = needed / lambda_min**0.5
    nonlinearity = 4 * float(lipschitz(low)) * needed / lambda_min
    high = min(4 * low, limit)  # a root beyond does not exist: R c a >= R a_0 / 4 below it
    if high < low:
        return _no_ball(learning_rate, 0.0, nonlinearity)
    best = _best_radius(admissible, reach, needed, low, high)
    largest_step = admissible(best) / _SAFE
    if largest_step <= 0:
        return _no_ball(learning_rate, 0.0, nonlinearity)
    step = largest_step if np.isnan(learning_rate) else learning_rate
    if step > largest_step:
        return _no_ball(step, largest_step, nonlinearity)
    radius = _first_admitting(admissible, step, low, best)
    on_ball = constants(radius)
    gained = 1 - step * on_ball.smoothness / 2
    decrease = 2 * step * gained * loss.pl * on_ball.sigma_min**2 / _SAFE
    return Ball(
        decrease=decrease,
        path_length=radius,
        learning_rate=step,
        max_learning_rate=largest_step,
        smoothness=on_ball.smoothness,
        sigma_min=on_ball.sigma_min,
        sigma_max=on_ball.sigma_max,
        nonlinearity=nonlinearity,
    )


def _no_ball(step: float, largest_step: float, nonlinearity: float) -> Ball:
    nan = float(np.nan)
    return Ball(0.0, float(np.inf), step, largest_step, nan, nan, nan, nonlinearity)


def _best_radius(
    admissible: Callable[[float], float],
    reach: Callable[[float], float],
    needed: float,
    low: float,
    high: float,
) -> float:
    """A radius between low and high that admits the largest step, or nearly.

    S rises with R. From the first radius on whose reach is twice what is needed, steps up to 1 / S
    are admitted, and a larger ball is no better; below it the largest step varies smoothly.
    """
    if low == high:
        return low
    farthest = max(_argmax(reach, low, high), low, high, key=reach)
    if reach(farthest) >= 2 * needed > reach(low):
        high = _root(lambda radius: reach(radius) - 2 * needed, low, farthest)
    return max(_argmax(admissible, low, high), low, high, key=admissible)


def _argmax(function: Callable[[float], float], low: float, high: float) -> float:
    options = {"xatol": 1e-12 * high, "maxiter": 500}
    peak = minimize_scalar(
        lambda at: -function(at), bounds=(low, high), method="bounded", options=options
    )
    return float(peak["x"])  # pyright: ignore[reportIndexIssue]


def _first_admitting(
    admissible: Callable[[float], float], step: float, low: float, best: float
) -> float:
    """The smallest radius that admits a step which `best` admits; tested, not only found."""
    if admissible(low) >= step:
        return low
    radius = _root(lambda r: admissible(r) - step, low, best)
    growth = np.finfo(float).eps
    while radius < best and admissible(radius) < step:  # the root finder stops on either side
        radius, growth = min(radius * (1 + growth), best), 2 * growth
    return radius


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    if function(high) <= 0:
        return high
    tolerance = 4 * float(np.finfo(float).eps)
    return float(
        root_scalar(function, bracket=(low, high), xtol=tolerance * low, rtol=tolerance).root
    )
