"""What the diversity study reports: spectra by degree, correlations, medians, differences."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from kernelgap import kernels
from kernelgap.studies import statistics
from kernelgap.studies.diversity.cells import DEGREE, TRAINING, rounding_floor
from kernelgap.studies.diversity.config import DiversityConfig
from kernelgap.studies.journal import Row
from kernelgap.studies.statistics import interval_text

LEARNERS = ("none", "l2", "diversity")
_SEEN = ("loss", "gradient", "s_min", "certificate", "discrepancy")


def summarize(config: DiversityConfig, rows: list[Row]) -> dict[str, Any]:
    """A dict for each part that was run."""
    make = {
        "spectrum": _spectrum,
        "discrepancy": _discrepancy,
        "training": _training,
        "error": _error,
    }
    parts = {part: [row for row in rows if row["part"] == part] for part in config.parts}
    return {part: make[part](config, found) for part, found in parts.items()}


def _spectrum(config: DiversityConfig, rows: list[Row]) -> dict[str, Any]:
    """For each dimension: the population's degrees in order, and the smallest eigenvalues."""
    found = []
    for d in config.dims:
        spectrum = kernels.zonal_spectrum(kernels.diversity_kernel(), d, degree=DEGREE)
        own = [row for row in rows if row["d"] == d]
        degrees, below = [], 0
        for t in np.argsort(-spectrum.values):
            count = spectrum.multiplicities[t]
            inside = [row for row in own if below < row["rank"] <= below + count]
            if not inside or spectrum.values[t] == 0:
                break
            ratios = [row["eigenvalue"] / row["population"] for row in inside]
            degrees.append(
                {
                    "degree": int(t),
                    "multiplicity": float(count),
                    "population": float(spectrum.values[t]),
                    "share": float(spectrum.shares[t]),
                    "whole": below + count <= config.gram_n,
                    "least_ratio": float(min(ratios)),
                    "largest_ratio": float(max(ratios)),
                }
            )
            below += count
        last = [row["eigenvalue"] for row in own if row["rank"] == config.gram_n]
        # What these degrees leave of kappa(1) = 1/2 has so many dimensions that it adds to the Gram
        # matrix little but a multiple of the identity.
        rest = (0.5 - sum(degree["share"] for degree in degrees)) / config.gram_n
        found.append(
            {"d": d, "degrees": degrees, "smallest": float(np.mean(last)), "rest": float(rest)}
        )
    return {"dims": found}


def _discrepancy(config: DiversityConfig, rows: list[Row]) -> dict[str, Any]:
    """Means by arrangement, and rank correlations across and within arrangements."""
    rows = [row | {"s_min_squared": row["s_min"] ** 2} for row in rows]
    first = [row for row in rows if row["draw"] == 0]
    rng = np.random.default_rng(config.seed)
    across = _evenness(config, first)
    within = _evenness(config, [row for row in rows if row["case"] == "random"])
    correlations = np.array([statistics.rank_correlation(*one.T) for one in within])
    by_seed = {(row["case"], row["seed"]): row["s_min_squared"] for row in first}
    gain = np.array(
        [by_seed["optimised", s] / by_seed["random", s] - 1 for s in range(config.seeds)]
    )
    return {
        "arrangements": statistics.group_means(
            [
                row | {"spread": row["spread"] if row["spread"] == row["spread"] else None}
                for row in first
            ],
            ("case", "spread"),
            ("s_min_squared", "discrepancy"),
        ),
        "across": statistics.bootstrap(
            across, lambda some: statistics.rank_correlation(*some.reshape(-1, 2).T), rng
        )._asdict(),
        "within_random": statistics.mean_interval(correlations)._asdict(),
        "optimised_over_random": statistics.mean_interval(gain)._asdict(),
    }


def _evenness(config: DiversityConfig, rows: list[Row]) -> np.ndarray:
    """(minus discrepancy, s_min^2) of each seed's arrangements: shape (seeds, arrangements, 2)."""
    return np.array(
        [
            [(-row["discrepancy"], row["s_min_squared"]) for row in rows if row["seed"] == seed]
            for seed in range(config.seeds)
        ]
    )


