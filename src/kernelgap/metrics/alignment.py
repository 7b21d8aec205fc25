r"""How alike two kernels are, from their Gram matrices on the same inputs.

A Gram matrix is a vector of the space of matrices with the Frobenius inner product <A, B>. What is
measured here depends on angles and lengths in that space only: nothing changes when both matrices
are seen in another orthonormal basis, K -> Q K Q'. The alignment is centred: with
H = I - 1 1' / n, it compares H K H, so that a shift of the features changes nothing either.

Gram matrices have shape (n, n), or (n, n, k, k) for nets with k outputs, which count as n k samples
of one kernel and are centred output by output.
"""

import jax
import jax.numpy as jnp

from kernelgap import _checks
from kernelgap._trees import safe_power
from kernelgap.typing import ArrayLike, Scalar


def kernel_change(gram0: ArrayLike, gram: ArrayLike) -> Scalar:
    r"""The relative change of a kernel, ||K - K0||_F / ||K0||_F.

    Args:
        gram0: Gram matrix to compare with, (n, n) or (n, n, k, k), such as the one at the start.
        gram: the other one, of the same shape.

    Returns:
        A scalar >= 0; exactly 0 for equal matrices, not finite where `gram0` is zero.

    Raises:
        TypeError: if a matrix is not floating.
        ValueError: if one is not square, not finite, or their shapes differ.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.metrics.kernel_change(jnp.eye(3), 1.5 * jnp.eye(3)))
        0.5

    References:
        L. Chizat, E. Oyallon, F. Bach, "On Lazy Training in Differentiable Programming", 2019.
    """
    before, after = _pair(gram0, gram, "gram0", "gram")
    size = jnp.max(jnp.abs(before))  # squares of large entries overflow
    return _norm((after - before) / size) / _norm(before / size)


def kernel_distance(gram0: ArrayLike, gram: ArrayLike) -> Scalar:
    r"""The distance of two kernels up to scale, 1 - <K, K0> / (||K||_F ||K0||_F).

    Computed as half the squared distance of K / ||K|| and K0 / ||K0||, which has no cancellation:
    it is exactly 0 of a kernel to itself, and right for kernels that are almost the same.

    Args:
        gram0: positive semi-definite Gram matrix, (n, n) or (n, n, k, k).
        gram: another one, of the same shape.

    Returns:
        A scalar in [0, 1], 0 for proportional kernels, 1 for kernels of features that are
        orthogonal; NaN where a matrix is zero.

    Raises:
        TypeError: if a matrix is not floating.
        ValueError: if one is not square, not finite, or their shapes differ.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 20, 5)
        >>> gram = kg.kernels.ntk(kg.models.homogeneous_mlp((64,)))(x)
        >>> print(kg.metrics.kernel_distance(gram, gram))
        0.0

    References:
        S. Fort et al., "Deep learning versus kernel learning", NeurIPS 2020 (the kernel distance,
        there of any two times of training).
    """
    before, after = _pair(gram0, gram, "gram0", "gram")
    return _angle(before, after, jnp.all(before == after))


