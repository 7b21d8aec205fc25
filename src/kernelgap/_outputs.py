"""What a classifier's outputs say of each sample, for more than one room."""

import jax
import jax.numpy as jnp

from kernelgap import _checks
from kernelgap.typing import ArrayLike


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
