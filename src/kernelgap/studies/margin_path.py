"""Weak regularisation leads to the largest margin, shown with certificates.

As lambda falls, minimisers of the regularised loss have normalised margins that tend to the largest
one. For two layers the largest margin of any width lies in a certified band; deeper nets and ten
classes show their own margins, and how well they satisfy its first-order conditions.

References:
    Paper A, the theorem on weak regularisation. Data, nets and path of lambda are this project's.
"""

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import datasets, margins, models
from kernelgap.datasets import Dataset
from kernelgap.models import Model
from kernelgap.studies import seeds
from kernelgap.studies.estimates import NAN, POSITIVE, REAL, SHARE, Estimate, Range, Row, means
from kernelgap.studies.execution import Cell
from kernelgap.studies.options import Config, about_options, option
from kernelgap.studies.panels import BLUE, GREEN, GREY, ORANGE, Curve, Panel
from kernelgap.studies.study import Result, Study
from kernelgap.studies.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["STUDY", "MarginPathConfig"]

_PARTS = ("xor", "line", "digits")
_DIGITS_DEPTH = 3


@dataclasses.dataclass(frozen=True)
class MarginPathConfig(Config):
    """Options of the margin-path study; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import margin_path
        >>> tiny = margin_path.MarginPathConfig(
        ...     parts=("line",), line_n=4, depths=(2,), width=8, l2s=(1e-2, 1e-4), steps=50,
        ...     seeds=2)
        >>> len(margin_path.STUDY.run(tiny).rows)
        4
    """

    parts: tuple[Literal["xor", "line", "digits"], ...] = option(
        _PARTS, "subset of: xor, line (exact optimum), digits (ten classes)"
    )
    d: int = option(20, "input dimension of xor", minimum=2)
    n: int = option(160, "training samples of xor", minimum=2)
    line_n: int = option(8, "points of the line; pairs of neighbours share a label", minimum=2)
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
}


def _check(config: MarginPathConfig) -> None:
    if "digits" in config.parts and config.digits_n > (images := len(datasets.digits().y)):
        error = f"`digits_n` must be at most {images}, the number of images; got {config.digits_n}"
        raise about_options(ValueError(error), "digits_n")


def _cells(config: MarginPathConfig) -> list[Cell]:
    return [
        Cell((part, depth))
        for part in config.parts
        for depth in config.depths
        if part != "digits" or depth <= _DIGITS_DEPTH
    ]


def _run_cell(config: MarginPathConfig, identity: tuple) -> list[Row]:
    part, depth = identity
    key = jax.random.fold_in(jax.random.key(config.seed), _PARTS.index(part))
    data_keys, net_keys, search_keys = jax.random.split(key, (3, config.seeds))
    data = jax.device_get(_data(config, part, data_keys))
    outputs = 10 if part == "digits" else None
    model = models.homogeneous_mlp((config.width,) * (depth - 1), outputs=outputs)
    how = (model, config.l2s, config.steps, config.learning_rate)
    paths = jax.device_get(seeds.over_seeds(_path, (net_keys, data), static=how))
    rows = []
    for seed, (x, y) in enumerate(seeds.each(data)):
        path = jax.tree.map(lambda leaf, s=seed: leaf[s], paths)
        nets = [jax.tree.map(lambda leaf, k=k: leaf[k], path.records)
                for k in range(len(config.l2s))]  # fmt: skip
        certified = {"lower": NAN, "upper": NAN}
        loss_gaps = [NAN] * len(config.l2s)
        if depth == 2 and part != "digits":
            best = margins.max_margin(x, y, key=search_keys[seed])
            # The best observed margin is a lower bound as well.
            lower = max(best.lower, float(np.max(path.margins["l2"])))
            certified = {"lower": lower, "upper": best.upper}
            # Below this, terms of the loss are too small for a certificate in double precision.
            loss_gaps = [
                _loss_gap(model, net, x, y, l2) if l2 >= 1e-8 else NAN
                for net, l2 in zip(nets, config.l2s, strict=True)
            ]
        rows += [
            {"part": part, "depth": depth, "seed": seed, "l2": l2}
            | _row(model, path, k, nets[k], x, y)
            | certified
            | {"loss_gap": loss_gaps[k]}
            for k, l2 in enumerate(config.l2s)
        ]
    return rows