def kernel_alignment(gram0: ArrayLike, gram: ArrayLike) -> Scalar:
    r"""Centred kernel alignment, <H K H, H K0 H> / (||H K H||_F ||H K0 H||_F), known as linear CKA.

    Args:
        gram0: positive semi-definite Gram matrix, (n, n) or (n, n, k, k).
        gram: another one, of the same shape.

    Returns:
        A scalar in [0, 1]; exactly 1 for equal matrices, NaN where a kernel is constant over the
        samples.

    Raises:
        TypeError: if a matrix is not floating.
        ValueError: if one is not square, not finite, or their shapes differ.

    Example:
        The alignments between all pairs of recorded times:

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
    before, after = _pair(gram0, gram, "gram0", "gram")
    k = _outputs(gram0)
    return 1 - _angle(_centred(before, k), _centred(after, k), jnp.all(before == after))


def target_alignment(gram: ArrayLike, y: ArrayLike) -> Scalar:
    r"""Centred alignment of a kernel with the kernel of the targets: y y', or Y Y'.

    For k outputs and a kernel of shape (n, n, k, k), the targets are one vector of n k entries.

    Args:
        gram: positive semi-definite Gram matrix, (n, n) or (n, n, k, k).
        y: targets: (n,) or (n, c) floats; (n,) integers are classes, turned into c = max + 1
            indicators (c = k for a kernel of k outputs). For k outputs (n, k) floats or classes.

    Returns:
        A scalar in [0, 1]; NaN where the kernel or the targets are constant over the samples.

    Raises:
        TypeError: if `gram` is not floating, or integer targets are being traced while the number
            of classes is not known from `gram`.
        ValueError: if shapes do not fit or a value is not finite.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> y = jnp.array([1.0, -1.0, 1.0, -1.0])
        >>> print(kg.metrics.target_alignment(jnp.outer(y, y) + 7.0, y).round(4))
        1.0

    References:
        C. Cortes, M. Mohri, A. Rostamizadeh, JMLR 2012 (recalled).
    """
    matrix, k = _checks.gram(gram), _outputs(gram)
    targets = _targets(y, matrix, k)
    return 1 - _angle(_centred(matrix, k), targets @ targets.T, jnp.array(False))


def _targets(y: ArrayLike, matrix: jax.Array, k: int) -> jax.Array:
    """Centred features (n k, c) whose inner products are the kernel of the targets."""
    array, n = _checks.array(y, "y"), matrix.shape[0] // k
    if jnp.issubdtype(array.dtype, jnp.integer):
        if k == 1 and not _checks.is_concrete(array):
            raise TypeError("`y` holds integer classes whose number is not known under jit; pass "
                            "one-hot floats of shape (n, c)")  # fmt: skip
        classes = k if k > 1 else max(int(array.max(initial=0)) + 1, 2)
        array = _checks.classes(array, n, classes)
        valid = True if _checks.is_concrete(array) else jnp.all(array < classes)
        array = _checks.nan_unless(valid, jax.nn.one_hot(array, classes, dtype=matrix.dtype))
    else:
        array = _checks.targets(array, n, columns=True).astype(matrix.dtype)
    if k > 1 and array.shape != (n, k):
        raise ValueError(f"`y` must have shape ({n}, {k}) for a kernel of {k} outputs; "
                         f"got {array.shape}")  # fmt: skip
    array = array.reshape(n, -1)
    array = array - jnp.mean(array, axis=0, keepdims=True)
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(array)))  # only directions count
    return array.reshape(n * k, -1) / jnp.where(size > 0, size, 1)


def _outputs(gram: ArrayLike) -> int:
    shape = jnp.shape(gram)
    return shape[2] if len(shape) == 4 else 1


def _pair(gram0: ArrayLike, gram: ArrayLike, name0: str, name: str) -> tuple[jax.Array, jax.Array]:
    first, second = _checks.gram(gram0, name0), _checks.gram(gram, name)
    if jnp.shape(gram0) != jnp.shape(gram):
        raise ValueError(f"`{name0}` and `{name}` must have one shape; got {jnp.shape(gram0)} and "
                         f"{jnp.shape(gram)}")  # fmt: skip
    dtype = jnp.promote_types(first.dtype, second.dtype)
    return first.astype(dtype), second.astype(dtype)


def _centred(matrix: jax.Array, k: int) -> jax.Array:
    """H K H, the means taken over samples, for each output by itself."""
    n = matrix.shape[0] // k
    blocks = matrix.reshape(n, k, n, k)
    blocks = blocks - jnp.mean(blocks, axis=0, keepdims=True)
    blocks = blocks - jnp.mean(blocks, axis=2, keepdims=True)
    return blocks.reshape(matrix.shape)


def _norm(matrix: jax.Array) -> jax.Array:
    """Frobenius norm, with gradient 0 at 0."""
    return safe_power(jnp.sum(jnp.square(matrix)), 0.5)


def _unit(matrix: jax.Array) -> jax.Array:
    matrix = matrix / jnp.max(jnp.abs(matrix))
    return matrix / _norm(matrix)


def _angle(a: jax.Array, b: jax.Array, same: jax.Array) -> jax.Array:
    """1 - cos of the angle between two matrices, cut to [0, 1] where rounding leaves it.

    `same`: whether they are one matrix; compiled code may round the two norms differently.
    """
    angle = jnp.minimum(jnp.sum(jnp.square(_unit(b) - _unit(a))) / 2, 1)
    return jnp.where(same, 0 * angle, angle)  # zero matrices stay NaN
