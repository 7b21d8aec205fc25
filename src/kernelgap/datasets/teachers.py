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
Weights = Literal["unit", "normal"]
Teacher = tuple[ArrayLike, ArrayLike]

# Rejection sampling draws blocks of inputs, and gives up once it has drawn _PATIENCE of them and
# accepted fewer than one in a thousand.
_SMALLEST_BLOCK, _LARGEST_BLOCK, _PATIENCE = 256, 2**16, 2**16
_HOPELESS = 1e-3


def planted_teacher(
    key: Key,
    d: int,
    *,
    units: int = 6,
    weights: Weights = "unit",
    dtype: DTypeLike | None = None,
) -> tuple[Float[Array, "units d"], Float[Array, " units"]]:
    r"""Sample the parameters of a two-layer ReLU teacher, f(x) = sum_j w_j relu(<u_j, x>).

    With `weights="unit"`, the directions u_j are independent and uniform on the unit sphere; the
    signs w_j alternate, +1, -1, +1, ..., so that both labels are about equally likely. Units are
    balanced: ``|w_j| = ||u_j||``. With `weights="normal"`, every weight is N(0, 1); outputs are
    larger by about sqrt(d), and all w_j have the same sign, so that only one label occurs, with
    probability 2^(1 - units).

    Args:
        key: JAX random key.
        d: Input dimension, at least 1.
        units: Number of hidden units, at least 1.
        weights: `"unit"` or `"normal"`.
        dtype: Floating dtype; JAX's default when None.

    Returns:
        Parameters for `models.homogeneous_mlp((units,))`: (hidden (units, d), readout (units,)).

    Example:
        >>> import jax, kernelgap as kg
        >>> hidden, readout = kg.datasets.planted_teacher(jax.random.key(0), 20, units=4)
        >>> hidden.shape, readout.tolist()
        ((4, 20), [1.0, -1.0, 1.0, -1.0])

    References:
        Unit weights are ours. Normal ones are those of the last experiment of paper A [recalled].
    """
    units = checks.integer(units, "units", minimum=1)
    checks.choice(weights, "weights", ("unit", "normal"))
    if weights == "normal":
        checks.random_key(key)
        d = checks.integer(d, "d", minimum=1)
        return _normal(key, units, d, array_checks.floating_dtype(dtype))
    hidden = sphere(key, units, d, dtype=dtype)
    return hidden, cast(1 - 2 * (np.arange(units) % 2), hidden.dtype)


@partial(quick_jit, static_argnames=("units", "d", "dtype"), level=1)
def _normal(key: Key, units: int, d: int, dtype: DTypeLike) -> tuple[jax.Array, jax.Array]:
    weights = jax.random.normal(key, (units, d + 1), dtype)
    return weights[:, :d], weights[:, d]


