"""Margin, test error and bound against the width.

Paper A shows that the largest normalised margin does not fall with the width, and that for two
layers it is the same for all widths from the number of samples on. Generalisation bounds that
depend on the margin and not on the width therefore do not get worse for wider nets. The study
trains nets along a path of weak regularisation, and bounds the best margin of any width from both
sides.

A net of width m is also one of any larger width, with units of weight 0. The largest margin found
up to a width, `running`, is thus a lower bound on the largest margin of that width, like the margin
itself, and cannot fall.

References:
    Paper A: the margin against the width, constant from n on for two layers, and the bound. The
    presets `paper` and `paper-mnist` have the settings of the experiment in its second version,
    except for what is not known to us: the number of samples, their distribution, the batches. The
    path of weak regularisation and its restarts are this project's.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kernelgap.studies import seeds, width_nets
from kernelgap.studies.estimates import POSITIVE, REAL, SHARE, Estimate, Row, means
from kernelgap.studies.execution import Cell
from kernelgap.studies.options import Config, option
from kernelgap.studies.panels import GREEN, GREY, SKY, Curve, Panel, mark_vacuous
from kernelgap.studies.study import Result, Study
from kernelgap.studies.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["STUDY", "WidthConfig"]


@dataclasses.dataclass(frozen=True)
class WidthConfig(Config):
    """Options of the width study; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import width
        >>> tiny = width.WidthConfig(d=4, n=8, widths=(2, 16), seeds=2, restarts=1, n_test=100,
        ...                          steps=10, certified=0)
        >>> len(width.STUDY.run(tiny).rows)
        4
    """

    data: Literal["teacher", "digits", "mnist"] = option(
        "teacher", "teacher, digits (scikit-learn), or all ten classes of mnist"
    )
    mnist: str = option("", "folder with the four MNIST files (mnist)")
    widths: tuple[int, ...] = option(
        (4, 8, 16, 32, 64, 128, 256, 512, 1024), "hidden units", minimum=1, increasing=True
    )
    d: int = option(20, "input dimension (teacher)", minimum=1)
    units: int = option(10, "hidden units of the teacher", minimum=2)
    margin: float = option(0.01, "smallest absolute output of the teacher", minimum=0)
    n: int = option(64, "training samples", minimum=2)
    classes: tuple[int, ...] = option(
        (3, 8), "two digits to tell apart (digits)", minimum=0, maximum=9, length=2
    )
    seeds: int = option(10, "repetitions, each with its own teacher and sample", minimum=1)
    seed: int = option(0, "base of all random keys", minimum=0)
    training: Literal["path", "descent"] = option(
        "path", "path: by Adam at each l2 in turn; descent: gradient descent, at the last l2"
    )
    batch: int = option(0, "samples in a step of gradient descent; 0 for all", minimum=0)
    restarts: int = option(
        3, "nets for each seed and width; the one of largest margin counts", minimum=1
    )
    n_test: int = option(10_000, "fresh test samples for each seed (teacher)", minimum=1)
    l2s: tuple[float, ...] = option(
        (1e-3, 1e-4, 1e-5, 1e-7, 1e-11, 1e-19, 1e-35),
        "strengths of the weight decay",
        above=0,
        decreasing=True,
    )
    steps: int = option(
        400, "full-batch Adam steps for each l2, or steps of gradient descent", minimum=1
    )
    learning_rate: float = option(
        0.01, "learning rate; that of Adam falls to 0 over the steps of each l2", above=0
    )
    certified: int = option(
        10,
        "seeds whose best margin of any width is bounded, which takes longest; 0 for none",
        minimum=0,
    )
    delta: float = option(
        0.05, "probability with which a bound may fail", minimum=1e-12, maximum=0.5
    )


_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "widths": (4, 32, 256),
        "seeds": 5,
        "restarts": 2,
        "n_test": 4000,
        "steps": 300,
        "certified": 0,
    },
    "default": {},
    "large": {"n": 160, "restarts": 5, "steps": 1000},
    "paper": {
        "training": "descent",
        "widths": tuple(2**k for k in range(4, 11)),
        "n": 200,
        "seeds": 20,
        "restarts": 1,
        "l2s": (1e-5,),
        "learning_rate": 0.1,
        "steps": 80_000,
        "certified": 0,
    },
    "paper-mnist": {
        "data": "mnist",
        "training": "descent",
        "widths": tuple(2**k for k in range(6, 16)),
        "n": 60_000,
        "batch": 100,
        "seeds": 1,
        "restarts": 1,
        "l2s": (1e-6,),
        "learning_rate": 0.01,
        "steps": 360_000,  # 600 epochs
        "certified": 0,
    },
}


def _check(config: WidthConfig) -> None:
    if config.data == "digits":
        seeds.leave_some(config.n, config.classes, "n")
    if config.data == "mnist":
        width_nets.check_mnist(config)


def _cells(config: WidthConfig) -> list[Cell]:
    nets = [
        Cell(("net", width, block.start))
        for width in config.widths
        for block in seeds.blocks(config.seeds)
    ]
    certified = config.certified and config.data != "mnist"
    return nets + [Cell(("any", 0, 0))] * bool(certified)


def _run_cell(config: WidthConfig, identity: tuple) -> list[Row]:
    learner, width, start = identity
    if learner == "any":
        return width_nets.certificate_rows(config)
    block = seeds.block(config.seeds, start)
    return width_nets.net_rows(config, width, block)


def _summarize(config: WidthConfig, rows: list[Row]) -> list[Estimate]:
    best: dict[int, float] = {}
    running = []
    for row in sorted((r for r in rows if r["learner"] == "net"), key=lambda row: row["width"]):
        best[row["seed"]] = max(best.get(row["seed"], -np.inf), row["margin"])
        running.append(row | {"running": best[row["seed"]]})
    metrics_of_nets = {"error": SHARE, "train_error": SHARE, "bound": POSITIVE}
    estimates = means(running, ("width",), metrics_of_nets | {"margin": REAL, "running": REAL})
    # The paper averages over the nets that separate their training samples.
    marked = [row | {"separated": float(row["train_error"] == 0)} for row in running]
    estimates += means(marked, ("width",), {"separated": SHARE})
    separated = [
        row | {"margin_if_separated": row["margin"], "error_if_separated": row["error"]}
        for row in marked
        if row["separated"]
    ]
    ranges = {"margin_if_separated": POSITIVE, "error_if_separated": SHARE}
    estimates += means(separated, ("width",), ranges)
    certified = {row["seed"]: row for row in rows if row["learner"] == "any"}
    if certified:
        of_any = [
            {"best_margin_of_any_width": row["margin"], "at_most": row["upper"]}
            for row in certified.values()
        ]
        estimates += means(of_any, (), {"best_margin_of_any_width": REAL, "at_most": REAL})
        # Margins relative to the best of the seed, which is bounded from both sides.
        shares = [
            row
            | {"of_best_found": row["running"] / certified[row["seed"]]["margin"]}
            | {"of_upper_bound": row["running"] / certified[row["seed"]]["upper"]}
            for row in running
            if row["seed"] in certified and certified[row["seed"]]["margin"] > 0
        ]
        ranges = {"of_best_found": REAL, "of_upper_bound": (-np.inf, 1.0)}
        estimates += means(shares, ("width",), ranges)
    return estimates


def _tables(config: WidthConfig) -> list[Table]:
    columns = {"margin": ".4f", "running": ".4f", "of_upper_bound": ".3f", "error": ".3f"}
    seeds = min(config.certified, config.seeds)
    separated = {"separated": ".2f", "margin_if_separated": ".4f", "error_if_separated": ".3f"}
    return [
        Table(columns | {"bound": ".1f"}, "running: the largest margin up to this width"),
        Table(separated, "nets without training errors, over which the paper averages"),
        Table({"best_margin_of_any_width": ".4f", "at_most": ".4f"}, f"certified, {seeds} seeds"),
    ]


def _panels(result: Result) -> list[Panel]:
    config: WidthConfig = result.config
    look: dict[str, Any] = {"xlabel": "width", "log": "x"}
    nets = [
        Curve("running", label="largest found up to this width", marker="o"),
        Curve("margin", {}, "nets of this width", SKY, ".", ":", intervals="none"),
    ]
    both = look | {"log": "xy", "draw": mark_vacuous}
    title = f"bound from the margin, at {1 - config.delta:.0%}"
    return [
        Panel("margin", "width", nets, ylabel="normalised margin", draw=_any_width, **look),
        Panel("test error", "width", [Curve("error", marker="o")], ylabel="test error", bottom=0,
              **look),
        Panel(title, "width", [Curve("bound", marker="o")], ylabel="bound on the test error",
              **both),
    ]  # fmt: skip


def _any_width(ax: "Axes", result: Result) -> None:
    """Draw the certified band of the best margin, and the width from which it is constant."""
    if best := result.select("best_margin_of_any_width"):
        ends = best[0].value, result.select("at_most")[0].value
        label = "best of any width: between these"
        ax.axhspan(*ends, color=GREEN, alpha=0.25, lw=0, label=label)
    ax.axvline(result.config.n, color=GREY, lw=1, ls="--", label="width = n")
    ax.axhline(0, color=GREY, lw=0.6)


def _caption(config: WidthConfig) -> str:
    data = {
        "teacher": "teacher with {units} ReLU units, d = {d}",
        "digits": "digits {classes[0]} against {classes[1]}",
        "mnist": "MNIST",
    }[config.data]
    return f"{data}, n = {{n}}, {{seeds}} seeds, 95% intervals"


STUDY = Study(
    name="width",
    title="margin, test error and bound against the width, with the best margin of any width",
    about=__doc__ or "",
    config=WidthConfig,
    presets=_PRESETS,
    check=_check,
    cells=_cells,
    run_cell=_run_cell,
    summarize=_summarize,
    tables=_tables,
    panels=_panels,
    caption=_caption,
)
"""The study; `STUDY.run(config)` runs it."""
