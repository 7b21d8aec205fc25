"""Data labelled by a small random ReLU network, the teacher."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.arrays import cast
from kernelgap._numerics.quick import quick_jit, split_key
from kernelgap.datasets.dataset import Dataset
from kernelgap.datasets.spherical import sphere
from kernelgap.typing import ArrayLike, DTypeLike, Key

Inputs = Literal["gaussian", "sphere"]
Labels = Literal["sign", "value"]
Teacher = tuple[ArrayLike, ArrayLike]


def planted_teacher(
    key: Key, d: int, *, units: int = 6, dtype: DTypeLike | None = None
) -> tuple[Float[Array, "units d"], Float[Array, " units"]]:
    r"""Sample the parameters of a two-layer ReLU teacher, f(x) = sum_j w_j relu(<u_j, x>).

    The directions u_j are independent and uniform on the unit sphere; the signs w_j alternate,
    +1, -1, +1, ..., so that both labels are about equally likely. Units are balanced:
    ``|w_j| = ||u_j||``.

    Args:
        key: JAX random key.
        d: Input dimension, at least 1.
        units: Number of hidden units, at least 1.
        dtype: Floating dtype; JAX's default when None.

    Returns:
        Parameters for `models.homogeneous_mlp((units,))`: (hidden (units, d), readout (units,)).

    Example:
        >>> import jax, kernelgap as kg
        >>> hidden, readout = kg.datasets.planted_teacher(jax.random.key(0), 20, units=4)
        >>> hidden.shape, readout.tolist()
        ((4, 20), [1.0, -1.0, 1.0, -1.0])

    References:
        The choice of the distribution is ours.
    """
    units = checks.integer(units, "units", minimum=1)
    hidden = sphere(key, units, d, dtype=dtype)
    return hidden, cast(1 - 2 * (np.arange(units) % 2), hidden.dtype)


def teacher(
    key: Key,
    n: int,
    d: int,
    *,
    units: int = 6,
    params: Teacher | None = None,
    inputs: Inputs = "gaussian",
    labels: Labels = "sign",
    dtype: DTypeLike | None = None,
) -> Dataset:
    r"""Sample inputs and label them by a two-layer ReLU teacher.

    A teacher without biases is 0 wherever all of its units are inactive, which happens for a
    fraction 2^-units of the inputs. With `labels="sign"`, such an input x is replaced by -x, where
    all units are active, so that the teacher classifies every sample with a positive margin.

    Args:
        key: JAX random key.
        n: Number of samples, at least 1.
        d: Input dimension, at least 1.
        units: Number of hidden units if the teacher is drawn from `key`; both labels occur only
            if there are at least 2.
        params: The teacher, as returned by `planted_teacher`; pass it to give training and test
            sets the same teacher (`units` is then ignored). Drawn from `key` when None.
        inputs: `"gaussian"` for N(0, I), `"sphere"` for uniform on the unit sphere.
        labels: `"sign"` for -1 and +1, `"value"` for the output of the teacher.
        dtype: Floating dtype of `x` and `y`; JAX's default when None.

    Returns:
        `Dataset(x, y)` with x of shape (n, d) and y of shape (n,).

    Example:
        >>> import jax, kernelgap as kg
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> params = kg.datasets.planted_teacher(keys[0], 20)
        >>> x, y = kg.datasets.teacher(keys[1], 100, 20, params=params)
        >>> x_test, y_test = kg.datasets.teacher(keys[2], 1000, 20, params=params)
        >>> f = kg.models.homogeneous_mlp((6,)).apply(params, x)
        >>> bool((y * f > 0).all())
        True

    References:
        In the style of paper A, which compares nets and kernels on a small planted network; the
        distributions of inputs and teacher are ours.
    """
    checks.random_key(key)
    n = checks.integer(n, "n", minimum=1)
    d = checks.integer(d, "d", minimum=1)
    checks.choice(inputs, "inputs", ("gaussian", "sphere"))
    checks.choice(labels, "labels", ("sign", "value"))
    dtype = array_checks.floating_dtype(dtype)
    teacher_key, inputs_key = split_key(key)
    if params is None:
        params = planted_teacher(teacher_key, d, units=units, dtype=dtype)
    if not isinstance(params, tuple | list) or len(params) != 2:
        raise TypeError(
            f"`params` must be a pair as planted_teacher returns it; got {params!r:.40}"
        )
    hidden, readout = (array_checks.floating(p, "params").astype(dtype) for p in params)
    if hidden.ndim != 2 or hidden.shape[1] != d or readout.shape != hidden.shape[:1]:
        raise ValueError(
            f"`params` must have shapes (units, {d}) and (units,); "
            f"got {hidden.shape} and {readout.shape}"
        )
    return Dataset(*_labelled(inputs_key, hidden, readout, n, inputs, labels))


@partial(quick_jit, static_argnames=("n", "inputs", "labels"), level=1)
def _labelled(
    key: Key, hidden: jax.Array, readout: jax.Array, n: int, inputs: Inputs, labels: Labels
) -> tuple[jax.Array, jax.Array]:
    d, dtype = hidden.shape[1], hidden.dtype
    if inputs == "gaussian":
        x = jax.random.normal(key, (n, d), dtype)
    else:
        x = sphere(key, n, d, dtype=dtype)
    preactivations = jnp.matmul(x, hidden.T, precision="highest")
    if labels == "sign":
        # Preactivations are odd in x, so the products need not be computed again.
        sign = jnp.where(jnp.any(preactivations > 0, axis=1, keepdims=True), 1, -1).astype(dtype)
        x, preactivations = sign * x, sign * preactivations
    outputs = jnp.matmul(
        jnp.where(preactivations > 0, preactivations, 0), readout, precision="highest"
    )
    if labels == "value":
        return x, outputs
    return x, jnp.where(outputs >= 0, 1, -1).astype(dtype)