def teacher(
    key: Key,
    n: int,
    d: int,
    *,
    units: int = 6,
    params: Teacher | None = None,
    inputs: Inputs = "gaussian",
    labels: Labels = "sign",
    margin: float | ArrayLike = 0.0,
    dtype: DTypeLike | None = None,
) -> Dataset:
    r"""Sample inputs and label them by a two-layer ReLU teacher f.

    With a `margin`, inputs are drawn until n of them satisfy ``|f(x)| >= margin``: they have the
    distribution `inputs` conditioned on this. `teacher_acceptance` returns the share of inputs that
    satisfy it.

    Without one, a teacher without biases is 0 wherever all of its units are inactive, which happens
    for a fraction 2^-units of the inputs. With `labels="sign"`, such an input x is replaced by -x,
    where all units are active, so that the teacher classifies every sample correctly. Its smallest
    output then falls like 1 / n.

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
        margin: Smallest absolute output of the teacher, at least 0. It is not normalised: it refers
            to outputs for inputs and weights as they are, and holds up to rounding.
        dtype: Floating dtype of `x` and `y`; JAX's default when None.

    Returns:
        `Dataset(x, y)` with x of shape (n, d) and y of shape (n,).

    Raises:
        ValueError: If fewer than about one input in a thousand reaches `margin`. Under `jit` and
            `vmap` the samples that are missing are NaN.

    Example:
        >>> import jax, kernelgap as kg
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> params = kg.datasets.planted_teacher(keys[0], 20)
        >>> x, y = kg.datasets.teacher(keys[1], 100, 20, params=params, margin=0.1)
        >>> x_test, y_test = kg.datasets.teacher(keys[2], 1000, 20, params=params, margin=0.1)
        >>> f = kg.models.homogeneous_mlp((6,)).apply(params, x)
        >>> bool((y * f >= 0.0999).all())
        True

    References:
        The experiments of paper A: a random net labels, and inputs are rejected until its
        unnormalised margin is .1 (6 units, d = 20) or .01 (10 units) [text, first versions]. The
        distribution of the inputs is ours.
    """
    checks.random_key(key)
    n = checks.integer(n, "n", minimum=1)
    d = checks.integer(d, "d", minimum=1)
    _check_inputs(inputs)
    checks.choice(labels, "labels", ("sign", "value"))
    margin = checks.number(margin, "margin", minimum=0)
    dtype = array_checks.floating_dtype(dtype)
    teacher_key, inputs_key = split_key(key)
    if params is None:
        params = planted_teacher(teacher_key, d, units=units, dtype=dtype)
    hidden, readout = (leaf.astype(dtype) for leaf in _checked(params, d))
    if array_checks.is_concrete(margin) and margin == 0:
        return Dataset(*_labelled(inputs_key, hidden, readout, n, inputs, labels))
    margin = array_checks.array(margin, "margin").astype(dtype)
    x, outputs, accepted, drawn = _rejection(inputs_key, hidden, readout, margin, n, inputs)
    if array_checks.is_concrete(accepted) and accepted < n:
        rate = float(accepted) / float(drawn)
        raise ValueError(
            f"`margin` must be reached by at least {_HOPELESS:.1%} of the inputs; got "
            f"{float(margin):g}, which {int(accepted)} of {int(drawn)} reach (acceptance rate "
            f"{rate:.2g}). See teacher_acceptance for smaller ones"
        )
    return Dataset(x, outputs if labels == "value" else _signs(outputs))


def teacher_acceptance(
    key: Key,
    params: Teacher,
    *,
    margin: float | ArrayLike,
    inputs: Inputs = "gaussian",
    n: int = 10_000,
) -> Float[Array, ""]:
    r"""Return the share of n fresh inputs x with ``|f(x)| >= margin`` under the teacher f.

    This estimates the acceptance rate of `teacher(..., margin=margin)`, with a standard error of
    sqrt(p (1 - p) / n) at rate p.

    Args:
        key: JAX random key.
        params: The teacher, of shapes (units, d) and (units,), as `planted_teacher` returns it.
        margin: Smallest absolute output of the teacher, at least 0.
        inputs: `"gaussian"` for N(0, I), `"sphere"` for uniform on the unit sphere.
        n: Number of inputs, at least 1.

    Returns:
        The share, of the dtype of the hidden weights.

    Example:
        >>> import jax, kernelgap as kg
        >>> keys = jax.random.split(jax.random.key(0))
        >>> params = kg.datasets.planted_teacher(keys[0], 20)
        >>> share = kg.datasets.teacher_acceptance(keys[1], params, margin=0.1)
        >>> print(f"{share:.2f}")
        0.93

    References:
        Monte Carlo; the margins of paper A's experiments are listed at `teacher`.
    """
    checks.random_key(key)
    hidden, readout = _checked(params)
    n = checks.integer(n, "n", minimum=1)
    _check_inputs(inputs)
    margin = array_checks.array(checks.number(margin, "margin", minimum=0), "margin")
    return _share(key, hidden, readout.astype(hidden.dtype), margin, n, inputs)


def _check_inputs(inputs: Inputs) -> None:
    checks.choice(inputs, "inputs", ("gaussian", "sphere"))


def _checked(params: Teacher, d: int | None = None) -> tuple[jax.Array, jax.Array]:
    if not isinstance(params, tuple | list) or len(params) != 2:
        raise TypeError(
            f"`params` must be a pair as planted_teacher returns it; got {params!r:.40}"
        )
    hidden, readout = (array_checks.floating(p, "params") for p in params)
    columns = hidden.shape[-1] if d is None and hidden.ndim else d
    if hidden.ndim != 2 or hidden.shape[1] != columns or readout.shape != hidden.shape[:1]:
        raise ValueError(
            f"`params` must have shapes (units, {'d' if d is None else d}) and (units,); "
            f"got {hidden.shape} and {readout.shape}"
        )
    return hidden, readout


