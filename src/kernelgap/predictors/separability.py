"""Separable data or not: the status that a certificate of the SVM proves, and the cause."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks
from kernelgap.predictors.dual import Certificate
from kernelgap.predictors.interface import Status
from kernelgap.predictors.operators import GramMatrix, Operator


def first_of_equal(x: np.ndarray) -> np.ndarray:
    """Return, for each row, the index of the first row that is equal to it."""
    rows = np.ascontiguousarray(x + 0)  # -0 is 0
    sums = rows.view(f"u{rows.itemsize}").sum(axis=1, dtype=np.uint64)
    _, which, counts = np.unique(sums, return_inverse=True, return_counts=True)
    first, seen = np.arange(len(rows)), {}
    for i in np.flatnonzero(counts[which.ravel()] > 1).tolist():  # few: sums tell most rows apart
        first[i] = seen.setdefault(rows[i].tobytes(), i)
    return first


def negligible(diagonal: jax.Array | np.ndarray, eps: float) -> jax.Array | np.ndarray:
    """Return the squared bound on a margin that counts as 0, from the kernel's own values."""
    xp = np if isinstance(diagonal, np.ndarray) else jnp
    return xp.minimum(4 * eps * xp.median(diagonal), 1e-4 * xp.min(diagonal))


def status_of(
    own: Float[Array, " n"],
    x: jax.Array,
    y: jax.Array | np.ndarray,
    certificate: Certificate,
    tol: float,
) -> Any:
    """Return the `Status` of one machine, given the diagonal of the Gram matrix.

    An upper bound that is 0 to rounding proves that the data are not separable, whatever the
    rounded margin, unless the bound comes from a single small row. A zero row proves it as well.
    """
    eps = float(jnp.finfo(own.dtype).eps)
    _, upper, gap, _ = certificate
    concrete = array_checks.is_concrete(own, upper, gap)
    xp: Any = np if concrete else jnp  # NumPy compiles nothing
    values: Any = own
    if concrete:
        values, upper, gap = (np.asarray(value, float) for value in (own, upper, gap))
    least, zero = xp.min(values), negligible(values, eps)
    bounded = xp.isfinite(upper)
    undecided = (xp.square(upper) > zero) & bounded & (least > 0)
    failed = xp.where(bounded | (least == 0), Status.INSEPARABLE.value, Status.INDEFINITE.value)
    code = xp.where(undecided, Status.ABOVE_TOL.value, failed)
    code = xp.where(gap <= tol, Status.CONVERGED.value, code)
    if concrete:
        return code.astype(np.int32)
    valid = array_checks.all_finite(x, y) & jnp.any(y > 0) & jnp.any(y < 0)
    return jnp.where(valid, code, Status.INVALID.value).astype(jnp.int32)


def refuse(
    operator: Operator,
    x: jax.Array,
    y: jax.Array | np.ndarray,
    certificate: Certificate,
    status: Status,
    which: str,
) -> None:
    """Raise an error that names the cause where the data are not separable."""
    if status <= Status.ABOVE_TOL:
        return
    pair, dtype = _conflict(operator, x, y), operator.dtype
    upper = jax.lax.stop_gradient(certificate.upper)  # concrete under differentiation too
    if status == Status.INSEPARABLE:
        cause = f"The cause: {pair}" if pair else (
            "Look for nearly equal inputs with different labels, or try float64 (jax_enable_x64)"
        )  # fmt: skip
        raise ValueError(
            f"{which} are not separable by this kernel in {dtype}: a convex combination of the "
            f"signed points has kernel norm {float(upper):.2g}, and no margin exceeds "
            f"that. {cause}"
        )
    cause = pair or (
        "rounding. Look for equal or nearly equal inputs, or try float64 (jax_enable_x64)"
    )
    raise ValueError(
        f"no solver succeeds in {dtype}: the Gram matrix of `x` is not positive definite to "
        f"{'rounding: ' if pair else ''}{cause}"
    )


def _conflict(operator: Operator, x: jax.Array, y: jax.Array | np.ndarray) -> str:
    """Name two rows that no function of the span classifies correctly at once, or return "".

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
        labels, twins = np.asarray(y), first_of_equal(np.asarray(x))
        others = labels != labels[twins]
        if not others.any():
            return ""
        j = int(np.argmax(others))
        i, j = sorted((int(twins[j]), j))
    first, second = np.asarray(x[i], float), np.asarray(x[j], float)
    if (first == second).all():
        how = "are equal"
    elif (first == -second).all():
        how = f"are opposite, where this kernel's functions are {'even' if y[i] != y[j] else 'odd'}"
    else:
        how = "have values of a fixed ratio for all functions of this kernel's span"
    return f"rows {i} and {j} {how}, and have {'equal' if y[i] == y[j] else 'different'} labels"
