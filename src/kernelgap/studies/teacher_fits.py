"""Fits of the teacher study: net and kernels, classification and regression."""

from typing import TYPE_CHECKING, Any

import jax

from kernelgap import bounds, datasets, kernels, metrics
from kernelgap.datasets import Dataset
from kernelgap.models import Model
from kernelgap.studies import learners, seeds
from kernelgap.studies.estimates import NAN, Row
from kernelgap.studies.seeds import over_seeds

if TYPE_CHECKING:
    from kernelgap.studies.teacher import TeacherConfig

_COLUMNS = (
    "error", "squared_error", "train_error", "margin", "duality_gap", "bound", "leave_one_out",
    "teacher_margin",
)  # fmt: skip


def rows(config: "TeacherConfig", task: str, learner: str, n: int, block: range) -> list[Row]:
    """Return a row per seed of a block."""
    keys = jax.random.split(jax.random.key(config.seed), (4, config.seeds))
    teacher_keys, train_keys, test_keys, net_keys = keys[:, block.start : block.stop]
    form: dict[str, Any] = {"units": config.units, "weights": config.weights}
    form |= {"inputs": config.inputs}
    if task == "classification":
        form |= {"margin": config.margin}
    else:
        form |= {"labels": "value"}
    stream = seeds.teacher(teacher_keys, train_keys, config.sizes[-1], config.d, **form)
    test = seeds.teacher(teacher_keys, test_keys, config.n_test, config.d, **form)
    model = learners.two_layer_net(config.width)
    kernel = None
    if learner != "net":
        build = kernels.ntk if learner == "ntk" else kernels.nngp
        kernel = build(learners.KERNEL_NET)
    if task == "regression":
        if kernel is None:
            errors = learners.regression_nets(model, net_keys, stream, n, test, config)
        else:
            pairs = zip(seeds.each(seeds.first(stream, n)), seeds.each(test), strict=True)
            errors = [learners.kernel_regression(kernel, *pair) for pair in pairs]
        return [dict.fromkeys(_COLUMNS, NAN) | {"squared_error": error} for error in errors]
    train = seeds.first(stream, n)
    radius = config.d**0.5 if config.inputs == "sphere" else None
    if kernel is None:
        fits = learners.annealed_nets(model, net_keys, stream, n, test, config)
        fits = [row | _net_bounds(row, n, radius, config.delta) for row in fits]
    else:
        pairs = zip(seeds.each(train), seeds.each(test), strict=True)
        fits = [learners.kernel_svm(kernel, *pair) for pair in pairs]
        size = None if radius is None else float(kernel.diag(test.x[0, :1])[0]) ** 0.5
        fits = [row | _kernel_bounds(row, n, size, config.delta) for row in fits]
    static = (learners.two_layer_net(config.units), config.d, config.units, config.weights)
    planted = over_seeds(_planted_margin, (teacher_keys, train), static=static).tolist()
    return [
        {name: row.get(name, NAN) for name in _COLUMNS} | {"teacher_margin": margin}
        for row, margin in zip(fits, planted, strict=True)
    ]


def _net_bounds(row: Row, n: int, radius: float | None, delta: float) -> Row:
    """Evaluate paper A's bound of its first version, for two layers of any width."""
    if radius is None or row["train_error"] != 0:
        return {}  # bounds need a training error of 0
    bound = bounds.two_layer_margin_bound(row["margin"], n=n, radius=radius, delta=delta)
    return {"bound": float(bound.value)}


def _kernel_bounds(row: Row, n: int, radius: float | None, delta: float) -> Row:
    """Evaluate the kernel's bound, and the leave-one-out bound on the mean over samples."""
    if radius is None or not row["margin"] > 0:
        return {}
    bound = bounds.kernel_margin_bound(row["margin"], n=n, radius=radius, delta=delta)
    mean = bounds.leave_one_out(row["margin"], n=n, radius=radius)
    return {"bound": float(bound.value), "leave_one_out": float(mean.value)}


def _planted_margin(
    model: Model,
    d: int,
    units: int,
    weights: datasets.Weights,
    teacher_key: jax.Array,
    data: Dataset,
) -> jax.Array:
    """Return the teacher's normalised margin, a lower bound on that of the best network."""
    params = datasets.planted_teacher(teacher_key, d, units=units, weights=weights)
    return metrics.normalized_margin(model, params, *data, norm="balanced")
