"""The figure of the regularization study."""

from typing import TYPE_CHECKING, Any

from kernelgap.studies import figures
from kernelgap.studies.regularization.config import RegularizationConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = {
    "regularised": (figures.BLUE, "-", "regularised"),
    "unregularised": (figures.ORANGE, "--", "unregularised"),
}
_PANELS = {
    "error": "test error",
    "margin": "normalised margin",
    "activation_change": "share of activation patterns changed",
}


def figure(
    config: RegularizationConfig, rows: list[dict[str, Any]], summary: dict[str, Any]
) -> "Figure":
    """Test error, normalised margin and activation change over training."""
    from matplotlib.figure import Figure

    del rows
    made = Figure(figsize=(13, 4), layout="constrained")
    axes = made.subplots(1, 3)
    for ax, (column, title) in zip(axes, _PANELS.items(), strict=True):
        for learner, (color, style, name) in _STYLE.items():
            # The margin of the net that is 0 at the start means nothing.
            curve = [p for p in summary["curves"] if p["learner"] == learner]
            steps = [p["step"] for p in curve]
            keep = slice(1, None) if column != "activation_change" else slice(None)
            figures.band(ax, steps[keep], curve[keep], column, color=color, style=style, label=name)
        ax.set_xlabel("step of gradient descent")
        ax.set_title(title, fontsize=10)
        ax.set_xlim(0, config.steps)
    line = summary["ntk"]["error"]
    axes[0].axhline(line["value"], color=figures.GREY, lw=1.3, ls=":", label="NTK hard-margin SVM")
    axes[0].axhspan(line["low"], line["high"], color=figures.GREY, alpha=0.15, lw=0)
    if config.data == "xor":
        planted = 1 / 8 if config.signal == "axis" else 2**-2.5
        axes[1].axhline(planted, color=figures.GREEN, lw=1.3, ls="-.", label="planted network")
        axes[1].legend(frameon=False, fontsize=9, loc="center right")
    for ax in (axes[0], axes[2]):
        ax.set_ylim(bottom=0)
    axes[0].legend(frameon=False, fontsize=9)
    what = f"digits {config.classes[0]} against {config.classes[1]}"
    what = f"XOR, d = {config.d}" if config.data == "xor" else what
    made.suptitle(
        f"{what}, n = {config.n}, {config.width} units from the same initialisation scaled by "
        f"{config.init_scale:g}, λ = {config.l2:g} or 0, {config.seeds} seeds, 95% intervals",
        fontsize=10,
    )
    return made
