r"""Inputs with independent coordinates of equal variance and chosen even moments.

Every law here is symmetric with E[x^2] = 1. They differ in E[x^4], E[x^6], ...:

| law | E[x^4] | E[x^6] | E[x^2j] |
|---|---|---|---|
| `"sign"` | 1 | 1 | 1 |
| `"uniform"` | 9/5 | 27/7 | 3^j / (2j + 1) |
| `"gaussian"` | 3 | 15 | (2j - 1)!! |
| `"student_t"`, freedom nu | 3 (nu-2) / (nu-4) | 15 (nu-2)^2 / ((nu-4)(nu-6)) | below |
| `"mixture"`, E[x^4] = q >= 3 | q | 5 q^2 / 3 | (2j - 1)!! (q / 3)^(j-1) |
| `"mixture"`, 1 <= q <= 3 | q | 15 - 30 m^4 + 16 m^6 | E (m + s g)^2j, m^4 = (3 - q) / 2 |

Student's t has E[x^2j] = (nu - 2)^j prod_{i<=j} (2i - 1) / (nu - 2i) if nu > 2j, else infinity. The
mixture is b (m r + s g) / sqrt(p): r a sign, g a Gaussian, b one with probability p and otherwise
zero, s^2 = 1 - m^2; p = 1 for q <= 3, m = 0 and p = 3 / q above: the sign law at q = 1, the
Gaussian at q = 3. The moments are derived, and checked against SciPy's and quadrature.
"""

import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kernelgap import _checks
from kernelgap.typing import ArrayLike, DTypeLike, Key

Law = Literal["gaussian", "uniform", "sign", "student_t", "mixture"]
_LAWS = ("gaussian", "uniform", "sign", "student_t", "mixture")


def independent(
    key: Key,
    n: int,
    d: int,
    *,
    law: Law = "gaussian",
    freedom: float | None = None,
    fourth: float | None = None,
    dtype: DTypeLike | None = None,
) -> Float[Array, "n d"]:
    r"""Inputs whose coordinates are independent, symmetric and of unit variance.

    Args:
        key: JAX random key.
        n: number of samples, at least 1.
        d: input dimension, at least 1.
        law: `"gaussian"`; `"uniform"` on [-sqrt(3), sqrt(3)]; `"sign"`, -1 or +1; `"student_t"`,
            scaled to unit variance; or `"mixture"`, with any fourth moment: of two Gaussians at
            -m and m below 3, of a Gaussian and zero above.
        freedom: degrees of freedom of `"student_t"`, above 2, and only of it.
        fourth: E[x^4] of `"mixture"`, at least 1, and only of it.
        dtype: floating dtype; JAX's default when None.

    Returns:
        Inputs of shape (n, d). `law_moment` has the moments of their law. NaN under `jit` for
        traced values of `freedom` or `fourth` outside of their range.

    Raises:
        TypeError: if `key` is no JAX key, `n` or `d` no integer, `freedom` or `fourth` no number,
            or `dtype` not floating.
        ValueError: if `n` < 1, `d` < 1, the law is unknown, its parameter is missing or out of
            range, or a parameter of another law is given.

    Example:
        >>> import jax, kernelgap as kg
        >>> x = kg.datasets.independent(jax.random.key(0), 2000, 10, law="mixture", fourth=2.0)
        >>> print(kg.datasets.even_moments(x).round(1))
        [1.  2.  5.6]
        >>> print(f"{kg.datasets.law_moment(6, law='mixture', fourth=2.0):.4f}")
        5.6569

    References:
        Paper C ties rates of convergence to even moments of the inputs; these laws are ours.
    """
    _checks.random_key(key)
    n = _checks.integer(n, "n", minimum=1)
    d = _checks.integer(d, "d", minimum=1)
    _check_law(law, freedom, fourth)
    dtype = _checks.floating_dtype(dtype)
    if law == "gaussian":
        return jax.random.normal(key, (n, d), dtype)
    if law == "uniform":
        return jax.random.uniform(key, (n, d), dtype, -(3**0.5), 3**0.5)
    if law == "sign":
        return jax.random.rademacher(key, (n, d), dtype)
    if law == "student_t":
        nu = jnp.asarray(freedom).astype(dtype)
        return jnp.sqrt((nu - 2) / nu) * jax.random.t(key, nu, (n, d), dtype)
    return _mixture(key, (n, d), jnp.asarray(fourth).astype(dtype))


