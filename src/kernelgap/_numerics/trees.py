"""Arithmetic on parameter trees."""

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks
from kernelgap._numerics.quick import quick_jit
from kernelgap.typing import PyTree, Scalar


def squared_norm(tree: PyTree) -> Scalar:
    """Return ||Theta||^2, the sum of the squares of all entries of all leaves."""
    leaves = list(map(jnp.asarray, jax.tree.leaves(tree)))
    dtype = array_checks.common_dtype(*leaves)
    wide = dtype if dtype.itemsize >= 4 else jnp.float32  # round the squares once, at the end
    squares = [jnp.sum(jnp.square(leaf.astype(wide))) for leaf in leaves]
    return sum(squares[1:], start=squares[0]).astype(dtype)


@quick_jit
def norm(tree: PyTree) -> Scalar:
    """Return ||Theta||, rescaled so that squares neither overflow nor underflow."""
    leaves = [jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(tree)]
    largest = jax.lax.stop_gradient(jnp.max(jnp.stack(leaves)))
    size = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    scaled = jax.tree.map(lambda leaf: leaf / size, tree)
    return size * safe_power(squared_norm(scaled), 0.5)


@quick_jit
def difference(tree: PyTree, start: PyTree) -> PyTree:
    """Return tree - start, leaf by leaf."""
    return jax.tree.map(jnp.subtract, tree, start)


def promoted(tree: PyTree, other: PyTree) -> PyTree:
    """Return the first tree, each leaf in the common dtype of both."""
    return jax.tree.map(lambda a, b: a.astype(array_checks.common_dtype(a, b)), tree, other)


def check_alike(params0: PyTree, params: PyTree) -> None:
    """Refuse parameters that do not have the structure and shapes of `params0`."""
    expected, shapes = (jax.tree.map(np.shape, tree) for tree in (params0, params))
    if shapes != expected:
        raise ValueError(f"`params` must have the structure and shapes of `params0`, "
                         f"{expected!s:.80}; got {shapes!s:.80}")  # fmt: skip


def safe_power(base: jax.Array, exponent: float) -> jax.Array:
    """Return `base ** exponent` for base >= 0, with gradient 0 at base = 0 instead of NaN or inf.

    A NaN stays a NaN: a net that diverged is not at its start.
    """
    if exponent == 1:
        return base
    zero = base == 0
    return jnp.where(zero, 0, jnp.where(zero, 1, base) ** exponent)
