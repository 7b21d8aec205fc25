"""Weak regularisation leads to the largest margin, shown with certificates.

As lambda falls, minimisers of the regularised loss have normalised margins that tend to the largest
one. For two layers the largest margin of any width lies in a certified band, and so does the least
loss at every lambda, whose nets' margins tend to that band. Deeper nets and ten classes show their
own margins, and how well they satisfy its first-order conditions. On the line, functions of nets
are compared with that of the l1-SVM over units spread evenly on the circle.

References:
    Paper A, the theorem on weak regularisation; from its first versions, the experiment on the
    line: units a relu(w t + b), weight decay on a, w and b, against the l1-SVM over 1000 evenly
    spaced (w, b) with w^2 + b^2 = 1, at lambda about 1e-14. The preset `paper` has these settings;
    the points are not known to us, and ours. The other data, depths and the path of lambda are this
    project's.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kernelgap import datasets
from kernelgap.studies import margin_path_rows
from kernelgap.studies.estimates import POSITIVE, REAL, SHARE, Estimate, Range, Row, means
from kernelgap.studies.execution import Cell
from kernelgap.studies.options import Config, about_options, option
from kernelgap.studies.panels import BLUE, GREEN, GREY, ORANGE, PURPLE, Curve, Panel
from kernelgap.studies.study import Result, Study
from kernelgap.studies.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["STUDY", "MarginPathConfig"]

_DIGITS_DEPTH = 3


@dataclasses.dataclass(frozen=True)
class MarginPathConfig(Config):
    """Options of the margin-path study; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import margin_path
        >>> tiny = margin_path.MarginPathConfig(
        ...     parts=("line",), line_n=4, depths=(2,), width=8, l2s=(1e-2, 1e-4), steps=50,
        ...     seeds=2)
        >>> len(margin_path.STUDY.run(tiny).rows)  # 2 seeds, 2 l2s; 41 points for each
        168
    """

    parts: tuple[Literal["xor", "line", "digits"], ...] = option(
        margin_path_rows.PARTS, "subset of: xor, line (exact optimum), digits (ten classes)"
    )
    d: int = option(20, "input dimension of xor", minimum=2)
    n: int = option(160, "training samples of xor", minimum=2)
    line_n: int = option(8, "points of the line; pairs of neighbours share a label", minimum=2)
    features: int = option(
        1000, "units (w, b) of the l1-SVM on the line, evenly spaced on the circle", minimum=8
    )
    digits_n: int = option(300, "training images of digits", minimum=10)
    depths: tuple[int, ...] = option(
        (2, 3, 4), "layers of the nets; digits uses those up to 3", minimum=2
    )
    width: int = option(128, "hidden units of each layer", minimum=1)
    l2s: tuple[float, ...] = option(
        (1e-2, 3e-3, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10, 1e-12),
        "strengths of the weight decay; too large a first one collapses the net to 0",
        above=0,
        decreasing=True,
    )
    steps: int = option(1000, "full-batch Adam steps for each l2", minimum=1)
    learning_rate: float = option(
        0.01, "Adam learning rate; it falls to 0 over the steps of each l2", above=0
    )
    seeds: int = option(5, "repetitions, each with its own sample and start", minimum=2)
    seed: int = option(0, "base of all random keys", minimum=0)


_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "d": 10,
        "n": 80,
        "digits_n": 100,
        "depths": (2,),
        "width": 48,
        "l2s": (1e-2, 1e-4, 1e-6, 1e-8),
        "steps": 500,
        "seeds": 3,
    },
    "default": {},
    "large": {"d": 40, "n": 320, "digits_n": 1000, "width": 256, "steps": 3000, "seeds": 10},
    "paper": {
        "parts": ("line",),
        "depths": (2,),
        "l2s": (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10, 1e-12, 1e-14),
        "steps": 5000,
    },
}


def _check(config: MarginPathConfig) -> None:
    if "digits" in config.parts and config.digits_n > (images := len(datasets.digits().y)):
        error = f"`digits_n` must be at most {images}, the number of images; got {config.digits_n}"
        raise about_options(ValueError(error), "digits_n")


def _cells(config: MarginPathConfig) -> list[Cell]:
    cells = [
        Cell((part, depth))
        for part in config.parts
        for depth in config.depths
        if part != "digits" or depth <= _DIGITS_DEPTH
    ]
    return cells + [Cell(("function", 2))] * (Cell(("line", 2)) in cells)


def _run_cell(config: MarginPathConfig, identity: tuple) -> list[Row]:
    part, depth = identity
    if part == "function":
        return margin_path_rows.function_rows(config)
    return margin_path_rows.path_rows(config, part, depth)


def _summarize(config: MarginPathConfig, rows: list[Row]) -> list[Estimate]:
    functions = [row for row in rows if row["part"] == "function"]
    rows = [
        row
        | {
            "of_upper": row["margin"] / row["upper"],
            "of_lower": row["margin"] / row["lower"],
            "kkt_gap": row["kkt_stationarity"] ** 2 + 2 * row["kkt_slackness"],
        }
        for row in rows
        if row["part"] != "function"
    ]
    # No margin exceeds the largest one, so that `lower` includes the margins of the path.
    ranges: dict[str, Range] = dict.fromkeys(("train_error", "loss_gap", "global_gap"), SHARE)
    ranges |= dict.fromkeys(("of_upper", "of_lower"), (-np.inf, 1.0))
    ranges |= dict.fromkeys(("margin", "lower", "upper", "global_margin"), REAL)
    ranges |= dict.fromkeys(("kkt_gap", "stationarity", "norm"), POSITIVE)
    estimates = means(rows, ("part", "depth", "l2"), ranges)
    last = {(e.keys["part"], e.keys["depth"]): e.value for e in estimates if e.metric == "margin"}
    estimates += [
        Estimate("of_last", e.keys, e.value / last[e.keys["part"], e.keys["depth"]])
        for e in estimates
        if e.metric == "margin"
    ]
    bands = [row["upper"] / row["lower"] for row in rows if np.isfinite(row["upper"])]
    if bands:
        estimates.append(Estimate("largest_upper_over_lower", {}, max(bands)))
    if functions:
        ends = [row for row in functions if row["t"] == functions[0]["t"]]
        estimates += means(ends, ("l2",), {"svm_distance": POSITIVE})
        estimates.append(Estimate("svm_margin", {}, functions[0]["svm_margin"]))
        estimates += means(functions, ("l2", "t"), {"output": REAL})
        estimates += [
            Estimate("svm_output", {"t": row["t"]}, row["svm_output"])
            for row in functions
            if (row["seed"], row["l2"]) == (0, config.l2s[-1])
        ]
    return estimates


def _tables(config: MarginPathConfig) -> list[Table]:
    shown = {config.l2s[k] for k in margin_path_rows.shown(config.l2s)}
    columns = {"margin": ".4f", "of_upper": ".3f", "kkt_gap": ".1e", "loss_gap": ".1e"}
    best = {"global_margin": ".4f", "global_gap": ".1e"}

    def certified(keys: Mapping[str, Any]) -> bool:
        return keys["l2"] in shown and keys["depth"] == 2 and keys["part"] != "digits"

    return [
        Table(columns, where=lambda keys: keys["l2"] in shown),
        Table(
            best,
            "net of least loss over all widths: its margin, its loss above the proven bound",
            where=certified,
        ),
        Table({"largest_upper_over_lower": ".4f"}, "certified"),
        Table({"svm_margin": ".6f"}, f"line, half the l1-SVM's over {config.features} units"),
        Table({"svm_distance": ".4f"}, "largest distance to its function, relative"),
    ]


_COLORS = {"xor": BLUE, "line": ORANGE, "digits": GREEN}
_DEEP = {2: ("o", "-"), 3: ("s", "--"), 4: ("D", ":")}
_NAMES = {"xor": "XOR distribution", "line": "points on a line", "digits": "digits, ten classes"}


def _panels(result: Result) -> list[Panel]:
    config: MarginPathConfig = result.config
    look: dict[str, Any] = {"xlabel": "λ", "log": "x", "ticks": None}
    both: dict[str, Any] = look | {"log": "xy"}
    panels = []
    for part in ("xor", "line"):
        if part in config.parts and 2 in config.depths:
            where, color = {"part": part, "depth": 2}, _COLORS[part]
            curves = [
                Curve("lower", where, color=GREY, intervals="none"),
                Curve("upper", where, color=GREY, intervals="none"),
                Curve("margin", where, "trained net", color, "o"),
                Curve("global_margin", where, "net of least loss, certified", PURPLE, "D", "--"),
            ]
            draw = partial(_band, part)
            title = f"{_NAMES[part]}, two layers"
            panels.append(Panel(title, "l2", curves, ylabel="normalised margin", draw=draw,
                                legend="lower right", **look))  # fmt: skip
    if ("function", 2) in result.cells:
        panels.append(_functions(config))
    relative, residual = (
        [
            Curve(metric, {"part": part, "depth": depth}, f"{part}, depth {depth}",
                  _COLORS[part], *_DEEP.get(depth, ("v", "-.")), intervals="none")
            for part, depth in result.cells
            if part != "function"
        ]
        for metric in ("of_last", "kkt_gap")
    )  # fmt: skip
    return [
        *panels,
        Panel("every depth", "l2", relative, ylabel="margin over that at the last λ", bottom=0,
              draw=_reverse, **look),
        Panel("optimality conditions of the margin", "l2", residual,
              ylabel="KKT gap (0: a KKT point)", draw=_reverse, **both),
    ]  # fmt: skip


def _functions(config: MarginPathConfig) -> Panel:
    styles = zip(margin_path_rows.shown(config.l2s), (":", "--", "-"), strict=False)
    nets = [
        Curve("output", {"l2": config.l2s[k]}, f"net, λ = {config.l2s[k]:g}", ORANGE, style=style)
        for k, style in styles
    ]
    svm = Curve("svm_output", {}, "half the l1-SVM over the circle", GREY, "o", "")
    return Panel("functions on the line", "t", [*nets, svm], "t", "output over ||Θ||²")


def _reverse(ax: "Axes", result: Result) -> None:
    ax.invert_xaxis()


def _band(part: str, ax: "Axes", result: Result) -> None:
    """Draw the band that contains the largest margin of any width."""
    ends = (result.select(metric, {"part": part, "depth": 2}) for metric in ("lower", "upper"))
    lower, upper = ([e.value for e in end] for end in ends)
    label = "largest margin of any width, certified"
    l2s = result.config.l2s
    ax.fill_between(l2s, lower, upper, color=GREY, alpha=0.3, lw=0, label=label)
    ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
    _reverse(ax, result)


STUDY = Study(
    name="margin-path",
    title="margins of nets as the weight decay vanishes, with certified bounds",
    about=__doc__ or "",
    config=MarginPathConfig,
    presets=_PRESETS,
    check=_check,
    cells=_cells,
    run_cell=_run_cell,
    summarize=_summarize,
    tables=_tables,
    panels=_panels,
    caption="means of {seeds} seeds; bands: 95% intervals",
)
"""The study; `STUDY.run(config)` runs it."""
