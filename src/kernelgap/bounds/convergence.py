r"""Linear convergence of gradient descent on composites f = ell(F(Theta)), certified.

Let F map parameters to the N outputs on the sample, J its Jacobian, and on the ball of radius R
around Theta_0 let

    sigma_min(J) >= a,    ||J|| <= b,    J be L-Lipschitz in operator norm,

and let ell be mu-PL and Lambda-smooth. Write delta_t = f(Theta_t) - ell*, S for the constant below.

- PL: ||grad f||^2 = ||J' grad ell||^2 >= a^2 ||grad ell||^2 >= 2 mu a^2 delta.
- Smoothness: along a step from Theta_t the gradient changes by J(Theta)' (grad ell(z) - grad
  ell(z_t)) + (J(Theta) - J(Theta_t))' grad ell(z_t), and ||grad ell(z_t)|| <= sqrt(2 Lambda
  delta_t), as it is for every smooth function that is bounded below. While the loss does not rise,
  the step's smoothness is at most S = Lambda b^2 + L sqrt(2 Lambda delta_0).
- Descent: with eta <= 1 / S and c = 1 - eta S / 2 >= 1/2, f falls by eta c ||grad f||^2 at least,
  so that delta_{t+1} <= (1 - 2 eta c mu a^2) delta_t; for eta = 1 / S that is 1 - eta mu a^2.
- Path: sqrt(delta_t) - sqrt(delta_{t+1}) >= (delta_t - delta_{t+1}) / (2 sqrt(delta_t))
  >= c eta ||grad f|| sqrt(mu a^2 / 2). Summed, the path is no longer than
  P = sqrt(2 delta_0 / (mu a^2)) / c: sqrt(8 delta_0 / (mu a^2)) for eta = 1 / S, half of that for
  gradient flow.
- The ball: if P <= R no step leaves it. For if one did, let it stop at the boundary; all of the
  above holds for the shorter step with a larger c, so that the path is shorter than R.

At the start a_0^2 = lambda_min(K_0) and b_0^2 = lambda_max(K_0) for K_0 = J_0 J_0'; singular values
are 1-Lipschitz in operator norm, so that a = a_0 - L R and b = b_0 + L R do on the ball. The
certificate takes the smallest R with P(R) <= R: the path bound is the radius of the ball. For a
constant L and gradient flow there is one if the nonlinearity 4 L sqrt(2 delta_0 / mu) / a_0^2 is at
most 1, for eta = 1 / S if it is at most 1/2.

References: B. Polyak, 1963; S. Oymak, M. Soltanolkotabi, ICML 2019, and C. Liu, L. Zhu, M. Belkin,
"Loss landscapes and optimization in over-parameterized non-linear systems", 2022 (the method).
Paper C builds on PL and smoothness too; statement and constants are derived by this project.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from kernelgap import _checks
from kernelgap._display import html_repr
from kernelgap.bounds.losses import LossConstants
from kernelgap.typing import ArrayLike

Numbers = np.ndarray  # float64: a rate of 1 - 1e-9 is 1 in float32
_SAFE = 1 + 1e-12  # above the rounding of a few float64 operations


class Convergence(NamedTuple):
    """A certificate of linear convergence, or the reason why there is none.

    All entries are float64 NumPy arrays of one shape (or scalars of shape ()).

    Attributes:
        decrease: the loss minus its infimum falls by this share in every step at least; 0 without
            a certificate.
        path_length: bound on the length of the whole path, which is also the radius of the ball
            that it stays in; inf without a certificate.
        learning_rate: the step size eta that this is for.
        max_learning_rate: the largest step size with a certificate; 0 if there is none.
        smoothness: S on that ball; NaN without a certificate.
        sigma_min: lower bound on the singular values of J on the ball; NaN without a certificate.
        sigma_max: upper bound on them, likewise.
        nonlinearity: 4 L sqrt(2 delta_0 / mu) / lambda_min(K_0), with L at the least radius that
            there can be. Below 1/2 for steps up to 1 / S, below 1 for small steps.
        initial_loss: f(Theta_0).
        optimum: ell*, the infimum of the loss.
        target: below this loss nothing is claimed.
        status: `"derived"` if it rests on constants of a ball around the start; `"along the run"`
            if on what was measured at some times of a run: a check, not a certificate.
    """

    decrease: Numbers
    path_length: Numbers
    learning_rate: Numbers
    max_learning_rate: Numbers
    smoothness: Numbers
    sigma_min: Numbers
    sigma_max: Numbers
    nonlinearity: Numbers
    initial_loss: Numbers
    optimum: float
    target: float
    status: Literal["derived", "along the run"]

    _repr_html_ = html_repr

    @property
    def rate(self) -> Numbers:
        """The factor 1 - decrease of every step."""
        return 1 - self.decrease

    @property
    def holds(self) -> np.ndarray:
        """Whether there is a certificate for this step size."""
        return np.isfinite(self.path_length)

    def curve(self, times: int, *, every: int = 1) -> Numbers:
        """The certified loss before steps 0, `every`, 2 `every`, ..., in shape (..., times).

        optimum + rate^t (initial_loss - optimum), not below `target`; inf without a certificate.
        """
        count = _checks.integer(times, "times", minimum=1)
        steps = _checks.integer(every, "every", minimum=1) * np.arange(count)
        with np.errstate(divide="ignore"):
            shares = np.exp(steps * np.log1p(-self.decrease[..., None]))
        shares = np.where(steps == 0, 1.0, shares)
        losses = self.optimum + shares * (self.initial_loss - self.optimum)[..., None]
        return np.where(self.holds[..., None], np.maximum(losses, self.target), np.inf)

    def __repr__(self) -> str:
        if not isinstance(self.decrease, np.ndarray | np.floating):  # traced, or None in a tree
            return "Convergence(unknown)"
        if self.decrease.ndim:
            told = f"{int(self.holds.sum())} of {self.holds.size} hold"
        elif self.holds:
            told = (f"loss <= (1 - {float(self.decrease):.3g})^t, path <= {self.path_length:.3g}, "
                    f"step {float(self.learning_rate):.3g}")  # fmt: skip
        elif self.max_learning_rate > 0:
            told = (f"none for step {float(self.learning_rate):.3g}, the largest is "
                    f"{float(self.max_learning_rate):.3g}")  # fmt: skip
        else:
            told = f"none: nonlinearity {float(self.nonlinearity):.3g}, below 1 is needed"
        return f"Convergence({told}; {self.status})"


def convergence(
    initial_loss: ArrayLike,
    loss: LossConstants,
    *,
    lambda_min: ArrayLike,
    lambda_max: ArrayLike,
    lipschitz: ArrayLike | Callable[[float], float],
    learning_rate: ArrayLike | None = None,
    lipschitz_radius: float = np.inf,
    constants: Literal["ball", "run"] = "ball",
) -> Convergence:
    r"""A certificate that gradient descent converges, from the tangent kernel at the start.

    With step size eta, for all t: f_t - ell* <= (1 - 2 eta c mu a^2)^t (f_0 - ell*), and
    sum_t ||Theta_{t+1} - Theta_t|| <= sqrt(2 (f_0 - ell*) / (mu a^2)) / c, with c = 1 - eta S / 2
    in [1/2, 1]. Here ell(F(Theta)) is minimised, F the outputs on the sample; the loss ell is mu-PL
    and Lambda-smooth; a and b are the least and the greatest singular value of the Jacobian of F,
    and L its Lipschitz constant, on the ball around Theta_0 that the path cannot leave;
    S = Lambda b^2 + L sqrt(2 Lambda (f_0 - ell*)) is the smoothness of what is minimised. At the
    start a^2 = lambda_min(K_0) and b^2 = lambda_max(K_0); a and b change by at most L times the
    radius. For plain gradient descent on the whole sample in exact arithmetic, without momentum,
    noise or weight decay.

    Args:
        initial_loss: f_0 = ell(F(Theta_0)), at least ell*.
        loss: constants of the loss: `squared_loss(n)` or `logistic_loss(n, ...)`.
        lambda_min: a lower bound on lambda_min(K_0), such as `gram_range(gram).lower`. No
            certificate where it is not positive.
        lambda_max: an upper bound on lambda_max(K_0), such as `gram_range(gram).upper`.
        lipschitz: L, or a function of the radius R that gives L on that ball and does not fall with
            it, such as `tangent_lipschitz(model, params, x)`. 0 for linear models.
        learning_rate: eta > 0; by default the largest one that has a certificate.
        lipschitz_radius: of the ball on which a number `lipschitz` is valid; no certificate may
            need a larger one.
        constants: `"ball"`: the eigenvalues are those at the start, and change with `lipschitz`.
            `"run"`: they were measured along a run (the least `lambda_min`, the greatest
            `lambda_max` of its recorded times) and are taken as they are; L enters the smoothness
            only. A check of the theory against a run, which proves nothing of times in between.

    All numbers may be arrays that broadcast, such as one entry per seed.

    Returns:
        `Convergence`, in float64 on the host. Not under `jit`.

    Raises:
        TypeError: if an argument is no number, or is being traced.
        ValueError: if one is NaN or out of range, or lambda_max < lambda_min.

    Example:
        >>> import kernelgap as kg
        >>> kg.bounds.convergence(
        ...     0.5, kg.bounds.squared_loss(10), lambda_min=1.0, lambda_max=20.0, lipschitz=0.02)
        Convergence(loss <= (1 - 0.0339)^t, path <= 7.43, step 0.467; derived)

        The same with a step too large, and on a net too far from linear:

        >>> kg.bounds.convergence(0.5, kg.bounds.squared_loss(10), lambda_min=1.0, lambda_max=20.0,
        ...                       lipschitz=0.02, learning_rate=0.9)
        Convergence(none for step 0.9, the largest is 0.467; derived)
        >>> kg.bounds.convergence(
        ...     0.5, kg.bounds.squared_loss(10), lambda_min=1.0, lambda_max=20.0, lipschitz=0.2)
        Convergence(none: nonlinearity 2.53, below 1 is needed; derived)

    References:
        The method: B. Polyak, 1963; S. Oymak, M. Soltanolkotabi, ICML 2019; C. Liu, L. Zhu,
        M. Belkin, "Loss landscapes and optimization in over-parameterized non-linear systems",
        2022. Paper C builds on the same two inequalities; statement and constants are derived by
        this project, with the proof in `kernelgap.bounds.convergence`.
    """
    _checks.choice(constants, "constants", ("ball", "run"))
    if not isinstance(loss, LossConstants):
        raise TypeError(f"`loss` must be bounds.squared_loss(n) or bounds.logistic_loss(n, ...); "
                        f"got {type(loss).__name__}")  # fmt: skip
    arrays = {
        "initial_loss": _numbers(initial_loss, "initial_loss", loss.optimum),
        "lambda_min": _numbers(lambda_min, "lambda_min"),
        "lambda_max": _numbers(lambda_max, "lambda_max", 0),
        "learning_rate": np.array(np.nan)
        if learning_rate is None
        else _numbers(learning_rate, "learning_rate", 0, exclusive=True),
    }
    if _numbers(lipschitz_radius, "lipschitz_radius", 0, infinite=True).ndim:
        raise TypeError(f"`lipschitz_radius` must be one number; got {lipschitz_radius!r:.40}")
    if callable(lipschitz):
        drift = lipschitz
        lipschitz = np.zeros(())
    else:
        drift = None
        lipschitz = _numbers(lipschitz, "lipschitz", 0)
    if (arrays["lambda_max"] < arrays["lambda_min"]).any():
        raise ValueError(f"`lambda_max` must be at least `lambda_min`; got {lambda_max!s:.40} and "
                         f"{lambda_min!s:.40}: are they the other way round?")  # fmt: skip
    columns = np.broadcast_arrays(*arrays.values(), lipschitz)
    shape = columns[0].shape
    found = [
        _solve(
            loss,
            *map(float, row),
            drift=drift,
            limit=float(lipschitz_radius),
            run=constants == "run",
        )
        for row in zip(*(column.ravel() for column in columns), strict=True)
    ]
    fields = zip(Convergence._fields, zip(*found, strict=True), strict=False)
    return Convergence(
        **{name: np.array(field).reshape(shape) for name, field in fields},
        initial_loss=columns[0],
        optimum=loss.optimum,
        target=loss.target,
        status="derived" if constants == "ball" else "along the run",
    )


def _solve(
    loss: LossConstants,
    initial: float,
    lambda_min: float,
    lambda_max: float,
    step: float,
    number: float,
    *,
    drift: Callable[[float], float] | None,
    limit: float,
    run: bool,
) -> tuple[float, ...]:
    """The fields of `Convergence` up to `nonlinearity`."""
    delta = initial - loss.optimum
    if lambda_min <= 0:
        return 0.0, np.inf, step, 0.0, np.nan, np.nan, np.nan, np.inf
    alpha0, beta0 = lambda_min**0.5, lambda_max**0.5
    needed = (2 * delta / loss.pl) ** 0.5 * _SAFE  # R c(R) alpha(R) must reach it
    slope = (2 * loss.smoothness * delta) ** 0.5

    def at(radius: float) -> tuple[float, float, float]:
        """(alpha, beta, S) on the ball."""
        lipschitz = number if drift is None else float(drift(radius))
        moved = 0.0 if run else lipschitz * radius
        beta = beta0 + moved
        return alpha0 - moved, beta, loss.smoothness * beta**2 + lipschitz * slope

    def share(radius: float) -> float:
        """The least c with which the path bound is no longer than the radius."""
        alpha = at(radius)[0]
        if needed == 0:
            return 0.0
        return needed / (radius * alpha) if alpha > 0 and radius > 0 else np.inf

    def admissible(radius: float) -> float:
        """The largest step for which no path leaves the ball; falls where there is none."""
        least = share(radius)
        if not np.isfinite(least):
            return -radius
        return min(1.0, 2 * (1 - least)) / at(radius)[2]

    low = needed / alpha0
    nonlinearity = 4 * (number if drift is None else float(drift(low))) * needed / lambda_min
    high = min(4 * low, limit)  # a root beyond does not exist: R c alpha >= R alpha0 / 4 below it
    if high < low:
        return 0.0, np.inf, step, 0.0, np.nan, np.nan, np.nan, nonlinearity
    best = _peak(admissible, low, high)
    step_limit = admissible(best) / _SAFE
    if step_limit <= 0:
        return 0.0, np.inf, step, 0.0, np.nan, np.nan, np.nan, nonlinearity
    if np.isnan(step):
        step = step_limit
    if step > step_limit:
        return 0.0, np.inf, step, step_limit, np.nan, np.nan, np.nan, nonlinearity
    # Steps that a radius admits rise up to `best`: the smallest radius for this step is below.
    radius = best
    for _ in range(100):
        middle = (low + radius) / 2
        if admissible(middle) >= step:
            radius = middle
        else:
            low = middle
    alpha, beta, smoothness = at(radius)
    gained = 1 - step * smoothness / 2
    decrease = 2 * step * gained * loss.pl * alpha**2 / _SAFE
    return decrease, radius, step, step_limit, smoothness, alpha, beta, nonlinearity


def _peak(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that rises and then falls is largest."""
    for _ in range(100):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if function(left) < function(right):
            low = left
        else:
            high = right
    return (low + high) / 2


def _numbers(
    value: Any,
    name: str,
    minimum: float = -np.inf,
    *,
    exclusive: bool = False,
    infinite: bool = False,
) -> np.ndarray:
    """Concrete real numbers in float64, within range."""
    low = f" {'>' if exclusive else '>='} {minimum:g}" if np.isfinite(minimum) else ""
    expected = ("numbers" if infinite else "finite numbers") + low
    if not _checks.is_concrete(value):
        raise TypeError(f"`{name}` must hold {expected}, known now: certificates are computed on "
                        "the host, outside of jit, vmap and grad")  # fmt: skip
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must hold {expected}; got {value!r:.40}") from error
    if array.size == 0:
        raise ValueError(f"`{name}` must hold {expected}; got shape {array.shape}")
    bad = np.isnan(array) | (array <= minimum if exclusive else array < minimum)
    bad |= np.isinf(array) & (not infinite)
    if bad.any():
        raise ValueError(f"`{name}` must hold {expected}; got {array[bad][:3].tolist()}")
    return array
