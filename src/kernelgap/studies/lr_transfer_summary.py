"""Optima, slopes, tables and panels of the lr-transfer study."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kernelgap.studies.estimates import (
    NAN,
    POSITIVE,
    Estimate,
    Interval,
    Range,
    Row,
    grouped,
    mean_interval,
    means,
    slope,
)
from kernelgap.studies.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Curve,
    Panel,
    fit_log_axis,
)
from kernelgap.studies.tables import Table, interval_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kernelgap.studies.lr_transfer import LRTransferConfig
    from kernelgap.studies.study import Result

PLACE = ("optimizer", "parameterization", "depth", "width")
_NAMES = {"sgd": "SGD", "adam": "Adam", "noisy_gd": "noisy GD"}
_LOOKS = {"standard": (ORANGE, "o"), "ntk": (GREEN, "s"), "mup": (BLUE, "D")}
_STYLES = ("-", "--", ":")


def log_losses(rows: list[Row]) -> np.ndarray:
    """Return log losses, at most those at the start."""
    return np.log([np.fmin(row["loss"], row["start"]) for row in rows])


def optimum(rates: np.ndarray, logs: np.ndarray) -> float:
    """Return the rate at the vertex of the parabola around the least log loss; NaN at an end.

    The rates are geometric. The vertex is less than half a step of the grid from the best rate.

    Example:
        >>> import numpy as np
        >>> from kernelgap.studies.lr_transfer_summary import optimum
        >>> rates = 2.0 ** np.arange(-3, 4)
        >>> round(optimum(rates, np.log2(rates / 1.3) ** 2), 6)
        1.3
    """
    best = int(np.argmin(logs))
    if best in (0, len(logs) - 1):
        return NAN
    before, least, after = logs[best - 1 : best + 2]
    curvature = before - 2 * least + after
    shift = (before - after) / (2 * curvature) if curvature > 0 else 0.0
    return float(rates[best] * (rates[1] / rates[0]) ** shift)


def predicted_slope(optimizer: str, parameterization: str, depth: int) -> float:
    """Return -p: the first step of a wide net changes its outputs like rate * width^p.

    Example:
        >>> from kernelgap.studies.lr_transfer_summary import predicted_slope
        >>> [predicted_slope("adam", form, 3) for form in ("standard", "ntk", "mup")]
        [-1.5, -1.0, 0.0]
    """
    if parameterization == "mup":
        return 0.0
    ntk = parameterization == "ntk"
    if optimizer == "adam":
        return (-1.0 if depth > 2 else -0.5) - 0.5 * (not ntk)
    return 0.0 if ntk else -1.0


def summarize(config: "LRTransferConfig", rows: list[Row]) -> list[Estimate]:
    """Return losses at all rates, optima, and slopes with their predictions."""
    fine = [row for row in rows if row["grid"] == "fine"]
    capped = [
        row | {"loss_at_rate": np.exp(log)} for row, log in zip(fine, log_losses(fine), strict=True)
    ]
    ranges: dict[str, Range] = {"loss_at_rate": POSITIVE}
    estimates = means(capped, (*PLACE, "learning_rate"), ranges, of=_geometric)
    tops: list[Row] = []
    for (*place, seed), mine in grouped(fine, (*PLACE, "seed")).items():
        rates, logs = np.array([row["learning_rate"] for row in mine]), log_losses(mine)
        top = {"optimum": optimum(rates, logs), "least_loss": float(np.exp(logs.min()))}
        tops.append(dict(zip(PLACE, place, strict=True)) | {"seed": seed} | top)
    ranges = {"optimum": POSITIVE, "least_loss": POSITIVE}
    estimates += means(tops, PLACE, ranges, of=_geometric)
    for (optimizer, form, depth), mine in grouped(tops, PLACE[:3]).items():
        keys = {"optimizer": optimizer, "parameterization": form, "depth": depth}
        at_end = sum(np.isnan(row["optimum"]) for row in mine)
        estimates.append(Estimate("optima_at_end_of_grid", keys, at_end))
        if len(config.widths) > 1:
            predicted = predicted_slope(optimizer, form, depth)
            estimates.append(Estimate("slope", keys, *_slope(mine)))
            estimates.append(Estimate("predicted_slope", keys, predicted))
    return estimates


def _slope(tops: list[Row]) -> Interval:
    """Return the mean slope of log optimum on log width over the seeds with all optima."""
    curves = [
        ([row["width"] for row in mine], [row["optimum"] for row in mine])
        for mine in grouped(tops, ("seed",)).values()
    ]
    slopes = [float(slope(widths, optima)) for widths, optima in curves]
    known = [value for value in slopes if np.isfinite(value)]
    return mean_interval(known) if known else Interval(NAN)


def _geometric(values: Any, within: Range) -> Interval:
    logs = np.log([value for value in values if value > 0])
    if not len(logs):
        return Interval(NAN)
    return Interval(*(float(np.clip(np.exp(end), *within)) for end in mean_interval(logs)))


def tables(config: "LRTransferConfig") -> list[Table]:
    """Return slopes, optima and least losses."""
    return [
        Table({"slope": ".2f", "predicted_slope": ".1f", "optima_at_end_of_grid": ".0f"},
              "slope of log optimum on log width; predicted for wide nets"),
        Table({"optimum": ".2g"}, "best learning rate", across="width"),
        Table({"least_loss": ".2g"}, "loss at the best rate of the grid", across="width"),
    ]  # fmt: skip


def panels(result: "Result") -> list[Panel]:
    """Show for each optimizer optima against the width, then losses of the deepest nets."""
    config = result.config
    rows = [
        [
            _optima(result, optimizer),
            *(_losses(result, optimizer, form) for form in config.parameterizations),
        ]
        for optimizer in config.optimizers
    ]
    return [panel for row in rows for panel in row]


def _losses(result: "Result", optimizer: str, form: str) -> Panel:
    config = result.config
    place = {"optimizer": optimizer, "parameterization": form, "depth": config.depths[-1]}
    curves = [
        Curve("loss_at_rate", place | {"width": width}, f"width {width}",
              _shade(k, len(config.widths)), intervals="none")
        for k, width in enumerate(config.widths)
    ]  # fmt: skip
    title = f"{_NAMES[optimizer]}, {form}, {config.depths[-1]} layers"
    label = f"loss in the last {config.last} of {config.steps} steps"
    return Panel(title, "learning_rate", curves, "learning rate", label, ticks=None,
                 draw=_mark_optima)  # fmt: skip


def _shade(k: int, count: int) -> str:
    """Return colours from light to dark blue, for increasing widths."""
    share = 1 - 0.75 * (count - 1 - k) / max(count - 1, 1)
    return "#" + "".join(f"{round(255 - share * (255 - c)):02x}" for c in (8, 48, 107))


def _optima(result: "Result", optimizer: str) -> Panel:
    """Show the best rate against the width; the legend has slopes and the predicted ones."""
    curves = []
    for form in result.config.parameterizations:
        color, marker = _LOOKS[form]
        for k, depth in enumerate(result.config.depths):
            place = {"optimizer": optimizer, "parameterization": form, "depth": depth}
            slopes = [interval_text(e, ".2f") for e in result.select("slope", place)]
            label = ", ".join([f"{form}, {depth} layers", *(f"slope {text}" for text in slopes)])
            curves.append(Curve("optimum", place, label, color, marker, _STYLES[k % 3]))
    return Panel(
        f"{_NAMES[optimizer]}: best learning rate",
        "width",
        curves,
        "width",
        "best learning rate",
        log="x",
        draw=partial(_draw_predictions, optimizer),
        legend="upper left",
    )


def _draw_predictions(optimizer: str, ax: "Axes", result: "Result") -> None:
    """Draw the predicted slopes through the optima at the largest width."""
    widths, label = np.array(result.config.widths, float), "predicted slopes"
    for e in result.select("predicted_slope", {"optimizer": optimizer}):
        for end in result.select("optimum", e.keys | {"width": result.config.widths[-1]}):
            line = end.value * (widths / widths[-1]) ** e.value
            ax.plot(widths, line, color=GREY, lw=0.8, ls=(0, (1, 2)), label=label, zorder=1)
            label = ""
    fit_log_axis(ax)
    low, high = ax.get_ylim()
    share = min(0.6, 0.085 * len(ax.get_legend_handles_labels()[1]))  # of the height, the legend's
    ax.set_ylim(low, high * (high / low) ** (share / (1 - share)))


def _mark_optima(ax: "Axes", result: "Result") -> None:
    """Mark the least loss of each curve with a dot."""
    for line in list(ax.lines):
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        best = int(np.argmin(y))
        ax.plot(x[best], y[best], "o", ms=5, color=line.get_color())
    ax.set_xscale("log", base=2)
    fit_log_axis(ax, below=1.3, above=1.3)
