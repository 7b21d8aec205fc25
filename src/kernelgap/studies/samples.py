"""Data for all seeds of a study at once: streams to take the first n of, shuffled real data.

A seed is a stream of samples. The same seed sees the same data whatever the learner, and more of
it as n grows; one compiled program serves all n.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from kernelgap import datasets
from kernelgap.datasets import Dataset


def first(data: Dataset, n: int) -> Dataset:
    """The first n samples of each seed."""
    return Dataset(data.x[:, :n], data.y[:, :n])


def split(data: Dataset, n: int) -> tuple[Dataset, Dataset]:
    """The first n samples of each seed for training, and the rest for testing."""
    return first(data, n), Dataset(data.x[:, n:], data.y[:, n:])


def each(data: Dataset) -> list[Dataset]:
    """One data set per seed."""
    return [Dataset(*pair) for pair in zip(*data, strict=True)]


def xor(
    keys: jax.Array,
    n: int,
    d: int,
    *,
    signal: datasets.Signal = "axis",
    noise: datasets.Noise = "sign",
    flip: float = 0.0,
) -> Dataset:
    """`datasets.xor_noise` for each key, on the host: x of shape (seeds, n, d)."""
    return jax.device_get(_xor(keys, n, d, signal, noise, flip))


@partial(jax.jit, static_argnames=("n", "d", "signal", "noise", "flip"))
def _xor(
    keys: jax.Array, n: int, d: int, signal: datasets.Signal, noise: datasets.Noise, flip: float
) -> Dataset:
    def one(key: jax.Array) -> Dataset:
        return datasets.xor_noise(key, n, d, signal=signal, noise=noise, flip=flip)

    return jax.vmap(one)(keys)


def teacher(
    teacher_keys: jax.Array,
    keys: jax.Array,
    n: int,
    d: int,
    *,
    units: int,
    inputs: datasets.Inputs = "sphere",
    labels: Literal["sign", "value"] = "sign",
) -> Dataset:
    """`datasets.teacher`, each seed with its own teacher: x of shape (seeds, n, d), on the host.

    Inputs on the sphere get the radius sqrt(d), about the length of Gaussian ones: the same
    settings of a net serve both.
    """
    return jax.device_get(_teacher(teacher_keys, keys, n, d, units, inputs, labels))


@partial(jax.jit, static_argnames=("n", "d", "units", "inputs", "labels"))
def _teacher(
    teacher_keys: jax.Array,
    keys: jax.Array,
    n: int,
    d: int,
    units: int,
    inputs: datasets.Inputs,
    labels: Literal["sign", "value"],
) -> Dataset:
    def one(teacher_key: jax.Array, key: jax.Array) -> Dataset:
        params = datasets.planted_teacher(teacher_key, d, units=units)
        data = datasets.teacher(key, n, d, params=params, inputs=inputs, labels=labels)
        scale = jnp.asarray(d**0.5 if inputs == "sphere" else 1.0, data.x.dtype)
        return Dataset(data.x * scale, data.y * scale if labels == "value" else data.y)

    return jax.vmap(one)(teacher_keys, keys)


def digits(keys: jax.Array, classes: tuple[int, ...]) -> Dataset:
    """`datasets.digits` in an order of its own for each key: x of shape (seeds, n, 64)."""
    return jax.device_get(_shuffled(keys, datasets.digits(classes)))


@jax.jit
def _shuffled(keys: jax.Array, data: Dataset) -> Dataset:
    def one(key: jax.Array) -> Dataset:
        order = jax.random.permutation(key, data.y.shape[0])
        return Dataset(data.x[order], data.y[order])

    return jax.vmap(one)(keys)


def leave_some(sizes: tuple[int, ...], classes: tuple[int, ...], name: str) -> None:
    """Refuse training sets that leave no digits for testing."""
    available = len(datasets.digits(classes).y)
    if max(sizes) >= available:
        raise ValueError(
            f"`{name}` must stay below the {available} images of these classes, to leave "
            f"some for testing; got {max(sizes)}"
        )
