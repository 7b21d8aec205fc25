r"""Extended features of a layer of ReLU units, and what their smallest singular value certifies.

For f(x) = sum_k v_k relu(w_k . x), v_k = +-1 fixed, and L = (1/2n) sum_l (f(x_l) - y_l)^2 over n
samples, grad_W L = D r with r = (f - y) / n and the extended feature matrix D of shape (m d, n),
block (k, l) = v_k 1[w_k . x_l > 0] x_l. Hence

    L = (n/2) ||r||^2 <= (n/2) ||grad_W L||^2 / s_min(D)^2,

and D'D = (A'A) o (X X'), A = 1[W X' > 0], whatever the signs v. D itself is never formed.
Where s_min(D) > 0, every stationary point has loss 0. (Paper B writes n for the units and m for the
samples; here n counts samples, as everywhere.)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from kernelgap import _checks
from kernelgap._display import html_repr, short
from kernelgap._trees import safe_power, squared_norm
from kernelgap.typing import ArrayLike, PyTree, Scalar

_HIGHEST = jax.lax.Precision.HIGHEST
_CHUNK = 2**25  # entries of the activation patterns that are held at a time


class SmallestSingularValue(NamedTuple):
    """The smallest singular value of the extended feature matrix, and how sure it is.

    Attributes:
        value: s_min(D) >= 0.
        lower: a lower end: the root of lambda_min(D'D) less its estimated rounding error, 0 where
            that is not positive.
        error: estimated rounding error of lambda_min(D'D) = value^2, in this dtype. An estimate,
            usually pessimistic, not a bound.
        wide: whether there are more samples than columns of the Jacobian, n > d m: D'D is then
            singular whatever the units, and the value exactly 0.
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
        known = arrays and _checks.is_concrete(*self)
        if known and np.all(self.wide):
            why = ": exactly 0, as n > d m"
        elif known and not np.any(np.asarray(self.lower) > 0):
            why = ": not told from 0 in this dtype"
        return f"{type(self).__name__}({fields}){why}"


def extended_feature_gram(w: ArrayLike, x: ArrayLike) -> Float[Array, "n n"]:
    r"""The tangent kernel of a ReLU layer on a sample: D'D = (A'A) o (X X').

    With A_kl = 1[w_k . x_l > 0], in time O(n m d + n^2 (m + d)).

    The Gram matrix of the gradients of f(x_l) = sum_k v_k relu(w_k . x_l) in W, v_k = +-1: the
    empirical tangent kernel of the first layer, times m where v_k = +-1/sqrt(m). Divided by m it
    tends to `kernels.diversity_kernel()` for units that are uniform on the sphere.

    Besides the result, memory is for some matrices (n, n) and some millions of patterns.

    Args:
        w: units of shape (m, d), one per row; of their norms only whether they are 0 counts.
        x: inputs of shape (n, d), in the dtype of w.

    Returns:
        Shape (n, n), exactly symmetric, positive semi-definite up to rounding. The derivative of
        relu at 0 is 0, as in `models.Activation`: units on a kink, zero units among them, are off.
        (The paper's 1[w . x >= 0] differs there only.) Piecewise constant in w.

    Raises:
        TypeError: if w or x is not floating, or their dtypes differ.
        ValueError: if they are not finite matrices of equal d.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> w, x = jax.random.normal(jax.random.key(0), (30, 4)), jnp.eye(4)
        >>> gram = kg.metrics.extended_feature_gram(w, x)
        >>> print(jnp.allclose(jnp.diag(gram), (w > 0).astype(w.dtype).sum(axis=0)))
        True

    References:
        Paper B (D; its convention is recalled); the product form is derived.
    """
    w, x = _units_and_inputs(w, x)
    gram = _checks.nan_unless(_checks.all_finite(w, x), _gram(w, x))
    if _checks.is_concrete(gram) and not bool(jnp.all(jnp.isfinite(gram))):
        raise ValueError(f"`x` is too large: inner products leave the range of {x.dtype}. "
                         "Divide it by its largest entry")  # fmt: skip
    return gram


def smallest_singular_value(w: ArrayLike, x: ArrayLike) -> SmallestSingularValue:
    r"""The smallest singular value of a ReLU layer's Jacobian on a sample, s_min(D).

    s_min(D) = sqrt(lambda_min(D'D)), D the extended feature matrix of shape (m d, n).
    From all eigenvalues of D'D, O(n^3), in the dtype at hand. Their error is some rounding units
    of the largest one, so that s_min is known to about `error` / (2 s_min) where that is small and
    to sqrt(error), at most, where it is not: in float32 about 1e-3 of the largest singular value.
    Use float64 for less.

    Args:
        w: units of shape (m, d), one per row.
        x: inputs of shape (n, d), in the dtype of w.

    Returns:
        `SmallestSingularValue(value, lower, error, wide)`; a pytree, under `jit` and `vmap` too.
        Its value is exactly 0, and `wide` is true, if n > d m. It is exactly 0 also where a sample
        has no active unit. Samples that are parallel and see the same units give 0 up to rounding.

    Raises:
        TypeError: if w or x is not floating, or their dtypes differ.
        ValueError: if they are not finite matrices of equal d.

    Example:
        >>> import jax, kernelgap as kg
        >>> w = jax.random.normal(jax.random.key(0), (60, 10))
        >>> x = jax.random.normal(jax.random.key(1), (40, 10))
        >>> found = kg.metrics.smallest_singular_value(w, x)
        >>> bool(0 < found.lower < found.value), bool(found.wide)
        (True, False)
        >>> kg.metrics.smallest_singular_value(w[:3], x)
        SmallestSingularValue(value=0, lower=0, ..., wide=True): exactly 0, as n > d m

    References:
        Paper B. The rounding error is an estimate of ours.
    """
    w, x = _units_and_inputs(w, x)
    _checks.solvable_dtype(x, "x")
    return _checks.nan_unless(_checks.all_finite(w, x), _smallest(w, x))


def pl_bound(
    gradient: PyTree,
    smallest: SmallestSingularValue | ArrayLike,
    *,
    n: int,
    scale: float | jax.Array = 1.0,
) -> Scalar:
    r"""The loss that a gradient certifies: L <= (n/2) ||grad_W L||^2 / (scale s_min)^2.

    It holds for L = (1/2n) sum_l (f(x_l) - y_l)^2 and f = scale * sum_k v_k relu(w_k . x),
    v_k = +-1, with s_min at the same W: a Polyak-Lojasiewicz inequality whose constant moves with
    the weights.

    Args:
        gradient: grad_W L in the first layer, any tree of arrays; entries for other parameters
            only weaken the bound. By automatic differentiation of a net whose relu has derivative
            0 at 0, as in `models.Activation`: at a kink other choices belong to another D. Without
            gradients of penalties.
        smallest: what `smallest_singular_value(w, x)` returned, of which `lower` is used so that
            rounding does not void the bound; or a value of s_min >= 0.
        n: number of samples, at least 1.
        scale: factor c != 0 of the outputs, such as 1 / sqrt(m).

    Returns:
        An upper bound of the loss, infinite where s_min is 0; then it says nothing.

    Raises:
        TypeError: if `n` is no integer, or `scale` or `smallest` no number.
        ValueError: if `n` < 1, `smallest` < 0, `scale` is 0 or no finite number, or the
            gradient holds no array or is not finite.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> w = jax.random.normal(jax.random.key(0), (60, 10))
        >>> x = jax.random.normal(jax.random.key(1), (40, 10))
        >>> loss = lambda w: jnp.mean(jnp.square(jnp.sum(jax.nn.relu(x @ w.T), axis=1) - 1)) / 2
        >>> smallest = kg.metrics.smallest_singular_value(w, x)
        >>> bool(loss(w) <= kg.metrics.pl_bound(jax.grad(loss)(w), smallest, n=40))
        True

    References:
        Paper B (loss at stationary points and s_min); the inequality is derived.
    """
    n = _checks.integer(n, "n", minimum=1)
    scale = _checks.number(scale, "scale")
    if _checks.is_concrete(scale) and float(scale) == 0:
        raise ValueError("`scale` must not be 0: the outputs then say nothing of the weights")
    gradient = _checks.parameters(gradient, "gradient")
    s_min = smallest.lower if isinstance(smallest, SmallestSingularValue) else smallest
    s_min = _checks.number(s_min, "smallest", minimum=0)
    squared = squared_norm(gradient)
    s_min = jnp.abs(jnp.asarray(scale, squared.dtype)) * jnp.asarray(s_min, squared.dtype)
    positive = s_min > 0
    # A NaN stays one: it is not a singular value of 0.
    size = jnp.where(s_min == 0, 1, s_min)
    bound = n / 2 * jnp.square(jnp.sqrt(squared) / size)
    return jnp.where(positive | jnp.isnan(s_min), bound, jnp.inf)


def _units_and_inputs(w: ArrayLike, x: ArrayLike) -> tuple[jax.Array, jax.Array]:
    w = _checks.inputs(w, "w")
    x = _checks.inputs(x, "x", d=w.shape[1])
    _checks.same_dtype(w, x, "w", "x")
    return w, x


@jax.jit
def _gram(w: Float[Array, "m d"], x: Float[Array, "n d"]) -> Float[Array, "n n"]:
    (m, d), n = w.shape, x.shape[0]
    products = jnp.matmul(x, x.T, precision=_HIGHEST)
    products = (products + products.T) / 2  # symmetric up to rounding only
    count = max(-(-m * n // _CHUNK), 1)
    if count == 1:
        return _shared(w, x).astype(x.dtype) * products
    side = -(-m // count)  # zero units, which are off, fill the last chunk
    chunks = jnp.pad(w, ((0, side * count - m), (0, 0))).reshape(count, side, d)

    def add(total: jax.Array, chunk: jax.Array) -> tuple[jax.Array, None]:
        return total + _shared(chunk, x).astype(x.dtype), None

    shared, _ = jax.lax.scan(add, jnp.zeros((n, n), x.dtype), chunks)
    return shared * products


def _shared(w: jax.Array, x: jax.Array) -> jax.Array:
    """How many units are on for both samples; whole numbers, exact below 2^24 at any precision."""
    on = (jnp.matmul(w, x.T, precision=_HIGHEST) > 0).astype(jnp.float32)
    return jax.lax.dot_general(on, on, (((0,), (0,)), ((), ())))


@jax.jit
def _smallest(w: Float[Array, "m d"], x: Float[Array, "n d"]) -> SmallestSingularValue:
    (m, d), n = w.shape, x.shape[0]
    eps = float(jnp.finfo(x.dtype).eps)
    if n > m * d:
        zero = jnp.zeros((), x.dtype)
        return SmallestSingularValue(zero, zero, zero, jnp.asarray(True))
    largest = jnp.max(jnp.abs(x))
    size = jax.lax.stop_gradient(jnp.where(largest > 0, largest, 1))
    gram = _gram(w, x / size)  # its entries are squares: they overflow or underflow first
    values = jnp.linalg.eigvalsh(gram)
    # Of the solver, and of the inner products of inputs, which enter with weights up to m.
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
