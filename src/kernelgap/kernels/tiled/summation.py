"""Sums and splittings of floating-point numbers that lose nothing to rounding, or next to nothing.

References: T. Ogita, S. Rump, S. Oishi, SIAM J. Sci. Comput. 2005 (error-free transformations);
K. Ozaki, T. Ogita, S. Oishi, S. Rump, Numer. Algorithms 2012 (products of leading bits).
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def compensated_sum(
    terms: Float[Array, "m *n"], start: tuple[Float[Array, "*n"], Float[Array, "*n"]]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """The sum over the first axis and what rounding lost of it (Knuth), from a start of both."""

    def add(carry: tuple, term: jax.Array) -> tuple[tuple, None]:
        total, rest = two_sum(carry[0], term)
        return (total, carry[1] + rest), None

    return jax.lax.scan(add, start, terms)[0]


def accurate_sum(v: Float[Array, " n"]) -> Float[Array, ""]:
    """The compensated sum of a vector."""
    rows = jnp.pad(v, (0, -v.shape[0] % 256)).reshape(-1, 256)
    zeros = jnp.zeros(256, v.dtype)
    total, lost = compensated_sum(rows, (zeros, zeros))
    last, rest = compensated_sum(total[:, None], (zeros[:1], zeros[:1]))
    return last[0] + (rest[0] + jnp.sum(lost))


def accurate_product(
    block: Float[Array, "m n"],
    shift: Float[Array, ""],
    v: Float[Array, " m"],
    start: tuple[Float[Array, " n"], Float[Array, " n"]],
    largest: Float[Array, ""] | None = None,
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """(block - shift)' v and what rounding lost of it, added to a start of both.

    The leading bits of entries and coefficients are multiplied and summed without any rounding,
    which an ordinary product does if they are few enough; the rest is small, and so is its error.
    `largest` is the size of block - shift where it is known, which saves a pass.
    """
    bits = (jnp.finfo(v.dtype).nmant + 1 - math.ceil(math.log2(max(block.shape[0], 2)))) // 2
    entries, rounding = two_sum(block, -shift)
    high, low = leading(entries, bits, largest)
    v_high, v_low = leading(v, bits)
    total, rest = two_sum(start[0], _transposed(high, v_high))
    small = _transposed(low + rounding, v) + _transposed(high, v_low)
    return total, start[1] + (rest + small)


def _transposed(block: jax.Array, v: jax.Array) -> jax.Array:
    """Block' v in full precision; the transpose is not formed."""
    dimensions = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(block, v, dimensions, precision=jax.lax.Precision.HIGHEST)


def two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sum a + b, and exactly what rounding lost of it (Knuth)."""
    total = a + b
    kept = total - a
    return total, (a - (total - kept)) + (b - kept)


def leading(
    array: jax.Array, bits: int, largest: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The array rounded to multiples of its largest entry / 2^bits, and exactly the rest."""
    if largest is None:
        largest = jnp.max(jnp.abs(array))
    _, exponent = jnp.frexp(largest)
    exponent = jnp.maximum(exponent, jnp.finfo(array.dtype).minexp + 2 * bits)  # no 1/step = inf
    one = jnp.ones((), array.dtype)
    high = jnp.round(array * jnp.ldexp(one, bits - exponent)) * jnp.ldexp(one, exponent - bits)
    return high, array - high