def _mixture(key: Key, shape: tuple[int, int], q: jax.Array) -> jax.Array:
    sign_key, value_key, zero_key = jax.random.split(key, 3)
    mean = jnp.sqrt(jnp.sqrt(jnp.maximum(3 - q, 0) / 2))
    share = jnp.minimum(3 / q, 1)
    sign = jax.random.rademacher(sign_key, shape, q.dtype)
    value = jax.random.normal(value_key, shape, q.dtype)
    here = jax.random.uniform(zero_key, shape, q.dtype) < share
    x = mean * sign + jnp.sqrt(1 - mean**2) * value
    return jnp.where(here, x / jnp.sqrt(share), 0)


def law_moment(
    order: int,
    *,
    law: Law = "gaussian",
    freedom: float | None = None,
    fourth: float | None = None,
) -> float:
    """E[x^order] of a coordinate of `independent`, for even orders.

    Args:
        order: even, at least 2.
        law: as in `independent`.
        freedom: as in `independent`.
        fourth: as in `independent`.

    Returns:
        The moment; infinity where it does not exist (Student's t with `freedom` <= order).

    Raises:
        TypeError: if `order` is no integer, or `freedom` or `fourth` is no number.
        ValueError: if `order` is odd or below 2, or as in `independent`.

    Example:
        >>> import kernelgap as kg
        >>> [kg.datasets.law_moment(k, law="student_t", freedom=5.0) for k in (2, 4, 6)]
        [1.0, 9.0, inf]

    References:
        The table in `kernelgap.datasets.moments`; derived.
    """
    half = _even(order) // 2
    _check_law(law, freedom, fourth)
    if law == "uniform":
        return 3.0**half / (2 * half + 1)
    if law == "student_t":
        nu = float(freedom)  # type: ignore[arg-type]
        if nu <= 2 * half:
            return math.inf
        return math.prod((nu - 2) * (2 * i - 1) / (nu - 2 * i) for i in range(1, half + 1))
    q = {"sign": 1.0, "gaussian": 3.0}.get(law, fourth)
    q = float(q)  # type: ignore[arg-type]
    square = math.sqrt(max(3 - q, 0) / 2)  # m^2
    mean = sum(
        math.comb(2 * half, 2 * i) * square ** (half - i) * (1 - square) ** i * _gaussian(i)
        for i in range(half + 1)
    )
    return mean * max(q / 3, 1) ** (half - 1)


def even_moments(x: ArrayLike, orders: Sequence[int] = (2, 4, 6)) -> Float[Array, " orders"]:
    """The mean of x_ij^order over all samples and coordinates, for each even order.

    Args:
        x: inputs of shape (n, d).
        orders: even integers, each at least 2.

    Returns:
        Moments of shape (len(orders),), in the order asked for.

    Raises:
        TypeError: if x is not floating, or `orders` is no sequence of integers.
        ValueError: if x is not finite or has the wrong shape, or an order is odd or below 2.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.datasets.even_moments(jnp.array([[1.0, -2.0]]), (2, 4)))
        [2.5 8.5]

    References:
        The empirical counterpart of what paper C's rates depend on; the form is ours.
    """
    x = _checks.inputs(x)
    if isinstance(orders, str) or not isinstance(orders, Sequence) or not orders:
        raise TypeError(f"`orders` must be a sequence of even integers such as (2, 4); "
                        f"got {orders!r:.40}")  # fmt: skip
    return jnp.stack([jnp.mean(x ** _even(order)) for order in orders])


def _check_law(law: str, freedom: float | None, fourth: float | None) -> None:
    _checks.choice(law, "law", _LAWS)
    for name, value, owner in (
        ("freedom", freedom, "student_t"),
        ("fourth", fourth, "mixture"),
    ):
        if law == owner and value is None:
            raise ValueError(f"law={law!r} needs `{name}`; got None")
        if law != owner and value is not None:
            raise ValueError(f"`{name}` is for law={owner!r}; got {value!r:.40} for law={law!r}")
    if freedom is not None:
        _checks.number(freedom, "freedom", minimum=2, exclusive=True)
    if fourth is not None:
        _checks.number(fourth, "fourth", minimum=1)


def _even(order: int) -> int:
    order = _checks.integer(order, "order", minimum=2)
    if order % 2:
        raise ValueError(f"`order` must be even; got {order}")
    return order


def _gaussian(half: int) -> int:
    """E[g^(2 half)] = (2 half - 1)!!."""
    return math.prod(range(1, 2 * half, 2))
