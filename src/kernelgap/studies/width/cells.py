"""The cells of the width study: a width each, and the certificate for all widths."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kernelgap import bounds, margins, metrics
from kernelgap.datasets import Dataset
from kernelgap.models import Model
from kernelgap.studies import samples
from kernelgap.studies.journal import Row
from kernelgap.studies.learners import NAN, error_rate, two_layer_net
from kernelgap.studies.study import Cell
from kernelgap.studies.width.config import WidthConfig


def cells(config: WidthConfig) -> list[Cell]:
    """A cell for each width, and one for the certificate."""
    if config.data == "digits":
        samples.leave_some((config.n,), config.classes, "n")
    certificate = [Cell(("any", 0))] if config.certified else []
    return [Cell(("net", width)) for width in config.widths] + certificate


def run_cell(config: WidthConfig, identity: tuple) -> list[Row]:
    """A row per seed: of the best net of a width, or of the certificate for any width."""
    learner, width = identity
    teacher_keys, train_keys, test_keys, net_keys = jax.random.split(
        jax.random.key(config.seed), (4, config.seeds)
    )
    if config.data == "digits":
        train, test = samples.split(samples.digits(train_keys, config.classes), config.n)
    else:
        form: dict[str, Any] = {"units": config.units, "inputs": "sphere"}
        train = samples.teacher(teacher_keys, train_keys, config.n, config.d, **form)
        test = samples.teacher(teacher_keys, test_keys, config.n_test, config.d, **form)
    if learner == "any":
        pairs = zip(net_keys, samples.each(train), strict=True)
        return [
            _certificate(seed, key, data) for seed, (key, data) in enumerate(pairs)
            if seed < config.certified
        ]  # fmt: skip
    columns = jax.device_get(
        _best_nets(
            two_layer_net(width),
            jax.vmap(partial(jax.random.split, num=config.restarts))(net_keys),
            train,
            test,
            l2s=config.l2s,
            steps=config.steps,
            learning_rate=config.learning_rate,
        )
    )
    # The largest norm under the distribution: of the sphere; of 64 pixels in [0, 1].
    radius = 8.0 if config.data == "digits" else config.d**0.5
    rows = []
    for seed in range(config.seeds):
        margin, error, train_error, square = (float(column[seed]) for column in columns)
        found = bounds.two_layer_margin_bound(
            margin, n=config.n, radius=radius, mean_square=square, delta=config.delta
        )
        rows.append(
            {"learner": learner, "width": width, "seed": seed, "error": error}
            | {"train_error": train_error, "margin": margin, "upper": NAN}
            | {"bound": float(found.value) if margin > 0 else NAN}
        )
    return rows


def _certificate(seed: int, key: jax.Array, data: Dataset) -> Row:
    """The largest margin of any width, between what a net reaches and what none exceeds."""
    found = margins.max_margin(*data, key=key, upper=False)
    upper = margins.upper_bound(*data).value
    row = {"learner": "any", "width": 0, "seed": seed, "error": NAN, "train_error": NAN}
    return row | {"margin": float(found.lower), "upper": float(upper), "bound": NAN}


@partial(jax.jit, static_argnames=("model", "l2s", "steps", "learning_rate"))
def _best_nets(
    model: Model,
    keys: jax.Array,
    train: Dataset,
    test: Dataset,
    *,
    l2s: tuple[float, ...],
    steps: int,
    learning_rate: float,
) -> tuple[jax.Array, ...]:
    """(margin, error, training error, mean ||x||^2) for each seed: the best of its restarts."""

    def one(keys: jax.Array, train: Dataset, test: Dataset) -> tuple[jax.Array, ...]:
        def net(key: jax.Array) -> tuple[jax.Array, ...]:
            path = margins.regularization_path(
                model,
                model.init(key, train.x.shape[1]),
                *train,
                l2s=l2s,
                steps=steps,
                learning_rate=learning_rate,
            )
            params = path.params
            return (
                metrics.normalized_margin(model, params, *train),
                error_rate(model.apply(params, test.x), test.y),
                error_rate(model.apply(params, train.x), train.y),
            )

        nets = jax.vmap(net)(keys)
        best = jnp.argmax(nets[0])
        square = jnp.mean(jnp.sum(jnp.square(train.x), axis=1))
        return *(column[best] for column in nets), square

    return jax.vmap(one)(keys, train, test)
