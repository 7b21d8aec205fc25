"""The learners that studies compare: fit on given data, test on fresh data.

Each stage is compiled by itself and cached by shape, so that grid points share what they can:
compiling costs more than running in small studies. Errors count every sample without a positive
margin, so that a NaN is an error, never a success.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernelgap import (
    bounds,
    datasets,
    kernels,
    metrics,
    models,
    objectives,
    optim,
    predictors,
)
from kernelgap._numerics.trees import safe_power, squared_norm
from kernelgap.datasets import Dataset
from kernelgap.kernels import Kernel
from kernelgap.margins import best_network
from kernelgap.models import Model, Params
from kernelgap.studies.estimates import NAN, Row
from kernelgap.studies.seeds import each, first, over_seeds, padded_size

ALONE_FROM = 4000  # number of training points from which a dense kernel cell must run alone
_PADDED = 4096  # and up to which copies cost less than a compilation

# In the parameterization of the kernels both layers have equal weight at every width.
KERNEL_NET = models.homogeneous_mlp((1,), parameterization="ntk")


def two_layer_net(
    width: int, *, parameterization: models.Parameterization = "standard", init_scale: float = 1.0
) -> Model:
    """Return a ReLU net of one hidden layer."""
    return models.homogeneous_mlp(
        (width,), parameterization=parameterization, init_scale=init_scale
    )


def annealed_nets(
    model: Model,
    keys: jax.Array,
    stream: Dataset,
    n: int,
    test: Dataset,
    config: Any,
) -> list[Row]:
    """Train nets by Adam on the regularised logistic loss along a path of decreasing l2.

    Each l2 gets `steps` full-batch steps from the parameters of the one before: the weakly
    regularised minimiser of paper A, approached with warm starts. The protocol is this project's.

    Args:
        model: The network.
        keys: Shape (seeds,), for the initial parameters.
        stream: Samples, x of shape (seeds, N, d), of which the first n are for training. The whole,
            half or quarter of them enters the program, with weight 0 for those beyond n, so that
            one program serves several n.
        n: Number of training samples.
        test: Test sets, x of shape (seeds, n_test, d).
        config: Options `l2s`, decreasing, `steps` of Adam for each of them, and `learning_rate`.

    Returns:
        A row per seed: error, train_error, margin (normalised, l2), and NaN for what nets lack.
    """
    params, stream, count = _annealed(objectives.logistic_losses, model, keys, stream, n, config)
    measured = over_seeds(_measure, (params, stream, test), static=(model,), shared=(count,))
    return [
        _row(error=float(a), train_error=float(b), margin=float(c))
        for a, b, c in zip(*jax.device_get(measured), strict=True)
    ]


def regression_nets(
    model: Model, keys: jax.Array, stream: Dataset, n: int, test: Dataset, config: Any
) -> list[float]:
    """Train nets as `annealed_nets` does, on the squared loss; return their test errors.

    They are mean squared errors relative to the variance of the targets.
    """
    params, _, _ = _annealed(objectives.squared_losses, model, keys, stream, n, config)
    return over_seeds(_squared_error, (params, test), static=(model,)).tolist()


def _squared_error(model: Model, params: Params, test: Dataset) -> jax.Array:
    return jnp.mean(jnp.square(model.apply(params, test.x) - test.y)) / jnp.var(test.y)


def _annealed(
    losses: Callable, model: Model, keys: jax.Array, stream: Dataset, n: int, config: Any
) -> tuple[Params, Dataset, jax.Array]:
    stream = first(stream, padded_size(n, stream.x.shape[1]))
    params = initial(model, keys, stream.x.shape[-1])
    path, count = jnp.asarray(config.l2s, stream.x.dtype), jnp.asarray(n, stream.x.dtype)
    static = (losses, model, config.steps, config.learning_rate)
    params = over_seeds(_anneal, (params, stream), static=static, shared=(path, count))
    return params, stream, count


def initial(model: Model, keys: jax.Array, d: int, *, wide: bool = False) -> Params:
    """Return initial parameters of all seeds. It is separate, as random draws compile slowly."""
    return over_seeds(_initial, (keys,), static=(model, d), wide=wide)


def _initial(model: Model, d: int, key: jax.Array) -> Params:
    return model.init(key, d)


def _anneal(
    losses: Callable,
    model: Model,
    steps: int,
    learning_rate: float,
    l2s: jax.Array,
    n: jax.Array,
    params: Params,
    stream: Dataset,
) -> Params:
    optimizer = optax.adam(learning_rate)
    used = _first(n, stream)

    def stage(params: Params, l2: jax.Array) -> tuple[Params, None]:
        def loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
            each = losses(model.apply(params, x), y)
            return jnp.sum(jnp.where(used, each, 0)) / n + l2 * squared_norm(params)

        return optim.train(loss, params, stream, optimizer, steps=steps).params, None

    return jax.lax.scan(stage, params, l2s)[0]


def _first(n: jax.Array, stream: Dataset) -> jax.Array:
    return jnp.arange(stream.x.shape[0], dtype=n.dtype) < n


def _row(**values: float) -> Row:
    """Return a row of the columns that all learners have, NaN where one has no such value."""
    columns = ("error", "train_error", "margin", "upper", "duality_gap", "squared_error")
    return dict.fromkeys(columns, NAN) | values


def _measure(
    model: Model, n: jax.Array, params: Params, stream: Dataset, test: Dataset
) -> tuple[jax.Array, ...]:
    """Return test error, training error and normalised margin on the first n samples."""
    used = _first(n, stream)
    # Copies of a sample change no smallest margin.
    x, y = (jnp.where(a, b, b[:1]) for a, b in ((used[:, None], stream.x), (used, stream.y)))
    wrong = ~(metrics.output_margins(model.apply(params, x), y) > 0)
    return (
        metrics.error_rate(model.apply(params, test.x), test.y),
        jnp.sum((used & wrong).astype(n.dtype)) / n,
        metrics.normalized_margin(model, params, x, y),
    )


def kernel_svm(kernel: Kernel, train: Dataset, test: Dataset) -> Row:
    """Return a row about the hard-margin SVM of a kernel on one training set.

    A training set of a single class gets the constant classifier of that class.
    """
    if len(np.unique(np.asarray(train.y))) == 1:
        error = float(np.mean(np.asarray(test.y != train.y[0])))
        return _row(error=error, train_error=0.0)
    svm = predictors.hard_margin_svm(kernel, *_padded(train))
    return _row(
        error=_error(svm, test),
        train_error=0.0,  # otherwise hard_margin_svm would have raised an error
        margin=float(svm.margin),
        duality_gap=float(svm.duality_gap),
    )


def _padded(train: Dataset) -> Dataset:
    """Add copies of the last sample, which change no machine: few sizes, few programs."""
    n, size = train.x.shape[0], 32
    while size < n:
        size *= 4 if size < 512 else 2
    if size > _PADDED:
        return train
    x, y = np.asarray(train.x), np.asarray(train.y)
    parts = (np.concatenate([a, np.repeat(a[-1:], size - n, axis=0)]) for a in (x, y))
    return Dataset(*map(jax.device_put, parts))


def _error(predictor: predictors.KernelPredictor, data: Dataset) -> float:
    return float(metrics.error_rate(predictor.decision_function(data.x), data.y))


def kernel_span(kernel: Kernel, train: Dataset, test: Dataset, population: Dataset) -> Row:
    """Return a row about the best predictor in the span of the training inputs' kernel functions.

    `squared_error` and `train_error` are those on (part of) the population sample of the fit.
    """
    best = predictors.best_in_span(kernel, train.x, population.x, population.y)
    part = slice(test.x.shape[0])  # enough samples to estimate the training error
    outputs = best.decision_function(population.x[part])
    return _row(
        error=_error(best, test),
        train_error=float(metrics.error_rate(outputs, population.y[part])),
        squared_error=float(np.mean(np.square(np.asarray(outputs) - population.y[part]))),
    )


def exact_span(kernel: Kernel, train: Dataset, test: Dataset, signal: datasets.Signal) -> Row:
    """Return a row as `kernel_span` does, from the law of XOR with sign noise, without a sample.

    `squared_error` is proved for every predictor of the span; no training error is defined.
    """
    bound = bounds.xor_span_bound(kernel, train.x, signal=signal)
    centers = _padded(train).x
    coef = np.zeros(len(centers), test.x.dtype)
    coef[: len(train.x)] = bound.coef
    outputs = kernels.matmul(kernel, test.x, coef, x2=centers)
    return _row(error=float(metrics.error_rate(outputs, test.y)), squared_error=bound.squared_error)


def largest_margins(
    keys: jax.Array, train: Dataset, test: Dataset, start: Params, certified: int, config: Any
) -> list[Row]:
    """Return a row per seed about the two-layer net of largest normalised margin found.

    Args:
        keys: Shape (seeds,), for the random starts of the search.
        train: Training sets, x of shape (seeds, n, d).
        test: Test sets.
        start: Parameters of a net that the search starts from as well.
        certified: Number of seeds that get a proven `upper` bound on the margin of any width.
        config: Options `restarts` and `rounds` of the search.
    """
    nets = best_network.max_margins(
        *train,
        keys=list(keys),
        restarts=config.restarts,
        rounds=config.rounds,
        start=start,
        certified=certified,
    )
    rows = []
    for k, (net, fitted, fresh) in enumerate(zip(nets, each(train), each(test), strict=True)):
        hidden, readout = (np.asarray(p, float) for p in net.params)
        errors = [
            float(np.mean(~(y * (np.maximum(x @ hidden.T, 0) @ readout) > 0)))
            for x, y in (fresh, fitted)
        ]
        upper = net.upper if k < certified else NAN
        rows.append(_row(error=errors[0], train_error=errors[1], margin=net.lower, upper=upper))
    return rows


def kernel_regression(kernel: Kernel, train: Dataset, test: Dataset) -> float:
    """Return the relative squared test error of the least-norm interpolant."""
    # Last-layer kernels are nearly singular: in float32 residuals of 1e-5 are rounding. One of tol
    # changes a relative squared error by about tol^2.
    fit = predictors.kernel_ridge(kernel, jnp.asarray(train.x), jnp.asarray(train.y), tol=1e-3)
    outputs, y = np.asarray(fit.decision_function(jnp.asarray(test.x))), np.asarray(test.y)
    return float(np.mean(np.square(outputs - y)) / np.var(y))


def path_length() -> optax.GradientTransformation:
    """Return a transformation that leaves updates unchanged and adds up their norms."""

    def init(params: optax.Params) -> jax.Array:
        return jnp.zeros((), jax.tree.leaves(params)[0].dtype)

    def update(updates: Any, state: Any, params: Any = None) -> tuple:
        del params
        return updates, state + safe_power(squared_norm(updates), 0.5)

    return optax.GradientTransformation(init, update)
