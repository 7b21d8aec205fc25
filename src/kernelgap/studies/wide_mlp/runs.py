"""Runs of gradient descent with what is recorded along them, for all seeds."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kernelgap import kernels, metrics, models, objectives, optim
from kernelgap._trees import safe_power, squared_norm
from kernelgap.datasets import Dataset
from kernelgap.metrics import Laziness
from kernelgap.models import Model, Params
from kernelgap.typing import Loss

_TOGETHER = 128  # widths up to here: seeds run as one batch; above, one after the other


class Run(NamedTuple):
    """Runs of all seeds; times are those of the start and of the records.

    Attributes:
        losses: (seeds, steps), the loss before each step.
        last: (seeds,), the loss at the end.
        path: (seeds, times), the length of the path.
        panel: laziness, each entry (seeds, times, ...).
        outputs: (seeds, times, n), on the training samples.
        tested: (seeds, n_test), at the end.
    """

    losses: jax.Array
    last: jax.Array
    path: jax.Array
    panel: Laziness
    outputs: jax.Array
    tested: jax.Array


def net(width: int, depth: int, activation: Any, parameterization: Any = "ntk") -> Model:
    """A net of `depth` layers of one width."""
    return models.mlp(
        (width,) * (depth - 1), activation=activation, parameterization=parameterization
    )


def over_seeds(one: Callable[..., Any], arguments: tuple, width: int) -> Any:
    """`one` for each seed: as a batch where nets are small, else one by one, for the memory."""
    if width <= _TOGETHER:
        return jax.vmap(one)(*arguments)
    return jax.lax.map(lambda rest: one(*rest), arguments)


def loss_of(model: Model, name: str) -> Loss:
    """The mean logistic loss, or half the mean square."""
    if name == "logistic":
        return objectives.regularized_logistic(model.apply, l2=0.0)
    return objectives.regularized_squared(model.apply)


@partial(jax.jit, static_argnames=("model", "d"))
def initial(model: Model, keys: jax.Array, d: int) -> Params:
    """Initial parameters of all seeds. By itself: random draws take long to compile."""
    return over_seeds(lambda key: model.init(key, d), (keys,), max(model.spec.widths))


@partial(jax.jit, static_argnames=("model",))
def starts(model: Model, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Outputs (seeds, n) and Gram matrices (seeds, n, n), x of shape (seeds, n, d)."""

    def one(params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return model.apply(params, x), kernels.empirical_ntk(model, params)(x)

    return over_seeds(one, (params, x), max(model.spec.widths))


@partial(jax.jit, static_argnames=("model", "loss", "steps", "records"))
def descend(
    model: Model,
    params: Params,
    train: Dataset,
    x_test: jax.Array,
    sizes: jax.Array,
    *,
    loss: str,
    steps: int,
    records: int,
) -> Run:
    """Gradient descent from `params` with the step sizes (seeds,), recorded `records` times."""
    objective = loss_of(model, loss)

    def one(start: Params, train: Dataset, x_test: jax.Array, size: jax.Array) -> Run:
        panel = metrics.laziness(model, start, *train, kernel=kernels.empirical_ntk, keep_gram=True)
        optimizer = optax.chain(optax.sgd(size), path_length())

        def leg(carry: tuple, k: jax.Array) -> tuple[tuple, tuple]:
            params, state = carry
            seen = panel(params), state[-1], model.apply(params, train.x)

            def go(carry: tuple) -> tuple[tuple, jax.Array]:
                trained = optim.train(
                    objective, carry[0], train, optimizer, steps=every, opt_state=carry[1]
                )
                return (trained.params, trained.opt_state), trained.losses

            def stay(carry: tuple) -> tuple[tuple, jax.Array]:
                return carry, jnp.zeros(every, train.x.dtype)

            # One program that records both ends: tracing either twice doubles what is compiled.
            carry, losses = jax.lax.cond(k < records, go, stay, carry)
            return carry, (losses, seen)

        (params, _), (losses, seen) = jax.lax.scan(
            leg, (start, optimizer.init(start)), jnp.arange(records + 1)
        )
        panels, path, outputs = seen
        return Run(
            losses[:-1].reshape(steps), objective(params, *train), path, panels, outputs,
            model.apply(params, x_test),
        )  # fmt: skip

    every = steps // records
    return over_seeds(one, (params, train, x_test, sizes), max(model.spec.widths))


@partial(jax.jit, static_argnames=("model", "steps"))
def losses_with_step(
    model: Model, params: Params, train: Dataset, size: jax.Array, *, steps: int
) -> jax.Array:
    """Squared losses (seeds, steps + 1) of gradient descent with one step size, on one sample."""
    objective = loss_of(model, "squared")

    def one(params: Params) -> jax.Array:
        trained = optim.train(objective, params, train, optax.sgd(size), steps=steps)
        return jnp.append(trained.losses, objective(trained.params, *train))

    return over_seeds(one, (params,), max(model.spec.widths))


def path_length() -> optax.GradientTransformation:
    """Changes nothing, and adds up the norms of the updates."""

    def init(params: optax.Params) -> jax.Array:
        return jnp.zeros((), jax.tree.leaves(params)[0].dtype)

    def update(updates: Any, state: Any, params: Any = None) -> tuple:
        del params
        return updates, state + safe_power(squared_norm(updates), 0.5)

    return optax.GradientTransformation(init, update)
