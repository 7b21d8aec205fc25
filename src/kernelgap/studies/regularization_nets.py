"""The nets of the regularization study: their data, their start, their training."""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kernelgap import kernels, lazy, metrics, objectives, optim
from kernelgap._numerics.trees import squared_norm
from kernelgap.datasets import Dataset
from kernelgap.metrics import error_rate
from kernelgap.models import Model, Params
from kernelgap.studies import seeds
from kernelgap.studies.estimates import NAN, Row
from kernelgap.studies.learners import KERNEL_NET, kernel_svm, two_layer_net
from kernelgap.studies.seeds import over_seeds

if TYPE_CHECKING:
    from kernelgap.studies.regularization import RegularizationConfig


def rows(config: "RegularizationConfig", learner: str, block: range) -> list[Row]:
    """Return the rows of a learner for a block of seeds: one per recorded step of a net."""
    keys = jax.random.split(jax.random.key(config.seed), (3, config.seeds))
    train_keys, test_keys, net_keys = keys[:, block.start : block.stop]
    train, test = _data(config, train_keys, test_keys)
    model = two_layer_net(config.width)
    if learner == "ntk":
        # Weights N(0, 1) have the kernel of the "ntk" parameterization, up to a factor.
        kernel = kernels.ntk(model if config.start == "paired" else KERNEL_NET)
        pairs = zip(seeds.each(train), seeds.each(test), strict=True)
        fits = [kernel_svm(kernel, *pair) for pair in pairs]
        return [_row(learner, seed, NAN, row) for seed, row in zip(block, fits, strict=True)]
    static = (config.start, config.width, train.x.shape[-1], config.init_scale)
    params = over_seeds(_start, (net_keys,), static=static)
    l2 = jnp.asarray(config.l2 if learner == "regularised" else 0.0, train.x.dtype)
    every = config.steps // config.records
    first = over_seeds(_look, (params, params, train, test), static=(model,))
    how = (model, config.learning_rate, config.momentum, config.steps, every)
    records = over_seeds(_train, (params, train, test), static=how, shared=(l2,))
    first, records = jax.device_get((first, records))
    measured = []
    for k, seed in enumerate(block):
        measured.append(_row(learner, seed, 0, {name: v[k] for name, v in first._asdict().items()}))
        for i in range(config.records):
            look: dict[str, Any] = {name: v[k, i] for name, v in records._asdict().items()}
            measured.append(_row(learner, seed, (i + 1) * every, look))
    return measured


def _data(
    config: "RegularizationConfig", train_keys: jax.Array, test_keys: jax.Array
) -> tuple[Dataset, Dataset]:
    if config.data == "digits":
        return seeds.split(seeds.digits(train_keys, config.classes), config.n)
    parts = ((train_keys, config.n), (test_keys, config.n_test))
    if config.data == "xor":
        form: dict[str, Any] = {"signal": config.signal, "noise": config.noise}
        train, test = (seeds.xor(keys, n, config.d, **form) for keys, n in parts)
    else:
        teachers = jax.vmap(lambda key: jax.random.fold_in(key, 1))(train_keys)
        form = {"units": config.units, "weights": "normal", "inputs": "gaussian"}
        train, test = (
            seeds.teacher(teachers, keys, n, config.d, margin=config.margin, **form)
            for keys, n in parts
        )
    return train, test


class _Look(NamedTuple):
    """Measurements of a net at one moment."""

    error: jax.Array
    train_error: jax.Array
    margin: jax.Array
    activation_change: jax.Array
    norm: jax.Array
    loss: jax.Array


def _row(learner: str, seed: int, step: float, measured: dict) -> Row:
    columns = {name: float(measured.get(name, NAN)) for name in _Look._fields}
    return {"learner": learner, "seed": seed, "step": step} | columns


def _look(model: Model, params0: Params, params: Params, train: Dataset, test: Dataset) -> _Look:
    outputs = model.apply(params, train.x)
    return _Look(
        error_rate(model.apply(params, test.x), test.y),
        error_rate(outputs, train.y),
        metrics.normalized_margin(model, params, *train),
        lazy.activation_change(model, params0, params, train.x)[0],
        jnp.sqrt(squared_norm(params)),
        jnp.mean(objectives.logistic_losses(outputs, train.y)),
    )


def _start(start: str, width: int, d: int, scale: float, key: jax.Array) -> Params:
    """Draw every weight from N(0, 1), or pair units of opposite output weight: the net is 0."""
    if start == "normal":
        weights = jax.random.normal(key, (width, d + 1))
        hidden, readout = weights[:, :d], weights[:, d]
    else:
        half, signed = two_layer_net(width // 2).init(key, d)
        # The usual readouts of a net of this width are smaller by the root of two.
        signed = signed / jnp.sqrt(jnp.asarray(2, signed.dtype))
        hidden, readout = jnp.concatenate([half, half]), jnp.concatenate([signed, -signed])
    return scale * hidden, scale * readout


def _train(
    model: Model,
    learning_rate: float,
    momentum: float,
    steps: int,
    every: int,
    l2: jax.Array,
    params0: Params,
    train: Dataset,
    test: Dataset,
) -> _Look:
    return optim.train(
        objectives.regularized_logistic(model.apply, l2=l2),
        params0,
        train,
        optax.sgd(learning_rate, momentum=momentum),
        steps=steps,
        record=lambda params: _look(model, params0, params, train, test),
        record_every=every,
    ).records
