r"""Similarity of two kernels, computed from their Gram matrices on the same inputs.

All measures depend only on angles and norms under the Frobenius inner product <A, B>, so they are
invariant to a common change of orthonormal basis, K -> Q K Q'. Alignments are also centred: they
compare H K H with H = I - 1 1' / n, which makes them invariant to a shift of the features.

Gram matrices have shape (n, n), or (n, n, k, k) for nets with k outputs. The latter are treated as
Gram matrices of n k samples and centred separately for each output.
"""

from functools import partial

import jax
import jax.numpy as jnp

from kernelgap._numerics import array_checks
from kernelgap._numerics.quick import quick_jit
from kernelgap._numerics.trees import safe_power
from kernelgap.typing import ArrayLike, Scalar


def kernel_distance(gram0: ArrayLike, gram: ArrayLike) -> Scalar:
    r"""Return the kernel distance, 1 - <K, K0> / (||K||_F ||K0||_F).

    It is computed as half the squared distance between K / ||K|| and K0 / ||K0||, without
    cancellation: exactly 0 for equal matrices, and accurate for kernels that almost agree.

    Args:
        gram0: Positive semi-definite Gram matrix of shape (n, n) or (n, n, k, k).
        gram: Positive semi-definite Gram matrix of the same shape.

    Returns:
        A scalar in [0, 1]: 0 for proportional Gram matrices, 1 for orthogonal ones; NaN if a
        matrix is zero.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 20, 5)
        >>> gram = kg.kernels.ntk(kg.models.homogeneous_mlp((64,)))(x)
        >>> print(kg.metrics.kernel_distance(gram, gram))
        0.0

    References:
        S. Fort et al., "Deep learning versus kernel learning", NeurIPS 2020 (the kernel distance
        between any two times of training).
    """
    before, after = gram_pair(gram0, gram, "gram0", "gram")
    return _distance(before, after)


def kernel_alignment(gram0: ArrayLike, gram: ArrayLike) -> Scalar:
    r"""Return the centred kernel alignment, <H K H, H K0 H> / (||H K H||_F ||H K0 H||_F), or CKA.

    Args:
        gram0: Positive semi-definite Gram matrix of shape (n, n) or (n, n, k, k).
        gram: Positive semi-definite Gram matrix of the same shape.

    Returns:
        A scalar in [0, 1]; exactly 1 for equal matrices, NaN if a kernel is constant over the
        samples.

    Example:
        Alignments between all pairs of recorded times:

        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 20, 5)
        >>> grams = jnp.stack([x @ x.T, (x @ x.T) ** 2, (x @ x.T) ** 4])
        >>> rows = jax.vmap(kg.metrics.kernel_alignment, (None, 0))
        >>> jax.vmap(rows, (0, None))(grams, grams).shape
        (3, 3)

    References:
        C. Cortes, M. Mohri, A. Rostamizadeh, JMLR 2012, definition 4 (recalled); S. Kornblith et
        al., ICML 2019.
    """
    before, after = gram_pair(gram0, gram, "gram0", "gram")
    return _alignment(before, after, _outputs(gram0))


def target_alignment(gram: ArrayLike, y: ArrayLike) -> Scalar:
    r"""Return the centred alignment of a kernel with the target kernel, y y' or Y Y'.

    For a Gram matrix of shape (n, n, k, k), the targets form a single vector of n k entries.

    Args:
        gram: Positive semi-definite Gram matrix of shape (n, n) or (n, n, k, k).
        y: Floating-point targets of shape (n,) or (n, c), or integer classes of shape (n,), which
            are one-hot encoded with c = max + 1 columns. For k outputs, c = k. Under `jit`,
            integer classes need k outputs, since c is otherwise unknown.

    Returns:
        A scalar in [0, 1]; NaN if the kernel or the targets are constant over the samples.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> y = jnp.array([1.0, -1.0, 1.0, -1.0])
        >>> print(kg.metrics.target_alignment(jnp.outer(y, y) + 7.0, y).round(4))
        1.0

    References:
        C. Cortes, M. Mohri, A. Rostamizadeh, JMLR 2012 (recalled).
    """
    matrix, k = array_checks.gram(gram), _outputs(gram)
    targets = _targets(y, matrix, k)
    return _target_alignment(matrix, targets, k)


