r"""Linear systems with Gram matrices: conjugate gradients, their preconditioner, factorisations.

Kernels of neural networks have a few very large eigenvalues (mainly of constant and linear
functions) above a bulk. With columns C = K[:, S] of r landmarks S and W = K[S, S], the Nystroem
approximation F F' = C W^{-1} C' catches the large ones; K is then close to F F' + mu I, with mu the
mean of the diagonal of K - F F'. Systems with F F' + D, where D is diagonal, cost n r:

    (F F' + D)^{-1} = D^{-1} - D^{-1} F (I + F' D^{-1} F)^{-1} F' D^{-1}.

References: C. Williams, M. Seeger, NeurIPS 2000 (Nystroem); Z. Frangella, J. Tropp, M. Udell,
SIAM J. Matrix Anal. Appl. 2023 (as a preconditioner). The conjugate gradients are our own because
those of SciPy, JAX and lineax count no products, take one right-hand side, and return the last
iterate of a singular system instead of the best.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int

from kernelgap.predictors.operators import Operator, matmul
from kernelgap.predictors.scaling import power_of_two

_PATIENCE = 100  # largest number of products in a row that do not lower a residual

Linear = Callable[[jax.Array], jax.Array]
"""A linear function of a vector or of columns; those made here are pytrees."""


class Nystroem(NamedTuple):
    """K ~ factor factor' + remainder I.

    Attributes:
        factor: Shape (n, r).
        remainder: The mean of the diagonal of K - factor factor', positive.
        mean: The mean of the entries of K between landmarks.
        scale: The median of the diagonal of K.
    """

    factor: Float[Array, "n r"]
    remainder: Float[Array, ""]
    mean: Float[Array, ""]
    scale: Float[Array, ""]


class Solution(NamedTuple):
    """The solution of `solve`, the number of products, and the relative residual reached."""

    value: Float[Array, "n *k"]
    products: Int[Array, ""]
    residual: Float[Array, ""]


def nystroem(operator: Operator, d: int) -> Nystroem:
    """Return the approximation from evenly spaced inputs: three for each of d dimensions, or 5%."""
    n, eps = operator.size, float(jnp.finfo(operator.dtype).eps)
    rank = min(max(128, 3 * d, n // 20), 1024, n)
    index = jnp.asarray((np.arange(rank) * n) // rank, jnp.int32)  # no overflow for large n
    columns = operator.columns(index)
    own = columns[index]
    diagonal = operator.diagonal()
    scale = jnp.median(diagonal)
    ridge = 10 * eps * jnp.trace(own)
    root = jnp.linalg.cholesky(own + ridge * jnp.eye(rank, dtype=own.dtype))
    factor = jax.scipy.linalg.solve_triangular(root, columns.T, lower=True).T
    # A failed factorisation costs speed, not the answer.
    factor = jnp.where(jnp.all(jnp.isfinite(factor)), factor, 0)
    left = jnp.mean(diagonal - jnp.sum(jnp.square(factor), axis=1))
    remainder = jnp.maximum(left, 100 * eps * scale)
    return Nystroem(factor, remainder, jnp.mean(own), scale)


def woodbury(factor: Float[Array, "n r"], diagonal: Float[Array, " n"]) -> Linear:
    """Return the function v -> (factor factor' + diag(diagonal))^{-1} v."""
    inverse = 1 / diagonal
    weighted = factor * inverse[:, None]
    eye = jnp.eye(factor.shape[1], dtype=factor.dtype)
    root = jnp.linalg.cholesky(eye + matmul(factor.T, weighted))
    usable = jnp.all(jnp.isfinite(root))

    return Partial(_woodbury, inverse, factor, weighted, root, usable)


def _woodbury(
    inverse: jax.Array,
    factor: jax.Array,
    weighted: jax.Array,
    root: jax.Array,
    usable: jax.Array,
    v: jax.Array,
) -> jax.Array:
    scaled = v * inverse.reshape(-1, *[1] * (v.ndim - 1))
    inner = jax.scipy.linalg.cho_solve((root, True), matmul(factor.T, scaled))
    return jnp.where(usable, scaled - matmul(weighted, inner), scaled)


def factorised(
    gram: Float[Array, "n n"], l2: Float[Array, ""] | Float[Array, "n 1"], *, thorough: bool
) -> tuple[Linear, Bool[Array, ""]]:
    """Return the inverse of K + l2 I, or K + diag(l2), and whether Cholesky's method sufficed.

    It does not suffice where rounding hides the least pivot: a factor often exists but is useless
    for solving. If `thorough`, the inverse is then computed from eigenvectors. For l2 = 0 it is the
    pseudo-inverse without eigenvalues below rounding; else these are raised to the level of
    rounding, and conjugate gradients correct the difference.
    """
    n, eps = gram.shape[0], float(jnp.finfo(gram.dtype).eps)
    ridge = jnp.broadcast_to(jnp.ravel(l2), (n,))
    system = gram + jnp.diag(ridge)
    factor = jnp.linalg.cholesky(system)
    least = max(n, 16) * eps * jnp.max(jnp.diagonal(system))
    sound = jnp.min(jnp.square(jnp.diagonal(factor))) > least  # False for NaN
    if not thorough:
        return Partial(_cholesky, factor), sound

    def spectral() -> tuple[jax.Array, jax.Array]:
        values, vectors = jnp.linalg.eigh(system)
        cut = n * eps * jnp.max(jnp.abs(values))
        kept = ((values > cut) | (ridge > 0)) & (cut > 0)
        return vectors, jnp.where(kept, 1 / jnp.where(kept, jnp.maximum(values, cut), 1), 0)

    basis, weights = jax.lax.cond(sound, lambda: (factor, jnp.zeros(n, gram.dtype)), spectral)

    return Partial(_either, sound, basis, weights), sound


def _cholesky(factor: jax.Array, v: jax.Array) -> jax.Array:
    return jax.scipy.linalg.cho_solve((factor, True), v)


def _either(sound: jax.Array, basis: jax.Array, weights: jax.Array, v: jax.Array) -> jax.Array:
    return jax.lax.cond(
        sound,
        lambda: _cholesky(basis, v),
        lambda: matmul(basis, weights[:, None] * matmul(basis.T, v)),
    )


def solve(
    product: Linear,
    precondition: Linear,
    b: Float[Array, "n *k"],
    *,
    tol: float | jax.Array,
    max_products: int | jax.Array,
) -> Solution:
    """Run conjugate gradients from 0, until ||b - A x|| <= tol ||b|| in every column.

    `precondition` must be linear. The solution is the iterate of least residual: where a
    singular system has no solution, iterates diverge after the best one. `residual` is the largest
    residual of all columns, from the recursion.
    """
    # Squares of tiny numbers underflow: scale columns to size 1 first, without rounding.
    size = power_of_two(jnp.max(jnp.abs(b), axis=0, keepdims=True))
    b = b / size

    def dot(u: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(u * v, axis=0, keepdims=True)

    tiny, whole = float(jnp.finfo(b.dtype).tiny), dot(b, b)
    target = jnp.square(jnp.asarray(tol, b.dtype)) * whole

    def running(s: tuple) -> jax.Array:
        _, _, _, _, alive, _, _, _, count = s
        return jnp.any(alive) & (count < max_products)

    def step(s: tuple) -> tuple:
        x, r, p, rz, alive, best, least, idle, count = s
        q = product(p)
        curvature = dot(p, q)
        # A column that has converged, or has no positive curvature, stays as it is.
        alive = alive & (curvature > tiny)
        length = jnp.where(alive, rz / jnp.where(alive, curvature, 1), 0)
        x, r = x + length * p, r - length * q
        left = dot(r, r)
        idle = jnp.where(left < 0.8 * least, 0, idle + 1)
        best, least = jnp.where(left < least, x, best), jnp.minimum(left, least)
        z = precondition(r)
        after = dot(r, z)
        ratio = jnp.where(alive & (rz > tiny), after / jnp.maximum(rz, tiny), 0)
        alive = alive & (left > target) & (idle < _PATIENCE)
        return x, r, z + ratio * p, after, alive, best, least, idle, count + 1

    z, zeros = precondition(b), jnp.zeros_like(b)
    none = jnp.zeros_like(whole, int)
    start = (zeros, b, z, dot(b, z), whole > target, zeros, whole, none, jnp.asarray(0))
    *_, best, least, _, count = jax.lax.while_loop(running, step, start)
    residual = jnp.sqrt(least / jnp.where(whole > 0, whole, 1))
    return Solution(size * best, count, jnp.max(residual))
