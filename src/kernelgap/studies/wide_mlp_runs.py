"""Runs of gradient descent for the wide-mlp study, and the rows derived from each run."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernelgap import bounds, kernels, lazy, models, objectives, optim
from kernelgap.bounds import EigenvalueEnclosure
from kernelgap.datasets import Dataset
from kernelgap.lazy import Convergence, Laziness, LossConstants
from kernelgap.models import Model, Params
from kernelgap.studies.estimates import NAN, Row
from kernelgap.studies.learners import path_length
from kernelgap.studies.seeds import over_seeds
from kernelgap.typing import Loss

_TOGETHER = 128  # largest width at which seeds run as one batch; above, one after the other
_TEXTS = ("part", "data", "loss", "parameterization")
_COUNTS = ("depth", "width", "seed", "time", "diverged_at")
_NUMBERS = (
    "step_size", "train_loss", "certified_loss", "decrease", "path_length", "displacement",
    "path_bound", "min_norm_distance", "linear_displacement", "relative_displacement",
    "linearization_error", "activation_change", "kernel_change", "kernel_distance",
    "kernel_alignment", "target_alignment", "lambda_min", "lambda_max", "lambda_min_limit",
    "nonlinearity", "nonlinearity_of_run", "loss_ratio", "path_ratio", "test_loss", "test_error",
    "train_clipped", "test_clipped", "bound", "bound_if_linear", "fourth_moment",
)  # fmt: skip


class Run(NamedTuple):
    """A run of gradient descent; `times` are those of the start and of the records.

    Shapes: losses (steps,), each before its step, last (), path (times,), entries of the panel of
    laziness (times, ...), outputs (times, n) on the training samples, tested (n_test,) at the end.
    """

    losses: Any
    last: Any
    path: Any
    panel: Laziness
    outputs: Any
    tested: Any


class Descent(NamedTuple):
    """A run with its inputs; `signs`: targets are -1 and +1; `size`: step size."""

    model: Model
    start: Params
    train: Dataset
    y_test: np.ndarray
    run: Run
    loss: LossConstants
    squared: bool
    signs: bool
    size: float


def row(**known: Any) -> Row:
    """Return a row with all columns: NaN, "" or -1 where a part has no value."""
    blank = dict.fromkeys(_TEXTS, "") | dict.fromkeys(_COUNTS, -1)
    return blank | dict.fromkeys(_NUMBERS, NAN) | known


def net(width: int, depth: int, activation: Any, parameterization: Any = "ntk") -> Model:
    """Return a net of `depth` layers of one width."""
    return models.mlp(
        (width,) * (depth - 1), activation=activation, parameterization=parameterization
    )


def is_wide(model: Model) -> bool:
    """Return True if seeds should run one after the other."""
    return max(model.spec.widths) > _TOGETHER


def loss_of(model: Model, name: str) -> Loss:
    """Return the mean logistic loss, or half the mean square."""
    if name == "logistic":
        return objectives.regularized_logistic(model.apply, l2=0.0)
    return objectives.regularized_squared(model.apply)


def starts(model: Model, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return outputs (seeds, n) and Gram matrices (seeds, n, n), x of shape (seeds, n, d)."""
    return over_seeds(_start, (params, x), static=(model,), wide=is_wide(model))