def _training(config: DiversityConfig, rows: list[Row]) -> dict[str, Any]:
    """Medians and quartiles over seeds at each step: certificates can be infinite."""
    cases = {}
    for case in TRAINING:
        curves: dict[str, Any] = {"step": []}
        own = [row for row in rows if row["case"] == case]
        curves["step"] = sorted({row["step"] for row in own})
        for name in _SEEN:
            values = np.array(
                [[row[name] for row in own if row["step"] == step] for step in curves["step"]]
            )
            low, middle, high = np.percentile(values, [25, 50, 75], axis=1, method="nearest")
            curves[name] = [
                {"value": float(v), "low": float(a), "high": float(b)}
                for v, a, b in zip(middle, low, high, strict=True)
            ]
        cases[case] = curves
    floor = rounding_floor(jnp.zeros(()).dtype)
    finite = [row for row in rows if np.isfinite(row["certificate"]) and row["loss"] >= floor]
    ends = [row for row in rows if row["step"] == config.steps]
    start = {(row["case"], row["seed"]): row["s_min"] for row in rows if row["step"] == 0}
    return {
        "cases": cases,
        "records": len(rows),
        "certified": len(finite),
        "below_rounding": sum(row["loss"] < floor for row in rows),
        "violations": 0,  # or the run had stopped
        "tightest": float(min((r["certificate"] / r["loss"] for r in finite), default=np.nan)),
        "s_min_and_loss": statistics.rank_correlation(
            np.array([start[row["case"], row["seed"]] for row in ends]),
            np.array([-row["loss"] for row in ends]),
        ),
    }


def _error(config: DiversityConfig, rows: list[Row]) -> dict[str, Any]:
    """Errors by learner, the strength chosen on the validation set for each seed."""
    best = _chosen(rows, ("data", "start", "width", "case", "seed"))
    overall = _chosen(rows, ("data", "start", "case", "seed"))
    rng = np.random.default_rng(config.seed)
    return {
        "points": statistics.group_means(
            best, ("data", "start", "width", "case"), ("error", "discrepancy"), ("strength",)
        ),
        "paired": _paired(best, ("data", "start", "width"), rng),
        "overall": statistics.group_means(overall, ("data", "start", "case"), ("error",)),
        "overall_paired": _paired(overall, ("data", "start"), rng),
    }


def _chosen(rows: list[Row], by: Sequence[str]) -> list[Row]:
    """Of the rows that agree in `by`, the first with the least validation error."""
    return [
        min(group, key=lambda row: np.nan_to_num(row["validation"], nan=np.inf))
        for group in statistics.grouped(rows, by).values()
    ]


