"""The cells of the noisy-gd study: a method, a start and a width each; and the reference for L*."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from kernelgap import margins, objectives, optim
from kernelgap._trees import squared_norm
from kernelgap.datasets import Dataset
from kernelgap.models import Model, Params
from kernelgap.studies import samples
from kernelgap.studies.journal import Row
from kernelgap.studies.learners import NAN, two_layer_net
from kernelgap.studies.noisy_gd.config import NoisyGDConfig
from kernelgap.studies.study import Cell

METHODS = ("gd", "perturbed", "langevin")
STARTS = ("random", "trapped")
_REFERENCE_WIDTH = 256
_REFERENCE_STEPS = 6000


def cells(config: NoisyGDConfig) -> list[Cell]:
    """A cell for each method, start and width, after the reference for the best loss."""
    return [Cell(("reference", "random", _REFERENCE_WIDTH))] + [
        Cell((method, start, width))
        for method in METHODS
        for start in STARTS
        for width in config.widths
    ]


def run_cell(config: NoisyGDConfig, identity: tuple) -> list[Row]:
    """A row per seed and recorded step; a row per seed of the reference."""
    method, start, width = identity
    train_keys, start_keys, noise_keys = jax.random.split(
        jax.random.key(config.seed), (3, config.seeds)
    )
    data = samples.xor(train_keys, config.n, config.d)
    model = two_layer_net(width)
    params = _start(model, start_keys, config.d, start)
    point = {"method": method, "start": start, "width": width}
    if method == "reference":
        best = jax.device_get(_reference(model, params, data, config.l2))
        rows = []
        for seed, (x, y) in enumerate(samples.each(data)):
            one = jax.tree.map(lambda leaf, seed=seed: leaf[seed], best)
            found = margins.duality_gap(model, one, x, y, l2=config.l2, steps=0)
            numbers = (found.loss, found.loss, NAN, NAN, found.lower)
            rows.append(point | _row(seed, _REFERENCE_STEPS, *numbers))
        return rows
    every = config.steps // config.records
    columns = jax.device_get(
        _train(
            model,
            params,
            data,
            noise_keys,
            method=method,
            l2=config.l2,
            learning_rate=config.learning_rate,
            resample_rate=config.resample_rate,
            temperature=config.temperature,
            steps=config.steps,
            every=every,
        )
    )
    return [
        point | _row(seed, i * every, *(column[seed, i] for column in columns), lower=NAN)
        for seed in range(config.seeds)
        for i in range(config.records + 1)
    ]


def _row(
    seed: int, step: int, loss: float, best: float, negative: float, norm: float, lower: float
) -> Row:
    numbers = {"loss": loss, "best": best, "negative": negative, "norm": norm, "lower": lower}
    return {"seed": seed, "step": step} | {k: float(v) for k, v in numbers.items()}


@partial(jax.jit, static_argnames=("model", "d", "start"))
def _start(model: Model, keys: jax.Array, d: int, start: str) -> Params:
    """Neurons on their sphere: uniform, or with output weights w_j = +||u_j||."""
    assert model.neurons is not None
    pack, unpack, radius = model.neurons

    def one(key: jax.Array) -> Params:
        hidden, readout = model.init(key, d)
        if start == "trapped":
            readout = jnp.linalg.norm(hidden, axis=1)
        else:
            # In one scale with the hidden weights, so that the direction is uniform.
            readout = readout * jnp.sqrt(jnp.asarray(readout.shape[0] / d, readout.dtype))
        theta = pack((hidden, readout))
        return unpack(
            radius((hidden, readout)) * theta / jnp.linalg.norm(theta, axis=1, keepdims=True)
        )

    return jax.vmap(one)(keys)


@partial(
    jax.jit,
    static_argnames=(
        "model", "method", "l2", "learning_rate", "resample_rate", "temperature", "steps", "every",
    ),
)  # fmt: skip
def _train(
    model: Model,
    params: Params,
    data: Dataset,
    keys: jax.Array,
    *,
    method: str,
    l2: float,
    learning_rate: float,
    resample_rate: float,
    temperature: float,
    steps: int,
    every: int,
) -> tuple[jax.Array, ...]:
    """(loss, best loss so far, share of negative output weights, norm) at the recorded steps."""
    loss = objectives.regularized_logistic(model.apply, l2=l2)

    def one(params: Params, data: Dataset, key: jax.Array) -> tuple[jax.Array, ...]:
        def see(params: Params) -> tuple[jax.Array, ...]:
            negative = jnp.mean((params[1] < 0).astype(params[1].dtype))
            return loss(params, *data), negative, jnp.sqrt(squared_norm(params))

        optimizer = optim.noisy_gd(
            learning_rate,
            # A neuron is a particle of mass 1 / m: the flow of the measure has m times the noise.
            temperature=temperature / model.spec.widths[0] if method == "langevin" else 0.0,
            resample_rate=resample_rate if method == "perturbed" else 0.0,
            neurons=model.neurons,
            key=key,
        )
        trained = optim.train(
            loss, params, data, optimizer, steps=steps, record=see, record_every=every
        )
        first = see(params)
        values, negative, norm = (
            jnp.concatenate([a[None], b]) for a, b in zip(first, trained.records, strict=True)
        )
        # The best of all iterates, not only of those recorded.
        running = jax.lax.cummin(trained.losses)[every - 1 :: every]
        best = jnp.minimum(jax.lax.cummin(values), jnp.concatenate([values[:1], running]))
        return values, best, negative, norm

    return jax.vmap(one)(params, data, keys)


@partial(jax.jit, static_argnames=("model", "l2"))
def _reference(model: Model, params: Params, data: Dataset, l2: float) -> Params:
    """Near the best, by Adam with a falling rate: a certificate is as tight as its net is good."""
    loss = objectives.regularized_logistic(model.apply, l2=l2)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, _REFERENCE_STEPS))

    def one(params: Params, data: Dataset) -> Params:
        return optim.train(loss, params, data, optimizer, steps=_REFERENCE_STEPS).params

    return jax.vmap(one)(params, data)
