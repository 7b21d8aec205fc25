"""Sums and splittings of floating-point numbers, exact or nearly free of rounding errors.

References: T. Ogita, S. Rump, S. Oishi, SIAM J. Sci. Comput. 2005 (error-free transformations);
K. Ozaki, T. Ogita, S. Oishi, S. Rump, Numer. Algorithms 2012 (products of leading bits).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def compensated_sum(
    terms: Float[Array, "m *n"], start: tuple[Float[Array, "*n"], Float[Array, "*n"]]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Return the sum over the first axis and its rounding error (Knuth), from a start of both."""

    def add(carry: tuple, term: jax.Array) -> tuple[tuple, None]:
        total, residue = two_sum(carry[0], term)
        return (total, carry[1] + residue), None

    return jax.lax.scan(add, start, terms)[0]


def accurate_sum(v: Float[Array, " n"]) -> Float[Array, ""]:
    """Return the sum of a vector, as accurate as an `accurate_product` of it with ones."""
    if v.shape[0] == 1:
        return v[0]
    length = min(v.shape[0], 256)
    rows = jnp.pad(v, (0, -v.shape[0] % length)).reshape(-1, length)
    high, low = leading(rows, _exact_bits(v.dtype, length))  # sums of `high` are exact
    return accurate_sum(jnp.sum(high, axis=1)) + jnp.sum(low)


def accurate_product(
    block: Float[Array, "m n"],
    shift: Float[Array, ""],
    v: Float[Array, " m"],
    start: tuple[Float[Array, " n"], Float[Array, " n"]],
    largest: Float[Array, ""] | None = None,
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Return (block - shift)' v and its rounding error, added to a start of both.

    An ordinary product multiplies and sums the leading bits of entries and coefficients without
    any rounding if they are few enough; the remaining bits are small, and so is their error.
    `largest` is the largest entry of abs(block - shift) if it is known, which saves a pass.
    """
    bits = _exact_bits(v.dtype, block.shape[0])
    entries, rounding = two_sum(block, -shift)
    high, low = leading(entries, bits, largest)
    v_high, v_low = leading(v, bits)
    total, residue = two_sum(start[0], _transposed(high, v_high))
    small = _transposed(low + rounding, v) + _transposed(high, v_low)
    return total, start[1] + (residue + small)


def _exact_bits(dtype: np.dtype, terms: int) -> int:
    """Return how many leading bits two factors may have for exact sums of so many products."""
    return (jnp.finfo(dtype).nmant + 1 - math.ceil(math.log2(max(terms, 2)))) // 2


def _transposed(block: jax.Array, v: jax.Array) -> jax.Array:
    """Return block' v in full precision without forming the transpose."""
    dimensions = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(block, v, dimensions, precision=jax.lax.Precision.HIGHEST)


def two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the sum a + b and its exact rounding error (Knuth)."""
    total = a + b
    kept = total - a
    return total, (a - (total - kept)) + (b - kept)


def leading(
    array: jax.Array, bits: int, largest: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Return the array rounded to multiples of its largest entry / 2^bits, and the residue."""
    if largest is None:
        largest = jnp.max(jnp.abs(array))
    _, exponent = jnp.frexp(largest)
    exponent = jnp.maximum(exponent, jnp.finfo(array.dtype).minexp + 2 * bits)  # no 1/step = inf
    unit = jnp.ones((), array.dtype)
    high = jnp.round(array * jnp.ldexp(unit, bits - exponent)) * jnp.ldexp(unit, exponent - bits)
    return high, array - high
