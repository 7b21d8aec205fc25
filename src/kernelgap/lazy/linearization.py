"""Displacement and divergence of training, and the error of the linearised network."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.blas import limit_blas_threads
from kernelgap._numerics.outputs import check_apply
from kernelgap._numerics.quick import quick_jit
from kernelgap._numerics.trees import check_alike, difference, norm, promoted
from kernelgap.models import Model
from kernelgap.models.linearized import first_order
from kernelgap.typing import Apply, ArrayLike, PyTree, Scalar


def displacement(params0: PyTree, params: PyTree) -> Scalar:
    """Return ||Theta - Theta_0|| over all parameters.

    Args:
        params0: Reference parameters, such as the initial ones.
        params: Parameters of the same structure and shapes.

    Returns:
        A scalar >= 0, with gradient 0 at `params0`.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.lazy.displacement((jnp.zeros(2), jnp.ones(3)), (jnp.ones(2), jnp.zeros(3))))
        2.236068

    References:
        The usual distance from initialisation, as in L. Chizat, E. Oyallon, F. Bach, NeurIPS 2019.
    """
    params0 = array_checks.parameters(params0, "params0", finite=False)
    params = array_checks.parameters(params, finite=False)
    check_alike(params0, params)
    return norm(difference(params, params0))


def linearization_error(
    model: Model | Apply, params0: PyTree, params: PyTree, x: ArrayLike
) -> Scalar:
    r"""Return the relative error of the linearised net, ||f - f_lin|| / ||f - f_0||.

    The linearisation at `params0` costs one forward-mode derivative. The norms are over all samples
    and outputs.

    Args:
        model: A `Model`, or `apply(params, x)`.
        params0: Parameters at which the net is linearised.
        params: Parameters of the same structure and shapes.
        x: Inputs of shape (n, ...).

    Returns:
        A scalar >= 0: 0 if no output changed (in particular at `params0`), small in lazy training,
        and of order one beyond it or if the change of the outputs is lost in rounding.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> apply = lambda w, x: (x @ w) ** 2
        >>> w0, w = jnp.array([1.0]), jnp.array([1.5])
        >>> error = kg.lazy.linearization_error(apply, w0, w, jnp.ones((3, 1)))
        >>> print(f"{error:.4f}")  # f goes from 1 to 2.25, its linearisation to 2
        0.2000

    References:
        L. Chizat, E. Oyallon, F. Bach, NeurIPS 2019 (lazy training as linearisation); the ratio is
        ours.
    """
    apply = model.apply if isinstance(model, Model) else model
    checks.function(apply, "model", "apply(params, x), or a kernelgap model")
    x = array_checks.examples(x)
    params0, params = array_checks.parameters(params0, "params0"), array_checks.parameters(params)
    check_alike(params0, params)
    params0, params = promoted(params0, params), promoted(params, params0)
    check_apply(apply, params0, x)
    step = difference(params, params0)
    before, linear_change = first_order(apply, params0, params, x)
    return _relative_error(apply(params, x), before, linear_change, step)


@quick_jit
def _relative_error(
    after: jax.Array, before: jax.Array, linear_change: jax.Array, step: PyTree
) -> Scalar:
    change = after - before
    size = norm(change)
    # At `params0` itself, the two forward passes may differ by rounding.
    moved = (size != 0) & (norm(step) != 0)  # NaN counts as moved
    return jnp.where(moved, norm(change - linear_change) / jnp.where(moved, size, 1), 0)


def min_norm_distance(gram: ArrayLike, residuals: ArrayLike) -> Scalar:
    r"""Return the distance to the nearest interpolating linearised net, sqrt(r' K_0^{-1} r).

    It is the smallest ||Theta - Theta_0|| with f_lin(Theta; x_i) = y_i for all i, and
    r = y - f(Theta_0; x). Gradient flow on the squared loss of the linearised net converges to the
    minimiser.

    Args:
        gram: Gram matrix of the tangent kernel at Theta_0, of shape (n, n) or (n, n, k, k). It is
            singular if inputs are equal or if there are more outputs than parameters.
        residuals: y - f(Theta_0; x), of shape (n,) or (n, k).

    Returns:
        A scalar; NaN under `jit` if the matrix is not positive definite in its dtype.

    Raises:
        ValueError: If the matrix is singular in its dtype.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.lazy.min_norm_distance(4.0 * jnp.eye(2), jnp.array([0.6, 0.8])))
        0.5

    References:
        C. Williams, M. Seeger; the minimum-norm least-squares solution. Used for wide nets by
        S. Arora et al., ICML 2019.
    """
    matrix = array_checks.gram(gram)
    array_checks.solvable_dtype(matrix, "gram")
    n = jnp.shape(gram)[0]
    expected = (n,) if jnp.ndim(gram) == 2 else (n, jnp.shape(gram)[2])
    target = array_checks.targets(residuals, n, "residuals", columns=len(expected) == 2)
    if target.shape != expected:
        raise ValueError(
            f"`residuals` must have shape {expected}, as `gram` does; got {target.shape}"
        )
    distance = limit_blas_threads(len(matrix), lambda: _inverse_norm(matrix, target))
    if array_checks.is_concrete(distance) and np.isnan(distance):
        raise ValueError(
            f"`gram` must be positive definite; this one is singular in "
            f"{matrix.dtype}. Are two inputs equal, or fewer parameters than "
            f"outputs?"
        )
    return distance


@quick_jit
def _inverse_norm(matrix: jax.Array, target: jax.Array) -> Scalar:
    factor = jnp.linalg.cholesky((matrix + matrix.T) / 2)
    half = jax.scipy.linalg.solve_triangular(
        factor, target.astype(matrix.dtype).reshape(-1), lower=True
    )
    return jnp.where(jnp.all(jnp.isfinite(factor)), jnp.linalg.norm(half), jnp.nan)


def divergence_step(losses: ArrayLike) -> Int[Array, "*runs"]:
    """Return the step at which training diverged, or -1 if it did not.

    A run has diverged if its final loss is above its initial loss or not finite. The step returned
    is the first from which on no loss is finite and at most the initial one. A run whose loss rises
    and falls again has not diverged.

    Args:
        losses: Shape (..., steps), such as `Trained.losses`; NaN counts as infinite.

    Returns:
        Integers of shape (...).

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.lazy.divergence_step(jnp.array([[1.0, 3.0, 0.5], [1.0, 3.0, jnp.nan]])))
        [-1  1]

    References:
        The definition is ours.
    """
    array = array_checks.floating(losses, "losses")
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(
            f"`losses` must have shape (..., steps) with steps >= 1; got {array.shape}"
        )
    return _divergence_step(array)


@quick_jit
def _divergence_step(array: jax.Array) -> jax.Array:
    fine = (array <= array[..., :1]) & jnp.isfinite(array)
    steps = array.shape[-1]
    last = jnp.max(jnp.where(fine, jnp.arange(steps), -1), axis=-1)
    return jnp.where(last == steps - 1, -1, last + 1)
