"""What the noisy-gd study reports: excess losses over training, and where they end.

With a certified lower bound of the best loss, excesses are upper bounds; without one, they are
estimates, measured from the least loss that any run of the same sample found.
"""

from typing import Any

import numpy as np

from kernelgap.studies import statistics
from kernelgap.studies.journal import Row
from kernelgap.studies.noisy_gd.config import NoisyGDConfig
from kernelgap.studies.statistics import interval_text


def summarize(config: NoisyGDConfig, rows: list[Row]) -> dict[str, Any]:
    """Curves of the excess loss, of the current and of the best iterate."""
    reference = [row for row in rows if row["method"] == "reference"]
    certified = all(np.isfinite(row["lower"]) for row in reference)
    least = {
        seed: min(row["best"] for row in rows if row["seed"] == seed)
        for seed in range(config.seeds)
    }
    level = {row["seed"]: row["lower"] for row in reference} if certified else least
    curves = [
        row | {f"{k}_excess": row[k] - level[row["seed"]] for k in ("loss", "best")}
        for row in rows
        if row["method"] != "reference"
    ]
    return {
        "certified": certified,
        # How far the least loss found can be from the best: 0 is only known of certified levels.
        "level_gap": max(least[seed] - level[seed] for seed in level),
        "curves": statistics.group_means(
            curves,
            ("method", "start", "width", "step"),
            ("loss_excess", "best_excess", "negative"),
            ("loss",),
        ),
    }


def table(config: NoisyGDConfig, summary: dict[str, Any]) -> str:
    """The excess loss of the best iterate at the end, and the share of negative output weights."""
    kind = "certified: at most" if summary["certified"] else "estimated from the least loss found"
    lines = [
        f"excess loss of the best iterate after {config.steps} steps ({kind})",
        f"{'method':12}{'start':10}{'width':>6}{'excess':>30}{'negative outputs':>28}",
    ]
    for p in summary["curves"]:
        if p["step"] == config.steps:
            excess = interval_text(p["best_excess"], ".5f")
            negative = interval_text(p["negative"], ".3f")
            lines.append(
                f"{p['method']:12}{p['start']:10}{p['width']:>6}{excess:>30}{negative:>28}"
            )
    return "\n".join(lines)