def _targets(y: ArrayLike, matrix: jax.Array, k: int) -> jax.Array:
    """Return features (n, k c) of the samples, whose inner products are the target kernel."""
    array, n = array_checks.array(y, "y"), matrix.shape[0] // k
    if jnp.issubdtype(array.dtype, jnp.integer):
        if k == 1 and not array_checks.is_concrete(array):
            raise TypeError(
                "`y` holds integer classes whose number is not known under jit; pass one-hot "
                "floats of shape (n, c)"
            )
        classes = k if k > 1 else max(int(array.max(initial=0)) + 1, 2)
        array = array_checks.classes(array, n, classes)
        valid = True if array_checks.is_concrete(array) else jnp.all(array < classes)
        array = array_checks.nan_unless(valid, jax.nn.one_hot(array, classes, dtype=matrix.dtype))
    else:
        array = array_checks.targets(array, n, columns=True).astype(matrix.dtype)
    if k > 1 and array.shape != (n, k):
        raise ValueError(
            f"`y` must have shape ({n}, {k}) for a kernel of {k} outputs; got {array.shape}"
        )
    return array.reshape(n, -1)


@quick_jit
def _distance(before: jax.Array, after: jax.Array) -> Scalar:
    return _angle(before, after, jnp.all(before == after))


@partial(quick_jit, static_argnames="k")
def _alignment(before: jax.Array, after: jax.Array, k: int) -> Scalar:
    return 1 - _angle(_centred(before, k), _centred(after, k), jnp.all(before == after))


@partial(quick_jit, static_argnames="k")
def _target_alignment(matrix: jax.Array, targets: jax.Array, k: int) -> Scalar:
    targets = targets - jnp.mean(targets, axis=0, keepdims=True)
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(targets)))  # only directions count
    targets = targets.reshape(len(matrix), -1) / jnp.where(size > 0, size, 1)
    return 1 - _angle(_centred(matrix, k), targets @ targets.T, jnp.array(False))


def _outputs(gram: ArrayLike) -> int:
    shape = jnp.shape(gram)
    return shape[2] if len(shape) == 4 else 1


def gram_pair(
    gram0: ArrayLike, gram: ArrayLike, name0: str, name: str
) -> tuple[jax.Array, jax.Array]:
    """Return two Gram matrices of equal shape as (n k, n k) matrices of their common dtype."""
    first, second = array_checks.gram(gram0, name0), array_checks.gram(gram, name)
    if jnp.shape(gram0) != jnp.shape(gram):
        raise ValueError(
            f"`{name0}` and `{name}` must have the same shape; got {jnp.shape(gram0)} and "
            f"{jnp.shape(gram)}"
        )
    dtype = jnp.promote_types(first.dtype, second.dtype)
    return first.astype(dtype), second.astype(dtype)


def _centred(matrix: jax.Array, k: int) -> jax.Array:
    """Return H K H, centred over the samples for each output separately."""
    n = matrix.shape[0] // k
    blocks = matrix.reshape(n, k, n, k)
    blocks = blocks - jnp.mean(blocks, axis=0, keepdims=True)
    blocks = blocks - jnp.mean(blocks, axis=2, keepdims=True)
    return blocks.reshape(matrix.shape)


def frobenius_norm(matrix: jax.Array) -> jax.Array:
    """Return the Frobenius norm, with gradient 0 at 0."""
    return safe_power(jnp.sum(jnp.square(matrix)), 0.5)


def _unit(matrix: jax.Array) -> jax.Array:
    matrix = matrix / jnp.max(jnp.abs(matrix))
    return matrix / frobenius_norm(matrix)


def _angle(a: jax.Array, b: jax.Array, same: jax.Array) -> jax.Array:
    """Return 1 - cos of the angle between two matrices, in [0, 1], and exactly 0 if `same`.

    Compiled code may round the norms of two equal matrices differently.
    """
    angle = jnp.minimum(jnp.sum(jnp.square(_unit(b) - _unit(a))) / 2, 1)
    return jnp.where(same, 0 * angle, angle)  # zero matrices stay NaN
