"""Estimates of the wide-mlp study: means over seeds, exponents, stable steps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kernelgap.studies.estimates import (
    POSITIVE,
    REAL,
    RESAMPLES,
    SHARE,
    Estimate,
    Interval,
    Range,
    Row,
    grouped,
    mean_interval,
    means,
    percentile_interval,
    slope,
)

if TYPE_CHECKING:
    from kernelgap.studies.wide_mlp import WideMLPConfig

_GEOMETRIC: dict[str, Range] = dict.fromkeys(
    (
        "train_loss", "path_length", "displacement", "path_bound", "min_norm_distance",
        "linear_displacement", "relative_displacement", "linearization_error", "activation_change",
        "kernel_change", "kernel_distance", "lambda_max", "nonlinearity", "nonlinearity_of_run",
        "decrease", "loss_ratio", "path_ratio", "bound", "bound_if_linear",
    ),
    POSITIVE,
)  # fmt: skip
_GEOMETRIC["activation_change"] = SHARE
_MEANS: dict[str, Range] = dict.fromkeys(("test_error", "train_clipped", "test_clipped"), SHARE)
_MEANS |= dict.fromkeys(("test_loss", "lambda_min"), POSITIVE)
_MEANS |= dict.fromkeys(("kernel_alignment", "target_alignment"), (-1.0, 1.0))
SCALING = (
    "relative_displacement", "linearization_error", "activation_change", "kernel_change",
    "kernel_distance", "nonlinearity", "nonlinearity_of_run",
)  # fmt: skip
_PROBLEM = ("data", "loss", "depth", "width")


def summarize(config: "WideMLPConfig", rows: list[Row]) -> list[Estimate]:
    """Return means with intervals of each part; exponents by bootstrap over seeds."""
    parts = {part: mine for (part,), mine in grouped(rows, ("part",)).items()}
    rng = np.random.default_rng(config.seed)
    estimates: list[Estimate] = []
    if runs := parts.get("train"):
        ends = _ends(config, runs)
        curves = [r | {"loss_at": r["train_loss"]} for r in runs]
        ranges: dict[str, Range] = dict.fromkeys(("loss_at", "certified_loss"), POSITIVE)
        estimates += means(curves, (*_PROBLEM, "time"), ranges, of=_geometric)
        estimates += _at_the_end(ends, _PROBLEM) + _counts(ends, _PROBLEM, "claimed", "kept")
        estimates += exponents(ends, ("data", "loss", "depth"), SCALING, rng)
        diverged = {(*(r[k] for k in _PROBLEM), r["seed"]): r["diverged_at"] for r in runs}
        estimates += [
            Estimate("diverged_at", dict(zip((*_PROBLEM, "seed"), place, strict=True)), step)
            for place, step in diverged.items()
            if step >= 0
        ]
    if proofs := parts.get("proof"):
        ends = _ends(config, proofs)
        proof = _at_the_end(ends, ("width",)) + _counts(
            ends, ("width",), "proven", "kept_of_proven"
        )
        estimates += [_renamed(e, "proof") for e in proof]
    if laws := parts.get("moments"):
        ends = _ends(config, laws)
        place = ("data", "fourth_moment", "depth")
        moments = _at_the_end(ends, place) + means(ends, place, {"lambda_min_limit": POSITIVE})
        estimates += [_renamed(e, "law") for e in moments]
    if tries := parts.get("steps"):
        estimates += _stable_steps(tries)
    if spectra := parts.get("spectrum"):
        estimates += _spectrum(spectra, rng)
    return estimates


def _renamed(estimate: Estimate, part: str) -> Estimate:
    same = estimate.metric in ("proven", "kept_of_proven")
    return estimate if same else estimate._replace(metric=f"{estimate.metric}_of_{part}")


def _ends(config: "WideMLPConfig", rows: Sequence[Row]) -> list[Row]:
    """Return the last time of each run that was completed."""
    return [r for r in rows if r["time"] == config.steps and r["diverged_at"] < 0]


def _geometric(values: Any, within: Range) -> Interval:
    """Return the geometric mean, with its interval, over the seeds with a positive value."""
    logs = np.log([value for value in values if value > 0])
    if not len(logs):
        return Interval(np.nan)
    return Interval(*(float(np.clip(np.exp(end), *within)) for end in mean_interval(logs)))


def _at_the_end(rows: Sequence[Row], by: tuple[str, ...]) -> list[Estimate]:
    """Return means over seeds, geometric ones of metrics that span decades."""
    return means(rows, by, _GEOMETRIC, of=_geometric) + means(rows, by, _MEANS)


def _counts(rows: Sequence[Row], by: tuple[str, ...], claimed: str, kept: str) -> list[Estimate]:
    """Return the number of seeds for which a rate is claimed, and the number that kept it."""
    estimates = []
    for place, members in grouped(rows, by).items():
        keys = dict(zip(by, place, strict=True))
        claims = sum(np.isfinite(r["decrease"]) for r in members)
        within = sum(r["loss_ratio"] <= 1 and r["path_ratio"] <= 1 for r in members)
        estimates += [Estimate(claimed, keys, int(claims)), Estimate(kept, keys, within)]
    return estimates


def exponents(
    rows: Sequence[Row], by: tuple[str, ...], names: Sequence[str], rng: np.random.Generator
) -> list[Estimate]:
    """Return slopes of mean logarithms against log width; the interval resamples seeds."""
    estimates = []
    for place, mine in grouped(rows, by).items():
        widths = sorted({r["width"] for r in mine})
        seeds = sorted({r["seed"] for r in mine})
        if len(widths) < 2 or len(mine) != len(widths) * len(seeds):
            continue  # a run diverged
        drawn = rng.integers(len(seeds), size=(RESAMPLES, len(seeds)))
        keys = dict(zip(by, place, strict=True))
        for name in names:
            values = {(r["width"], r["seed"]): r[name] for r in mine}
            with np.errstate(invalid="ignore", divide="ignore"):
                logs = np.log([[values[w, s] for s in seeds] for w in widths])
                value = float(slope(widths, np.exp(logs.mean(axis=1))))
                resampled = slope(widths, np.exp(logs[:, drawn].mean(axis=2).T))
            interval = percentile_interval(value, resampled)
            estimates.append(Estimate(f"exponent_of_{name}", keys, *interval))
    return estimates


def _stable_steps(rows: Sequence[Row]) -> list[Estimate]:
    """Return the largest step below the first that diverged for a seed, and that first one.

    Exponents are those of the largest stable step, which is known up to a factor 2.
    """
    estimates = []
    largest: dict[str, dict[int, float]] = {}
    for (form, width), mine in grouped(rows, ("parameterization", "width")).items():
        keys = {"parameterization": form, "width": width}
        bad = [r for r in mine if r["diverged_at"] >= 0]
        first = min((r["step_size"] for r in bad), default=np.inf)
        good = [r | {"loss_of_step": r["train_loss"]} for r in mine if r["step_size"] < first]
        place = ("parameterization", "width", "step_size")
        estimates += means(good, place, {"loss_of_step": POSITIVE}, of=_geometric)
        if good:
            stable = max(r["step_size"] for r in good)
            largest.setdefault(form, {})[width] = stable
            estimates.append(Estimate("largest_stable_step", keys, stable))
        if bad:
            at = min(r["diverged_at"] for r in bad if r["step_size"] == first)
            estimates += [
                Estimate("next_step", keys, first),
                Estimate("diverged_at_step", keys, at),
            ]
    return estimates + [
        Estimate("exponent_of_largest_stable_step", {"parameterization": form},
                 float(slope(list(steps), list(steps.values()))))
        for form, steps in largest.items() if len(steps) > 1
    ]  # fmt: skip


def _spectrum(rows: Sequence[Row], rng: np.random.Generator) -> list[Estimate]:
    """Return lambda_min at the start, its relative deviation from the limit, and its spread."""
    by = ("depth", "width")
    rows = [
        r
        | {"lambda_min_at_the_start": r["lambda_min"]}
        | {"deviation": abs(r["lambda_min"] / r["lambda_min_limit"] - 1)}
        for r in rows
    ]
    names = ("lambda_min_at_the_start", "deviation")
    ranges: dict[str, Range] = dict.fromkeys(names, POSITIVE)
    estimates = means(rows, by, ranges | {"lambda_min_limit": REAL})
    for place, members in grouped(rows, by).items():
        values = [r["lambda_min"] for r in members]
        spread = float(np.std(values, ddof=1) / np.mean(values))
        estimates.append(Estimate("spread", dict(zip(by, place, strict=True)), spread))
    return estimates + exponents(rows, ("depth",), ("deviation",), rng)