def _row(
    model: Model, path: margins.RegularizationPath, k: int, params: Any, x: jax.Array, y: jax.Array
) -> Row:
    """Return what was recorded at one l2, and the optimality conditions of the margin."""
    conditions = margins.kkt_residuals(model, params, x, y)
    return {
        "margin": float(path.margins["l2"][k]),
        "smoothed_margin": float(path.margins["smooth"][k]),
        "norm": float(path.norm[k]),
        "log_loss": float(path.log_loss[k]),
        "log_data_loss": float(path.log_data_loss[k]),
        "stationarity": float(path.stationarity[k]),
        "kkt_stationarity": float(conditions.stationarity),
        "kkt_slackness": float(conditions.slackness),
        "train_error": float(path.train_error[k]),
    }


def _loss_gap(model: Model, params: Any, x: jax.Array, y: jax.Array, l2: float) -> float:
    # (L - lower bound of L*) / L
    bounded = margins.duality_gap(model, params, x, y, l2=l2, steps=0)
    return bounded.gap / bounded.loss


def _data(config: MarginPathConfig, part: str, keys: jax.Array) -> Dataset:
    if part == "xor":
        return seeds.xor(keys, config.n, config.d)
    if part == "line":
        x, y = seeds.line(config.line_n)
        return Dataset(*(jnp.broadcast_to(a, (config.seeds, *a.shape)) for a in (x, y)))
    return seeds.first(seeds.digits(keys, tuple(range(10))), config.digits_n)


def _path(
    model: Model,
    l2s: tuple[float, ...],
    steps: int,
    learning_rate: float,
    key: jax.Array,
    data: Dataset,
) -> margins.RegularizationPath:
    return margins.regularization_path(
        model,
        model.init(key, data.x.shape[1]),
        *data,
        l2s=l2s,
        steps=steps,
        learning_rate=learning_rate,
        record=lambda params: params,
    )


def _summarize(config: MarginPathConfig, rows: list[Row]) -> list[Estimate]:
    rows = [
        row
        | {
            "of_upper": row["margin"] / row["upper"],
            "of_lower": row["margin"] / row["lower"],
            "kkt_gap": row["kkt_stationarity"] ** 2 + 2 * row["kkt_slackness"],
        }
        for row in rows
    ]
    # No margin exceeds the largest one, so that `lower` includes the margins of the path.
    ranges: dict[str, Range] = dict.fromkeys(("train_error", "loss_gap"), SHARE)
    ranges |= dict.fromkeys(("of_upper", "of_lower"), (-np.inf, 1.0))
    ranges |= dict.fromkeys(("margin", "lower", "upper"), REAL)
    ranges |= dict.fromkeys(("kkt_gap", "stationarity", "norm"), POSITIVE)
    estimates = means(rows, ("part", "depth", "l2"), ranges)
    last = {(e.keys["part"], e.keys["depth"]): e.value for e in estimates if e.metric == "margin"}
    estimates += [
        Estimate("of_last", e.keys, e.value / last[e.keys["part"], e.keys["depth"]])
        for e in estimates
        if e.metric == "margin"
    ]
    bands = [row["upper"] / row["lower"] for row in rows if np.isfinite(row["upper"])]
    largest = Estimate("largest_upper_over_lower", {}, max(bands)) if bands else None
    return [*estimates, largest] if largest else estimates


def _tables(config: MarginPathConfig) -> list[Table]:
    shown = {config.l2s[0], config.l2s[len(config.l2s) // 2], config.l2s[-1]}
    columns = {"margin": ".4f", "of_upper": ".3f", "kkt_gap": ".1e", "loss_gap": ".1e"}
    return [
        Table(columns, where=lambda keys: keys["l2"] in shown),
        Table({"largest_upper_over_lower": ".4f"}, "certified"),
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
            ]
            draw = partial(_band, part)
            title = f"{_NAMES[part]}, two layers"
            panels.append(Panel(title, "l2", curves, ylabel="normalised margin", draw=draw,
                                legend="lower right", **look))  # fmt: skip
    relative, residual = (
        [
            Curve(metric, {"part": part, "depth": depth}, f"{part}, depth {depth}",
                  _COLORS[part], *_DEEP.get(depth, ("v", "-.")), intervals="none")
            for part, depth in result.cells
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
