"""The figure of the gap study."""

from typing import TYPE_CHECKING, Any

import numpy as np

from kernelgap.studies import figures
from kernelgap.studies.gap.config import GapConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE = {
    "net": (figures.BLUE, "o", "l2-regularised net"),
    "svm": (figures.ORANGE, "s", "NTK hard-margin SVM"),
    "span": (figures.GREEN, "^", "best in the NTK's span"),
}


def figure(config: GapConfig, rows: list[dict[str, Any]], summary: dict[str, Any]) -> "Figure":
    """Error against n/d and n/d^2, and n at the target error against d; or learning curves."""
    from matplotlib.figure import Figure

    del rows
    if config.data == "digits":
        made = Figure(figsize=(9, 3.8), layout="constrained")
        axes = made.subplots(1, 2)
        _digits(axes, config, summary)
    else:
        made = Figure(figsize=(13, 4.4), layout="constrained")
        axes = made.subplots(1, 3)
        _errors(axes[0], summary, power=1, title="against n/d: the net's curves fall together")
        _errors(axes[1], summary, power=2, title="against n/d²: the kernel's curves do")
        _scaling(axes[2], config, summary)
        handles, labels = axes[2].get_legend_handles_labels()
        axes[2].legend(handles, labels, frameon=False, fontsize=9, loc="upper left")
        low, high = axes[2].get_ylim()
        axes[2].set_ylim(low, high * (high / low) ** 0.35)  # room for the legend
        dims = sorted({p["d"] for p in summary["points"]})
        made.suptitle(
            f"XOR with d − 2 noise coordinates, d = {', '.join(map(str, dims))} (light to dark), "
            f"{config.seeds} seeds, 95% intervals",
            fontsize=10,
        )
    return made


def _errors(ax: "Axes", summary: dict[str, Any], *, power: int, title: str) -> None:
    points = summary["points"]
    dims = sorted({p["d"] for p in points})
    for learner, (color, marker, _) in _STYLE.items():
        for shade, d in zip(np.linspace(0.35, 1, len(dims)), dims, strict=True):
            curve = [p for p in points if p["learner"] == learner and p["d"] == d]
            x = [p["n"] / d**power for p in curve]
            figures.band(ax, x, curve, "error", color=color, marker=marker, shade=shade)
    ax.set_xscale("log")
    ax.axhline(0.5, color="0.6", lw=0.8, ls=":")
    ax.set_ylim(-0.02, 0.56)
    ax.set_xlabel("n / d" if power == 1 else "n / d²")
    ax.set_ylabel("test error")
    ax.set_title(title, fontsize=10)


def _scaling(ax: "Axes", config: GapConfig, summary: dict[str, Any]) -> None:
    exponents = {e["learner"]: e for e in summary["exponents"]}
    for learner, (color, marker, name) in _STYLE.items():
        entries = [e for e in summary["n_at_target"] if e["learner"] == learner]
        entries = [e for e in entries if np.isfinite(e["value"])]
        if not entries:
            continue
        d, n, low, high = (np.array([e[k] for e in entries]) for k in ("d", "value", "low", "high"))
        label = name
        if learner in exponents and len(entries) > 1:
            e = exponents[learner]
            label += f"\n  n ~ d^{e['value']:.2f} [{e['low']:.2f}, {e['high']:.2f}]"
            fit = np.polyfit(np.log(d), np.log(n), 1)
            ax.plot(d, np.exp(np.polyval(fit, np.log(d))), color=color, lw=1)
        error = np.nan_to_num([n - low, high - n])
        ax.errorbar(
            d, n, np.maximum(error, 0), color=color, fmt=marker, ms=5, capsize=2, label=label
        )
    figures.grid_ticks(ax, config.dims)
    ax.set_yscale("log")
    ax.set_xlabel("d")
    ax.set_ylabel("n")
    ax.set_title(f"samples at {config.target:.0%} test error", fontsize=10)


def _digits(axes: "np.ndarray", config: GapConfig, summary: dict[str, Any]) -> None:
    for learner in ("net", "svm"):
        color, marker, name = _STYLE[learner]
        curve = [p for p in summary["points"] if p["learner"] == learner]
        n = [p["n"] for p in curve]
        for ax, column in zip(axes, ("error", "margin"), strict=True):
            figures.band(ax, n, curve, column, color=color, marker=marker, label=name)
    for ax in axes:
        figures.grid_ticks(ax, config.sizes)
        ax.set_xlabel("training images n")
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("test error")
    axes[0].legend(frameon=False, fontsize=9)
    axes[0].set_title(f"digits {config.classes[0]} against {config.classes[1]}", fontsize=10)
    axes[1].set_yscale("log")
    axes[1].set_ylabel("normalised margin, each in its own norm")
    axes[1].set_title(f"margins on the training set, {config.seeds} seeds", fontsize=10)
