"""What the teacher study reports: learning curves, margins, sample sizes at the target error."""

from typing import Any

import numpy as np

from kernelgap.studies import statistics
from kernelgap.studies.journal import Row
from kernelgap.studies.statistics import interval_text
from kernelgap.studies.teacher.config import TeacherConfig


def summarize(config: TeacherConfig, rows: list[Row]) -> dict[str, Any]:
    """Means with intervals over teachers, and n at the target error."""
    points = statistics.group_means(
        rows,
        ("learner", "n"),
        ("error", "train_error", "bound", "leave_one_out"),
        ("margin", "teacher_margin"),
    )
    rng = np.random.default_rng(config.seed)
    n_at_target = []
    for learner in dict.fromkeys(row["learner"] for row in rows):
        errors = np.array(
            [
                [row["error"] for row in rows if (row["learner"], row["n"]) == (learner, n)]
                for n in config.sizes
            ]
        )
        value, resampled = statistics.bootstrap_crossings(
            np.array(config.sizes), errors, config.target, rng
        )
        estimate = statistics.percentile_interval(value, resampled)
        n_at_target.append({"learner": learner} | estimate._asdict())
    by_point = {(row["learner"], row["n"], row["seed"]): row["error"] for row in rows}
    # The learners of a seed share its teacher and samples: their difference varies less than they.
    behind = [
        row | {"excess": row["error"] - by_point["net", row["n"], row["seed"]]}
        for row in rows
        if row["learner"] != "net"
    ]
    gaps = [row["duality_gap"] for row in rows if row["learner"] != "net"]
    return {
        "points": points,
        "behind_net": statistics.group_means(behind, ("learner", "n"), numbers=("excess",)),
        "n_at_target": n_at_target,
        "largest_duality_gap": float(np.nanmax(gaps)),
    }


def table(config: TeacherConfig, summary: dict[str, Any]) -> str:
    """Errors and margins of each learner, and n at the target error."""
    lines = [f"{'learner':8}{'n':>6}{'test error':>24}{'margin':>28}"
             f"{'error above the net':>32}"]  # fmt: skip
    behind = {(p["learner"], p["n"]): p["excess"] for p in summary["behind_net"]}
    for p in summary["points"]:
        error, margin = (interval_text(p[name], ".4f") for name in ("error", "margin"))
        excess = behind.get((p["learner"], p["n"]))
        last = interval_text(excess, "+.4f") if excess else ""
        lines.append(f"{p['learner']:8}{p['n']:>6}{error:>24}{margin:>28}{last:>32}".rstrip())
    bounds = [p["bound"]["value"] for p in summary["points"] if np.isfinite(p["bound"]["value"])]
    if bounds:
        vacuous = sum(value >= 1 for value in bounds)
        lines.append(f"bounds at {1 - config.delta:.0%}: {vacuous} of {len(bounds)} vacuous, the "
                     f"least {min(bounds):.3g}")  # fmt: skip
    lines.append(f"samples at {config.target:.0%} test error")
    for entry in summary["n_at_target"]:
        found = interval_text(entry, ".0f") if np.isfinite(entry["value"]) else "not in the grid"
        lines.append(f"{entry['learner']:8}{found}")
    return "\n".join(lines)