@partial(quick_jit, static_argnames=("n", "inputs", "labels"), level=1)
def _labelled(
    key: Key, hidden: jax.Array, readout: jax.Array, n: int, inputs: Inputs, labels: Labels
) -> tuple[jax.Array, jax.Array]:
    x = _draw(key, hidden, n, inputs)
    preactivations = jnp.matmul(x, hidden.T, precision="highest")
    if labels == "sign":
        # Preactivations are odd in x, so the products need not be computed again.
        sign = jnp.where(jnp.any(preactivations > 0, axis=1, keepdims=True), 1, -1).astype(x.dtype)
        x, preactivations = sign * x, sign * preactivations
    outputs = _outputs(preactivations, readout)
    return x, outputs if labels == "value" else _signs(outputs)


@partial(quick_jit, static_argnames=("n", "inputs"), level=1)
def _rejection(
    key: Key, hidden: jax.Array, readout: jax.Array, margin: jax.Array, n: int, inputs: Inputs
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return n accepted inputs, their outputs, the number accepted at most n, the number drawn."""
    block = min(max(n, _SMALLEST_BLOCK), _LARGEST_BLOCK)

    def drawn(blocks: jax.Array) -> jax.Array:
        return blocks.astype(jnp.float32) * jnp.float32(block)

    def unfinished(state: tuple) -> jax.Array:
        blocks, accepted, _, _ = state
        hopeless = accepted.astype(jnp.float32) < jnp.float32(_HOPELESS) * drawn(blocks)
        return (accepted < n) & ~(hopeless & (drawn(blocks) >= jnp.float32(_PATIENCE)))

    def draw(state: tuple) -> tuple:
        blocks, accepted, x, outputs = state
        x_new = _draw(jax.random.fold_in(key, blocks), hidden, block, inputs)
        new = _outputs(jnp.matmul(x_new, hidden.T, precision="highest"), readout)
        mask = jnp.abs(new) >= margin
        place = jnp.where(mask, accepted + jnp.cumsum(mask, dtype=jnp.int32) - 1, n)
        x = x.at[place].set(x_new, mode="drop")
        outputs = outputs.at[place].set(new, mode="drop")
        return blocks + 1, accepted + jnp.sum(mask, dtype=jnp.int32), x, outputs

    none = jnp.zeros((), jnp.int32)
    missing = jnp.full((n, hidden.shape[1] + 1), jnp.nan, hidden.dtype)
    start = (none, none, missing[:, 1:], missing[:, 0])
    blocks, accepted, x, outputs = jax.lax.while_loop(unfinished, draw, start)
    return x, outputs, accepted, drawn(blocks)


@partial(quick_jit, static_argnames=("n", "inputs"), level=1)
def _share(
    key: Key, hidden: jax.Array, readout: jax.Array, margin: jax.Array, n: int, inputs: Inputs
) -> jax.Array:
    x = _draw(key, hidden, n, inputs)
    outputs = _outputs(jnp.matmul(x, hidden.T, precision="highest"), readout)
    reached = jnp.mean(jnp.abs(outputs) >= margin.astype(x.dtype), dtype=jnp.float32)
    return jnp.where(jnp.isnan(margin), jnp.nan, reached).astype(x.dtype)


def _draw(key: Key, hidden: jax.Array, n: int, inputs: Inputs) -> jax.Array:
    d, dtype = hidden.shape[1], hidden.dtype
    if inputs == "gaussian":
        return jax.random.normal(key, (n, d), dtype)
    return sphere(key, n, d, dtype=dtype)


def _outputs(preactivations: jax.Array, readout: jax.Array) -> jax.Array:
    return jnp.matmul(
        jnp.where(preactivations > 0, preactivations, 0), readout, precision="highest"
    )


def _signs(outputs: jax.Array) -> jax.Array:
    signs = jnp.where(outputs >= 0, 1, -1).astype(outputs.dtype)
    return jnp.where(jnp.isnan(outputs), outputs, signs)
