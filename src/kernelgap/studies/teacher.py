"""Network against kernels on labels from a small ReLU network.

The labels are the signs of a random two-layer teacher. Three learners see the same n samples:

- net: a two-layer ReLU net with annealed weak l2 regularisation, all layers trained;
- ntk: the hard-margin SVM of its neural tangent kernel: both layers, linearised;
- last: the hard-margin SVM of its last-layer (NNGP) kernel: random features, readout trained.

References:
    In the style of paper A's experiments on a planted network with 6 units and d = 20; their
    settings are not known to us, and the protocol is this project's.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

from kernelgap import bounds, datasets, kernels, metrics
from kernelgap.datasets import Dataset
from kernelgap.models import Model
from kernelgap.studies import learners, seeds
from kernelgap.studies.estimates import (
    NAN,
    POSITIVE,
    REAL,
    SHARE,
    Estimate,
    Row,
    grouped,
    means,
    n_at_target,
    percentile_interval,
)
from kernelgap.studies.execution import Cell
from kernelgap.studies.options import Config, option
from kernelgap.studies.panels import BLUE, ORANGE, PURPLE, Curve, Panel, mark_vacuous
from kernelgap.studies.seeds import over_seeds
from kernelgap.studies.study import Result, Study
from kernelgap.studies.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["STUDY", "TeacherConfig"]


@dataclasses.dataclass(frozen=True)
class TeacherConfig(Config):
    """Options of the teacher study; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import teacher
        >>> tiny = teacher.TeacherConfig(
        ...     d=4, sizes=(10, 20), seeds=2, n_test=200, width=8, steps=20)
        >>> len(teacher.STUDY.run(tiny).rows)
        12
    """

    d: int = option(20, "input dimension", minimum=1)
    units: int = option(6, "hidden units of the teacher", minimum=2)
    inputs: Literal["sphere", "gaussian"] = option(
        "sphere", "sphere (of radius sqrt(d)), or gaussian, whose unbounded norms allow no bounds"
    )
    sizes: tuple[int, ...] = option(
        (25, 50, 100, 200, 400, 800, 1600, 3200), "training sizes n", minimum=2, increasing=True
    )
    seeds: int = option(10, "repetitions, each with its own teacher and sample", minimum=2)
    seed: int = option(0, "base of all random keys", minimum=0)
    n_test: int = option(10_000, "fresh test samples for each seed", minimum=1)
    width: int = option(128, "hidden units of the net", minimum=1)
    steps: int = option(300, "full-batch Adam steps for each l2", minimum=1)
    learning_rate: float = option(0.02, "Adam learning rate", above=0)
    l2s: tuple[float, ...] = option(
        (1e-2, 3e-3, 1e-3, 3e-4, 1e-4), "strengths of the weight decay", above=0, decreasing=True
    )
    delta: float = option(
        0.05, "probability with which a bound may fail", minimum=1e-12, maximum=0.5
    )
    target: float = option(
        0.1, "test error at which sample sizes are compared", above=0, maximum=0.5
    )


_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "sizes": (50, 100, 200, 400, 800),
        "n_test": 4000,
        "width": 64,
        "steps": 200,
        "seeds": 5,
    },
    "default": {},
    "large": {"sizes": (100, 200, 400, 800, 1600, 3200, 6400), "width": 256},
}
_LEARNERS: dict[str, dict[str, Any]] = {
    "net": {"color": BLUE, "marker": "o", "label": "l2-regularised net"},
    "ntk": {"color": ORANGE, "marker": "s", "label": "NTK hard-margin SVM"},
    "last": {"color": PURPLE, "marker": "D", "label": "last-layer kernel, hard-margin SVM"},
}


def _cells(config: TeacherConfig) -> list[Cell]:
    return [
        Cell((learner, n), alone=learner != "net" and n >= learners.ALONE_FROM)
        for learner in _LEARNERS
        for n in config.sizes
    ]


def _run_cell(config: TeacherConfig, identity: tuple) -> list[Row]:
    learner, n = identity
    keys = jax.random.split(jax.random.key(config.seed), (4, config.seeds))
    teacher_keys, train_keys, test_keys, net_keys = keys
    form: dict[str, Any] = {"units": config.units, "inputs": config.inputs}
    stream = seeds.teacher(teacher_keys, train_keys, config.sizes[-1], config.d, **form)
    test = seeds.teacher(teacher_keys, test_keys, config.n_test, config.d, **form)
    train = seeds.first(stream, n)
    radius = config.d**0.5 if config.inputs == "sphere" else None
    if learner == "net":
        model = learners.two_layer_net(config.width)
        rows = learners.annealed_nets(model, net_keys, stream, n, test, config)
        rows = [row | _net_bounds(row, n, radius, config.delta) for row in rows]
    else:
        kernel = (
            kernels.ntk(learners.KERNEL_NET)
            if learner == "ntk"
            else kernels.nngp(learners.KERNEL_NET)
        )
        pairs = zip(seeds.each(train), seeds.each(test), strict=True)
        rows = [learners.kernel_svm(kernel, *pair) for pair in pairs]
        size = None if radius is None else float(kernel.diag(test.x[0, :1])[0]) ** 0.5
        rows = [row | _kernel_bounds(row, n, size, config.delta) for row in rows]
    static = (learners.two_layer_net(config.units), config.d, config.units)
    planted = jax.device_get(over_seeds(_planted_margin, (teacher_keys, train), static=static))
    point = {"learner": learner, "n": n}
    return [
        point | {"seed": seed} | row | {"teacher_margin": float(planted[seed])}
        for seed, row in enumerate(rows)
    ]


def _net_bounds(row: Row, n: int, radius: float | None, delta: float) -> Row:
    """Evaluate paper A's bound of its first version, for two layers of any width."""
    if radius is None or row["train_error"] != 0:
        return {
            "bound": NAN,
            "leave_one_out": NAN,
        }  # bounds need a training error of 0
    bound = bounds.two_layer_margin_bound(row["margin"], n=n, radius=radius, delta=delta)
    return {"bound": float(bound.value), "leave_one_out": NAN}