def _paired(rows: list[Row], by: Sequence[str], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Differences to the net without penalty on the same data, from the same units.

    `relative` is the mean difference over the mean error without penalty.
    """
    groups: dict[tuple, dict[str, list[float]]] = {}
    for row in rows:
        group = groups.setdefault(tuple(row[name] for name in by), {})
        group.setdefault(row["case"], []).append(row["error"])
    found = []
    for identity, errors in groups.items():
        for case in LEARNERS[1:]:
            pair = np.stack([errors[case], errors["none"]], axis=1)
            relative = statistics.bootstrap(
                pair, lambda some: float(np.mean(some[:, 0]) / np.mean(some[:, 1]) - 1), rng
            )
            found.append(
                dict(zip(by, identity, strict=True))
                | {
                    "case": case,
                    "difference": statistics.mean_interval(pair[:, 0] - pair[:, 1])._asdict(),
                    "relative": relative._asdict(),
                }
            )
    return found


def table(config: DiversityConfig, summary: dict[str, Any]) -> str:
    """Some lines for each part."""
    write = {
        "spectrum": _spectrum_lines,
        "discrepancy": _discrepancy_lines,
        "training": _training_lines,
        "error": _error_lines,
    }
    return "\n".join(line for part in config.parts for line in write[part](config, summary[part]))


def _spectrum_lines(config: DiversityConfig, found: dict[str, Any]) -> list[str]:
    lines = [f"spectrum of g: Gram matrix over n = {config.gram_n} against the population"]
    for of_d in found["dims"]:
        for p in of_d["degrees"]:
            ratio = f"{p['least_ratio']:.2f} to {p['largest_ratio']:.2f}"
            lines.append(f"d {of_d['d']:<6}degree {p['degree']:<3}multiplicity "
                         f"{p['multiplicity']:<10.8g}{p['population']:.3e}   Gram / population "
                         f"{ratio}")  # fmt: skip
        lines.append(f"d {of_d['d']:<6}smallest {of_d['smallest']:.3e}; higher degrees over n "
                     f"{of_d['rest']:.3e}")  # fmt: skip
    return lines


def _discrepancy_lines(config: DiversityConfig, found: dict[str, Any]) -> list[str]:
    lines = [f"{config.units} units, d = {config.d}, {config.n} samples"
             f"{'s_min^2':>24}{'discrepancy':>28}"]  # fmt: skip
    for p in found["arrangements"]:
        # NaN when it was read from disk.
        none = p["spread"] is None or np.isnan(p["spread"])
        name = p["case"] if none else f"{p['case']} {p['spread']:g}"
        lines.append(f"{name:28}{interval_text(p['s_min_squared'], '.3f'):>28}"
                     f"{interval_text(p['discrepancy'], '.4f'):>28}")  # fmt: skip
    lines.append("rank correlation of s_min and evenness: across arrangements "
                 f"{interval_text(found['across'], '.2f')}, within random ones "
                 f"{interval_text(found['within_random'], '+.2f')}")  # fmt: skip
    gain = {k: 100 * v for k, v in found["optimised_over_random"].items()}
    lines.append(f"optimised over random units: s_min^2 {interval_text(gain, '+.1f')} %")
    return lines


def _training_lines(config: DiversityConfig, found: dict[str, Any]) -> list[str]:
    lines = [f"training, {config.steps} steps, medians: start and end"]
    for case, curves in found["cases"].items():
        parts = [
            f"{name} {curves[name][0]['value']:.2e} {curves[name][-1]['value']:.2e}"
            for name in _SEEN
        ]
        lines.append(f"{case:22}" + "  ".join(parts))
    lines.append(f"certificate: {found['certified']} of {found['records']} records finite, "
                 f"{found['below_rounding']} with a loss of mere rounding; none violated, tightest "
                 f"{found['tightest']:.3f} times the loss")  # fmt: skip
    return lines


def _error_lines(config: DiversityConfig, found: dict[str, Any]) -> list[str]:
    lines = [f"{'test errors':24}{'none':>22}{'l2':>22}{'diversity':>22}{'diversity - none':>28}"
             f"{'in %':>24}"]  # fmt: skip
    both = (
        (found["points"], found["paired"], lambda p: f" {p['width']:g} units"),
        (found["overall"], found["overall_paired"], lambda p: " chosen width"),
    )
    for points, paired, name in both:
        for p in points:
            if p["case"] != "none":
                continue
            same = [q for q in points if _place(q) == _place(p)]
            errors = {q["case"]: interval_text(q["error"], ".3f") for q in same}
            own = next(q for q in paired if _place(q) == _place(p) and q["case"] == "diversity")
            percent = {k: 100 * v for k, v in own["relative"].items()}
            lines.append(
                f"{p['data'] + ' ' + p['start'] + name(p):32}"
                + "".join(f"{errors[case]:>22}" for case in LEARNERS)
                + f"{interval_text(own['difference'], '+.4f'):>28}"
                + f"{interval_text(percent, '+.0f'):>20}"
            )
    return lines


def _place(point: dict[str, Any]) -> tuple:
    return point["data"], point["start"], point.get("width")
