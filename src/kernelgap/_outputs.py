"""What a net's outputs are and what they say of each sample, for more than one room."""

from collections.abc import Hashable

import jax
import jax.numpy as jnp

from kernelgap import _checks
from kernelgap.typing import Apply, ArrayLike, PyTree

_PROBED = 8  # examples on which rows are evaluated together and alone


def checked_form(apply: Apply, params: PyTree, x: jax.Array) -> jax.ShapeDtypeStruct:
    """Shape and dtype of `apply(params, x)`, refused unless one row of numbers for each example.

    So are nets whose rows depend on each other, where arrays are concrete.
    """
    outputs = jax.eval_shape(apply, params, x)
    shape, dtype = getattr(outputs, "shape", None), getattr(outputs, "dtype", None)
    n = x.shape[0]
    if shape is None or dtype is None or len(shape) not in (1, 2) or shape[0] != n or 0 in shape:
        raise ValueError(f"`model` must return shape ({n},) or ({n}, k) for {n} examples; "
                         f"got {type(outputs).__name__ if shape is None else shape}")  # fmt: skip
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"`model` must return floating-point outputs; got dtype {dtype}")
    _refuse_batch_dependence(apply, params, x)
    return outputs


def _refuse_batch_dependence(apply: Apply, params: PyTree, x: jax.Array) -> None:
    if not _checks.is_concrete(x, *jax.tree.leaves(params)) or not x.is_fully_addressable:
        return
    compare = _compiled if isinstance(apply, Hashable) else _together_and_alone
    with jax.debug_nans(False):
        together, alone = compare(apply, params, x[:_PROBED])
    if not _checks.is_concrete(together, alone):  # constants of a function that is being traced
        return
    # Batch statistics and masks move outputs by their own size, rounding by a few units.
    allowed = 4 * float(jnp.finfo(together.dtype).eps) ** 0.5
    if bool(jnp.max(jnp.abs(together - alone)) > allowed * jnp.max(jnp.abs(together))):
        raise ValueError(
            "`model` must make each row of its outputs from its own example alone; they "
            "change when examples are evaluated one at a time. Is it in training mode (batch "
            "normalisation, dropout)? Use its inference mode"
        )


def _together_and_alone(apply: Apply, params: PyTree, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The outputs of a few examples, in one batch and in batches of one."""
    first = x[0]
    turned = jnp.flip(first.reshape(-1)).reshape(first.shape)
    # Also where there are few rows, or equal ones.
    others = [(turned + k)[None] for k in range(1, 1 + max(_PROBED - x.shape[0], 1))]
    examples = jnp.concatenate([x, *others])
    return apply(params, examples), jax.vmap(lambda row: apply(params, row[None])[0])(examples)


_compiled = jax.jit(_together_and_alone, static_argnames="apply")


def checked(outputs: ArrayLike) -> jax.Array:
    """Outputs of a classifier: floating, of shape (n,), or (n, k) for k >= 2 classes."""
    found = _checks.floating(outputs, "outputs")
    if found.ndim not in (1, 2) or found.shape[0] == 0 or found.shape[1:] in ((0,), (1,)):
        hint = ": use apply(params, x)[:, 0]" if found.shape[1:] == (1,) else ""
        raise ValueError(f"`outputs` must have shape (n,) or (n, k) with n >= 1 and k >= 2; "
                         f"got {found.shape}{hint}")  # fmt: skip
    return found


def signed(outputs: jax.Array, y: ArrayLike) -> jax.Array:
    """y_i f_i for outputs (n,) and labels -1, +1."""
    return _checks.signs(y, outputs.shape[0]).astype(outputs.dtype) * outputs


def labelled(outputs: jax.Array, y: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Outputs (n, k), NaN for samples whose traced label is out of range, and class labels."""
    y = _checks.classes(y, outputs.shape[0], outputs.shape[1])
    valid = True if _checks.is_concrete(y) else (y < outputs.shape[1])[:, None]
    return _checks.nan_unless(valid, outputs), y


def rival_gaps(outputs: jax.Array, y: ArrayLike) -> jax.Array:
    """f_j - f_{y_i} for outputs (n, k) and every class j, with -inf at j = y_i: shape (n, k)."""
    outputs, y = labelled(outputs, y)
    own = jnp.take_along_axis(outputs, y[:, None], axis=1)
    is_own = jax.nn.one_hot(y, outputs.shape[1], dtype=bool)
    return jnp.where(is_own, -jnp.inf, outputs - own)