def _start(model: Model, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return model.apply(params, x), kernels.empirical_ntk(model, params)(x)


def descend(
    model: Model,
    params: Params,
    train: Dataset,
    x_test: jax.Array,
    sizes: jax.Array,
    *,
    loss: str,
    steps: int,
    records: int,
) -> list[Run]:
    """Return gradient descent from `params` with the step sizes (seeds,), recorded at times."""
    static = (model, loss, steps, records)
    arguments = (params, train, x_test, sizes)
    runs = jax.device_get(over_seeds(_descend, arguments, static=static, wide=is_wide(model)))
    return [jax.tree.map(lambda leaf, k=k: leaf[k], runs) for k in range(len(sizes))]


def _descend(
    model: Model,
    loss: str,
    steps: int,
    records: int,
    start: Params,
    train: Dataset,
    x_test: jax.Array,
    size: jax.Array,
) -> Run:
    objective, every = loss_of(model, loss), steps // records
    panel = lazy.laziness(model, start, *train, kernel=kernels.empirical_ntk, keep_gram=True)
    optimizer = optax.chain(optax.sgd(size), path_length())

    def leg(carry: tuple, k: jax.Array) -> tuple[tuple, tuple]:
        params, state = carry
        look = panel(params), state[-1], model.apply(params, train.x)

        def go(carry: tuple) -> tuple[tuple, jax.Array]:
            trained = optim.train(
                objective, carry[0], train, optimizer, steps=every, opt_state=carry[1]
            )
            return (trained.params, trained.opt_state), trained.losses

        def stay(carry: tuple) -> tuple[tuple, jax.Array]:
            return carry, jnp.zeros(every, train.x.dtype)

        # One program records both ends: tracing either twice would double the compile time.
        carry, losses = jax.lax.cond(k < records, go, stay, carry)
        return carry, (losses, look)

    (params, _), (losses, looks) = jax.lax.scan(
        leg, (start, optimizer.init(start)), jnp.arange(records + 1)
    )
    panels, path, outputs = looks
    last, tested = objective(params, *train), model.apply(params, x_test)
    return Run(losses[:-1].reshape(steps), last, path, panels, outputs, tested)


def along_the_run(descent: Descent) -> tuple[Convergence, list[EigenvalueEnclosure], float]:
    """Return the rate by measured constants: (certificate, spectra, nonlinearity with that L).

    L is the largest 2 ||f_t - f_lin,t|| / ||Theta_t - Theta_0||^2 of the recorded times: the size
    of the second derivative along the run, not a bound on it.
    """
    run, loss = descent.run, descent.loss
    outputs, far, error = (
        np.asarray(values, np.float64)
        for values in (run.outputs, run.panel.displacement, run.panel.linearization_error)
    )
    times = _finite_times(run)
    grams: Any = run.panel.gram
    spectra = [bounds.eigenvalue_enclosure(grams[t], singular="keep") for t in range(times)]
    claimed = spectra[: until(run, loss.target, times)]
    wrong = error * np.linalg.norm(outputs - outputs[0], axis=1)
    moved = (far > 0) & (np.arange(len(far)) < len(claimed))
    lipschitz = float(np.max(2 * wrong[moved] / far[moved] ** 2, initial=0.0))
    loss0, ends = float(run.losses[0]), _ends(spectra[:1])
    first = lazy.convergence_certificate(loss0, loss, lipschitz=lipschitz, **ends)
    # If the run ended early its constants are unknown, and nothing is claimed.
    whole = len(claimed) < times or times == len(far)
    ends = _ends(claimed) | ({} if whole else {"lambda_min": 0.0})
    how: dict[str, Any] = {"learning_rate": descent.size, "constants": "run"}
    certificate = lazy.convergence_certificate(loss0, loss, lipschitz=lipschitz, **ends, **how)
    return certificate, spectra, float(first.nonlinearity)


def _ends(spectra: Sequence[EigenvalueEnclosure]) -> dict[str, Any]:
    ends = min(s.lower for s in spectra), max(s.upper for s in spectra)
    return dict(zip(("lambda_min", "lambda_max"), ends, strict=True))


def until(run: Run, target: float, times: int) -> int:
    """Return the number of recorded times up to the first whose loss reaches the target."""
    every = len(run.losses) // (len(run.path) - 1)
    reached = np.append(run.losses, run.last)[::every][:times] <= target
    return int(np.argmax(reached)) + 1 if reached.any() else times


def lengths(gram: np.ndarray, residuals: np.ndarray, times: np.ndarray, size: float) -> np.ndarray:
    r"""Return the distance from the start of gradient descent for the linearised net, squared loss.

    ||Theta_t - Theta_0||^2 = sum_i (1 - (1 - eta lambda_i / n)^t)^2 r_i^2 / lambda_i in the basis
    of eigenvectors of K_0; for t to infinity that is `lazy.min_norm_distance`.
    """
    values, vectors = np.linalg.eigh(np.asarray(gram, np.float64))
    r = vectors.T @ np.asarray(residuals, np.float64)
    done = 1 - (1 - size * values / len(values)) ** np.asarray(times)[:, None]
    return np.sqrt(np.sum(done**2 * r**2 / values, axis=1))


def run_rows(
    descent: Descent,
    certificate: Convergence,
    spectra: Sequence[EigenvalueEnclosure],
    *,
    delta: float,
    **point: Any,
) -> list[Row]:
    """Return a row for each recorded time, as far as the run stayed finite."""
    model, start, train, _, run, loss, squared, _, size = descent
    panel, whole = run.panel, np.append(run.losses, run.last)
    every = len(run.losses) // (len(run.path) - 1)
    times = every * np.arange(len(run.path))
    claimed = max(until(run, loss.target, len(spectra)) - (loss.target > 0), 1)
    paths, far = run.path[:claimed], panel.displacement[:claimed]
    check = lazy.check_run(certificate, run.losses, path_lengths=paths, displacements=far)
    # Evaluate one L for a certificate that cannot exist, to measure how far off it is.
    lipschitz = lazy.tangent_lipschitz(model, start, train.x)
    ends = _ends(spectra[:1])
    proven = lazy.convergence_certificate(
        run.losses[0], loss, lipschitz=lipschitz, lipschitz_radius=0.0, **ends
    )
    gram, residuals = np.asarray(panel.gram)[0], np.asarray(train.y) - run.outputs[0]
    unknown = np.full(len(times), NAN)
    holds = certificate.holds
    fixed = {
        "step_size": size,
        "diverged_at": int(lazy.divergence_step(whole)),
        "decrease": float(certificate.decrease) if holds else NAN,
        "path_bound": float(certificate.path_length) if holds else NAN,
        "min_norm_distance": float(lazy.min_norm_distance(gram, residuals)) if squared else NAN,
        "nonlinearity": float(proven.nonlinearity),
        "loss_ratio": float(check.loss_ratio) if holds else NAN,
        "path_ratio": float(np.asarray(check.path_ratio)) if holds else NAN,
    }
    fixed |= _fresh(descent)
    if np.isfinite(fixed["train_clipped"]):
        fixed |= near_start(model, start, train, panel, fixed["train_clipped"], delta)
    columns = {
        "train_loss": whole[times],
        "certified_loss": certificate.curve(len(times), every=every) if holds else unknown,
        "path_length": run.path,
        "linear_displacement": lengths(gram, residuals, times, size) if squared else unknown,
        "activation_change": np.mean(np.asarray(panel.activation_change), axis=1),
        "lambda_min": [s.smallest for s in spectra],
        "lambda_max": [s.largest for s in spectra],
    }
    for name in _NUMBERS:
        if name in panel._fields and name not in columns:
            columns[name] = getattr(panel, name)
    return [
        row(time=int(times[t]), **point, **fixed)
        | {name: float(column[t]) for name, column in columns.items()}
        for t in range(len(spectra))
    ]


def _fresh(descent: Descent) -> dict[str, float]:
    """Return losses clipped to [0, 1], which bounds concern, on the sample and on fresh data."""
    f, f_test, y_test = descent.run.outputs[-1], descent.run.tested, descent.y_test
    if not (np.isfinite(f).all() and np.isfinite(f_test).all()):
        return {"train_clipped": NAN, "test_clipped": NAN, "test_loss": NAN, "test_error": NAN}
    signs = descent.signs
    return {
        "train_clipped": clipped(f, np.asarray(descent.train.y), signs),
        "test_clipped": clipped(f_test, y_test, signs),
        "test_loss": float(np.mean((f_test - y_test) ** 2) / 2),
        "test_error": float(np.mean(y_test * f_test <= 0)) if signs else NAN,
    }


def clipped(outputs: np.ndarray, y: np.ndarray, signs: bool) -> float:
    """Return the mean ramp loss min(1, max(0, 1 - y f)) for signs, min(1, |f - y|) for values."""
    loss = 1 - y * outputs if signs else np.abs(outputs - y)
    return float(np.mean(np.clip(loss, 0, 1)))


def near_start(
    model: Model, start: Params, train: Dataset, panel: Laziness, train_loss: float, delta: float
) -> dict[str, float]:
    """Return the bound for nets near their start, and the bound if they were linear."""
    trace, far = float(np.trace(np.asarray(panel.gram)[0])), float(panel.displacement[-1])
    given: dict[str, Any] = {"trace": trace, "n": len(train.x), "train_loss": train_loss}
    curvature = lazy.output_curvature(model, start, train.x)
    bound = bounds.lazy_bound(far, curvature=curvature, delta=delta, **given)
    linear = bounds.lazy_bound(far, delta=delta, **given)
    return {"bound": float(bound.value), "bound_if_linear": float(linear.value)}


def _finite_times(run: Run) -> int:
    """Return the number of recorded times before any value is infinite."""
    fine = np.ones(len(run.path), bool)
    for values in (run.panel.gram, run.panel.linearization_error, run.outputs, run.path):
        fine &= np.isfinite(np.asarray(values)).reshape(len(fine), -1).all(axis=1)
    return len(fine) if fine.all() else max(int(np.argmin(fine)), 1)
