"""All seeds of a study at once: functions compiled for them, and their samples.

A seed is a stream of samples. For one seed all learners see the same data, larger samples contain
smaller ones, and one compiled program serves all n.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import datasets
from kernelgap._numerics import checks
from kernelgap._numerics.quick import quick_jit
from kernelgap.datasets import Dataset
from kernelgap.studies.options import about_options


def over_seeds(
    function: Callable[..., Any],
    arguments: tuple,
    *,
    static: tuple = (),
    shared: tuple = (),
    wide: bool = False,
) -> Any:
    """Return `function(*static, *shared, *arguments)` of each seed, compiled.

    A second call with the same function, an equal `static` and equal shapes compiles nothing. The
    first one compiles with little optimization on a CPU, in a third of the usual time.

    Args:
        function: Function for one seed, defined in a module, so that it is equal in all calls.
        arguments: Trees of arrays with the seeds along their first axis, at least one.
        static: Arguments known at compile time, such as models and numbers of steps.
        shared: Trees of arrays that all seeds share.
        wide: Run the seeds one after the other, not as one batch, to save memory.

    Example:
        >>> import jax.numpy as jnp
        >>> from kernelgap.studies import over_seeds
        >>> def power(exponent, x):
        ...     return x**exponent
        >>> print(over_seeds(power, (jnp.arange(4.0),), static=(2,)))
        [0. 1. 4. 9.]
    """
    checks.function(function, "function", "(*static, *shared, *arguments)")
    given = {"arguments": arguments, "static": static, "shared": shared}
    for name, value in given.items():
        if not isinstance(value, tuple):
            raise TypeError(f"`{name}` must be a tuple; got {value!r:.40}")
    return _over_seeds(function, static, bool(wide), shared, arguments)


@partial(quick_jit, static_argnames=("function", "static", "wide"), level=1)
def _over_seeds(
    function: Callable[..., Any], static: tuple, wide: bool, shared: tuple, arguments: tuple
) -> Any:
    def of_seed(*arguments: Any) -> Any:
        return function(*static, *shared, *arguments)

    if wide:
        return jax.lax.map(lambda seed: of_seed(*seed), arguments)
    return jax.vmap(of_seed)(*arguments)


def first(data: Dataset, n: int) -> Dataset:
    """Return the first n samples of each seed."""
    return Dataset(data.x[:, :n], data.y[:, :n])


def padded_size(n: int, largest: int) -> int:
    """Return the whole, half or quarter of `largest` that holds n: few shapes, few programs.

    Example:
        >>> from kernelgap.studies import seeds
        >>> [seeds.padded_size(n, 90) for n in (10, 30, 50, 90)]
        [23, 45, 90, 90]
    """
    return min(size for k in (1, 2, 4) if (size := -(-largest // k)) >= n)


def split(data: Dataset, n: int) -> tuple[Dataset, Dataset]:
    """Return the first n samples of each seed for training, and the others for testing."""
    return first(data, n), Dataset(data.x[:, n:], data.y[:, n:])


def each(data: Dataset) -> list[Dataset]:
    """Return one data set per seed."""
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
    """Return `datasets.xor_noise` for each key, on the host: x of shape (seeds, n, d)."""
    return jax.device_get(over_seeds(_xor, (keys,), static=(n, d, signal, noise, flip)))


def _xor(
    n: int, d: int, signal: datasets.Signal, noise: datasets.Noise, flip: float, key: jax.Array
) -> Dataset:
    return datasets.xor_noise(key, n, d, signal=signal, noise=noise, flip=flip)


def teacher(
    teacher_keys: jax.Array,
    keys: jax.Array,
    n: int,
    d: int,
    *,
    units: int,
    weights: datasets.Weights = "unit",
    inputs: datasets.Inputs = "sphere",
    labels: Literal["sign", "value"] = "sign",
    margin: float = 0.0,
) -> Dataset:
    """Return `datasets.teacher`, each seed with its own teacher: x (seeds, n, d), on the host.

    Inputs on the sphere get the radius sqrt(d), about the norm of Gaussian ones, so that the same
    settings of a net suit both. The teacher's unnormalised margin refers to these inputs.
    """
    static = (n, d, units, weights, inputs, labels, margin)
    data = jax.device_get(over_seeds(_teacher, (teacher_keys, keys), static=static))
    if np.isnan(data.y).any():
        (missed,) = np.nonzero(np.isnan(data.y).any(axis=1))
        error = ValueError(f"`margin` must be reached by at least one input in a thousand; got "
                           f"{margin:g}, too much for the teacher of seed {missed[0]}")  # fmt: skip
        raise about_options(error, "margin")
    return data


def _teacher(
    n: int,
    d: int,
    units: int,
    weights: datasets.Weights,
    inputs: datasets.Inputs,
    labels: Literal["sign", "value"],
    margin: float,
    teacher_key: jax.Array,
    key: jax.Array,
) -> Dataset:
    params = datasets.planted_teacher(teacher_key, d, units=units, weights=weights)
    scale = d**0.5 if inputs == "sphere" else 1.0
    form: dict[str, Any] = {"inputs": inputs, "labels": labels, "margin": margin / scale}
    data = datasets.teacher(key, n, d, params=params, **form)
    factor = jnp.asarray(scale, data.x.dtype)
    return Dataset(data.x * factor, data.y * factor if labels == "value" else data.y)


def block(total: int, start: int, size: int = 10) -> range:
    """Return the block of `blocks` that begins with the seed `start`."""
    return range(start, min(start + size, total))


def blocks(total: int, size: int = 10) -> list[range]:
    """Return the seeds in blocks of at most `size`, so that long runs have short cells.

    Example:
        >>> from kernelgap.studies import seeds
        >>> seeds.blocks(25)
        [range(0, 10), range(10, 20), range(20, 25)]
    """
    return [block(total, start, size) for start in range(0, total, size)]


@lru_cache(maxsize=1)
def mnist(path: str) -> datasets.Split:
    """Return `datasets.mnist` from the folder of the option `mnist`, read once."""
    try:
        return datasets.mnist(path)
    except (OSError, ValueError) as error:
        raise about_options(type(error)(f"`mnist`: {error}"), "mnist") from error


def drawn(data: Dataset, keys: jax.Array, n: int) -> Dataset:
    """Return n samples for each key, without replacement: x of shape (seeds, n, d)."""
    x, y = np.asarray(data.x), np.asarray(data.y)
    order = [np.asarray(jax.random.permutation(key, len(y))[:n]) for key in keys]
    return Dataset(jnp.asarray(x[np.stack(order)]), jnp.asarray(y[np.stack(order)]))


def unit(x: jax.Array) -> jax.Array:
    """Return inputs divided by their norms; zero inputs stay zero."""
    norms = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return jnp.asarray(x) / jnp.where(norms > 0, norms, 1)


def digits(keys: jax.Array, classes: tuple[int, ...]) -> Dataset:
    """Return `datasets.digits` in an order of its own for each key: x of shape (seeds, n, 64)."""
    return jax.device_get(over_seeds(_shuffled, (keys,), shared=(datasets.digits(classes),)))


def _shuffled(data: Dataset, key: jax.Array) -> Dataset:
    order = jax.random.permutation(key, data.y.shape[0])
    return Dataset(data.x[order], data.y[order])


def line(n: int) -> Dataset:
    """Return points t on [-1, 1] as inputs (t, 1), labelled + + - - + + and so on.

    With d = 2 the largest margin of any width is known exactly, by enumeration.
    """
    t = jnp.linspace(-1, 1, n)
    y = jnp.where(jnp.arange(n) // 2 % 2 == 0, 1, -1).astype(t.dtype)
    return Dataset(jnp.stack([t, jnp.ones_like(t)], axis=1), y)


def leave_some(largest: int, classes: tuple[int, ...], *names: str) -> None:
    """Raise if training sets, set by the options `names`, leave no digits for testing."""
    available = len(datasets.digits(classes).y)
    if largest >= available:
        options = " + ".join(f"`{name}`" for name in names)
        error = ValueError(
            f"{options} must stay below the {available} images of these classes, to leave "
            f"some for testing; got {largest}"
        )
        raise about_options(error, *names)
