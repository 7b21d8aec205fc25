"""Sums and splittings of floating-point numbers, exact or nearly free of rounding errors.

References: T. Ogita, S. Rump, S. Oishi, SIAM J. Sci. Comput. 2005 (error-free transformations);
K. Ozaki, T. Ogita, S. Oishi, S. Rump, Numer. Algorithms 2012 (products of leading bits).
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_SHIFT_BITS = 13  # few enough that products of a shift with leading bits are exact


def compensated_sum(
    terms: Float[Array, "m *n"], start: tuple[Float[Array, "*n"], Float[Array, "*n"]]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Return the sum over the first axis and its rounding error (Knuth), from a start of both."""

    def add(carry: tuple, term: jax.Array) -> tuple[tuple, None]:
        total, residue = two_sum(carry[0], term)
        return (total, carry[1] + residue), None

    return jax.lax.scan(add, start, terms)[0]


@jax.custom_jvp
def accurate_sum(v: Float[Array, "n *k"]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return the sum of a vector and its rounding error; of k columns in shape (1, k)."""

    def add(first: tuple, second: tuple) -> tuple:
        total, residue = two_sum(first[0], second[0])
        return total, first[1] + second[1] + residue

    zero = jnp.zeros((), v.dtype)
    sums = jax.lax.reduce((v, jnp.zeros_like(v)), (zero, zero), add, (0,))
    total, lost = (part.reshape(*[1] * (v.ndim - 1), *v.shape[1:]) for part in sums)
    return total, lost


@accurate_sum.defjvp
def _accurate_sum_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    change = jnp.sum(tangents[0], axis=0, keepdims=tangents[0].ndim > 1)
    return accurate_sum(*primals), (change, jnp.zeros_like(change))


def rounded_shift(shift: Float[Array, ""]) -> Float[Array, ""]:
    """Return a shift near the given one, which is the same wherever it is used.

    XLA may compute a product anew in each loop that uses it, and round it in some of them only
    (with fused multiply-add). Error-free transformations need one value.
    """
    return jax.lax.reduce_precision(shift, 8, _SHIFT_BITS - 1)


def shifted_back(
    product: tuple[Float[Array, "n *k"], Float[Array, "n *k"]],
    shift: Float[Array, ""],
    v: Float[Array, "n *k"],
) -> Float[Array, "n *k"]:
    """Return block' v from (block - shift)' v and its rounding error, with a `rounded_shift`.

    The two large terms cancel: neither may be rounded before they are added.
    """
    total, lost = accurate_sum(v)
    limits = jnp.finfo(v.dtype)
    high = jax.lax.reduce_precision(total, limits.nexp, limits.nmant - _SHIFT_BITS)
    result, residue = two_sum(product[0], shift * high)  # the product is exact
    return result + (residue + product[1] + shift * (total - high + lost))


def accurate_product(
    block: Float[Array, "m n"],
    shift: Float[Array, ""],
    v: Float[Array, "m *k"],
    start: tuple[Float[Array, "n *k"], Float[Array, "n *k"]],
    largest: Float[Array, ""] | None = None,
) -> tuple[Float[Array, "n *k"], Float[Array, "n *k"]]:
    """Return (block - shift)' v and its rounding error, added to a start of both.

    An ordinary product multiplies and sums the leading bits of entries and coefficients without
    any rounding if they are few enough; the remaining bits are small, and so is their error.
    `largest` is the largest entry of abs(block - shift) if it is known, which saves a pass.
    """
    bits = (jnp.finfo(v.dtype).nmant + 1 - math.ceil(math.log2(max(block.shape[0], 2)))) // 2
    entries, rounding = two_sum(block, -shift)
    high, low = leading(entries, bits, largest)
    v_high, v_low = leading(v, bits, jnp.max(jnp.abs(v), axis=0, keepdims=v.ndim > 1))
    total, residue = two_sum(start[0], _transposed(high, v_high))
    small = _transposed(low + rounding, v) + _transposed(high, v_low)
    return total, start[1] + (residue + small)


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
    """Return the array rounded to multiples of its largest entry / 2^bits, and the residue.

    `largest` may have shape (1, k), for k columns.
    """
    if largest is None:
        largest = jnp.max(jnp.abs(array))
    _, exponent = jnp.frexp(largest)
    exponent = jnp.maximum(exponent, jnp.finfo(array.dtype).minexp + 2 * bits)  # no 1/step = inf
    unit = jnp.ones((), array.dtype)
    high = jnp.round(array * jnp.ldexp(unit, bits - exponent)) * jnp.ldexp(unit, exponent - bits)
    return high, array - high
