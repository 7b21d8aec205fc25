"""What the noisy-gd study reports: excess losses over training, and where they end.

Excesses are measured from a certified lower bound of the least loss of any width: they are at most
what is reported. `level_gap` is how far the least loss found lies above that bound, below which
excesses cannot be told apart.
"""

from collections import Counter
from typing import Any

import numpy as np

from kernelgap.studies import statistics
from kernelgap.studies.journal import Row
from kernelgap.studies.noisy_gd.config import NoisyGDConfig
from kernelgap.studies.statistics import interval_text


def summarize(config: NoisyGDConfig, rows: list[Row]) -> dict[str, Any]:
    """Curves of the certified excess loss, of the current and of the best iterate."""
    level = {row["seed"]: row["lower"] for row in rows if row["method"] == "reference"}
    least = {seed: min(row["best"] for row in rows if row["seed"] == seed) for seed in level}
    curves = [
        row | {f"{k}_excess": row[k] - level[row["seed"]] for k in ("loss", "best")}
        for row in rows
        if row["method"] != "reference"
    ]
    # Steps are finite: a sign that the flow conserves can change in descent.
    left = Counter(
        (row["method"], row["width"])
        for row in curves
        if row["start"] == "trapped" and row["step"] == config.steps and row["negative"] > 0
    )
    gaps = np.array([least[seed] - level[seed] for seed in level])
    return {
        "level_gap": statistics.mean_interval(gaps, lowest=0.0)._asdict(),
        "largest_level_gap": float(gaps.max()),
        "curves": statistics.group_means(
            curves,
            ("method", "start", "width", "step"),
            ("loss_excess", "best_excess", "negative"),
            ("loss",),
        ),
        "seeds_with_negative_outputs": [
            {"method": method, "width": width, "seeds": seeds}
            for (method, width), seeds in left.items()
        ],
    }


def table(config: NoisyGDConfig, summary: dict[str, Any]) -> str:
    """The excess loss of the best iterate at the end, and the share of negative output weights."""
    lines = [
        f"excess loss of the best iterate after {config.steps} steps, at most",
        f"{'method':12}{'start':10}{'width':>6}{'excess':>30}{'negative outputs':>28}",
    ]
    for p in summary["curves"]:
        if p["step"] == config.steps:
            excess = interval_text(p["best_excess"], ".5f")
            negative = interval_text(p["negative"], ".3f")
            lines.append(
                f"{p['method']:12}{p['start']:10}{p['width']:>6}{excess:>30}{negative:>28}"
            )
    lines.append(
        "least loss found, above the certified lower bound of the best: "
        + interval_text(summary["level_gap"], ".5f")
    )
    return "\n".join(lines)
