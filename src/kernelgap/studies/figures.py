"""What the figures of all studies share: colours, curves with bands, axes with the grid's ticks."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, distinguishable under colour blindness; markers say the same again.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, GREY = "#56B4E9", "#E69F00", "#707070"


def png(figure: "Figure", dpi: int = 100) -> bytes:
    """A figure as the bytes of a PNG file."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=dpi)
    return image.getvalue()


def band(
    ax: "Axes",
    x: Sequence[float] | np.ndarray,
    points: Sequence[dict[str, Any]],
    name: str,
    *,
    color: str,
    marker: str | None = None,
    style: str = "-",
    shade: float = 1.0,
    label: str | None = None,
) -> None:
    """The mean of a column over x, with its interval as a band."""
    value, low, high = (np.array([p[name][k] for p in points]) for k in ("value", "low", "high"))
    ax.plot(
        x, value, color=color, marker=marker, ls=style, ms=3.5, lw=1.3, alpha=shade, label=label
    )
    ax.fill_between(x, low, high, color=color, alpha=0.15 * shade, lw=0)


def grid_ticks(ax: "Axes", values: Sequence[float]) -> None:
    """A logarithmic x axis with a tick at each value of the grid, and no others."""
    ax.set_xscale("log")
    ax.set_xticks(list(values), [f"{value:g}" for value in values])
    ax.set_xticks([], minor=True)


def bound_axis(ax: "Axes", points: Sequence[dict[str, Any]], confidence: float) -> None:
    """A logarithmic axis for bounds on an error, grey where they say nothing."""
    values = [p["bound"]["value"] for p in points if np.isfinite(p["bound"]["value"])]
    low, high = min([0.4, *(0.5 * v for v in values)]), max([4.0, *(2 * v for v in values)])
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    ax.axhspan(1, high, color=GREY, alpha=0.12, lw=0)
    ax.text(0.03, 0.95, "vacuous: above 1", transform=ax.transAxes, va="top", color=GREY)
    ax.set_ylabel("bound on the test error")
    ax.set_title(f"bound from the margin, at {confidence:.0%}", fontsize=10)
