r"""Extended features of a ReLU layer and their smallest singular value.

For f(x) = sum_k v_k relu(w_k . x) with fixed v_k = +-1, and L = (1/2n) sum_l (f(x_l) - y_l)^2 over
n samples, grad_W L = D r, where r = (f - y) / n and D is the extended feature matrix of shape
(m d, n) with blocks v_k 1[w_k . x_l > 0] x_l. Hence

    L = (n/2) ||r||^2 <= (n/2) ||grad_W L||^2 / s_min(D)^2,

and D'D = (A'A) o (X X') with A = 1[W X' > 0], independently of the signs v; D itself is never
formed. A stationary point at which s_min(D) > 0 has loss 0. (Paper B writes n for the number of
units and m for the number of samples; here n always counts samples.)

Two extensions of the paper's appendix F change A only. For units relu(z)^p, A is
p relu(W X')^(p-1). For any choice of relu'(0) in [0, 1], a subgradient, the identity
grad_W L = D r holds if A has that value where w_k . x_l = 0: nothing else enters the proof.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.trees import safe_power
from kernelgap._support.display import html_repr, short
from kernelgap._support.registry import saveable
from kernelgap.typing import ArrayLike

_HIGHEST = jax.lax.Precision.HIGHEST
_CHUNK = 2**25  # entries of the activation patterns that are in memory at a time


@saveable()
class SmallestSingularValue(NamedTuple):
    """The smallest singular value of the extended feature matrix, with its rounding error.

    Attributes:
        value: s_min(D) >= 0.
        lower: sqrt(max(lambda_min(D'D) - error, 0)), an estimated lower end of s_min(D).
        error: Estimated rounding error of lambda_min(D'D) = value^2 in this dtype; usually
            pessimistic, but not a bound.
        wide: True if there are more samples than parameters, n > d m. D'D is then singular for any
            units, and the value exactly 0.
    """

    value: Float[Array, "..."]
    lower: Float[Array, "..."]
    error: Float[Array, "..."]
    wide: Bool[Array, "..."]

    _repr_html_ = html_repr

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={short(part)}" for name, part in self._asdict().items())
        why = ""
        arrays = all(isinstance(part, jax.Array | np.ndarray) for part in self)
        known = arrays and array_checks.is_concrete(*self)
        if known and np.all(self.wide):
            why = ": exactly 0, as n > d m"
        elif known and not np.any(np.asarray(self.lower) > 0):
            why = ": not distinguishable from 0 in this dtype"
        return f"{type(self).__name__}({fields}){why}"


def extended_feature_gram(
    w: ArrayLike, x: ArrayLike, *, power: float = 1.0, at_zero: float = 0.0
) -> Float[Array, "n n"]:
    r"""Return the extended feature Gram matrix D'D = (A'A) o (X X'), A_kl = 1[w_k . x_l > 0].

    It is the Gram matrix of the gradients of f(x_l) = sum_k v_k relu(w_k . x_l) in W for v_k = +-1,
    or m times the empirical NTK of the first layer for v_k = +-1/sqrt(m). Divided by m, it tends to
    `diversity.diversity_kernel()` for units that are uniform on the sphere.

    The computation takes O(n m d + n^2 (m + d)) time, and memory for a few (n, n) matrices and
    some millions of activation patterns.

    Args:
        w: Units of shape (m, d), one per row; for the ReLU, norms of nonzero units do not matter.
        x: Inputs of shape (n, d), in the dtype of w.
        power: p >= 1 of units relu(w . x)^p, for which A_kl = p relu(w_k . x_l)^(p-1).
        at_zero: relu'(0) in [0, 1], which counts where w_k . x_l = 0, as for zero units; only for
            power 1. 0 in `models.Activation`, 1/2 in `jnp.maximum`, 1 in paper B.

    Returns:
        Shape (n, n), exactly symmetric, positive semi-definite up to rounding; for power 1
        piecewise constant in w.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> w, x = jax.random.normal(jax.random.key(0), (30, 4)), jnp.eye(4)
        >>> gram = kg.diversity.extended_feature_gram(w, x)
        >>> print(jnp.allclose(jnp.diag(gram), (w > 0).astype(w.dtype).sum(axis=0)))
        True

    References:
        Paper B (D, with 1[w . x >= 0]; powers and subgradients in its appendix F). The product
        form is derived.
    """
    w, x = _units_and_inputs(w, x)
    slope = _slope(power, at_zero)
    gram = array_checks.nan_unless(array_checks.all_finite(w, x), _gram(w, x, slope))
    if array_checks.is_concrete(gram) and not bool(jnp.all(jnp.isfinite(gram))):
        raise ValueError(
            f"`x` is too large: inner products overflow in {x.dtype}. "
            "Divide it by its largest entry"
        )
    return gram


def smallest_singular_value(
    w: ArrayLike, x: ArrayLike, *, power: float = 1.0, at_zero: float = 0.0
) -> SmallestSingularValue:
    r"""Return the smallest singular value of a ReLU layer's Jacobian on a sample, s_min(D).

    It is sqrt(lambda_min(D'D)), where D is the extended feature matrix of shape (m d, n), from an
    O(n^3) eigendecomposition of D'D in the dtype of x. The eigenvalues have errors of some rounding
    units of the largest one. The error of s_min is about `error` / (2 s_min) where that is small,
    and otherwise at most sqrt(error): about 1e-3 of the largest singular value in float32. Use
    float64 for higher accuracy.

    Args:
        w: Units of shape (m, d), one per row.
        x: Inputs of shape (n, d), in the dtype of w.
        power: p >= 1 of units relu(w . x)^p, as for `extended_feature_gram`.
        at_zero: relu'(0) in [0, 1], likewise.

    Returns:
        `SmallestSingularValue(value, lower, error, wide)`, a pytree. The value is exactly 0 if
        n > d m (`wide` is then true) or if a sample activates no unit. Parallel samples that
        activate the same units give 0 up to rounding.

    Example:
        >>> import jax, kernelgap as kg
        >>> w = jax.random.normal(jax.random.key(0), (60, 10))
        >>> x = jax.random.normal(jax.random.key(1), (40, 10))
        >>> smallest = kg.diversity.smallest_singular_value(w, x)
        >>> bool(0 < smallest.lower < smallest.value), bool(smallest.wide)
        (True, False)
        >>> kg.diversity.smallest_singular_value(w[:3], x)
        SmallestSingularValue(value=0, lower=0, ..., wide=True): exactly 0, as n > d m

    References:
        Paper B. The estimate of the rounding error is ours.
    """
    w, x = _units_and_inputs(w, x)
    slope = _slope(power, at_zero)
    array_checks.solvable_dtype(x, "x")
    return array_checks.nan_unless(array_checks.all_finite(w, x), _smallest(w, x, slope))


def _units_and_inputs(w: ArrayLike, x: ArrayLike) -> tuple[jax.Array, jax.Array]:
    w = array_checks.inputs(w, "w")
    x = array_checks.inputs(x, "x", d=w.shape[1])
    array_checks.same_dtype(w, x, "w", "x")
    return w, x


class _Slope(NamedTuple):
    """The derivative of a unit, p relu(z)^(p-1); `at_zero` at z = 0."""

    power: float
    at_zero: float

    @property
    def counts(self) -> bool:
        """True if the derivative is 1[z > 0]."""
        return self.power == 1 and self.at_zero == 0

    def __call__(self, z: jax.Array) -> jax.Array:
        positive = z > 0
        if self.power == 1:
            return jnp.where(z == 0, jnp.asarray(self.at_zero, z.dtype), positive.astype(z.dtype))
        return jnp.where(positive, self.power * jnp.where(positive, z, 1) ** (self.power - 1), 0)


def _slope(power: float, at_zero: float) -> _Slope:
    power = checks.static_number(power, "power", minimum=1)
    at_zero = checks.static_number(at_zero, "at_zero", minimum=0)
    if at_zero > 1:
        raise ValueError(f"`at_zero` must be in [0, 1], a subgradient of relu; got {at_zero:g}")
    if power > 1 and at_zero:
        raise ValueError(f"`at_zero` is for `power` 1: relu^{power:g} has derivative 0 at 0; got "
                         f"{at_zero:g}")  # fmt: skip
    return _Slope(power, at_zero)


@partial(jax.jit, static_argnames="slope")
def _gram(w: Float[Array, "m d"], x: Float[Array, "n d"], slope: _Slope) -> Float[Array, "n n"]:
    (m, d), n = w.shape, x.shape[0]
    products = jnp.matmul(x, x.T, precision=_HIGHEST)
    products = (products + products.T) / 2  # exact symmetry
    count = max(-(-m * n // _CHUNK), 1)
    if count == 1:
        return _common_units(w, x, slope).astype(x.dtype) * products
    side = -(-m // count)  # padded with zero units, which are inactive
    chunks = jnp.pad(w, ((0, side * count - m), (0, 0))).reshape(count, side, d)

    def add(total: jax.Array, chunk: jax.Array) -> tuple[jax.Array, None]:
        return total + _common_units(chunk, x, slope).astype(x.dtype), None

    counts, _ = jax.lax.scan(add, jnp.zeros((n, n), x.dtype), chunks)
    # The padding is at the kink.
    return (counts - (side * count - m) * slope.at_zero**2) * products


def _common_units(w: jax.Array, x: jax.Array, slope: _Slope) -> jax.Array:
    """Return A'A: the units active on both samples, counted exactly below 2^24 at any precision."""
    z = jnp.matmul(w, x.T, precision=_HIGHEST)
    if slope.counts:
        active = (z > 0).astype(jnp.float32)
        return jax.lax.dot_general(active, active, (((0,), (0,)), ((), ())))
    active = slope(z)
    common = jax.lax.dot_general(active, active, (((0,), (0,)), ((), ())), precision=_HIGHEST)
    return (common + common.T) / 2  # exact symmetry


@partial(jax.jit, static_argnames="slope")
def _smallest(
    w: Float[Array, "m d"], x: Float[Array, "n d"], slope: _Slope
) -> SmallestSingularValue:
    (m, d), n = w.shape, x.shape[0]
    eps = float(jnp.finfo(x.dtype).eps)
    if n > m * d:
        zero = jnp.zeros((), x.dtype)
        return SmallestSingularValue(zero, zero, zero, jnp.asarray(True))
    largest = jnp.max(jnp.abs(x))
    size = jax.lax.stop_gradient(jnp.where(largest > 0, largest, 1))
    unit = jnp.ones((), x.dtype)
    if slope.power > 1:  # D is homogeneous of this degree in x, and of one less in w
        largest = jnp.max(jnp.abs(w))
        unit = jax.lax.stop_gradient(jnp.where(largest > 0, largest, 1))
    # Rescaled, since the entries are squares and would overflow.
    gram = _gram(w / unit, x / size, slope)
    size = size**slope.power * unit ** (slope.power - 1) if slope.power > 1 else size
    values = jnp.linalg.eigvalsh(gram)
    # Errors of the eigensolver, and of the inner products, which enter with weights up to m;
    # those of powers of w.x are larger by a factor of p.
    diagonal = jnp.diagonal(gram)
    error = (16 * values[-1] + 2 * slope.power**2 * n**0.5 * jnp.max(diagonal)) * eps
    least = jnp.maximum(values[0], 0)
    least = jnp.where(jnp.any(diagonal == 0), 0, least)
    lower = jnp.maximum(least - error, 0)
    return SmallestSingularValue(
        size * safe_power(least, 0.5),
        size * safe_power(lower, 0.5),
        error * size * size,
        jnp.asarray(False),
    )
