"""With and without weight decay from the same large initialisation.

From a large initialisation gradient descent stays lazy: activation patterns hardly change and the
net behaves like its tangent kernel. Weak l2 regularisation ends that regime from any start: the
weights shrink, patterns change, the normalised margin grows. Both nets start from the same weights:
units in pairs that cancel, so that the output starts at 0, or every weight N(0, 1).

References:
    Paper A (regularisation takes the net out of the kernel's regime). The preset `paper` has the
    settings of its experiment, as recalled: labels of a teacher with 10 units and a margin of .01,
    weights N(0, 1); the width and the inputs are this project's. So is the default, on the XOR
    distribution: doubled initialisation (L. Chizat, E. Oyallon, F. Bach, NeurIPS 2019), gradient
    descent with momentum, which stays linear in the lazy regime.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from kernelgap.studies import regularization_nets, seeds
from kernelgap.studies.estimates import NAN, POSITIVE, REAL, SHARE, Estimate, Row, means
from kernelgap.studies.execution import Cell
from kernelgap.studies.options import Config, option
from kernelgap.studies.panels import BLUE, GREEN, ORANGE, Curve, Panel, level
from kernelgap.studies.study import Result, Study
from kernelgap.studies.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["STUDY", "RegularizationConfig"]


@dataclasses.dataclass(frozen=True)
class RegularizationConfig(Config):
    """Options of the regularization study; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import regularization
        >>> tiny = regularization.RegularizationConfig(
        ...     d=4, n=20, width=16, seeds=2, n_test=200, steps=20, records=4)
        >>> len(regularization.STUDY.run(tiny).rows)  # 2 nets, 2 seeds, 5 steps; the kernel's 2
        22
    """

    data: Literal["xor", "teacher", "digits"] = option(
        "xor", "xor or teacher (paper A), or digits (scikit-learn)"
    )
    d: int = option(20, "input dimension (xor, teacher)", minimum=2)
    n: int = option(160, "training samples", minimum=2)
    signal: Literal["axis", "cube"] = option("axis", "form of the xor signal: axis or cube")
    noise: Literal["sign", "gaussian"] = option("sign", "noise distribution: sign or gaussian")
    units: int = option(10, "hidden units of the teacher, whose weights are N(0, 1)", minimum=2)
    margin: float = option(0.01, "smallest absolute output of the teacher", minimum=0)
    classes: tuple[int, ...] = option(
        (3, 8), "two digits to tell apart (digits)", minimum=0, maximum=9, length=2
    )
    seeds: int = option(10, "independent repetitions", minimum=2)
    seed: int = option(0, "base of all random keys", minimum=0)
    n_test: int = option(10_000, "fresh test samples for each repetition (xor, teacher)", minimum=1)
    width: int = option(512, "hidden units, an even number", minimum=2, multiple_of=2)
    start: Literal["paired", "normal"] = option(
        "paired", "usual weights, units in pairs that cancel; or every weight normal, N(0, 1)"
    )
    init_scale: float = option(
        4.0, "factor on the initial weights; a large one makes training lazy", above=0
    )
    l2: float = option(3e-3, "strength of the weight decay of the regularised net", above=0)
    learning_rate: float = option(0.02, "learning rate of gradient descent", above=0)
    momentum: float = option(0.9, "momentum of gradient descent", minimum=0, maximum=0.999)
    steps: int = option(6000, "full-batch steps", minimum=1)
    records: int = option(60, "number of recorded times", minimum=1, divides="steps")


_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"width": 256, "n_test": 4000, "seeds": 5, "steps": 4000, "records": 40},
    "default": {},
    "large": {"d": 40, "n": 400, "width": 1024, "steps": 12_000},
    "paper": {
        "data": "teacher",
        "n": 200,
        "seeds": 20,
        "width": 500,
        "start": "normal",
        "init_scale": 1.0,
        "l2": 5e-4,
        "learning_rate": 0.1,
        "momentum": 0.0,
        "steps": 20_000,
        "records": 100,
    },
}
_NETS: dict[str, dict[str, Any]] = {
    "regularised": {"color": BLUE, "label": "regularised"},
    "unregularised": {"color": ORANGE, "style": "--", "label": "unregularised"},
}


def _check(config: RegularizationConfig) -> None:
    if config.data == "digits":
        seeds.leave_some(config.n, config.classes, "n")


def _cells(config: RegularizationConfig) -> list[Cell]:
    return [
        Cell((learner, block.start))
        for learner in (*_NETS, "ntk")
        for block in seeds.blocks(config.seeds)
    ]


def _run_cell(config: RegularizationConfig, identity: tuple) -> list[Row]:
    learner, start = identity
    block = seeds.block(config.seeds, start)
    return regularization_nets.rows(config, learner, block)


def _summarize(config: RegularizationConfig, rows: list[Row]) -> list[Estimate]:
    errors = {"error": SHARE, "train_error": SHARE, "margin": REAL}
    others = {"activation_change": SHARE, "norm": POSITIVE, "loss": POSITIVE}
    nets = [row for row in rows if row["learner"] != "ntk"]
    kernel = [row for row in rows if row["learner"] == "ntk"]
    return means(nets, ("learner", "step"), errors | others) + means(kernel, ("learner",), errors)


def _tables(config: RegularizationConfig) -> list[Table]:
    ends = {0, config.steps}
    columns = {"error": ".3f", "margin": ".4f", "activation_change": ".3f"}
    return [Table(columns, where=lambda keys: keys.get("step", 0) in ends)]


def _panels(result: Result) -> list[Panel]:
    def panel(metric: str, title: str, **look: Any) -> Panel:
        curves = [Curve(metric, {"learner": learner}, **v) for learner, v in _NETS.items()]
        x = "step" if metric == "activation_change" else _after_the_start
        ticks = [k * result.config.steps / 4 for k in range(5)]
        look = {"ticks": ticks, "draw": _lines} | look
        return Panel(title, x, curves, "step of gradient descent", **look)

    return [
        panel("error", "test error", bottom=0),
        panel("margin", "normalised margin"),
        panel("activation_change", "share of activation patterns changed", bottom=0),
    ]


def _after_the_start(keys: Any) -> float:
    """Leave out the start, where a net of pairs is 0 and error and margin have no meaning."""
    return keys["step"] or NAN


def _lines(ax: "Axes", result: Result) -> None:
    """Draw the kernel's error, and the margin of the network that xor was planted with."""
    config = result.config
    ax.set_xlim(0, config.steps)
    if ax.get_title() == "test error":
        level(ax, result.select("error", {"learner": "ntk"})[0], "NTK hard-margin SVM")
    elif ax.get_title() == "normalised margin" and config.data == "xor":
        planted = 1 / 8 if config.signal == "axis" else 2**-2.5
        ax.axhline(planted, color=GREEN, lw=1.3, ls="-.", label="planted network")


def _caption(config: RegularizationConfig) -> str:
    data = "teacher with {units} ReLU units" if config.data == "teacher" else "{data}"
    start = "weights N(0, 1)" if config.start == "normal" else "the same initialisation"
    return (
        f"{data}, n = {{n}}, {{width}} units from {start} scaled by {{init_scale:g}}, "
        "λ = {l2:g} or 0, {seeds} seeds, 95% intervals"
    )


STUDY = Study(
    name="regularization",
    title="with and without weight decay from the same lazy start, against the tangent kernel",
    about=__doc__ or "",
    config=RegularizationConfig,
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
