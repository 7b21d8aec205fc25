"""The figure of the margin-path study."""

from typing import TYPE_CHECKING, Any

import numpy as np

from kernelgap.studies import figures
from kernelgap.studies.margin_path.config import MarginPathConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOR = {"xor": figures.BLUE, "line": figures.ORANGE, "digits": figures.GREEN}
_DEEP = {2: ("o", "-"), 3: ("s", "--"), 4: ("D", ":")}
_NAME = {"xor": "XOR distribution", "line": "points on a line", "digits": "digits, ten classes"}


def figure(
    config: MarginPathConfig, rows: list[dict[str, Any]], summary: dict[str, Any]
) -> "Figure":
    """Margins against l2: with their certified band, relative, and two residuals."""
    from matplotlib.figure import Figure

    del rows
    certified = [part for part in ("xor", "line") if part in config.parts and 2 in config.depths]
    made = Figure(figsize=(4.4 * (len(certified) + 2), 3.9), layout="constrained")
    axes = made.subplots(1, len(certified) + 2)
    for ax, part in zip(axes, certified, strict=False):
        _with_band(ax, part, _curve(summary, part, 2))
    relative, residual = axes[-2:]
    for part in config.parts:
        for depth in config.depths:
            curve = _curve(summary, part, depth)
            if not curve:
                continue
            marker, style = _DEEP.get(depth, ("v", "-."))
            look = {"color": _COLOR[part], "marker": marker, "ls": style, "ms": 3.5, "lw": 1.3}
            l2s = [p["l2"] for p in curve]
            margins = np.array([p["margin"]["value"] for p in curve])
            label = f"{part}, depth {depth}"
            relative.plot(l2s, margins / margins[-1], label=label, **look)
            residual.plot(l2s, [p["kkt_gap"]["value"] for p in curve], label=label, **look)
    relative.set_ylim(0, 1.1)
    relative.set_title("every depth", fontsize=10)
    relative.set_ylabel("margin over that at the last λ")
    residual.set_yscale("log")
    residual.set_title("optimality conditions of the margin", fontsize=10)
    residual.set_ylabel("KKT gap (0: a KKT point)")
    relative.legend(frameon=False, fontsize=8)
    for ax in axes:
        ax.set_xscale("log")
        ax.invert_xaxis()
        ax.set_xlabel("λ")
    made.suptitle(f"means of {config.seeds} seeds; bands: 95% intervals", fontsize=10)
    return made


def _with_band(ax: "Axes", part: str, curve: list[dict[str, Any]]) -> None:
    """The margin of two-layer nets, and what no network of any width exceeds."""
    l2s = [p["l2"] for p in curve]
    lower, upper = (np.array([p[name]["value"] for p in curve]) for name in ("lower", "upper"))
    ax.fill_between(l2s, lower, upper, color=figures.GREY, alpha=0.3, lw=0,
                    label="largest margin of any width, certified")  # fmt: skip
    ax.plot(l2s, upper, color=figures.GREY, lw=1)
    ax.plot(l2s, lower, color=figures.GREY, lw=1)
    figures.band(ax, l2s, curve, "margin", color=_COLOR[part], marker="o", label="trained net")
    ax.set_ylim(bottom=min(0, *(p["margin"]["low"] for p in curve)))
    ax.set_ylabel("normalised margin")
    ax.set_title(f"{_NAME[part]}, two layers", fontsize=10)
    ax.legend(frameon=False, fontsize=8, loc="lower right")


def _curve(summary: dict[str, Any], part: str, depth: int) -> list[dict[str, Any]]:
    return [p for p in summary["points"] if (p["part"], p["depth"]) == (part, depth)]
