"""What the gap study reports: mean curves, sample sizes at the target error, exponents in d."""

from typing import Any

import numpy as np

from kernelgap.studies import statistics
from kernelgap.studies.gap.config import GapConfig
from kernelgap.studies.journal import Row
from kernelgap.studies.statistics import interval_text


def summarize(config: GapConfig, rows: list[Row]) -> dict[str, Any]:
    """Mean errors with intervals, n at the target error, and its exponent in d."""
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    curves: dict[tuple, dict[int, list[Row]]] = {}
    for row in rows:
        curves.setdefault((row["learner"], row["d"]), {}).setdefault(row["n"], []).append(row)

    points = statistics.group_means(
        rows, ("learner", "d", "n"), ("error", "train_error"), ("margin",)
    )
    for point in points:
        seeds = curves[point["learner"], point["d"]][point["n"]]
        point["largest_duality_gap"] = max(seed["duality_gap"] for seed in seeds)

    rng = np.random.default_rng(config.seed)
    n_at_target, exponents = [], []
    for learner in learners:
        dims = [d for name, d in curves if name == learner]
        values, resamples = [], []
        for d in dims:
            curve = curves[learner, d]
            errors = np.array([[seed["error"] for seed in seeds] for seeds in curve.values()])
            value, resampled = statistics.bootstrap_crossings(
                np.array(list(curve)), errors, config.target, rng
            )
            values.append(value)
            resamples.append(resampled)
            estimate = statistics.percentile_interval(value, resampled)
            n_at_target.append({"learner": learner, "d": d} | estimate._asdict())
        if len(dims) > 1:
            estimate = statistics.percentile_interval(
                float(statistics.slope(np.array(dims), np.array(values))),
                statistics.slope(np.array(dims), np.stack(resamples, axis=-1)),
            )
            exponents.append({"learner": learner} | estimate._asdict())
    return {"points": points, "n_at_target": n_at_target, "exponents": exponents}


def table(config: GapConfig, summary: dict[str, Any]) -> str:
    """Sample sizes at the target error with exponents, or the learning curves on digits."""
    if config.data == "digits":
        lines = [f"{'learner':8}{'n':>6}{'test error':>24}{'margin':>28}"]
        for p in summary["points"]:
            error, margin = (interval_text(p[name], ".3f") for name in ("error", "margin"))
            lines.append(f"{p['learner']:8}{p['n']:>6}{error:>24}{margin:>28}")
        return "\n".join(lines)
    dims = list(dict.fromkeys(entry["d"] for entry in summary["n_at_target"]))
    exponents = {entry["learner"]: entry for entry in summary["exponents"]}
    head = "".join(f"{f'd={d}':>9}" for d in dims)
    lines = [f"samples at {config.target:.0%} test error", f"{'learner':8}{head}   exponent in d"]
    for learner in dict.fromkeys(entry["learner"] for entry in summary["n_at_target"]):
        found = {e["d"]: e["value"] for e in summary["n_at_target"] if e["learner"] == learner}
        values = [found.get(d, np.nan) for d in dims]
        cells = "".join(f"{n:>9.0f}" if np.isfinite(n) else f"{'-':>9}" for n in values)
        exponent = exponents.get(learner)
        lines.append(
            f"{learner:8}{cells}   " + (interval_text(exponent, ".2f") if exponent else "-")
        )
    return "\n".join(lines)
