"""The figure of the width study."""

from typing import TYPE_CHECKING, Any

import numpy as np

from kernelgap.studies import figures
from kernelgap.studies.width.config import WidthConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(config: WidthConfig, rows: list[dict[str, Any]], summary: dict[str, Any]) -> "Figure":
    """Normalised margin, test error and bound against the width."""
    from matplotlib.figure import Figure

    del rows
    points, widths = summary["points"], config.widths
    made = Figure(figsize=(13, 4.2), layout="constrained")
    margins, errors, bounds = axes = made.subplots(1, 3)
    look: dict[str, Any] = {"color": figures.BLUE, "marker": "o"}
    figures.band(margins, widths, points, "running", label="largest found up to this width", **look)
    value = [p["margin"]["value"] for p in points]
    margins.plot(
        widths, value, color=figures.SKY, ls=":", marker=".", lw=1.2, label="nets of this width"
    )
    if "any_width" in summary:
        best = summary["any_width"]
        low, high = best["margin"]["value"], best["upper"]["value"]
        margins.axhspan(
            low, high, color=figures.GREEN, alpha=0.25, lw=0,
            label="best of any width: between these",
        )  # fmt: skip
    margins.axvline(config.n, color=figures.GREY, lw=1, ls="--", label="width = n")
    margins.axhline(0, color=figures.GREY, lw=0.6)
    margins.set_ylabel("normalised margin")
    margins.set_title("margin", fontsize=10)
    margins.legend(frameon=False, fontsize=9, loc="lower right")
    figures.band(errors, widths, points, "error", **look)
    errors.set_ylim(bottom=0)
    errors.set_ylabel("test error")
    errors.set_title("test error", fontsize=10)
    known = [p for p in points if np.isfinite(p["bound"]["value"])]
    figures.band(bounds, [p["width"] for p in known], known, "bound", **look)
    figures.bound_axis(bounds, points, 1 - config.delta)
    for ax in axes:
        figures.grid_ticks(ax, widths)
        ax.set_xlabel("width")
    what = f"digits {config.classes[0]} against {config.classes[1]}"
    if config.data == "teacher":
        what = f"teacher with {config.units} ReLU units, d = {config.d}"
    made.suptitle(f"{what}, n = {config.n}, {config.seeds} seeds, 95% intervals", fontsize=10)
    return made
