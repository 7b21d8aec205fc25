"""Checks and margins of network outputs."""

from collections.abc import Hashable

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks
from kernelgap._numerics.quick import quick_jit
from kernelgap.typing import Apply, ArrayLike, PyTree

_PROBES = 8  # examples evaluated both in a batch and one at a time


def check_apply(apply: Apply, params: PyTree, x: jax.Array) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of `apply(params, x)`, which must have one row per example.

    If the arrays are concrete, also raise if the rows of the outputs depend on each other.
    """
    outputs = jax.eval_shape(apply, params, x)
    shape, dtype = getattr(outputs, "shape", None), getattr(outputs, "dtype", None)
    n = x.shape[0]
    if shape is None or dtype is None or len(shape) not in (1, 2) or shape[0] != n or 0 in shape:
        raise ValueError(
            f"`model` must return shape ({n},) or ({n}, k) for {n} examples; "
            f"got {type(outputs).__name__ if shape is None else shape}"
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"`model` must return floating-point outputs; got dtype {dtype}")
    _refuse_batch_dependence(apply, params, x)
    return outputs


def _refuse_batch_dependence(apply: Apply, params: PyTree, x: jax.Array) -> None:
    if not array_checks.is_concrete(x, *jax.tree.leaves(params)) or not x.is_fully_addressable:
        return
    evaluate = _compiled if isinstance(apply, Hashable) else _batched_and_single
    with jax.debug_nans(False):
        batched, single = evaluate(apply, params, jax.device_put(np.asarray(x)[:_PROBES]))
    if not array_checks.is_concrete(batched, single):  # `apply` closes over a tracer
        return
    batched, single = np.asarray(batched), np.asarray(single)
    # Batch statistics and masks change outputs by their own size, rounding by a few units.
    allowed = 4 * float(jnp.finfo(batched.dtype).eps) ** 0.5
    with np.errstate(all="ignore"):
        difference = np.max(np.abs(batched - single))
    if difference > allowed * np.max(np.abs(batched)):
        raise ValueError(
            "`model` must compute each row of its outputs from its own example alone; they "
            "change when examples are evaluated one at a time. Is it in training mode (batch "
            "normalisation, dropout)? Use its inference mode"
        )


def _batched_and_single(apply: Apply, params: PyTree, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the outputs of a few examples, in one batch and in batches of one."""
    first = x[0]
    reversed_first = jnp.flip(first.reshape(-1)).reshape(first.shape)
    # Add different examples, in case there are few rows or all of them are equal.
    others = [(reversed_first + k)[None] for k in range(1, 1 + max(_PROBES - x.shape[0], 1))]
    examples = jnp.concatenate([x, *others])
    return apply(params, examples), jax.vmap(lambda row: apply(params, row[None])[0])(examples)


_compiled = quick_jit(_batched_and_single, static_argnames="apply", level=1)


def check_outputs(outputs: ArrayLike) -> jax.Array:
    """Check the outputs of a classifier, of shape (n,), or (n, k) for k >= 2 classes."""
    array = array_checks.floating(outputs, "outputs")
    if array.ndim not in (1, 2) or array.shape[0] == 0 or array.shape[1:] in ((0,), (1,)):
        hint = ": use apply(params, x)[:, 0]" if array.shape[1:] == (1,) else ""
        raise ValueError(
            f"`outputs` must have shape (n,) or (n, k) with n >= 1 and k >= 2; "
            f"got {array.shape}{hint}"
        )
    return array


def check_labels(outputs: jax.Array, y: ArrayLike) -> jax.Array:
    """Check the labels of checked outputs: signs for one output, classes for several."""
    if outputs.ndim == 1:
        return array_checks.signs(y, outputs.shape[0])
    return array_checks.classes(y, outputs.shape[0], outputs.shape[1])


def signed_outputs(outputs: jax.Array, y: ArrayLike) -> jax.Array:
    """Return y_i f_i for outputs (n,) and labels -1, +1."""
    return array_checks.signs(y, outputs.shape[0]).astype(outputs.dtype) * outputs


def checked_classes(outputs: jax.Array, y: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Check class labels; outputs (n, k) become NaN where a traced label is out of range."""
    y = array_checks.classes(y, outputs.shape[0], outputs.shape[1])
    valid = True if array_checks.is_concrete(y) else (y < outputs.shape[1])[:, None]
    return array_checks.nan_unless(valid, outputs), y


def rival_gaps(outputs: jax.Array, y: ArrayLike) -> jax.Array:
    """Return f_j - f_{y_i} for every class j, in shape (n, k), with -inf at j = y_i."""
    outputs, y = checked_classes(outputs, y)
    own = jnp.take_along_axis(outputs, y[:, None], axis=1)
    is_own = jax.nn.one_hot(y, outputs.shape[1], dtype=bool)
    return jnp.where(is_own, -jnp.inf, outputs - own)


def soft_margins(outputs: jax.Array, y: ArrayLike) -> jax.Array:
    """Return the margins q_i that the logistic loss sees: a sample's loss is log(1 + exp(-q_i))."""
    if outputs.ndim == 1:
        return signed_outputs(outputs, y)
    return -jax.nn.logsumexp(rival_gaps(outputs, y), axis=1)
