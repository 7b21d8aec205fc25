"""What the width study reports: margins, errors and bounds at each width, and the best margin.

A net of width m is one of any larger width too, with units of weight 0: the largest margin found up
to a width, `running`, is a lower bound on the best of that width as the margin itself is, and
cannot fall.
"""

from typing import Any

import numpy as np

from kernelgap.studies import statistics
from kernelgap.studies.journal import Row
from kernelgap.studies.statistics import interval_text
from kernelgap.studies.width.config import WidthConfig


def summarize(config: WidthConfig, rows: list[Row]) -> dict[str, Any]:
    """Means with intervals over seeds; margins also relative to the best of any width."""
    nets = [row for row in rows if row["learner"] == "net"]
    certified = {row["seed"]: row for row in rows if row["learner"] == "any"}
    best: dict[int, float] = {}
    running = []
    for row in sorted(nets, key=lambda row: row["width"]):
        seed = row["seed"]
        best[seed] = max(best.get(seed, -np.inf), row["margin"])
        running.append(row | {"running": best[seed]})
    found: dict[str, Any] = {
        "points": statistics.group_means(
            running, ("width",), ("error", "train_error", "bound"), ("margin", "running")
        )
    }
    if certified:
        any_width = list(certified.values())
        (found["any_width"],) = statistics.group_means(
            any_width, ("learner",), numbers=("margin", "upper")
        )
        # The margins of a seed over the best of that seed, bounded from both sides.
        shares = [
            row
            | {"of_best_found": row["running"] / certified[row["seed"]]["margin"]}
            | {"of_upper_bound": row["running"] / certified[row["seed"]]["upper"]}
            for row in running
            if row["seed"] in certified and certified[row["seed"]]["margin"] > 0
        ]
        found["shares"] = statistics.group_means(
            shares, ("width",), numbers=("of_best_found", "of_upper_bound")
        )
    return found


def table(config: WidthConfig, summary: dict[str, Any]) -> str:
    """Margins, errors and bounds against the width."""
    lines = [f"{'width':>6}{'margin':>26}{'running maximum':>26}{'test error':>24}{'bound':>24}"]
    for p in summary["points"]:
        margin, running = (interval_text(p[name], ".4f") for name in ("margin", "running"))
        error = interval_text(p["error"], ".3f")
        bound = interval_text(p["bound"], ".1f") if np.isfinite(p["bound"]["value"]) else "none"
        lines.append(f"{p['width']:>6}{margin:>26}{running:>26}{error:>24}{bound:>24}")
    if "any_width" in summary:
        lower, upper = (interval_text(summary["any_width"][k], ".4f") for k in ("margin", "upper"))
        lines.append(
            f"best margin of any width, {summary['any_width']['seeds']} seeds: found {lower}, "
            f"at most {upper}"
        )
    return "\n".join(lines)
