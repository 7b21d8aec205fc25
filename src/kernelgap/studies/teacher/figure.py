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
    made = Figure(figsize=(9.5, 4), layout="constrained")
    errors, margins = made.subplots(1, 2)
    for learner, (color, marker, name) in _STYLE.items():
        curve = [p for p in summary["points"] if p["learner"] == learner]
        n = [p["n"] for p in curve]
        figures.band(errors, n, curve, "error", color=color, marker=marker, label=name)
        figures.band(margins, n, curve, "margin", color=color, marker=marker)
    curve = [p for p in summary["points"] if p["learner"] == "net"]
    figures.band(
        margins, [p["n"] for p in curve], curve, "teacher_margin", color=figures.GREY, style="--",
        label="the teacher itself, as a net",
    )  # fmt: skip
    for ax in (errors, margins):
        figures.grid_ticks(ax, config.sizes)
        ax.set_xlabel("training samples n")
        ax.legend(frameon=False, fontsize=9)
    errors.set_ylim(bottom=0)
    errors.set_ylabel("test error")
    errors.set_title("fresh samples", fontsize=10)
    margins.set_yscale("log")
    margins.set_ylabel("normalised margin, each in its own norm")
    margins.set_title("margins on the training set", fontsize=10)
    made.suptitle(
        f"teacher with {config.units} ReLU units, d = {config.d}, {config.inputs} inputs, "
        f"{config.seeds} seeds, 95% intervals",
        fontsize=10,
    )
    return made
