"""Nets trained by stochastic gradient descent, after Figure 3 and Tables 1 and 3 of paper B.

One loop trains the nets of all strengths of the penalty on the same batches from the same start, so
that differences are paired and the first layers of all nets are one matrix product. What the paper
leaves open is a reading: a choice for each gap, of which several are run.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernelgap import datasets, diversity, metrics, models
from kernelgap._numerics.quick import quick_jit
from kernelgap.datasets import Dataset
from kernelgap.studies import seeds
from kernelgap.studies.estimates import Row

if TYPE_CHECKING:
    from kernelgap.studies.diversity_options import DiversityConfig

Draw = Callable[[jax.Array], Dataset]
TEST = 10_000  # fresh inputs on which losses are measured
CLASSES = 10


class Reading(NamedTuple):
    """A choice for what Table 1 leaves open.

    Attributes:
        fresh: True if each batch is new, False if batches come from one sample.
        gaussian: True if the weights of teacher and start are N(0, 1), False if units have norm 1.
        random_signs: True for independent output signs, False for as many +1 as -1.
        batches: Factor of the batch size.
    """

    fresh: bool = True
    gaussian: bool = False
    random_signs: bool = False
    batches: int = 1


READINGS = {
    "fresh": Reading(),
    "large": Reading(batches=4),
    "sample": Reading(fresh=False),
    "gaussian": Reading(gaussian=True),
    "signs": Reading(random_signs=True),
}


def trained_rows(config: "DiversityConfig", width: int) -> list[Row]:
    """Return the discrepancy of nets after SGD, one row per seed (Figure 3)."""
    key = jax.random.fold_in(jax.random.key(config.seed), 2000 + width)
    rows = []
    for seed, own in enumerate(jax.random.split(key, config.sgd_seeds)):
        looks = _student(
            own,
            jnp.zeros(1),
            d=config.trained_d,
            width=width,
            reading=READINGS["fresh"],
            samples=TEST,
            batch=config.sgd_batch,
            schedule=(config.trained_steps, 1, config.sgd_rate, 0.0),
        )
        rows += [{"d": config.trained_d, "width": width, "seed": seed} | r for r in _rows(looks)]
    return rows


def losses_rows(config: "DiversityConfig", reading: str, width: int, seed: int) -> list[Row]:
    """Return losses in training, a row per strength and recorded time (Table 1)."""
    key = jax.random.fold_in(jax.random.key(config.seed), 3000 + width)
    looks = _student(
        jax.random.fold_in(key, seed),
        jnp.asarray([0.0, *config.strengths]),
        d=config.losses_d,
        width=width,
        reading=READINGS[reading],
        samples=config.losses_samples,
        batch=config.sgd_batch,
        schedule=(
            config.losses_steps,
            config.losses_records,
            config.sgd_rate,
            config.sgd_momentum,
        ),
    )
    every = config.losses_steps // config.losses_records
    place = {"case": reading, "d": config.losses_d, "width": width, "seed": seed}
    return [
        place | {"strength": strength, "step": (k + 1) * every} | row
        for i, strength in enumerate((0.0, *config.strengths))
        for k, row in enumerate(_rows(jax.tree.map(lambda values, i=i: values[:, i], looks)))
    ]


def images_rows(config: "DiversityConfig", reading: str, width: int, seed: int) -> list[Row]:
    """Return training and test errors on MNIST, a row per strength (Table 3)."""
    files, strengths = seeds.mnist(config.mnist), (0.0, *config.images_strengths)
    key = jax.random.fold_in(jax.random.key(config.seed), 4000 + width)
    steps = config.epochs * -(-len(files.train.y) // config.sgd_batch)
    rate = config.images_rate * (50 if reading == "signs" else 1)
    looks = _classifier(
        jax.random.fold_in(key, seed),
        jnp.asarray(strengths),
        *(Dataset(jnp.asarray(part.x), jnp.asarray(part.y)) for part in files),
        width=width,
        fixed=reading == "signs",
        batch=config.sgd_batch,
        schedule=(steps, 1, rate, config.sgd_momentum),
    )
    place = {"case": reading, "width": width, "seed": seed, "step": steps}
    return [
        place | {"strength": strength} | row
        for strength, row in zip(strengths, _rows(looks), strict=True)
    ]


class _Look(NamedTuple):
    """Measurements of nets: a loss, or the share of misclassified samples."""

    loss: jax.Array
    error: jax.Array
    discrepancy: jax.Array


def _rows(looks: _Look) -> list[Row]:
    columns = (np.ravel(values).tolist() for values in jax.device_get(looks))
    return [dict(zip(_Look._fields, row, strict=True)) for row in zip(*columns, strict=True)]


@partial(
    quick_jit,
    static_argnames=("d", "width", "reading", "samples", "batch", "schedule"),
    level=1,
)
def _student(
    key: jax.Array,
    strengths: jax.Array,
    *,
    d: int,
    width: int,
    reading: Reading,
    samples: int,
    batch: int,
    schedule: tuple[int, int, float, float],
) -> _Look:
    """Return loss on the sample and on fresh inputs: shape (records, strengths).

    The teacher has d units. Without fresh batches the sample is that of training.
    """
    teacher_key, start_key, sample_key, test_key, batch_key = jax.random.split(key, 5)
    units, width_signs = _units(teacher_key, d, d, reading), _signs(start_key, width, reading)
    teacher = units, _signs(teacher_key, d, reading)

    def labelled(key: jax.Array, n: int) -> Dataset:
        x = datasets.sphere(key, n, d)
        return Dataset(x, _forward(*teacher, x))

    sample, test = labelled(sample_key, samples), labelled(test_key, TEST)

    def draw(key: jax.Array) -> Dataset:
        if reading.fresh:
            return labelled(key, batch * reading.batches)
        chosen = jax.random.randint(key, (batch * reading.batches,), 0, samples)
        return Dataset(sample.x[chosen], sample.y[chosen])

    def loss(w: jax.Array, data: Dataset) -> jax.Array:
        return jnp.mean(jnp.square(_forward(w, width_signs, data.x) - data.y)) / 2

    def look(w: jax.Array) -> _Look:
        return _Look(loss(w, sample), loss(w, test), diversity.slice_discrepancy(w))

    start = _units(start_key, width, d, reading)
    return _descend(loss, start, strengths, draw, batch_key, schedule, look)


@partial(quick_jit, static_argnames=("width", "fixed", "batch", "schedule"), level=1)
def _classifier(
    key: jax.Array,
    strengths: jax.Array,
    train: Dataset,
    test: Dataset,
    *,
    width: int,
    fixed: bool,
    batch: int,
    schedule: tuple[int, int, float, float],
) -> _Look:
    """Return errors on the training and on the test set: shape (1, strengths).

    Either a net with trained readout and the cross-entropy, or paper B's with fixed signs, inputs
    of norm 1 and the squared loss of one-hot targets.
    """
    start_key, batch_key = jax.random.split(key)
    d = train.x.shape[1]
    if fixed:
        model = models.fixed_sign_net(width, outputs=CLASSES)
        train, test = (Dataset(seeds.unit(part.x), part.y) for part in (train, test))
    else:
        model = models.mlp((width,), outputs=CLASSES, init_scale=2**0.5)

    def draw(key: jax.Array) -> Dataset:
        chosen = jax.random.randint(key, (batch,), 0, train.y.shape[0])
        return Dataset(train.x[chosen], train.y[chosen])

    def loss(params: Any, data: Dataset) -> jax.Array:
        outputs = model.apply(params, data.x)
        if fixed:
            hot = jax.nn.one_hot(data.y, CLASSES, dtype=outputs.dtype)
            return jnp.mean(jnp.sum(jnp.square(outputs - hot), axis=1)) / 2
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, data.y))

    def look(params: Any) -> _Look:
        first, second = (metrics.error_rate(model.apply(params, p.x), p.y) for p in (train, test))
        return _Look(first, second, diversity.slice_discrepancy(jax.tree.leaves(params)[0]))

    start = model.init(start_key, d)
    return _descend(loss, start, strengths, draw, batch_key, schedule, look)


def _descend(
    loss: Callable[[Any, Dataset], jax.Array],
    start: Any,
    strengths: jax.Array,
    draw: Draw,
    key: jax.Array,
    schedule: tuple[int, int, float, float],
    look: Callable[[Any], _Look],
) -> _Look:
    """Train a net for each strength, all on the same batches: shape (records, strengths)."""
    steps, records, rate, momentum = schedule
    optimizer = optax.sgd(rate, momentum=momentum or None)
    penalised = strengths.shape[0] > 1

    def penalty(params: Any, strength: jax.Array) -> jax.Array:
        units = jax.tree.leaves(params)[0]
        return strength * diversity.diversity_penalty(units, pairs="distinct")

    def total(params: Any, data: Dataset) -> jax.Array:
        # The nets do not share weights: the gradient of the sum is the gradient of each.
        value = jnp.sum(jax.vmap(loss, (0, None))(params, data))
        if penalised:  # the first strength is 0
            others = jax.tree.map(lambda leaf: leaf[1:], params)
            value = value + jnp.sum(jax.vmap(penalty)(others, strengths[1:]))
        return value

    def step(carry: tuple, index: jax.Array) -> tuple[tuple, None]:
        params, state = carry
        gradient = jax.grad(total)(params, draw(jax.random.fold_in(key, index)))
        with jax.numpy_dtype_promotion("standard"):  # optax does not know the strict mode
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

    def leg(carry: tuple, indices: jax.Array) -> tuple[tuple, _Look]:
        carry, _ = jax.lax.scan(step, carry, indices)
        return carry, jax.lax.map(look, carry[0])  # in turn, to save memory

    params = jax.tree.map(lambda leaf: jnp.stack([leaf] * strengths.shape[0]), start)
    indices = jnp.arange(steps, dtype=jnp.int32).reshape(records, -1)
    return jax.lax.scan(leg, (params, optimizer.init(params)), indices)[1]


def _forward(w: jax.Array, signs: jax.Array, x: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ w.T) @ signs


def _units(key: jax.Array, m: int, d: int, reading: Reading) -> jax.Array:
    return jax.random.normal(key, (m, d)) if reading.gaussian else datasets.sphere(key, m, d)


def _signs(key: jax.Array, m: int, reading: Reading) -> jax.Array:
    if reading.random_signs:
        return jax.random.rademacher(jax.random.fold_in(key, 1), (m,), float)
    return jnp.asarray(1.0 - 2.0 * (np.arange(m) % 2))
