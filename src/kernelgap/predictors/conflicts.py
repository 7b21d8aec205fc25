"""Which rows make data that a kernel cannot separate, for errors that name them."""

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import _checks
from kernelgap.predictors.operators import GramMatrix, Operator


def refuse_vanishing(operator: Operator, x: jax.Array, *, any_row: bool) -> None:
    """Refuse inputs at which every function of the kernel's span is 0: any of them, or all."""
    diagonal = operator.diagonal()
    if not _checks.is_concrete(diagonal, x):
        return
    tiny = jnp.finfo(operator.dtype).tiny
    vanishing = np.abs(np.asarray(diagonal)) < tiny  # XLA takes what is smaller for 0
    if not (vanishing.any() if any_row else vanishing.all()):
        return
    row = int(np.argmax(vanishing))
    if not np.asarray(x[row]).any():
        raise ValueError(
            f"`x` must not be zero where it is to be classified: row {row} is zero, where every "
            "function of this kernel's span is 0. Drop such rows, or append a constant feature "
            "to all of them"
        )
    raise ValueError(
        f"`x` must have rows whose kernel value is not 0 in {operator.dtype}; that of row {row}, "
        "which is not zero, is. Multiply x by a large constant if it is very small, or try "
        "float64 (jax_enable_x64)"
    )


def conflict(operator: Operator, x: jax.Array, y: jax.Array) -> str:
    """What two rows no function of the span can classify both, or "" if none are found.

    Those are rows whose signed images y_i K(x_i, .) are opposite in direction.
    """
    if isinstance(operator, GramMatrix):
        signed = np.asarray(operator.gram) * np.outer(y, y)
        if not (np.diagonal(signed) > 0).all():
            return ""
        sizes = np.sqrt(np.diagonal(signed))
        cosines = signed / np.outer(sizes, sizes)
        i, j = sorted(map(int, np.unravel_index(np.argmin(cosines), cosines.shape)))
        if cosines[i, j] > -1 + 64 * float(jnp.finfo(operator.dtype).eps):
            return ""
    else:  # equal inputs only
        rows, labels = np.asarray(x), np.asarray(y)
        _, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        others = labels != labels[first[which.reshape(-1)]]
        if not others.any():
            return ""
        j = int(np.argmax(others))
        i = int(first[which.reshape(-1)[j]])
        i, j = min(i, j), max(i, j)
    one, other = np.asarray(x[i], float), np.asarray(x[j], float)
    if (one == other).all():
        how = "are equal"
    elif (one == -other).all():
        how = f"are opposite, where this kernel's functions are {'even' if y[i] != y[j] else 'odd'}"
    else:
        how = "have values of a fixed ratio for all functions of this kernel's span"
    return f"rows {i} and {j} {how}, and have {'equal' if y[i] == y[j] else 'different'} labels"
