r"""The search for two-layer ReLU networks of large normalised margin.

Networks of random weights climb the smoothed margin. With m_i = y_i f(x_i) / (||Theta||^2 / 2), it
is -T log sum_i exp(-m_i / T): smooth in the parameters where f is, within T log n below min_i m_i,
and growing to it as the temperature T falls. Adam climbs it while T and the step size fall
geometrically: a homotopy like the path lambda -> 0 of the weakly regularised loss, without a loss
that underflows. Rounds of column generation and further climbing follow.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from kernelgap._numerics.arrays import cast
from kernelgap._numerics.quick import quick_jit, split_key
from kernelgap.margins.problem import Problem
from kernelgap.margins.search.columns import (
    DualPoint,
    UnitNetwork,
    best_over,
    column_generation,
)
from kernelgap.typing import Key

# Settings of the search, chosen by measurement on `xor_noise` and `digits`.
_TEMPERATURES = (0.1, 0.03, 0.01, 0.03)  # first temperatures, over the scale of the data
_RATES = (0.1, 0.03, 0.03, 0.1)  # first step sizes, over the size of a parameter
_REFINED = 4  # networks that are refined in a round
_PADDED = 64  # units of a network that is refined
_COLUMNS = 4  # linear programmes of a column generation

Net = tuple[Float[Array, "r m"], Float[Array, "r m d"]]
"""Output weights and hidden weights of r networks of m units."""


@partial(quick_jit, static_argnames=("count", "width"), level=1)
def random_nets(key: jax.Array, count: int, width: int, like: jax.Array) -> Net:
    """Draw `count` networks with output weights +-1 and hidden weights on the sphere."""
    direction_key, sign_key = jax.random.split(key)
    hidden = jax.random.normal(direction_key, (count, width, like.shape[1]), like.dtype)
    hidden = hidden / jnp.linalg.norm(hidden, axis=2, keepdims=True)
    return jax.random.rademacher(sign_key, (count, width), like.dtype), hidden


@partial(quick_jit, static_argnames="steps", level=1)
def ascend_margin(
    nets: Net,
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    *,
    temperatures: Float[Array, "r 2"],
    rates: Float[Array, "r 2"],
    steps: int,
) -> Net:
    """Climb the smoothed margin of r networks at once with Adam.

    Args:
        nets: Output weights (r, m) and hidden weights (r, m, d); units that are zero stay so.
        x: Inputs.
        y: Labels -1 and +1.
        temperatures: First and last T of each network.
        rates: First and last step size of each network, for parameters with ||Theta||^2 = 2.
        steps: Number of steps.

    Returns:
        For each network, the parameters of its best iterate by min_i m_i, ||Theta||^2 = 2.
    """
    adam = optax.scale_by_adam(b1=0.9, b2=0.99)

    def normalised(net: tuple) -> tuple:
        w, u = net
        size = jnp.sqrt((jnp.sum(w * w) + jnp.sum(u * u)) / 2)
        size = jnp.where(size > 0, size, 1)
        return w / size, u / size

    def margins(net: tuple) -> jax.Array:
        w, u = net
        scores = x @ u.T
        outputs = jnp.where(scores > 0, scores, 0) @ w
        return y * outputs / ((jnp.sum(w * w) + jnp.sum(u * u)) / 2)

    def climb(net: tuple, temperature: jax.Array, rate: jax.Array) -> tuple:
        def cost(net: tuple, t: jax.Array) -> tuple[jax.Array, jax.Array]:
            m = margins(net)
            return t * jax.scipy.special.logsumexp(-m / t), jnp.min(m)

        def step(carry: tuple, done: jax.Array) -> tuple[tuple, None]:
            net, state, best, best_net = carry
            t = temperature[0] * (temperature[1] / temperature[0]) ** done
            (_, margin), gradient = jax.value_and_grad(cost, has_aux=True)(net, t)
            better = margin > best
            best_net = jax.tree.map(lambda new, old: jnp.where(better, new, old), net, best_net)
            with jax.numpy_dtype_promotion("standard"):  # optax does not know the strict mode
                updates, state = adam.update(gradient, state)
            eta = rate[0] * (rate[1] / rate[0]) ** done
            net = jax.tree.map(lambda p, u: p - eta * u.astype(p.dtype), net, updates)
            return (normalised(net), state, jnp.maximum(best, margin), best_net), None

        net = normalised(net)
        carry = (net, adam.init(net), jnp.asarray(-jnp.inf, x.dtype), net)
        done = jnp.arange(steps, dtype=x.dtype) / steps
        return jax.lax.scan(step, carry, done)[0][3]

    return jax.vmap(climb)(nets, temperatures, rates)


def search_networks(
    problem: Problem, key: Key, *, width: int, restarts: int, steps: int, rounds: int
) -> Iterator[tuple[UnitNetwork, DualPoint]]:
    """Yield the best network so far for the scaled inputs, and dual weights, after each round."""
    x, y, dtype = problem.x, problem.y, problem.dtype
    net_key, *round_keys = split_key(key, rounds + 2)
    x_climb, y_climb = cast(x, dtype), cast(y, dtype)
    size = float(np.mean(np.linalg.norm(x, axis=1))) / 8
    which = np.arange(restarts) % len(_TEMPERATURES)
    first = size * np.asarray(_TEMPERATURES)[which]
    rates = np.asarray(_RATES)[which] / np.sqrt(width)
    _, hidden = ascend_margin(
        random_nets(net_key, restarts, width, x_climb), x_climb, y_climb,
        temperatures=cast(np.stack([first, np.full(restarts, 3e-4 * size)], 1), dtype),
        rates=cast(np.stack([rates, rates / 100], 1), dtype),
        steps=steps,
    )  # fmt: skip
    pool = [best_over(x, y, units) for units in np.asarray(hidden, float)]
    pool.append(best_over(x, y, np.vstack([x[:_PADDED], *(p.units for p in pool)])))
    best = max(pool, key=lambda p: p.margin)
    dual = DualPoint(np.full(len(x), 1 / len(x)), np.inf)
    best, dual = column_generation(
        x, y, best, dual, key=round_keys[0], rounds=_COLUMNS, dtype=dtype
    )
    yield best, dual
    for round_key in round_keys[1:]:
        pool = sorted([best, *pool], key=lambda p: -p.margin)[:_REFINED]
        pool = _refined(pool, x, y, x_climb, y_climb, steps)
        together = best_over(x, y, np.vstack([p.units for p in pool]))
        before = best.margin
        best = max(best, together, key=lambda p: p.margin)
        best, dual = column_generation(
            x, y, best, dual, key=round_key, rounds=_COLUMNS, dtype=dtype
        )
        yield best, dual
        if best.margin <= before * (1 + 1e-5):
            break


def _refined(
    pool: list[UnitNetwork],
    x: np.ndarray,
    y: np.ndarray,
    x_climb: jax.Array,
    y_climb: jax.Array,
    steps: int,
) -> list[UnitNetwork]:
    """Climb from each network at low temperatures; solve over the old and the new units."""
    readout, hidden = np.zeros((_REFINED, _PADDED)), np.zeros((_REFINED, _PADDED, x.shape[1]))
    for k, net in enumerate(pool):
        heaviest = np.argsort(-np.abs(net.coef))[:_PADDED]
        root = np.sqrt(np.abs(net.coef[heaviest]))
        readout[k, : len(root)] = np.sign(net.coef[heaviest]) * root
        hidden[k, : len(root)] = root[:, None] * net.units[heaviest]
    dtype = x_climb.dtype
    margin = max(max(net.margin for net in pool), 1e-6)
    rates = np.array([[0.003, 0.0001], [0.01, 0.0003]])[np.arange(_REFINED) % 2]
    _, moved = ascend_margin(
        (cast(readout, dtype), cast(hidden, dtype)), x_climb, y_climb,
        temperatures=cast(np.tile([0.03 * margin, 3e-4 * margin], (_REFINED, 1)), dtype),
        rates=cast(rates, dtype),
        steps=steps,
    )  # fmt: skip
    return [
        best_over(x, y, np.vstack([net.units, units]))
        for net, units in zip(pool, np.asarray(moved, float), strict=False)
    ]
