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
Paper C builds on PL and smoothness too (first version, 2022); statement and constants are derived
by this project.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from kernelgap._numerics import checks
from kernelgap._support.display import html_repr
from kernelgap._support.registry import saveable
from kernelgap.lazy.ball import Ball, smallest_ball
from kernelgap.lazy.losses import LossConstants
from kernelgap.typing import ArrayLike

Numbers = np.ndarray  # float64: a rate of 1 - 1e-9 is 1 in float32


@saveable()
class Convergence(NamedTuple):
    """A certificate of linear convergence, or the reason why there is none.

    All entries are float64 NumPy arrays of one shape (or scalars of shape ()).

    Attributes:
        decrease: The loss minus its infimum falls by this share in every step at least; 0 without
            a certificate.
        path_length: Bound on the length of the whole path, which is also the radius of the ball
            that it stays in; inf without a certificate.
        learning_rate: The step size eta that this is for.
        max_learning_rate: The largest step size with a certificate; 0 if there is none.
        smoothness: S on that ball; NaN without a certificate.
        sigma_min: Lower bound on the singular values of J on the ball; NaN without a certificate.
        sigma_max: Upper bound on them, likewise.
        nonlinearity: 4 L sqrt(2 delta_0 / mu) / lambda_min(K_0), with L at the least radius that
            there can be. Below 1/2 for steps up to 1 / S, below 1 for small steps.
        initial_loss: f(Theta_0).
        optimum: ell*, the infimum of the loss.
        target: Below this loss nothing is claimed.
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
        """True where there is a certificate for this step size."""
        return np.isfinite(self.path_length)

    def curve(self, times: int, *, every: int = 1) -> Numbers:
        """The certified loss before steps 0, `every`, 2 `every`, ..., in shape (..., times).

        optimum + rate^t (initial_loss - optimum), not below `target`; inf without a certificate.
        """
        count = checks.integer(times, "times", minimum=1)
        steps = checks.integer(every, "every", minimum=1) * np.arange(count)
        with np.errstate(divide="ignore"):
            shares = np.exp(steps * np.log1p(-self.decrease[..., None]))
        shares = np.where(steps == 0, 1.0, shares)
        losses = self.optimum + shares * (self.initial_loss - self.optimum)[..., None]
        return np.where(self.holds[..., None], np.maximum(losses, self.target), np.inf)

    def __repr__(self) -> str:
        if not isinstance(self.decrease, np.ndarray | np.floating):  # traced, or None in a tree
            return "Convergence(unknown)"
        if self.decrease.ndim:
            summary = f"{int(self.holds.sum())} of {self.holds.size} hold"
        elif self.holds:
            summary = (
                f"loss <= (1 - {float(self.decrease):.3g})^t, "
                f"path <= {self.path_length:.3g}, step {float(self.learning_rate):.3g}"
            )
        elif self.max_learning_rate > 0:
            summary = (f"none for step {float(self.learning_rate):.3g}, the largest is "
                    f"{float(self.max_learning_rate):.3g}")  # fmt: skip
        else:
            summary = f"none: nonlinearity {float(self.nonlinearity):.3g}, below 1 is needed"
        return f"Convergence({summary}; {self.status})"


def convergence_certificate(
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
    r"""Certify that gradient descent converges linearly, from the tangent kernel at the start.

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
        loss: Constants of the loss: `squared_loss_constants(n)` or
            `logistic_loss_constants(n, ...)`.
        lambda_min: A lower bound on lambda_min(K_0), such as `eigenvalue_enclosure(gram).lower`. No
            certificate where it is not positive.
        lambda_max: An upper bound on lambda_max(K_0), such as
            `eigenvalue_enclosure(gram).upper`.
        lipschitz: L, or a function of the radius R that gives L on that ball and does not fall with
            it, such as `tangent_lipschitz(model, params, x)`. 0 for linear models.
        learning_rate: eta > 0; by default the largest one that has a certificate.
        lipschitz_radius: Of the ball on which a number `lipschitz` is valid; no certificate may
            need a larger one.
        constants: `"ball"`: the eigenvalues are those at the start, and change with `lipschitz`.
            `"run"`: they were measured along a run (the least `lambda_min`, the greatest
            `lambda_max` of its recorded times) and are taken as they are; L enters the smoothness
            only. A check of the theory against a run, which proves nothing of times in between.

    All numbers may be arrays that broadcast, for example with one entry per seed.

    Returns:
        `Convergence`, in float64 on the host. Not under `jit`.

    Raises:
        TypeError: If an argument is being traced.
        ValueError: If lambda_max < lambda_min.

    Example:
        >>> import kernelgap as kg
        >>> kg.lazy.convergence_certificate(
        ...     0.5, kg.lazy.squared_loss_constants(10), lambda_min=1.0, lambda_max=20.0,
        ...     lipschitz=0.02)
        Convergence(loss <= (1 - 0.0339)^t, path <= 7.43, step 0.467; derived)

        The same with a step too large, and on a net too far from linear:

        >>> kg.lazy.convergence_certificate(
        ...     0.5, kg.lazy.squared_loss_constants(10), lambda_min=1.0, lambda_max=20.0,
        ...     lipschitz=0.02, learning_rate=0.9)
        Convergence(none for step 0.9, the largest is 0.467; derived)
        >>> kg.lazy.convergence_certificate(
        ...     0.5, kg.lazy.squared_loss_constants(10), lambda_min=1.0, lambda_max=20.0,
        ...     lipschitz=0.2)
        Convergence(none: nonlinearity 2.53, below 1 is needed; derived)

    References:
        The method: B. Polyak, 1963; S. Oymak, M. Soltanolkotabi, ICML 2019; C. Liu, L. Zhu,
        M. Belkin, "Loss landscapes and optimization in over-parameterized non-linear systems",
        2022. The first version of paper C (arXiv 2205.13507v1) builds on the same two inequalities;
        statement and constants are derived by this project, with the proof in
        `kernelgap.lazy.convergence`.
    """
    checks.choice(constants, "constants", ("ball", "run"))
    if not isinstance(loss, LossConstants):
        raise TypeError(f"`loss` must come from lazy.squared_loss_constants or "
                        f"lazy.logistic_loss_constants; "
                        f"got {type(loss).__name__}")  # fmt: skip
    if np.ndim(checks.host_numbers(lipschitz_radius, "lipschitz_radius", minimum=0, infinite=True)):
        raise TypeError(f"`lipschitz_radius` must be one number; got {lipschitz_radius!r:.40}")
    columns = {
        "initial_loss": checks.host_numbers(initial_loss, "initial_loss", minimum=loss.optimum),
        "lambda_min": checks.host_numbers(lambda_min, "lambda_min"),
        "lambda_max": checks.host_numbers(lambda_max, "lambda_max", minimum=0),
        "learning_rate": np.array(np.nan),
        "lipschitz": np.zeros(()),
    }
    if learning_rate is not None:
        columns["learning_rate"] = checks.host_numbers(
            learning_rate, "learning_rate", minimum=0, exclusive=True
        )
    if not callable(lipschitz):
        columns["lipschitz"] = checks.host_numbers(lipschitz, "lipschitz", minimum=0)
    if (columns["lambda_max"] < columns["lambda_min"]).any():
        raise ValueError(f"`lambda_max` must be at least `lambda_min`; got {lambda_max!s:.40} and "
                         f"{lambda_min!s:.40}: are they the other way round?")  # fmt: skip
    arrays = np.broadcast_arrays(*columns.values())
    balls = []
    for initial, smallest, largest, step, drift in zip(*(a.flat for a in arrays), strict=True):
        balls.append(
            smallest_ball(
                loss,
                float(initial),
                float(smallest),
                float(largest),
                float(step),
                lipschitz if callable(lipschitz) else partial(_constant, float(drift)),
                limit=float(lipschitz_radius),
                drifts=constants == "ball",
            )
        )
    shape = arrays[0].shape
    entries = {
        name: np.array([getattr(ball, name) for ball in balls]).reshape(shape)
        for name in Ball._fields
    }
    return Convergence(
        **entries,
        initial_loss=arrays[0],
        optimum=loss.optimum,
        target=loss.target,
        status="derived" if constants == "ball" else "along the run",
    )


def _constant(value: float, radius: float) -> float:
    return value
