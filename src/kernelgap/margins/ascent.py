r"""Gradient ascent of the smoothed normalised margin of two-layer ReLU networks.

With m_i = y_i f(x_i) / (||Theta||^2 / 2), the smoothed margin -T log sum_i exp(-m_i / T) is smooth
in the parameters where f is, lies within T log n below min_i m_i, and grows to it as the
temperature T falls. Adam climbs it while T and the step size fall geometrically: a homotopy like
the path lambda -> 0 of the weakly regularised loss, without a loss that underflows.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

Net = tuple[Float[Array, "r m"], Float[Array, "r m d"]]
"""Output weights and hidden weights of r networks of m units."""


def random_nets(key: jax.Array, count: int, width: int, like: jax.Array) -> Net:
    """`count` networks with signs +-1 as output weights and hidden weights on the sphere."""
    direction_key, sign_key = jax.random.split(key)
    hidden = jax.random.normal(direction_key, (count, width, like.shape[1]), like.dtype)
    hidden = hidden / jnp.linalg.norm(hidden, axis=2, keepdims=True)
    return jax.random.rademacher(sign_key, (count, width), like.dtype), hidden


@partial(jax.jit, static_argnames=("steps",))
def ascend_margin(
    nets: Net,
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    *,
    temperatures: Float[Array, "r 2"],
    rates: Float[Array, "r 2"],
    steps: int,
) -> Net:
    """Adam on the smoothed margin of r networks at once.

    Args:
        nets: output weights (r, m) and hidden weights (r, m, d); units that are zero stay so.
        x: inputs.
        y: labels -1 and +1.
        temperatures: first and last T of each network.
        rates: first and last step size of each network, for parameters with ||Theta||^2 = 2.
        steps: number of steps.

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
