"""What is derived from the runs: certificates, lengths of the linearised net, bounds, rows."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from kernelgap import bounds, metrics
from kernelgap.bounds import Convergence, EigenvalueEnclosure, LossConstants
from kernelgap.datasets import Dataset
from kernelgap.models import Model, Params
from kernelgap.studies.journal import Row
from kernelgap.studies.learners import NAN
from kernelgap.studies.wide_mlp.runs import Run

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


def row(**known: Any) -> Row:
    """A row with all columns: NaN, "" or -1 where a part has nothing to say."""
    blank = dict.fromkeys(_TEXTS, "") | dict.fromkeys(_COUNTS, -1)
    return blank | dict.fromkeys(_NUMBERS, NAN) | known


def spectrum(gram: np.ndarray, where: str) -> EigenvalueEnclosure:
    """Ends of the spectrum at the start; a singular matrix is refused with the place it is from."""
    try:
        return bounds.eigenvalue_enclosure(gram)
    except ValueError as error:
        raise ValueError(f"{where}: no linear rate without lambda_min(K_0) > 0. {error}") from error


def constants(name: str, n: int, initial: float, target: float) -> LossConstants:
    """Of the squared loss, or of the logistic loss down to `target` or half its start."""
    if name == "squared":
        return bounds.squared_loss_constants(n)
    return bounds.logistic_loss_constants(n, initial_loss=initial, target=min(target, initial / 2))


def smoothness(name: str, n: int) -> float:
    """Lambda, which does not depend on where the loss is."""
    return 1 / n if name == "squared" else 1 / (4 * n)


def along_the_run(
    run: Run, seed: int, known: LossConstants, size: float
) -> tuple[Convergence, list[EigenvalueEnclosure], float]:
    """The rate from what was measured: (certificate, spectra, nonlinearity with that L).

    L is the largest 2 ||f_t - f_lin,t|| / ||Theta_t - Theta_0||^2 of the recorded times: what the
    second derivative was along the run, not what it is at most.
    """
    grams = np.asarray(run.panel.gram[seed])  # type: ignore[index]
    outputs = np.asarray(run.outputs[seed], np.float64)
    far = np.asarray(run.panel.displacement[seed], np.float64)
    times = _finite_times(run, seed)
    spectra = [bounds.eigenvalue_enclosure(grams[t], singular="keep") for t in range(times)]
    claimed = spectra[: until(run, seed, known.target, times)]
    change = np.linalg.norm(outputs - outputs[0], axis=1)
    wrong = np.asarray(run.panel.linearization_error[seed], np.float64) * change
    moved = (far > 0) & (np.arange(len(far)) < len(claimed))
    lipschitz = float(np.max(2 * wrong[moved] / far[moved] ** 2, initial=0.0))
    first = bounds.convergence_certificate(
        float(run.losses[seed, 0]), known, lambda_min=spectra[0].lower,
        lambda_max=spectra[0].upper, lipschitz=lipschitz,
    )  # fmt: skip
    # Where the run ended early its constants are unknown, and nothing is claimed.
    whole = len(claimed) < times or times == len(far)
    found = bounds.convergence_certificate(
        float(run.losses[seed, 0]), known,
        lambda_min=min(s.lower for s in claimed) if whole else 0.0,
        lambda_max=max(s.upper for s in claimed), lipschitz=lipschitz, learning_rate=size,
        constants="run",
    )  # fmt: skip
    return found, spectra, float(first.nonlinearity)


def until(run: Run, seed: int, target: float, times: int) -> int:
    """How many recorded times count: up to the first whose loss is at the target."""
    whole = np.append(np.asarray(run.losses[seed]), np.asarray(run.last[seed]))
    every = run.losses.shape[1] // (run.path.shape[1] - 1)
    reached = whole[::every][:times] <= target
    return int(np.argmax(reached)) + 1 if reached.any() else times


def lengths(gram: np.ndarray, residuals: np.ndarray, times: np.ndarray, size: float) -> np.ndarray:
    r"""How far gradient descent on the squared loss of the linearised net is from its start.

    ||Theta_t - Theta_0||^2 = sum_i (1 - (1 - eta lambda_i / n)^t)^2 r_i^2 / lambda_i in the basis
    of eigenvectors of K_0; for t to infinity that is `metrics.min_norm_distance`.
    """
    values, vectors = np.linalg.eigh(np.asarray(gram, np.float64))
    r = vectors.T @ np.asarray(residuals, np.float64)
    done = 1 - (1 - size * values / len(values)) ** np.asarray(times)[:, None]
    return np.sqrt(np.sum(done**2 * r**2 / values, axis=1))


def run_rows(
    model: Model,
    run: Run,
    seed: int,
    start: Params,
    train: Dataset,
    y_test: np.ndarray,
    certificate: Convergence,
    spectra: Sequence[EigenvalueEnclosure],
    *,
    loss: LossConstants,
    size: float,
    signs: bool,
    squared: bool,
    delta: float,
    every: int,
    point: Row,
) -> list[Row]:
    """A row for each recorded time of one seed, as far as its run stayed finite."""
    losses = np.asarray(run.losses[seed])
    whole = np.append(losses, np.asarray(run.last[seed]))
    panel = jax.tree.map(lambda leaf: np.asarray(leaf[seed]), run.panel)
    times = every * np.arange(len(run.path[seed]))
    claimed = until(run, seed, loss.target, len(spectra)) - (loss.target > 0)
    check = bounds.check_run(
        certificate, losses, path_lengths=np.asarray(run.path[seed])[: max(claimed, 1)],
        displacements=panel.displacement[: max(claimed, 1)],
    )  # fmt: skip
    drift = bounds.tangent_lipschitz(model, start, train.x)
    # A certificate that cannot exist costs one value of L: all that is wanted is how far off.
    proven = bounds.convergence_certificate(
        losses[0], loss, lambda_min=spectra[0].lower, lambda_max=spectra[0].upper,
        lipschitz=drift, lipschitz_radius=0.0,
    )  # fmt: skip
    gram, residuals = panel.gram[0], np.asarray(train.y) - np.asarray(run.outputs[seed, 0])
    linear = lengths(gram, residuals, times, size) if squared else np.full(len(times), NAN)
    fixed = {
        "step_size": size,
        "diverged_at": int(metrics.divergence_step(whole)),
        "decrease": float(certificate.decrease) if certificate.holds else NAN,
        "path_bound": float(certificate.path_length) if certificate.holds else NAN,
        "min_norm_distance": float(metrics.min_norm_distance(gram, residuals)) if squared else NAN,
        "nonlinearity": float(proven.nonlinearity),
        "loss_ratio": float(check.loss_ratio) if certificate.holds else NAN,
        "path_ratio": float(np.asarray(check.path_ratio)) if certificate.holds else NAN,
    }
    fixed |= _fresh(run, seed, train, y_test, signs)
    if np.isfinite(fixed["train_clipped"]):
        fixed |= _near_start(model, start, train, panel, fixed["train_clipped"], delta)
    curve = certificate.curve(len(times), every=every)
    columns = {
        "train_loss": whole[times],
        "certified_loss": curve if certificate.holds else np.full(len(times), NAN),
        "path_length": run.path[seed],
        "linear_displacement": linear,
        "activation_change": np.mean(panel.activation_change, axis=1),
        "lambda_min": [s.smallest for s in spectra],
        "lambda_max": [s.largest for s in spectra],
    } | {
        name: getattr(panel, name)
        for name in (
            "displacement", "relative_displacement", "linearization_error", "kernel_change",
            "kernel_distance", "kernel_alignment", "target_alignment",
        )
    }  # fmt: skip
    return [
        row(seed=seed, time=int(times[t]), **point, **fixed)
        | {name: float(column[t]) for name, column in columns.items()}
        for t in range(len(spectra))
    ]


def _fresh(
    run: Run, seed: int, train: Dataset, y_test: np.ndarray, signs: bool
) -> dict[str, float]:
    """Losses clipped to [0, 1], which bounds are for, on the sample and on fresh data."""
    f, f_test = np.asarray(run.outputs[seed, -1]), np.asarray(run.tested[seed])
    if not (np.isfinite(f).all() and np.isfinite(f_test).all()):
        return {"train_clipped": NAN, "test_clipped": NAN, "test_loss": NAN, "test_error": NAN}
    return {
        "train_clipped": clipped(f, np.asarray(train.y), signs),
        "test_clipped": clipped(f_test, y_test, signs),
        "test_loss": float(np.mean((f_test - y_test) ** 2) / 2),
        "test_error": float(np.mean(y_test * f_test <= 0)) if signs else NAN,
    }


def clipped(outputs: np.ndarray, y: np.ndarray, signs: bool) -> float:
    """Mean ramp loss min(1, max(0, 1 - y f)) for signs, min(1, |f - y|) for values."""
    loss = 1 - y * outputs if signs else np.abs(outputs - y)
    return float(np.mean(np.clip(loss, 0, 1)))


def _near_start(
    model: Model, start: Params, train: Dataset, panel: Any, mean: float, delta: float
) -> dict[str, float]:
    """The bound for nets near their start, and what it would be if they were linear."""
    given = {
        "trace": float(np.trace(panel.gram[0])),
        "n": len(train.x),
        "train_loss": mean,
        "delta": delta,
    }
    far = float(panel.displacement[-1])
    curvature = bounds.output_curvature(model, start, train.x)
    return {
        "bound": float(bounds.lazy_bound(far, curvature=curvature, **given).value),
        "bound_if_linear": float(bounds.lazy_bound(far, **given).value),
    }


def _finite_times(run: Run, seed: int) -> int:
    """How many recorded times come before anything is infinite."""
    fine = np.ones(run.path.shape[1], bool)
    for leaf in (run.panel.gram, run.panel.linearization_error, run.outputs, run.path):
        values = np.asarray(leaf[seed])  # type: ignore[index]
        fine &= np.isfinite(values).reshape(len(fine), -1).all(axis=1)
    return len(fine) if fine.all() else max(int(np.argmin(fine)), 1)
