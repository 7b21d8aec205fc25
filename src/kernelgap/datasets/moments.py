r"""Inputs with i.i.d. coordinates of unit variance and chosen even moments.

Every distribution here is symmetric with E[x^2] = 1. They differ in E[x^4], E[x^6], ...:

| distribution | E[x^4] | E[x^6] | E[x^2j] |
|---|---|---|---|
| `"sign"` | 1 | 1 | 1 |
| `"uniform"` | 9/5 | 27/7 | 3^j / (2j + 1) |
| `"gaussian"` | 3 | 15 | (2j - 1)!! |
| `"student_t"`, df nu | 3 (nu-2) / (nu-4) | 15 (nu-2)^2 / ((nu-4)(nu-6)) | below |
| `"mixture"`, kurtosis q >= 3 | q | 5 q^2 / 3 | (2j - 1)!! (q / 3)^(j-1) |
| `"mixture"`, 1 <= q <= 3 | q | 15 - 30 m^4 + 16 m^6 | E (m + s g)^2j, m^4 = (3 - q) / 2 |

Student's t has E[x^2j] = (nu - 2)^j prod_{i<=j} (2i - 1) / (nu - 2i) if nu > 2j, and infinity
otherwise. The mixture is b (m r + s g) / sqrt(p), where r is a random sign, g is standard normal, b
is 1 with probability p and 0 otherwise, and s^2 = 1 - m^2. For q <= 3, p = 1; for q > 3, m = 0 and
p = 3 / q. It is a random sign at q = 1 and Gaussian at q = 3. The moments are derived, and checked
against SciPy and quadrature.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.quick import quick_jit
from kernelgap.typing import ArrayLike, DTypeLike, Key

Distribution = Literal["gaussian", "uniform", "sign", "student_t", "mixture"]
_DISTRIBUTIONS = ("gaussian", "uniform", "sign", "student_t", "mixture")


def iid_inputs(
    key: Key,
    n: int,
    d: int,
    *,
    distribution: Distribution = "gaussian",
    df: float | None = None,
    kurtosis: float | None = None,
    dtype: DTypeLike | None = None,
) -> Float[Array, "n d"]:
    r"""Sample inputs whose coordinates are i.i.d., symmetric and of unit variance.

    Args:
        key: JAX random key.
        n: Number of samples, at least 1.
        d: Input dimension, at least 1.
        distribution: `"gaussian"`; `"uniform"` on [-sqrt(3), sqrt(3)]; `"sign"`, -1 or +1;
            `"student_t"`, scaled to unit variance; or `"mixture"`, of any kurtosis: a mixture of
            two Gaussians centred at -m and m below 3, of a Gaussian and an atom at 0 above.
        df: Degrees of freedom, above 2; required for `"student_t"` and only allowed there.
        kurtosis: E[x^4], at least 1; required for `"mixture"` and only allowed there.
        dtype: Floating dtype; JAX's default when None.

    Returns:
        Inputs of shape (n, d); see `moment` for their moments. NaN under `jit` where a traced `df`
        or `kurtosis` is out of range.

    Example:
        >>> import jax, kernelgap as kg
        >>> x = kg.datasets.iid_inputs(jax.random.key(0), 2000, 10, distribution="mixture",
        ...                            kurtosis=2.0)
        >>> print(kg.datasets.even_moments(x).round(1))
        [1.  2.  5.6]
        >>> print(f"{kg.datasets.moment(6, distribution='mixture', kurtosis=2.0):.4f}")
        5.6569

    References:
        Paper C, second version, ties rates of convergence to even moments of the inputs (its
        abstract); the distributions are ours.
    """
    checks.random_key(key)
    n = checks.integer(n, "n", minimum=1)
    d = checks.integer(d, "d", minimum=1)
    _check_distribution(distribution, df, kurtosis)
    dtype = array_checks.floating_dtype(dtype)
    parameter = kurtosis if df is None else df
    return _draw(key, parameter, (n, d), distribution, dtype)


@partial(quick_jit, static_argnames=("shape", "distribution", "dtype"), level=1)
def _draw(
    key: Key,
    parameter: float | jax.Array | None,
    shape: tuple[int, int],
    distribution: Distribution,
    dtype: DTypeLike,
) -> jax.Array:
    if distribution == "gaussian":
        return jax.random.normal(key, shape, dtype)
    if distribution == "uniform":
        return jax.random.uniform(key, shape, dtype, -(3**0.5), 3**0.5)
    if distribution == "sign":
        return jax.random.rademacher(key, shape, dtype)
    parameter = jnp.asarray(parameter)
    if distribution == "student_t":
        return _student_t(key, shape, parameter.astype(dtype))
    return _mixture(key, shape, parameter.astype(dtype))


def _student_t(key: Key, shape: tuple[int, int], df: jax.Array) -> jax.Array:
    """Sample t by Bailey's polar method, scaled to unit variance.

    sqrt(df (U^(-2/df) - 1)) cos(2 pi V) has that distribution for independent uniform U and V. It
    compiles in a twentieth of the time that the rejection sampler of `jax.random.t` takes.
    Reference: R. Bailey, Mathematics of Computation 62, 1994.
    """
    dtype = df.dtype
    wide = jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
    nu = df.astype(wide)
    first, second, angle = jax.random.uniform(key, (3, *shape), wide)
    # The tail needs U at full relative precision near 0, where a single draw is a coarse grid.
    u = first + float(jnp.finfo(wide).eps) * (1 - second)
    radius = jnp.sqrt((nu - 2) * jnp.expm1(-2 / nu * jnp.log(u)))
    return (radius * jnp.cos(2 * jnp.pi * angle)).astype(dtype)


def _mixture(key: Key, shape: tuple[int, int], q: jax.Array) -> jax.Array:
    sign_key, value_key, zero_key = jax.random.split(key, 3)
    mean = jnp.sqrt(jnp.sqrt(jnp.maximum(3 - q, 0) / 2))
    probability = jnp.minimum(3 / q, 1)
    sign = jax.random.rademacher(sign_key, shape, q.dtype)
    value = jax.random.normal(value_key, shape, q.dtype)
    nonzero = jax.random.uniform(zero_key, shape, q.dtype) < probability
    x = mean * sign + jnp.sqrt(1 - mean**2) * value
    return jnp.where(nonzero, x / jnp.sqrt(probability), 0)


def moment(
    order: int,
    *,
    distribution: Distribution = "gaussian",
    df: float | None = None,
    kurtosis: float | None = None,
) -> float:
    """Return E[x^order] for a coordinate of `iid_inputs` and an even order.

    Args:
        order: An even integer, at least 2.
        distribution: As in `iid_inputs`.
        df: As in `iid_inputs`.
        kurtosis: As in `iid_inputs`.

    Returns:
        The moment; infinity where it does not exist (Student's t with `df` <= order).

    Example:
        >>> import kernelgap as kg
        >>> [kg.datasets.moment(k, distribution="student_t", df=5.0) for k in (2, 4, 6)]
        [1.0, 9.0, inf]

    References:
        The table in `kernelgap.datasets.moments`; derived.
    """
    half = _even(order) // 2
    _check_distribution(distribution, df, kurtosis)
    if distribution == "uniform":
        return 3.0**half / (2 * half + 1)
    if distribution == "student_t":
        nu = float(df)  # type: ignore[arg-type]
        if nu <= 2 * half:
            return math.inf
        return math.prod((nu - 2) * (2 * i - 1) / (nu - 2 * i) for i in range(1, half + 1))
    q = {"sign": 1.0, "gaussian": 3.0}.get(distribution, kurtosis)
    q = float(q)  # type: ignore[arg-type]
    square = math.sqrt(max(3 - q, 0) / 2)  # m^2
    mean = sum(
        math.comb(2 * half, 2 * i) * square ** (half - i) * (1 - square) ** i * _gaussian(i)
        for i in range(half + 1)
    )
    return mean * max(q / 3, 1) ** (half - 1)


def even_moments(x: ArrayLike, orders: Sequence[int] = (2, 4, 6)) -> Float[Array, " orders"]:
    """Return the mean of x_ij^order over all samples and coordinates, for each even order.

    Args:
        x: Inputs of shape (n, d).
        orders: Even integers, each at least 2.

    Returns:
        Moments of shape (len(orders),), in the order of `orders`.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.datasets.even_moments(jnp.array([[1.0, -2.0]]), (2, 4)))
        [2.5 8.5]

    References:
        Paper C, second version, whose rates depend on such moments (its abstract); the empirical
        form is ours.
    """
    x = array_checks.inputs(x)
    if isinstance(orders, str) or not isinstance(orders, Sequence) or not orders:
        raise TypeError(
            f"`orders` must be a sequence of even integers such as (2, 4); got {orders!r:.40}"
        )
    return jnp.stack([jnp.mean(x ** _even(order)) for order in orders])


def _check_distribution(distribution: str, df: float | None, kurtosis: float | None) -> None:
    checks.choice(distribution, "distribution", _DISTRIBUTIONS)
    for name, value, owner in (("df", df, "student_t"), ("kurtosis", kurtosis, "mixture")):
        if distribution == owner and value is None:
            raise ValueError(f"distribution={owner!r} needs `{name}`; got None")
        if distribution != owner and value is not None:
            raise ValueError(
                f"`{name}` is only for distribution={owner!r}; got {value!r:.40} for "
                f"distribution={distribution!r}"
            )
    if df is not None:
        checks.number(df, "df", minimum=2, exclusive=True)
    if kurtosis is not None:
        checks.number(kurtosis, "kurtosis", minimum=1)


def _even(order: int) -> int:
    order = checks.integer(order, "order", minimum=2)
    if order % 2:
        raise ValueError(f"`order` must be even; got {order}")
    return order


def _gaussian(half: int) -> int:
    """E[g^(2 half)] = (2 half - 1)!! for a standard normal g."""
    return math.prod(range(1, 2 * half, 2))
