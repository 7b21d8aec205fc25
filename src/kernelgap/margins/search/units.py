r"""The most violating unit, by local search.

Its violation is a lower bound on

    h(q) = max_{||u|| <= 1} |sum_i q_i relu(u . x_i)|,

the support function of the convex hull of all unit neurons. At the optimum of the l1-SVM over all
ReLU features, with margin gamma_l1 and dual weights p, h(p o y) = gamma_l1; while a network can
still be improved, some unit u has a value above its margin. The function of u is neither convex
nor concave: what a search finds proves a violation, and proves nothing where it finds none.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.quick import quick_jit
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.typing import ArrayLike, Key, Scalar

_FIRST_ANGLE = 0.5  # radians of the first step on the sphere
_GROW, _SHRINK = 1.5, 0.5  # factors of the angle after a step that was taken, and one that was not


@saveable()
class Unit(NamedTuple):
    """A direction on the unit sphere and what it achieves.

    Attributes:
        direction: u of shape (d,), ||u|| = 1.
        value: ``|sum_i q_i relu(u . x_i)|``, at most h(q).
        sign: +1 or -1, the sign of that sum: the sign of the output weight of a neuron along u.
    """

    direction: Float[Array, " d"]
    value: Scalar
    sign: Scalar

    __repr__ = compact_repr
    _repr_html_ = html_repr


def most_violating_unit(
    x: ArrayLike,
    q: ArrayLike,
    *,
    key: Key,
    restarts: int = 256,
    steps: int = 100,
    starts: ArrayLike | None = None,
) -> Unit:
    r"""Search for the unit of largest ``|sum_i q_i relu(u . x_i)|`` by local ascent.

    Every start climbs by steps along great circles in the direction of the gradient. A step is
    taken only if the value rises; its angle grows after a success and is halved after a failure.

    Its value is a LOWER bound on the maximum h(q), however many restarts: the maximum may sit in a
    corner that no ascent finds. For a proven upper bound see `violation_bound`.

    Args:
        x: Inputs of shape (n, d).
        q: Coefficients of shape (n,), of any signs; p o y for dual weights p and labels y.
        key: JAX random key.
        restarts: Random starts, at least 1, uniform on the sphere; as many data points (all, where
            n is smaller) are starts as well.
        steps: Ascent steps for every start, at least 1.
        starts: Further starts of shape (k, d), of any non-zero length; zero rows are ignored.

    Returns:
        A `Unit(direction, value, sign)`. Under `jit` or `vmap`, NaN inputs give a NaN value.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> x, q = 2 * jnp.eye(3), jnp.array([0.5, -2.0, 0.25])
        >>> unit = kg.margins.most_violating_unit(x, q, key=jax.random.key(0))
        >>> print(abs(unit.direction).round(3), unit.value.round(3), unit.sign)
        [0. 1. 0.] 4.0 -1.0

    References:
        The oracle of the l1-SVM of Paper A, T4. The ascent is ours: fixed-point steps u <- g/||g||,
        g the gradient, with a line search ended below it on every data set tried, as the maximum
        often sits on a kink.
    """
    x = array_checks.inputs(x)
    n, d = x.shape
    q = array_checks.targets(q, n, "q").astype(x.dtype)
    checks.random_key(key)
    restarts = checks.integer(restarts, "restarts", minimum=1)
    steps = checks.integer(steps, "steps", minimum=1)
    if starts is not None:
        starts = array_checks.inputs(starts, "starts", d=d).astype(x.dtype)
    return _best_unit(key, x, q, starts, restarts, steps)


@partial(quick_jit, static_argnames=("restarts", "steps"), level=1)
def _best_unit(
    key: Key, x: jax.Array, q: jax.Array, starts: jax.Array | None, restarts: int, steps: int
) -> Unit:
    n, d = x.shape
    random_key, row_key = jax.random.split(key)
    candidates = [jax.random.normal(random_key, (restarts, d), x.dtype)]
    if n > restarts:
        candidates.append(x[jax.random.choice(row_key, n, (restarts,), replace=False)])
    else:
        candidates.append(x)
    if starts is not None:
        candidates.append(starts)
    directions, values, signs = ascend(x, q, jnp.concatenate(candidates), steps=steps)
    best = jnp.argmax(values)  # a NaN counts as the largest
    return Unit(directions[best], values[best], signs[best])


@partial(quick_jit, static_argnames="steps", level=1)
def ascend(
    x: Float[Array, "n d"], q: Float[Array, " n"], starts: Float[Array, "k d"], *, steps: int
) -> tuple[Float[Array, "k d"], Float[Array, " k"], Float[Array, " k"]]:
    """Climb |sum_i q_i relu(u . x_i)| from every start; return directions, values and signs.

    A start keeps the sign of its sum, and its value never falls. Zero starts become e_1.
    """
    size = jnp.max(jnp.abs(x))  # free of overflow in the squares of the gradient
    size = jnp.where(size > 0, size, 1)
    weight = jnp.max(jnp.abs(q))
    weight = jnp.where(weight > 0, weight, 1)
    z, c = x / size, q / weight
    first = jnp.zeros((1, x.shape[1]), x.dtype).at[0, 0].set(1)
    start_size = jnp.max(jnp.abs(starts), axis=1, keepdims=True)
    nonzero = start_size > 0
    units = _normalised(jnp.where(nonzero, starts / jnp.where(nonzero, start_size, 1), first))

    def sums(u: jax.Array) -> jax.Array:
        scores = jnp.matmul(u, z.T, precision="highest")
        return jnp.matmul(jnp.where(scores < 0, 0, scores), c, precision="highest")  # NaN stays

    signs = jnp.where(sums(units) < 0, -1, 1).astype(x.dtype)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        u, value, angle = carry
        active = (u @ z.T > 0).astype(x.dtype)
        gradient = signs[:, None] * ((active * c[None, :]) @ z)
        tangent = gradient - jnp.sum(gradient * u, axis=1, keepdims=True) * u
        moved = jnp.cos(angle)[:, None] * u + jnp.sin(angle)[:, None] * _normalised(tangent)
        moved = _normalised(moved)
        reached = signs * sums(moved)
        better = reached > value
        angle = jnp.where(better, jnp.minimum(_GROW * angle, jnp.pi / 2), _SHRINK * angle)
        u = jnp.where(better[:, None], moved, u)
        return (u, jnp.where(better, reached, value), angle), None

    angles = jnp.full(units.shape[:1], _FIRST_ANGLE, x.dtype)
    start = (units, signs * sums(units), angles)
    (units, values, _), _ = jax.lax.scan(step, start, length=steps)
    return units, values * size * weight, signs


def _normalised(v: jax.Array) -> jax.Array:
    """Rows of length 1; zero rows stay zero."""
    squares = jnp.sum(v * v, axis=1, keepdims=True)
    positive = squares > 0
    return jnp.where(positive, v / jnp.sqrt(jnp.where(positive, squares, 1)), 0)
