"""Data for all seeds of a study at once: streams to take the first n of, shuffled real data.

A seed is a stream of samples. The same seed sees the same data whatever the learner, and more of
it as n grows; one compiled program serves all n.
"""

from functools import partial

import jax

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


def digits(keys: jax.Array, classes: tuple[int, ...]) -> Dataset:
    """`datasets.digits` in an order of its own for each key: x of shape (seeds, n, 64)."""
    return jax.device_get(_shuffled(keys, datasets.digits(*classes)))


@jax.jit
def _shuffled(keys: jax.Array, data: Dataset) -> Dataset:
    def one(key: jax.Array) -> Dataset:
        order = jax.random.permutation(key, data.y.shape[0])
        return Dataset(data.x[order], data.y[order])

    return jax.vmap(one)(keys)


def leave_some(sizes: tuple[int, ...], classes: tuple[int, ...], name: str) -> None:
    """Refuse training sets that leave no digits for testing."""
    available = len(datasets.digits(*classes).y)
    if max(sizes) >= available:
        raise ValueError(
            f"`{name}` must stay below the {available} images of these classes, to leave "
            f"some for testing; got {max(sizes)}"
        )
