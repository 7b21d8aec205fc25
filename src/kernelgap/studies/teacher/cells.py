"""The cells of the teacher study: a learner and a number of samples each."""

from functools import partial
from typing import Any

import jax

from kernelgap import bounds, datasets, kernels, metrics
from kernelgap.datasets import Dataset
from kernelgap.studies import samples
from kernelgap.studies.journal import Row
from kernelgap.studies.learners import (
    ALONE_FROM,
    KERNEL_NET,
    NAN,
    annealed_nets,
    kernel_svm,
    two_layer_net,
)
from kernelgap.studies.study import Cell
from kernelgap.studies.teacher.config import TeacherConfig

LEARNERS = ("net", "ntk", "last")


def cells(config: TeacherConfig) -> list[Cell]:
    """A cell for each learner and n; those that hold a large Gram matrix run alone."""
    return [
        Cell((learner, n), alone=learner != "net" and n >= ALONE_FROM)
        for learner in LEARNERS
        for n in config.sizes
    ]


def run_cell(config: TeacherConfig, identity: tuple) -> list[Row]:
    """A row per seed of one learner at one n."""
    learner, n = identity
    keys = jax.random.split(jax.random.key(config.seed), (4, config.seeds))
    teacher_keys, train_keys, test_keys, net_keys = keys
    form: dict[str, Any] = {"units": config.units, "inputs": config.inputs}
    stream = samples.teacher(teacher_keys, train_keys, config.sizes[-1], config.d, **form)
    test = samples.teacher(teacher_keys, test_keys, config.n_test, config.d, **form)
    train = samples.first(stream, n)
    radius = config.d**0.5 if config.inputs == "sphere" else None
    if learner == "net":
        rows = annealed_nets(
            two_layer_net(config.width),
            net_keys,
            train,
            test,
            l2s=config.l2s,
            steps=config.steps,
            learning_rate=config.learning_rate,
        )
        rows = [row | _net_bounds(row, n, radius, config.delta) for row in rows]
    else:
        kernel = kernels.ntk(KERNEL_NET) if learner == "ntk" else kernels.nngp(KERNEL_NET)
        pairs = zip(samples.each(train), samples.each(test), strict=True)
        rows = [kernel_svm(kernel, *pair) for pair in pairs]
        size = None if radius is None else float(kernel.diag(test.x[0, :1])[0]) ** 0.5
        rows = [row | _kernel_bounds(row, n, size, config.delta) for row in rows]
    known = jax.device_get(_planted_margins(teacher_keys, train, config.d, config.units))
    point = {"learner": learner, "n": n}
    return [
        point | {"seed": seed} | row | {"teacher_margin": float(known[seed])}
        for seed, row in enumerate(rows)
    ]


def _net_bounds(row: Row, n: int, radius: float | None, delta: float) -> Row:
    """Paper A's bound of the first version, for two layers; needs no largest width."""
    if radius is None or row["train_error"] != 0:
        return {"bound": NAN, "leave_one_out": NAN}  # the bounds are for classifiers without error
    found = bounds.two_layer_margin_bound(row["margin"], n=n, radius=radius, delta=delta)
    return {"bound": float(found.value), "leave_one_out": NAN}


def _kernel_bounds(row: Row, n: int, radius: float | None, delta: float) -> Row:
    """The kernel's bound from its margin, and the leave-one-out bound on the mean over samples."""
    if radius is None or not row["margin"] > 0:
        return {"bound": NAN, "leave_one_out": NAN}
    found = bounds.kernel_margin_bound(row["margin"], n=n, radius=radius, delta=delta)
    mean = bounds.leave_one_out(row["margin"], n=n, radius=radius)
    return {"bound": float(found.value), "leave_one_out": float(mean.value)}


@partial(jax.jit, static_argnames=("d", "units"))
def _planted_margins(teacher_keys: jax.Array, train: Dataset, d: int, units: int) -> jax.Array:
    """The normalised margin of each teacher itself, which the best network's is not below."""
    model = two_layer_net(units)

    def one(teacher_key: jax.Array, data: Dataset) -> jax.Array:
        params = datasets.planted_teacher(teacher_key, d, units=units)
        return metrics.normalized_margin(model, params, *data)

    return jax.vmap(one)(teacher_keys, train)
