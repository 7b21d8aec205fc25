"""Network against kernels on labels from a small ReLU network.

The labels are the signs of a random two-layer teacher, on inputs where its output is at least
`margin`; in the regression, targets are its outputs. Three learners see the same n samples:

- net: a two-layer ReLU net with annealed weak l2 regularisation, all layers trained;
- ntk: the hard-margin SVM of its neural tangent kernel: both layers, linearised;
- last: the hard-margin SVM of its last-layer (NNGP) kernel: random features, readout trained.

In the regression, nets minimise the squared loss, and kernels interpolate with the least norm.

References:
    Paper A, first version: net against kernel on a teacher with 6 units, d = 20 and an unnormalised
    margin of .1, with 20,000 steps, lambda = 1e-8 and 100 trials, which the preset `paper` has. The
    paper's kernel is `last`. What is not known to us are options with values of ours: numbers of
    samples, width, optimiser and learning rate, distributions of inputs and teacher.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kernelgap.studies import learners, seeds, teacher_fits
from kernelgap.studies.estimates import (
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
from kernelgap.studies.panels import BLUE, GREY, ORANGE, PURPLE, Curve, Panel, mark_vacuous
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
        24
    """

    d: int = option(20, "input dimension", minimum=1)
    units: int = option(6, "hidden units of the teacher", minimum=2)
    weights: Literal["unit", "normal"] = option(
        "unit", "weights of the teacher: unit vectors and alternating signs, or normal, N(0, 1)"
    )
    margin: float = option(
        0.1, "smallest absolute output of the teacher in the classification", minimum=0
    )
    tasks: tuple[Literal["classification", "regression"], ...] = option(
        ("classification", "regression"), "signs of the teacher, its outputs, or both"
    )
    inputs: Literal["sphere", "gaussian"] = option(
        "sphere", "sphere (of radius sqrt(d)), or gaussian, whose unbounded norms allow no bounds"
    )
    sizes: tuple[int, ...] = option(
        (25, 50, 100, 200, 400, 800, 1600, 3200), "training sizes n", minimum=2, increasing=True
    )
    regression_limit: int = option(
        800, "largest n of the regression, in which nets are exact from there on", minimum=2
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
    "paper": {"seeds": 100, "steps": 20_000, "l2s": (1e-8,), "regression_limit": 3200},
}
_LEARNERS: dict[str, dict[str, Any]] = {
    "net": {"color": BLUE, "marker": "o", "label": "l2-regularised net"},
    "ntk": {"color": ORANGE, "marker": "s", "label": "NTK hard-margin SVM"},
    "last": {"color": PURPLE, "marker": "D", "label": "last-layer kernel, hard-margin SVM"},
}


def _cells(config: TeacherConfig) -> list[Cell]:
    return [
        Cell((task, learner, n, block.start), alone=learner != "net" and n >= learners.ALONE_FROM)
        for task in config.tasks
        for learner in _LEARNERS
        for n in config.sizes
        if task == "classification" or n <= config.regression_limit
        for block in seeds.blocks(config.seeds)
    ]


def _run_cell(config: TeacherConfig, identity: tuple) -> list[Row]:
    task, learner, n, start = identity
    block = seeds.block(config.seeds, start)
    rows = teacher_fits.rows(config, task, learner, n, block)
    point = {"task": task, "learner": learner, "n": n}
    return [point | {"seed": seed} | row for seed, row in zip(block, rows, strict=True)]


def _summarize(config: TeacherConfig, rows: list[Row]) -> list[Estimate]:
    regression = [row for row in rows if row["task"] == "regression"]
    estimates = means(regression, ("learner", "n"), {"squared_error": POSITIVE})
    rows = [row for row in rows if row["task"] == "classification"]
    if not rows:
        return estimates
    shares = dict.fromkeys(("error", "train_error"), SHARE)
    others = {"bound": POSITIVE, "leave_one_out": POSITIVE, "margin": REAL, "teacher_margin": REAL}
    estimates = means(rows, ("learner", "n"), shares | others) + estimates
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
        Table({"squared_error": ".2g"}, "regression, squared error over variance"),
        Table({"n_at_target": ".0f"}, f"samples at {config.target:.0%} test error"),
    ]


def _panels(result: Result) -> list[Panel]:
    config: TeacherConfig = result.config

    def panel(metric: str, title: str, ylabel: str, *others: Curve, **look: Any) -> Panel:
        kind = {"error": "hard-margin SVM", "squared_error": "least norm"}.get(metric, "")
        curves = [
            Curve(
                metric,
                {"learner": k},
                v["label"].replace("hard-margin SVM", kind) if kind else "",
                v["color"],
                v["marker"],
            )
            for k, v in _LEARNERS.items()
        ]
        look = {"log": "x", "xlabel": "training samples n"} | look
        return Panel(title, "n", [*curves, *others], ylabel=ylabel, **look)

    regression = panel("squared_error", "regression", "squared test error over variance", log="xy")
    if "classification" not in config.tasks:
        return [regression]
    teacher = Curve(
        "teacher_margin", {"learner": "net"}, "the teacher's", GREY, style="--", intervals="none"
    )
    certainty = f"bound from the margin, at {1 - config.delta:.0%}"
    panels = [
        panel("error", "classification", "test error", bottom=0),
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
            teacher,
            log="xy",
        ),
        panel("bound", certainty, "bound on the test error", log="xy", draw=mark_vacuous),
    ]
    return [*panels, regression] if "regression" in config.tasks else panels


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
    caption="{units} ReLU units, margin {margin:g}, d = {d}, {inputs} inputs, {seeds} seeds, "
    "95% intervals",
)
"""The study; `STUDY.run(config)` runs it."""
