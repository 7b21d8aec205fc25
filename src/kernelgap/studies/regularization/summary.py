"""What the regularization study reports: means over seeds at every recorded step."""

from typing import Any

from kernelgap.studies import statistics
from kernelgap.studies.journal import Row
from kernelgap.studies.regularization.config import RegularizationConfig
from kernelgap.studies.statistics import interval_text

_SHARES = ("error", "train_error", "activation_change")


def summarize(config: RegularizationConfig, rows: list[Row]) -> dict[str, Any]:
    """Curves of the two nets, and the line of the kernel's predictor."""
    nets = [row for row in rows if row["learner"] != "ntk"]
    kernel = [row for row in rows if row["learner"] == "ntk"]
    curves = statistics.group_means(nets, ("learner", "step"), _SHARES, ("margin", "norm", "loss"))
    (line,) = statistics.group_means(kernel, ("learner",), ("error", "train_error"), ("margin",))
    return {"curves": curves, "ntk": line}


def table(config: RegularizationConfig, summary: dict[str, Any]) -> str:
    """Where the nets start and end, and the kernel's predictor."""
    shown = [0, config.steps]
    lines = [f"{'learner':16}{'step':>6}{'test error':>24}{'margin':>26}{'patterns changed':>24}"]
    for point in (p for p in summary["curves"] if p["step"] in shown):
        error, changed = (interval_text(point[k], ".3f") for k in ("error", "activation_change"))
        margin = interval_text(point["margin"], ".4f")
        lines.append(f"{point['learner']:16}{point['step']:>6}{error:>24}{margin:>26}{changed:>24}")
    error = interval_text(summary["ntk"]["error"], ".3f")
    lines.append(f"{'ntk svm':16}{'':6}{error:>24}")
    return "\n".join(lines)
