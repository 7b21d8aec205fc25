"""The figure of the noisy-gd study."""

from typing import TYPE_CHECKING, Any

import numpy as np

from kernelgap.studies import figures
from kernelgap.studies.noisy_gd.config import NoisyGDConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = {
    "gd": (figures.ORANGE, "--", "gradient descent"),
    "perturbed": (figures.BLUE, "-", "perturbed flow: re-drawn neurons"),
    "langevin": (figures.GREEN, "-.", "Langevin"),
}
_STARTS = {"random": "random start", "trapped": "all output weights positive"}


def figure(config: NoisyGDConfig, rows: list[dict[str, Any]], summary: dict[str, Any]) -> "Figure":
    """Excess loss of the best iterate against time: a row per start, a column per width."""
    from matplotlib.figure import Figure

    del rows
    widths = config.widths
    made = Figure(figsize=(1.5 + 3.7 * len(widths), 7), layout="constrained")
    axes = made.subplots(2, len(widths), sharex=True, sharey=True, squeeze=False)
    level = summary["level_gap"]["value"]
    for row, (start, name) in zip(axes, _STARTS.items(), strict=True):
        for ax, width in zip(row, widths, strict=True):
            for method, (color, style, label) in _STYLE.items():
                point = (method, start, width)
                curve = [
                    p for p in summary["curves"] if (p["method"], p["start"], p["width"]) == point
                ]
                time = np.array([p["step"] for p in curve]) * config.learning_rate
                look: dict[str, Any] = {"color": color, "style": style, "label": label}
                figures.band(ax, time, curve, "best_excess", **look)
                value = [p["loss_excess"]["value"] for p in curve]
                ax.plot(time, value, color=color, lw=0.8, alpha=0.35)
            ax.set_yscale("log")
            ax.set_title(f"{name}, width {width}", fontsize=10)
            ax.set_ylim(bottom=level / 3)
            ax.axhspan(level / 3, level, color=figures.GREY, alpha=0.2, lw=0)
    for ax in axes[-1]:
        ax.set_xlabel("time = learning rate x steps")
    for ax in axes[:, 0]:
        ax.set_ylabel("excess loss")
    axes[0, -1].legend(frameon=False, fontsize=9)
    made.suptitle(
        "loss above a certified lower bound of L*: best iterate (bold), current one (pale); "
        "below the grey level no net was found\n"
        f"XOR, d = {config.d}, n = {config.n}, λ = {config.l2:g}, {config.seeds} seeds, "
        "95% intervals",
        fontsize=10,
    )
    return made
