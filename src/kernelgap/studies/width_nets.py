"""The nets of the width study, and the bounds on the largest margin of any width.

A net follows a path of weak regularisation (ours), or gradient descent at one strength, as in the
second version of paper A.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from kernelgap import bounds, margins, metrics, objectives, optim
from kernelgap.datasets import Dataset
from kernelgap.metrics import error_rate
from kernelgap.models import Model, Params, homogeneous_mlp
from kernelgap.studies import seeds
from kernelgap.studies.estimates import NAN, Row
from kernelgap.studies.options import about_options
from kernelgap.studies.seeds import over_seeds

if TYPE_CHECKING:
    from kernelgap.studies.width import WidthConfig


def check_mnist(config: "WidthConfig") -> None:
    """Raise, before any work, where the MNIST files are missing or too small."""
    images = len(seeds.mnist(config.mnist).train.y)
    if config.n > images:
        error = ValueError(f"`n` must be at most {images}, the training images; got {config.n}")
        raise about_options(error, "n")


def net_rows(config: "WidthConfig", width: int, block: range) -> list[Row]:
    """Return a row per seed about the nets of one width."""
    train, test, net_keys = _data(config, block)
    keys = jax.vmap(partial(jax.random.split, num=config.restarts))(net_keys)
    model = homogeneous_mlp((width,), outputs=10 if config.data == "mnist" else None)
    how: tuple = (config.l2s, config.steps, config.learning_rate)
    if config.training == "descent":
        how = (config.l2s[-1], config.steps, config.learning_rate, config.batch or config.n)
    fit = _path if config.training == "path" else _descent
    nets = over_seeds(_best_net, (keys, train, test), static=(model, fit, how))
    columns = jax.device_get(nets)
    # The largest norm under the distribution, of the sphere or of 64 pixels in [0, 1].
    radius = {"teacher": config.d**0.5, "digits": 8.0, "mnist": NAN}[config.data]
    rows = []
    for k, seed in enumerate(block):
        margin, error, train_error, square = (float(column[k]) for column in columns)
        bound = NAN  # also for ten classes
        if margin > 0 and config.data != "mnist":
            given: dict[str, Any] = {"n": config.n, "radius": radius, "mean_square": square}
            bound = float(bounds.two_layer_margin_bound(margin, delta=config.delta, **given).value)
        rows.append(
            {"learner": "net", "width": width, "seed": seed, "error": error}
            | {"train_error": train_error, "margin": margin, "upper": NAN, "bound": bound}
        )
    return rows


def certificate_rows(config: "WidthConfig") -> list[Row]:
    """Return a row per certified seed, with bounds on the largest margin of any width."""
    train, _, net_keys = _data(config, range(config.seeds))
    pairs = zip(net_keys[: config.certified], seeds.each(train), strict=False)
    return [_certificate(seed, key, data) for seed, (key, data) in enumerate(pairs)]


def _certificate(seed: int, key: jax.Array, data: Dataset) -> Row:
    reached = margins.max_margin(*data, key=key, upper=False)
    upper = margins.upper_bound(*data).value
    row = {"learner": "any", "width": 0, "seed": seed, "error": NAN, "train_error": NAN}
    return row | {"margin": float(reached.lower), "upper": float(upper), "bound": NAN}


def _data(config: "WidthConfig", block: range) -> tuple[Dataset, Dataset, jax.Array]:
    """Return training and test samples and the keys of the nets, for the seeds of a block."""
    keys = jax.random.split(jax.random.key(config.seed), (4, config.seeds))
    teacher_keys, train_keys, test_keys, net_keys = keys[:, block.start : block.stop]
    if config.data == "digits":
        data = seeds.split(seeds.digits(train_keys, config.classes), config.n)
    elif config.data == "mnist":
        files = seeds.mnist(config.mnist)
        tests = (jnp.broadcast_to(part, (len(block), *part.shape)) for part in files.test)
        data = seeds.drawn(files.train, train_keys, config.n), Dataset(*tests)
    else:
        form: dict[str, Any] = {"units": config.units, "margin": config.margin}
        train = seeds.teacher(teacher_keys, train_keys, config.n, config.d, **form)
        data = train, seeds.teacher(teacher_keys, test_keys, config.n_test, config.d, **form)
    return *data, net_keys


def _best_net(
    model: Model, fit: Any, how: tuple, keys: jax.Array, train: Dataset, test: Dataset
) -> tuple[jax.Array, ...]:
    """Return (margin, error, training error, mean ||x||^2) of the best restart of a seed."""

    def net(key: jax.Array) -> tuple[jax.Array, ...]:
        params = fit(model, model.init(key, train.x.shape[1]), train, key, *how)
        return (
            metrics.normalized_margin(model, params, *train),
            error_rate(model.apply(params, test.x), test.y),
            error_rate(model.apply(params, train.x), train.y),
        )

    nets = jax.vmap(net)(keys)
    best = jnp.argmax(nets[0])
    square = jnp.mean(jnp.sum(jnp.square(train.x), axis=1))
    return *(column[best] for column in nets), square


def _path(
    model: Model,
    params: Params,
    train: Dataset,
    key: jax.Array,
    l2s: tuple[float, ...],
    steps: int,
    learning_rate: float,
) -> Params:
    del key
    how: dict[str, Any] = {"l2s": l2s, "steps": steps, "learning_rate": learning_rate}
    return margins.regularization_path(model, params, *train, **how).params


def _descent(
    model: Model,
    params: Params,
    train: Dataset,
    key: jax.Array,
    l2: float,
    steps: int,
    learning_rate: float,
    batch: int,
) -> Params:
    """Return the parameters after gradient descent; batches are drawn anew in every epoch."""
    loss = objectives.regularized_logistic(model.apply, l2=l2)
    n = train.x.shape[0]
    if batch >= n:
        optimizer = optax.sgd(learning_rate)
        return optim.train(loss, params, train, optimizer, steps=steps).params

    def step(params: Params, rows: jax.Array) -> tuple[Params, None]:
        gradient = jax.grad(loss)(params, train.x[rows], train.y[rows])
        return jax.tree.map(lambda w, g: w - learning_rate * g, params, gradient), None

    def epoch(params: Params, number: jax.Array) -> tuple[Params, None]:
        order = jax.random.permutation(jax.random.fold_in(key, number), n)
        return jax.lax.scan(step, params, order[: n // batch * batch].reshape(-1, batch))

    epochs = max(1, round(steps / (n // batch)))
    return jax.lax.scan(epoch, params, jnp.arange(epochs))[0]
