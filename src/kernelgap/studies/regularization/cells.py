"""The cells of the regularization study: the two nets, all seeds at once, and the NTK predictor."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kernelgap import kernels, metrics, objectives, optim
from kernelgap._trees import squared_norm
from kernelgap.datasets import Dataset
from kernelgap.models import Model, Params
from kernelgap.studies import samples
from kernelgap.studies.journal import Row
from kernelgap.studies.learners import NAN, error_rate, kernel_svm, two_layer_net
from kernelgap.studies.regularization.config import RegularizationConfig
from kernelgap.studies.study import Cell

LEARNERS = ("regularised", "unregularised", "ntk")


def cells(config: RegularizationConfig) -> list[Cell]:
    """A cell for each learner."""
    if config.data == "digits":
        samples.leave_some((config.n,), config.classes, "n")
    return [Cell((learner,)) for learner in LEARNERS]


def run_cell(config: RegularizationConfig, identity: tuple) -> list[Row]:
    """A row per seed and recorded step of a net; a row per seed of the kernel's predictor."""
    (learner,) = identity
    train_keys, test_keys, net_keys = jax.random.split(
        jax.random.key(config.seed), (3, config.seeds)
    )
    if config.data == "digits":
        train, test = samples.split(samples.digits(train_keys, config.classes), config.n)
    else:
        form: dict[str, Any] = {"signal": config.signal, "noise": config.noise}
        train = samples.xor(train_keys, config.n, config.d, **form)
        test = samples.xor(test_keys, config.n_test, config.d, **form)
    if learner == "ntk":
        kernel = kernels.ntk(two_layer_net(config.width))
        pairs = zip(samples.each(train), samples.each(test), strict=True)
        found = [kernel_svm(kernel, *pair) for pair in pairs]
        return [_row(learner, seed, NAN, row) for seed, row in enumerate(found)]
    model = two_layer_net(config.width)
    params = _initial(two_layer_net(config.width // 2), net_keys, train.x.shape[-1])
    params = jax.tree.map(lambda leaf: config.init_scale * leaf, params)
    l2 = jnp.asarray(config.l2 if learner == "regularised" else 0.0, train.x.dtype)
    every = config.steps // config.records
    start = _look(model, params, params, train, test)
    records = _train(
        model, params, train, test, l2, config.learning_rate, config.momentum, config.steps, every
    )
    start, records = jax.device_get((start, records))
    rows = []
    for seed in range(config.seeds):
        rows.append(_row(learner, seed, 0, {k: v[seed] for k, v in start._asdict().items()}))
        for i in range(config.records):
            look: dict[str, Any] = {k: v[seed, i] for k, v in records._asdict().items()}
            rows.append(_row(learner, seed, (i + 1) * every, look))
    return rows


_COLUMNS = ("error", "train_error", "margin", "activation_change", "norm", "loss")


def _row(learner: str, seed: int, step: float, found: dict) -> Row:
    columns = {name: float(found.get(name, NAN)) for name in _COLUMNS}
    return {"learner": learner, "seed": seed, "step": step} | columns


class _Look(NamedTuple):
    """What is seen of a net at one moment."""

    error: jax.Array
    train_error: jax.Array
    margin: jax.Array
    activation_change: jax.Array
    norm: jax.Array
    loss: jax.Array


def _see(model: Model, params0: Params, params: Params, train: Dataset, test: Dataset) -> _Look:
    outputs = model.apply(params, train.x)
    return _Look(
        error_rate(model.apply(params, test.x), test.y),
        error_rate(outputs, train.y),
        metrics.normalized_margin(model, params, *train),
        metrics.activation_change(model, params0, params, train.x)[0],
        jnp.sqrt(squared_norm(params)),
        jnp.mean(objectives.logistic_losses(outputs, train.y)),
    )


@partial(jax.jit, static_argnames=("model",))
def _look(model: Model, params0: Params, params: Params, train: Dataset, test: Dataset) -> _Look:
    return jax.vmap(partial(_see, model))(params0, params, train, test)


@partial(jax.jit, static_argnames=("half", "d"))
def _initial(half: Model, keys: jax.Array, d: int) -> Params:
    """Each unit beside one of the opposite output: the net starts at 0, as its kernel does."""

    def one(key: jax.Array) -> Params:
        hidden, readout = half.init(key, d)
        # As wide a net drawn as usual has readouts smaller by the root of two.
        pair = jnp.concatenate([readout, -readout]) / jnp.sqrt(jnp.asarray(2, readout.dtype))
        return jnp.concatenate([hidden, hidden]), pair

    return jax.vmap(one)(keys)


@partial(jax.jit, static_argnames=("model", "learning_rate", "momentum", "steps", "every"))
def _train(
    model: Model,
    params: Params,
    train: Dataset,
    test: Dataset,
    l2: jax.Array,
    learning_rate: float,
    momentum: float,
    steps: int,
    every: int,
) -> _Look:
    loss = objectives.regularized_logistic(model.apply, l2=l2)
    optimizer = optax.sgd(learning_rate, momentum=momentum)

    def one(params0: Params, train: Dataset, test: Dataset) -> _Look:
        return optim.train(
            loss,
            params0,
            train,
            optimizer,
            steps=steps,
            record=lambda params: _see(model, params0, params, train, test),
            record_every=every,
        ).records

    return jax.vmap(one)(params, train, test)
