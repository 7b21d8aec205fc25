"""What the margin-path study reports: margins along the path, and what the best may have."""

from typing import Any

import numpy as np

from kernelgap.studies import statistics
from kernelgap.studies.journal import Row
from kernelgap.studies.margin_path.config import MarginPathConfig
from kernelgap.studies.statistics import interval_text


def summarize(config: MarginPathConfig, rows: list[Row]) -> dict[str, Any]:
    """Means with intervals over seeds for each data set, depth and l2."""
    rows = [
        row
        | {
            "of_upper": row["margin"] / row["upper"],
            "of_lower": row["margin"] / row["lower"],
            "kkt_gap": row["kkt_stationarity"] ** 2 + 2 * row["kkt_slackness"],
        }
        for row in rows
    ]
    points = statistics.group_means(
        rows,
        ("part", "depth", "l2"),
        ("train_error", "loss_gap", "kkt_gap", "stationarity"),
        ("margin", "of_upper", "of_lower", "norm", "lower", "upper"),
    )
    bands = [row["upper"] / row["lower"] for row in rows if np.isfinite(row["upper"])]
    return {"points": points, "largest_ratio": max(bands, default=np.nan)}


def table(config: MarginPathConfig, summary: dict[str, Any]) -> str:
    """The ends of each path."""
    lines = [f"{'data':8}{'depth':>5}{'l2':>9}{'margin':>32}{'of the upper bound':>28}"
             f"{'KKT gap':>10}{'loss gap':>10}"]  # fmt: skip
    for p in summary["points"]:
        if p["l2"] not in (config.l2s[0], config.l2s[len(config.l2s) // 2], config.l2s[-1]):
            continue
        share = interval_text(p["of_upper"], ".3f") if np.isfinite(p["upper"]["value"]) else ""
        kkt, loss = (f"{v:.1e}" if np.isfinite(v) else ""
                     for v in (p["kkt_gap"]["value"], p["loss_gap"]["value"]))  # fmt: skip
        lines.append(f"{p['part']:8}{p['depth']:>5}{p['l2']:>9.0e}"
                     f"{interval_text(p['margin'], '.4f'):>32}{share:>28}{kkt:>10}{loss:>10}"
                     .rstrip())  # fmt: skip
    if np.isfinite(summary["largest_ratio"]):
        lines.append(f"certified: upper / lower at most {summary['largest_ratio']:.4f}")
    return "\n".join(lines)
