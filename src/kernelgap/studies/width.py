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
    Paper A: the margin against the width, constant from n on for two layers, and the bound.
    Teacher, samples and training are this project's.
"""

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import bounds, margins, metrics
from kernelgap.datasets import Dataset
from kernelgap.metrics import error_rate
from kernelgap.models import Model
from kernelgap.studies import seeds
from kernelgap.studies.estimates import NAN, POSITIVE, REAL, SHARE, Estimate, Row, means
from kernelgap.studies.execution import Cell
from kernelgap.studies.learners import two_layer_net
from kernelgap.studies.options import Config, option
from kernelgap.studies.panels import GREEN, GREY, SKY, Curve, Panel, mark_vacuous
from kernelgap.studies.seeds import over_seeds
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

    data: Literal["teacher", "digits"] = option("teacher", "teacher, or digits (scikit-learn)")
    widths: tuple[int, ...] = option(
        (4, 8, 16, 32, 64, 128, 256, 512, 1024), "hidden units", minimum=1, increasing=True
    )
    d: int = option(20, "input dimension (teacher)", minimum=1)
    units: int = option(10, "hidden units of the teacher", minimum=2)
    n: int = option(64, "training samples", minimum=2)
    classes: tuple[int, ...] = option(
        (3, 8), "two digits to tell apart (digits)", minimum=0, maximum=9, length=2
    )
    seeds: int = option(10, "repetitions, each with its own teacher and sample", minimum=2)
    seed: int = option(0, "base of all random keys", minimum=0)
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
    steps: int = option(400, "full-batch Adam steps for each l2", minimum=1)
    learning_rate: float = option(
        0.01, "Adam learning rate; it falls to 0 over the steps of each l2", above=0
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
}


def _check(config: WidthConfig) -> None:
    if config.data == "digits":
        seeds.leave_some(config.n, config.classes, "n")


def _cells(config: WidthConfig) -> list[Cell]:
    certificate = [Cell(("any", 0))] if config.certified else []
    return [Cell(("net", width)) for width in config.widths] + certificate


def _run_cell(config: WidthConfig, identity: tuple) -> list[Row]:
    learner, width = identity
    teacher_keys, train_keys, test_keys, net_keys = jax.random.split(
        jax.random.key(config.seed), (4, config.seeds)
    )
    if config.data == "digits":
        train, test = seeds.split(seeds.digits(train_keys, config.classes), config.n)
    else:
        form: dict[str, Any] = {"units": config.units, "inputs": "sphere"}
        train = seeds.teacher(teacher_keys, train_keys, config.n, config.d, **form)
        test = seeds.teacher(teacher_keys, test_keys, config.n_test, config.d, **form)
    if learner == "any":
        pairs = zip(net_keys[: config.certified], seeds.each(train), strict=False)
        return [_certificate(seed, key, data) for seed, (key, data) in enumerate(pairs)]
    keys = jax.vmap(partial(jax.random.split, num=config.restarts))(net_keys)
    static = (two_layer_net(width), config.l2s, config.steps, config.learning_rate)
    columns = jax.device_get(over_seeds(_best_net, (keys, train, test), static=static))
    # The largest norm under the distribution, of the sphere or of 64 pixels in [0, 1].
    radius = 8.0 if config.data == "digits" else config.d**0.5
    rows = []
    for seed in range(config.seeds):
        margin, error, train_error, square = (float(column[seed]) for column in columns)
        bound = bounds.two_layer_margin_bound(
            margin, n=config.n, radius=radius, mean_square=square, delta=config.delta
        )
        rows.append(
            {"learner": learner, "width": width, "seed": seed, "error": error}
            | {"train_error": train_error, "margin": margin, "upper": NAN}
            | {"bound": float(bound.value) if margin > 0 else NAN}
        )
    return rows


def _certificate(seed: int, key: jax.Array, data: Dataset) -> Row:
    """Bound the largest margin of any width from below, by a net, and from above."""
    reached = margins.max_margin(*data, key=key, upper=False)
    upper = margins.upper_bound(*data).value
    row = {"learner": "any", "width": 0, "seed": seed, "error": NAN, "train_error": NAN}
    return row | {"margin": float(reached.lower), "upper": float(upper), "bound": NAN}


def _best_net(
    model: Model,
    l2s: tuple[float, ...],
    steps: int,
    learning_rate: float,
    keys: jax.Array,
    train: Dataset,
    test: Dataset,
) -> tuple[jax.Array, ...]:
    """Return (margin, error, training error, mean ||x||^2) of the best restart of a seed."""

    def net(key: jax.Array) -> tuple[jax.Array, ...]:
        start = model.init(key, train.x.shape[1])
        how: dict[str, Any] = {"l2s": l2s, "steps": steps, "learning_rate": learning_rate}
        params = margins.regularization_path(model, start, *train, **how).params
        return (
            metrics.normalized_margin(model, params, *train),
            error_rate(model.apply(params, test.x), test.y),
            error_rate(model.apply(params, train.x), train.y),
        )

    nets = jax.vmap(net)(keys)
    best = jnp.argmax(nets[0])
    square = jnp.mean(jnp.sum(jnp.square(train.x), axis=1))
    return *(column[best] for column in nets), square


def _summarize(config: WidthConfig, rows: list[Row]) -> list[Estimate]:
    best: dict[int, float] = {}
    running = []
    for row in sorted((r for r in rows if r["learner"] == "net"), key=lambda row: row["width"]):
        best[row["seed"]] = max(best.get(row["seed"], -np.inf), row["margin"])
        running.append(row | {"running": best[row["seed"]]})
    metrics_of_nets = {"error": SHARE, "train_error": SHARE, "bound": POSITIVE}
    estimates = means(running, ("width",), metrics_of_nets | {"margin": REAL, "running": REAL})
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
    return [
        Table(columns | {"bound": ".1f"}, "running: the largest margin up to this width"),
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
    digits = "digits {classes[0]} against {classes[1]}"
    teacher = "teacher with {units} ReLU units, d = {d}"
    data = teacher if config.data == "teacher" else digits
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
