"""Figures of studies: panels of curves with bands, declared by their content."""

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from kernelgap._support.extras import missing_extra
from kernelgap.studies.estimates import Estimate, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kernelgap.studies.study import Result

# Okabe and Ito's palette, distinguishable under colour blindness; markers repeat the distinction.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, GREY = "#56B4E9", "#E69F00", "#707070"
COLORS = (ORANGE, YELLOW, SKY, BLUE, PURPLE, GREEN)
MARKERS = ("o", "s", "D", "v", "^", "P")


class Curve(NamedTuple):
    """The estimates of one metric, as a line.

    Attributes:
        metric: The metric.
        where: Keys that select its estimates.
        label: Entry in the legend; none when empty.
        color: Colour of line, markers and intervals.
        marker: Matplotlib's marker; none when empty.
        style: Matplotlib's line style.
        alpha: Opacity.
        intervals: How to draw them: as a band, as bars, or not at all.
    """

    metric: str
    where: Mapping[str, Any] = {}
    label: str = ""
    color: str = BLUE
    marker: str = ""
    style: str = "-"
    alpha: float = 1.0
    intervals: Literal["band", "bars", "none"] = "band"


class Panel(NamedTuple):
    """One panel of a figure.

    Attributes:
        title: Line above the panel.
        x: Key along the horizontal axis, or a function of the keys.
        curves: Curves, in the order of the legend.
        xlabel: Label of the horizontal axis.
        ylabel: Label of the vertical axis.
        log: Logarithmic axes: "", "x", "y" or "xy".
        ticks: The only ticks of the horizontal axis; those of the points of a logarithmic axis
            when empty, matplotlib's own when None.
        bottom: Lower end of the vertical axis; chosen by matplotlib when None.
        draw: Function that draws anything else, after the curves and before the legend.
        legend: Matplotlib's name of the place of the legend.
    """

    title: str
    x: str | Callable[[Mapping[str, Any]], float]
    curves: Sequence[Curve] = ()
    xlabel: str = ""
    ylabel: str = ""
    log: Literal["", "x", "y", "xy"] = ""
    ticks: Sequence[float] | None = ()
    bottom: float | None = None
    draw: "Callable[[Axes, Result], None] | None" = None
    legend: str = "best"


def figure(result: "Result", *, shown: bool = False) -> "Figure":
    """Return the figure of a result; if `shown`, one that notebooks display."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("figures need", "matplotlib") from error
    panels = result.study.panels(result)
    columns = {4: 2, 8: 4, 12: 4}.get(len(panels), min(3, len(panels)))
    lines = -(-len(panels) // columns)
    look: dict[str, Any] = {"layout": "constrained"}
    look["figsize"] = (4.4 * columns, 3.7 * lines + 0.3)
    if shown:
        from matplotlib import pyplot

        drawing = pyplot.figure(**look)  # pyplot prepares notebooks to display figures,
        pyplot.close(drawing)  # but would keep this one in memory
    else:
        drawing = Figure(**look)
    axes = np.ravel(drawing.subplots(lines, columns, squeeze=False))
    for ax, panel in zip(axes, panels, strict=False):
        _draw(ax, panel, result)
    for ax in axes[len(panels) :]:
        ax.remove()
    caption = result.study.caption
    text = caption if isinstance(caption, str) else caption(result.config)
    drawing.suptitle(text.format_map(dataclasses.asdict(result.config)), fontsize=10)
    return drawing


def _draw(ax: "Axes", panel: Panel, result: "Result") -> None:
    for curve in panel.curves:
        draw_curve(ax, panel.x, curve, result.estimates)
    if "x" in panel.log:
        ax.set_xscale("log")
    if "y" in panel.log:
        ax.set_yscale("log")
    ticks = panel.ticks
    if ticks == () and "x" in panel.log and isinstance(panel.x, str):
        points = (e for c in panel.curves for e in result.select(c.metric, c.where))
        ticks = sorted({e.keys[panel.x] for e in points})
    if ticks:
        ax.set_xticks(ticks, [f"{value:g}" for value in ticks])
        ax.set_xticks([], minor=True)
    ax.set_title(panel.title, fontsize=10)
    ax.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
    if panel.draw is not None:
        panel.draw(ax, result)
    if panel.bottom is not None:  # last, because it ends the scaling to what is drawn
        ax.set_ylim(bottom=panel.bottom)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize=8, loc=panel.legend)  # type: ignore[arg-type]


def draw_curve(
    ax: "Axes",
    x: str | Callable[[Mapping[str, Any]], float],
    curve: Curve,
    estimates: Sequence[Estimate],
) -> None:
    """Draw one curve over x, sorted."""
    along = x if callable(x) else lambda keys: keys[x]
    points = [
        (along(e.keys), e.value, e.low, e.high)
        for e in select(estimates, curve.metric, curve.where)
        if np.isfinite(e.value)
    ]
    if not points:
        return
    at, value, low, high = np.transpose(sorted(points))
    look: dict[str, Any] = {"color": curve.color, "marker": curve.marker, "ls": curve.style}
    look |= {"lw": 1.3, "ms": 3.5, "alpha": curve.alpha, "label": curve.label or None}
    if curve.intervals == "bars":
        bars = np.maximum(np.nan_to_num([value - low, high - value]), 0)
        ax.errorbar(at, value, bars, capsize=2, **look)
        return
    ax.plot(at, value, **look)
    if curve.intervals == "band":
        ax.fill_between(at, low, high, color=curve.color, alpha=0.15 * curve.alpha, lw=0)


def png(figure: "Figure", dpi: int = 100) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=dpi)
    return image.getvalue()


def level(ax: "Axes", interval: Any, label: str, *, color: str = GREY, style: str = ":") -> None:
    """Draw a horizontal line with its interval as a band."""
    ax.axhline(interval.value, color=color, lw=1.3, ls=style, label=label)
    if np.isfinite(interval.low) and np.isfinite(interval.high):
        ax.axhspan(interval.low, interval.high, color=color, alpha=0.15, lw=0)


def mark_vacuous(ax: "Axes", result: "Result") -> None:
    """Shade where a bound on an error, the metric "bound", is above 1 and thus vacuous."""
    values = [e.value for e in result.select("bound") if np.isfinite(e.value)]
    low, high = min([0.4, *(0.5 * v for v in values)]), max([4.0, *(2 * v for v in values)])
    ax.set_ylim(low, high)
    ax.axhspan(1, high, color=GREY, alpha=0.12, lw=0)
    ax.text(0.03, 0.95, "vacuous: above 1", transform=ax.transAxes, va="top", color=GREY)


def fit_log_axis(ax: "Axes", *, below: float = 2, above: float = 2) -> None:
    """Make the vertical axis logarithmic, scaled to the lines: bands of few seeds may reach 0."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines] or [[]])
    values = values[np.isfinite(values) & (values > 0)]
    ax.set_yscale("log")
    if len(values):
        ax.set_ylim(values.min() / below, values.max() * above)
