"""Test errors of nets with fixed signs: no penalty, weight decay, or the diversity penalty.

Each seed draws data and initial units. Each net is measured after several numbers of steps; that
number and the strength of the penalty are chosen on a validation set, in the same way for every
learner. Errors are the mean squared error over the variance of the targets (teacher), or the share
of misclassified samples.
"""

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernelgap import datasets, diversity, models, objectives, optim
from kernelgap._numerics.quick import quick_jit
from kernelgap.datasets import Dataset
from kernelgap.metrics import error_rate
from kernelgap.models import Model
from kernelgap.studies import seeds
from kernelgap.studies.diversity_parts import clustered_starts, random_starts
from kernelgap.studies.estimates import Row
from kernelgap.studies.options import about_options
from kernelgap.studies.seeds import over_seeds

if TYPE_CHECKING:
    from kernelgap.studies.diversity_options import DiversityConfig

_CLASSES = tuple(range(10))
LEAST_UNITS = 16  # for which the signs of ten outputs are orthogonal
_SOURCES = ("teacher", "digits", "mnist")


class Problem(NamedTuple):
    """Data of all seeds; `test` has no axis of seeds if all share it."""

    train: Dataset
    validation: Dataset
    test: Dataset
    shared: bool


def error_cells(config: "DiversityConfig") -> list[tuple]:
    """Return the data set, the start and the width of each net."""
    return [
        (data, start, width)
        for data in ((*config.data, "mnist") if config.mnist else config.data)
        for start in config.starts
        for width in config.widths
        if data == "teacher" or width >= LEAST_UNITS
    ]


def check_data(config: "DiversityConfig") -> None:
    """Raise for missing MNIST files, and for more samples than there are."""
    if config.mnist:
        seeds.mnist(config.mnist)
    if "error" not in config.parts:
        return
    used = config.n_train + config.n_validation
    if "digits" in config.data:
        seeds.leave_some(used, _CLASSES, "n_train", "n_validation")
    if config.mnist and used > (images := len(seeds.mnist(config.mnist).train.y)):
        error = ValueError(f"`n_train` + `n_validation` must be at most {images}, the training "
                           f"images of MNIST; got {used}")  # fmt: skip
        raise about_options(error, "n_train", "n_validation")


def error_rows(config: "DiversityConfig", data: str, start: str, width: int) -> list[Row]:
    """Return a row per seed, kind of penalty and strength, at the number of steps chosen for it."""
    key = jax.random.fold_in(jax.random.key(config.seed), 1000 + _SOURCES.index(data))
    data_keys, start_keys = jax.random.split(key, (2, config.seeds))
    problem = draw_problem(config, data, data_keys)
    size = width, problem.train.x.shape[-1]
    if start == "clustered":
        form = {"clusters": config.clusters, "spread": config.spread}
        w = clustered_starts(start_keys, *size, **form)
    else:
        w = random_starts(start_keys, *size)
    model = models.fixed_sign_net(width, outputs=None if data == "teacher" else len(_CLASSES))
    tried = [("none", 0.0), *(("l2", l2) for l2 in config.l2s)]
    tried += [("diversity", penalty) for penalty in config.penalties]
    strengths = np.array([strength for _, strength in tried])
    diverse = np.array([case == "diversity" for case, _ in tried])
    chosen = jax.device_get(
        _fit(
            model,
            w,
            *problem[:3],
            jnp.asarray(np.where(diverse, 0, strengths), w.dtype),
            jnp.asarray(np.where(diverse, strengths, 0), w.dtype),
            shared=problem.shared,
            steps=config.adam_steps,
            every=config.adam_steps // config.stops,
            learning_rate=config.adam_rate,
        )
    )
    return [
        {"data": data, "start": start, "width": width}
        | {"case": case, "strength": strength, "seed": seed}
        | {name: values[i, seed] for name, values in chosen._asdict().items()}
        for i, (case, strength) in enumerate(tried)
        for seed in range(config.seeds)
    ]


class _Chosen(NamedTuple):
    """The measurement of one net at the step of least validation error."""

    step: jax.Array
    validation: jax.Array
    error: jax.Array
    discrepancy: jax.Array


@partial(quick_jit, static_argnames=("model", "shared", "steps", "every", "learning_rate"), level=1)
def _fit(
    model: Model,
    w: jax.Array,
    train: Dataset,
    validation: Dataset,
    test: Dataset,
    l2s: jax.Array,
    penalties: jax.Array,
    *,
    shared: bool,
    steps: int,
    every: int,
    learning_rate: float,
) -> _Chosen:
    """Return the chosen measurement of each pair of strengths and each seed: (strengths, seeds)."""
    optimizer = optax.adam(learning_rate)

    def net(
        strengths: tuple, w: jax.Array, train: Dataset, validation: Dataset, test: Dataset
    ) -> _Chosen:
        l2, penalty = strengths
        loss = objectives.regularized_squared(model.apply, l2=l2)
        loss = diversity.add_diversity_penalty(loss, strength=penalty)

        def look(params: tuple) -> tuple:
            errors = (_error(model.apply(params, part.x), part.y) for part in (validation, test))
            return (*errors, diversity.slice_discrepancy(params[0]))

        targets = train.y
        if model.spec.outputs is not None:
            targets = jax.nn.one_hot(train.y, model.spec.outputs, dtype=train.x.dtype)
        looks = optim.train(
            loss, (w,), (train.x, targets), optimizer, steps=steps, record=look, record_every=every
        ).records
        first = jnp.argmin(jnp.where(jnp.isnan(looks[0]), jnp.inf, looks[0]))
        return _Chosen((first + 1) * every, *(values[first] for values in looks))

    nets = jax.vmap(net, (None, 0, 0, 0, None if shared else 0))
    # Run strengths in turn: the seeds use the whole machine, and memory holds one batch.
    return jax.lax.map(lambda pair: nets(pair, w, train, validation, test), (l2s, penalties))


def _error(outputs: jax.Array, y: jax.Array) -> jax.Array:
    if outputs.ndim == 1:
        return jnp.mean(jnp.square(outputs - y)) / jnp.var(y)
    return error_rate(outputs, y)


def draw_problem(config: "DiversityConfig", data: str, keys: jax.Array) -> Problem:
    """Return training, validation and test sets of all seeds; inputs have norm 1."""
    used, test = config.n_train + config.n_validation, None
    if data == "teacher":
        size = (used + config.n_test, config.teacher_d, config.teacher_units)
        drawn = over_seeds(_teacher, (keys,), static=(*size, used, config.noise))
    elif data == "digits":
        drawn = seeds.digits(keys, _CLASSES)
    else:
        files = seeds.mnist(config.mnist)
        drawn, test = (
            seeds.drawn(files.train, keys, used),
            Dataset(seeds.unit(files.test.x), files.test.y),
        )
    train, others = seeds.split(Dataset(seeds.unit(drawn.x), drawn.y), config.n_train)
    validation, own = seeds.split(others, config.n_validation)
    return Problem(train, validation, own if test is None else test, test is not None)


def _teacher(n: int, d: int, units: int, noisy: int, noise: float, key: jax.Array) -> Dataset:
    """Return a teacher's outputs over their standard deviation, with noise on the first `noisy`."""
    key, noise_key = jax.random.split(key)
    x, y = datasets.teacher(key, n, d, units=units, inputs="sphere", labels="value")
    y = y / jnp.std(y)
    disturbed = jnp.arange(n) < noisy
    return Dataset(x, y + noise * jnp.where(disturbed, jax.random.normal(noise_key, (n,)), 0))
