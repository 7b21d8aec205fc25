r"""Extended features of a ReLU layer, and the loss bound from their smallest singular value.

For f(x) = sum_k v_k relu(w_k . x) with fixed v_k = +-1, and L = (1/2n) sum_l (f(x_l) - y_l)^2 over
n samples, grad_W L = D r, where r = (f - y) / n and D is the extended feature matrix of shape
(m d, n) with blocks v_k 1[w_k . x_l > 0] x_l. Hence

    L = (n/2) ||r||^2 <= (n/2) ||grad_W L||^2 / s_min(D)^2,

and D'D = (A'A) o (X X') with A = 1[W X' > 0], independently of the signs v; D itself is never
formed. A stationary point at which s_min(D) > 0 has loss 0. (Paper B writes n for the number of
units and m for the number of samples; here n always counts samples.)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.trees import safe_power, squared_norm
from kernelgap._support.display import html_repr, short
from kernelgap._support.registry import saveable
from kernelgap.typing import ArrayLike, PyTree, Scalar

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


def extended_feature_gram(w: ArrayLike, x: ArrayLike) -> Float[Array, "n n"]:
    r"""Return the extended feature Gram matrix D'D = (A'A) o (X X'), A_kl = 1[w_k . x_l > 0].

    It is the Gram matrix of the gradients of f(x_l) = sum_k v_k relu(w_k . x_l) in W for v_k = +-1,
    or m times the empirical NTK of the first layer for v_k = +-1/sqrt(m). Divided by m, it tends to
    `diversity.diversity_kernel()` for units that are uniform on the sphere.

    The computation takes O(n m d + n^2 (m + d)) time, and memory for a few (n, n) matrices and
    some millions of activation patterns.

    Args:
        w: Units of shape (m, d), one per row; the norms of nonzero units do not matter.
        x: Inputs of shape (n, d), in the dtype of w.

    Returns:
        Shape (n, n), exactly symmetric, positive semi-definite up to rounding, piecewise constant
        in w. The derivative of relu at 0 is 0, as in `models.Activation`: units at the kink,
        including zero units, are inactive. (The paper's 1[w . x >= 0] differs only there.)

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> w, x = jax.random.normal(jax.random.key(0), (30, 4)), jnp.eye(4)
        >>> gram = kg.diversity.extended_feature_gram(w, x)
        >>> print(jnp.allclose(jnp.diag(gram), (w > 0).astype(w.dtype).sum(axis=0)))
        True

    References:
        Paper B (D; its convention is recalled); the product form is derived.
    """
    w, x = _units_and_inputs(w, x)
    gram = array_checks.nan_unless(array_checks.all_finite(w, x), _gram(w, x))
    if array_checks.is_concrete(gram) and not bool(jnp.all(jnp.isfinite(gram))):
        raise ValueError(
            f"`x` is too large: inner products overflow in {x.dtype}. "
            "Divide it by its largest entry"
        )
    return gram


def smallest_singular_value(w: ArrayLike, x: ArrayLike) -> SmallestSingularValue:
    r"""Return the smallest singular value of a ReLU layer's Jacobian on a sample, s_min(D).

    It is sqrt(lambda_min(D'D)), where D is the extended feature matrix of shape (m d, n), from an
    O(n^3) eigendecomposition of D'D in the dtype of x. The eigenvalues have errors of some rounding
    units of the largest one. The error of s_min is about `error` / (2 s_min) where that is small,
    and otherwise at most sqrt(error): about 1e-3 of the largest singular value in float32. Use
    float64 for higher accuracy.

    Args:
        w: Units of shape (m, d), one per row.
        x: Inputs of shape (n, d), in the dtype of w.

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
    array_checks.solvable_dtype(x, "x")
    return array_checks.nan_unless(array_checks.all_finite(w, x), _smallest(w, x))


def pl_bound(
    gradient: PyTree,
    smallest: SmallestSingularValue | ArrayLike,
    *,
    n: int,
    scale: float | jax.Array = 1.0,
) -> Scalar:
    r"""Return an upper bound on the loss from its gradient, (n/2) ||grad_W L||^2 / (scale s_min)^2.

    It holds for L = (1/2n) sum_l (f(x_l) - y_l)^2 and f = scale * sum_k v_k relu(w_k . x) with
    v_k = +-1 and s_min at the same W. It is a Polyak-Lojasiewicz inequality whose constant depends
    on the weights.

    Args:
        gradient: grad_W L in the first layer, as any tree of arrays, without gradients of
            penalties; entries for other parameters only weaken the bound. The relu must have
            derivative 0 at 0, as in `models.Activation`: other choices belong to another D.
        smallest: The result of `smallest_singular_value(w, x)`, whose `lower` is used so that
            rounding does not invalidate the bound; or a value of s_min >= 0.
        n: Number of samples, at least 1.
        scale: Nonzero factor of the outputs, such as 1 / sqrt(m).

    Returns:
        An upper bound on the loss, infinite (vacuous) if s_min is 0.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> w = jax.random.normal(jax.random.key(0), (60, 10))
        >>> x = jax.random.normal(jax.random.key(1), (40, 10))
        >>> loss = lambda w: jnp.mean(jnp.square(jnp.sum(jax.nn.relu(x @ w.T), axis=1) - 1)) / 2
        >>> smallest = kg.diversity.smallest_singular_value(w, x)
        >>> bool(loss(w) <= kg.diversity.pl_bound(jax.grad(loss)(w), smallest, n=40))
        True

    References:
        Paper B (the loss at stationary points and s_min); the inequality is derived.
    """
    n = checks.integer(n, "n", minimum=1)
    scale = checks.number(scale, "scale")
    if array_checks.is_concrete(scale) and float(scale) == 0:
        raise ValueError("`scale` must not be 0: the outputs would not depend on the weights")
    gradient = array_checks.parameters(gradient, "gradient")
    s_min = smallest.lower if isinstance(smallest, SmallestSingularValue) else smallest
    s_min = checks.number(s_min, "smallest", minimum=0)
    squared = squared_norm(gradient)
    s_min = jnp.abs(jnp.asarray(scale, squared.dtype)) * jnp.asarray(s_min, squared.dtype)
    positive = s_min > 0
    # NaN stays NaN instead of counting as 0.
    size = jnp.where(s_min == 0, 1, s_min)
    bound = n / 2 * jnp.square(jnp.sqrt(squared) / size)
    return jnp.where(positive | jnp.isnan(s_min), bound, jnp.inf)


def _units_and_inputs(w: ArrayLike, x: ArrayLike) -> tuple[jax.Array, jax.Array]:
    w = array_checks.inputs(w, "w")
    x = array_checks.inputs(x, "x", d=w.shape[1])
    array_checks.same_dtype(w, x, "w", "x")
    return w, x


@jax.jit
def _gram(w: Float[Array, "m d"], x: Float[Array, "n d"]) -> Float[Array, "n n"]:
    (m, d), n = w.shape, x.shape[0]
    products = jnp.matmul(x, x.T, precision=_HIGHEST)
    products = (products + products.T) / 2  # exact symmetry
    count = max(-(-m * n // _CHUNK), 1)
    if count == 1:
        return _common_units(w, x).astype(x.dtype) * products
    side = -(-m // count)  # padded with zero units, which are inactive
    chunks = jnp.pad(w, ((0, side * count - m), (0, 0))).reshape(count, side, d)

    def add(total: jax.Array, chunk: jax.Array) -> tuple[jax.Array, None]:
        return total + _common_units(chunk, x).astype(x.dtype), None

    counts, _ = jax.lax.scan(add, jnp.zeros((n, n), x.dtype), chunks)
    return counts * products


def _common_units(w: jax.Array, x: jax.Array) -> jax.Array:
    """Count the units active on both samples, exactly below 2^24 at any precision."""
    active = (jnp.matmul(w, x.T, precision=_HIGHEST) > 0).astype(jnp.float32)
    return jax.lax.dot_general(active, active, (((0,), (0,)), ((), ())))


@jax.jit
def _smallest(w: Float[Array, "m d"], x: Float[Array, "n d"]) -> SmallestSingularValue:
    (m, d), n = w.shape, x.shape[0]
    eps = float(jnp.finfo(x.dtype).eps)
    if n > m * d:
        zero = jnp.zeros((), x.dtype)
        return SmallestSingularValue(zero, zero, zero, jnp.asarray(True))
    largest = jnp.max(jnp.abs(x))
    size = jax.lax.stop_gradient(jnp.where(largest > 0, largest, 1))
    gram = _gram(w, x / size)  # rescaled, since the entries are squares and would overflow
    values = jnp.linalg.eigvalsh(gram)
    # Errors of the eigensolver, and of the inner products, which enter with weights up to m.
    diagonal = jnp.diagonal(gram)
    error = 16 * eps * values[-1] + 2 * eps * n**0.5 * jnp.max(diagonal)
    least = jnp.maximum(values[0], 0)
    least = jnp.where(jnp.any(diagonal == 0), 0, least)
    lower = jnp.maximum(least - error, 0)
    return SmallestSingularValue(
        size * safe_power(least, 0.5),
        size * safe_power(lower, 0.5),
        error * size * size,
        jnp.asarray(False),
    )
