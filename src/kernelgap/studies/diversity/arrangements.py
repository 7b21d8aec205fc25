"""Units in different arrangements: random, clustered, spread out by gradient descent.

Units have norm sqrt(d), about that of Gaussian ones: arrangements differ in directions only.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from kernelgap import objectives


def random(key: jax.Array, n: int, d: int) -> jax.Array:
    """Independent uniform directions."""
    return _scaled(jax.random.normal(key, (n, d)))


def clustered(key: jax.Array, n: int, d: int, *, clusters: int, spread: float) -> jax.Array:
    """Directions around some random ones, in turn; a large spread makes them independent."""
    centres_key, noise_key = jax.random.split(key)
    centres = jax.random.normal(centres_key, (clusters, d))
    noise = jax.random.normal(noise_key, (n, d))
    return _scaled(centres[jnp.arange(n) % clusters] + spread * noise)


@partial(jax.jit, static_argnames=("steps",))
def spread_out(w: jax.Array, *, steps: int) -> jax.Array:
    """Units moved by Adam to lower the diversity penalty, with a learning rate that falls to 0."""
    # In radians, nearly: Adam's steps do not depend on the scale of the penalty.
    size = jnp.sqrt(jnp.asarray(w.shape[1], w.dtype))
    optimizer = optax.adam(optax.linear_schedule(0.05, 0.0, steps))

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        u, state = carry
        gradient = jax.grad(objectives.diversity_penalty)(u)
        with jax.numpy_dtype_promotion("standard"):  # optax does not know the strict mode
            updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(u, updates), state), None

    u = w / size
    (u, _), _ = jax.lax.scan(step, (u, optimizer.init(u)), length=steps)
    return _scaled(u)


def _scaled(w: jax.Array) -> jax.Array:
    norms = jnp.linalg.norm(w, axis=1, keepdims=True)
    return w * (jnp.sqrt(jnp.asarray(w.shape[1], w.dtype)) / norms)