def _kernel_bounds(row: Row, n: int, radius: float | None, delta: float) -> Row:
    """Evaluate the kernel's bound, and the leave-one-out bound on the mean over samples."""
    if radius is None or not row["margin"] > 0:
        return {"bound": NAN, "leave_one_out": NAN}
    bound = bounds.kernel_margin_bound(row["margin"], n=n, radius=radius, delta=delta)
    mean = bounds.leave_one_out(row["margin"], n=n, radius=radius)
    return {"bound": float(bound.value), "leave_one_out": float(mean.value)}


def _planted_margin(
    model: Model, d: int, units: int, teacher_key: jax.Array, data: Dataset
) -> jax.Array:
    """Return the teacher's normalised margin, a lower bound on that of the best network."""
    params = datasets.planted_teacher(teacher_key, d, units=units)
    return metrics.normalized_margin(model, params, *data)


def _summarize(config: TeacherConfig, rows: list[Row]) -> list[Estimate]:
    shares = dict.fromkeys(("error", "train_error"), SHARE)
    others = {"bound": POSITIVE, "leave_one_out": POSITIVE, "margin": REAL, "teacher_margin": REAL}
    estimates = means(rows, ("learner", "n"), shares | others)
    errors = {(row["learner"], row["n"], row["seed"]): row["error"] for row in rows}
    # Learners of a seed share its teacher and samples, so that their difference varies less.
    behind = [
        row | {"error_above_the_net": row["error"] - errors["net", row["n"], row["seed"]]}
        for row in rows
        if row["learner"] != "net"
    ]
    estimates += means(behind, ("learner", "n"), {"error_above_the_net": (-1.0, 1.0)})
    rng = np.random.default_rng(config.seed)
    for (learner,), mine in grouped(rows, ("learner",)).items():
        interval = percentile_interval(*n_at_target(mine, config.target, rng))
        estimates.append(Estimate("n_at_target", {"learner": learner}, *interval))
    gap = float(np.nanmax([row["duality_gap"] for row in behind]))
    return [*estimates, Estimate("largest_duality_gap", {}, gap)]


def _tables(config: TeacherConfig) -> list[Table]:
    columns = {"error": ".4f", "margin": ".4f", "error_above_the_net": "+.4f", "bound": ".3g"}
    return [
        Table(columns, f"bounds hold with probability {1 - config.delta:.0%}"),
        Table({"n_at_target": ".0f"}, f"samples at {config.target:.0%} test error"),
    ]


def _panels(result: Result) -> list[Panel]:
    config: TeacherConfig = result.config

    def panel(metric: str, title: str, ylabel: str, **look: Any) -> Panel:
        curves = [
            Curve(
                metric,
                {"learner": k},
                v["label"] if metric == "error" else "",
                v["color"],
                v["marker"],
            )
            for k, v in _LEARNERS.items()
        ]
        look = {"log": "x", "xlabel": "training samples n"} | look
        return Panel(title, "n", curves, ylabel=ylabel, **look)

    certainty = f"bound from the margin, at {1 - config.delta:.0%}"
    return [
        panel("error", "test error", "test error", bottom=0),
        panel(
            "error_above_the_net",
            "behind the net, same teacher and samples",
            "test error minus that of the net",
            draw=_net_line,
        ),
        panel(
            "margin",
            "margins on the training set",
            "normalised margin, each in its own norm",
            log="xy",
        ),
        panel("bound", certainty, "bound on the test error", log="xy", draw=mark_vacuous),
    ]


def _net_line(ax: "Axes", result: Result) -> None:
    ax.axhline(0, color=BLUE, lw=1.3)


STUDY = Study(
    name="teacher",
    title="a net, its tangent kernel and its last-layer kernel on a small ReLU teacher",
    about=__doc__ or "",
    config=TeacherConfig,
    presets=_PRESETS,
    cells=_cells,
    run_cell=_run_cell,
    summarize=_summarize,
    tables=_tables,
    panels=_panels,
    caption="{units} ReLU units, d = {d}, {inputs} inputs, {seeds} seeds, 95% intervals",
)
"""The study; `STUDY.run(config)` runs it."""
