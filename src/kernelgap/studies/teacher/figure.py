"""The figure of the teacher study."""

from typing import TYPE_CHECKING, Any

from kernelgap.studies import figures
from kernelgap.studies.teacher.config import TeacherConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = {
    "net": (figures.BLUE, "o", "l2-regularised net"),
    "ntk": (figures.ORANGE, "s", "NTK hard-margin SVM"),
    "last": (figures.PURPLE, "D", "last-layer kernel, hard-margin SVM"),
}


def figure(config: TeacherConfig, rows: list[dict[str, Any]], summary: dict[str, Any]) -> "Figure":
    """Test error and normalised margins against n."""
    from matplotlib.figure import Figure

    del rows
    made = Figure(figsize=(9.5, 7.6), layout="constrained")
    errors, behind, margins, bounds = axes = made.subplots(2, 2).ravel()
    for learner, (color, marker, name) in _STYLE.items():
        curve = [p for p in summary["points"] if p["learner"] == learner]
        n = [p["n"] for p in curve]
        look: dict[str, Any] = {"color": color, "marker": marker}
        figures.band(errors, n, curve, "error", label=name, **look)
        figures.band(margins, n, curve, "margin", **look)
        figures.band(bounds, n, curve, "bound", **look)
        if learner != "net":
            curve = [p for p in summary["behind_net"] if p["learner"] == learner]
            figures.band(behind, n, curve, "excess", **look)
    behind.axhline(0, color=figures.BLUE, lw=1.3)
    for ax in axes:
        figures.grid_ticks(ax, config.sizes)
        ax.set_xlabel("training samples n")
    errors.legend(frameon=False, fontsize=9)
    errors.set_ylim(bottom=0)
    errors.set_ylabel("test error")
    errors.set_title("test error", fontsize=10)
    behind.set_ylabel("test error minus that of the net")
    behind.set_title("behind the net, same teacher and samples", fontsize=10)
    margins.set_yscale("log")
    margins.set_ylabel("normalised margin, each in its own norm")
    margins.set_title("margins on the training set", fontsize=10)
    figures.bound_axis(bounds, summary["points"], 1 - config.delta)
    made.suptitle(
        f"teacher with {config.units} ReLU units, d = {config.d}, {config.inputs} inputs, "
        f"{config.seeds} seeds, 95% intervals",
        fontsize=10,
    )
    return made
