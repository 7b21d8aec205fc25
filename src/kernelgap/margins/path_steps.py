r"""The parts of one strength lambda on the regularisation path: rescaling, Adam, measurement."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernelgap import metrics
from kernelgap._numerics.trees import squared_norm
from kernelgap.metrics.margin import Norm
from kernelgap.models import Model, Params
from kernelgap.models.model import homogeneous_degree
from kernelgap.typing import PyTree, Scalar


def is_reached(outputs: jax.Array) -> jax.Array:
    """Return True for samples with an output that is not exactly zero: shape (n,)."""
    return jnp.any(outputs.reshape(outputs.shape[0], -1) != 0, axis=1)


def careful_adam(
    learning_rate: float, steps: int, largest: jax.Array
) -> optax.GradientTransformation:
    """Return Adam with cosine decay to 0 and steps of at most `largest` times the params' norm.

    log L is as sharp as log(1 / lambda): without the limit deep nets are thrown off their path.
    """

    def limit(
        updates: PyTree, state: Any, params: PyTree | None = None
    ) -> tuple[PyTree, optax.EmptyState]:
        sizes = [jnp.sqrt(squared_norm(tree)) for tree in (updates, params)]
        allowed = largest.astype(sizes[1].dtype) * sizes[1]
        factor = jnp.where(sizes[0] > allowed, allowed / sizes[0], 1)
        return jax.tree.map(lambda u: factor * u, updates), state

    return optax.chain(
        optax.adam(optax.cosine_decay_schedule(learning_rate, steps)),
        optax.GradientTransformation(lambda params: optax.EmptyState(), limit),
    )


def best_multiple(
    model: Model, objective: Callable, params: Params, x: jax.Array, y: jax.Array
) -> Params:
    """Return the multiple of params of least loss; params unless they separate the data."""
    degree = homogeneous_degree(model)
    outputs = model.apply(params, x)
    squared = squared_norm(params)
    norm = jnp.sqrt(jnp.where(squared > 0, squared, 1))

    def value(log_scale: jax.Array) -> jax.Array:  # the outputs times e^log_scale
        loss = objective(lambda radius, _: outputs * (radius / norm) ** degree)
        return loss(norm * jnp.exp(log_scale / degree), x, y)

    def closer(best: jax.Array, steps: jax.Array) -> tuple[jax.Array, None]:
        candidates = best + steps
        return candidates[jnp.argmin(jax.vmap(value)(candidates))], None

    # The loss need not be convex along the ray: look from afar first.
    grids = [jnp.linspace(-width, width, 33, dtype=norm.dtype) for width in (4.0, 0.25, 0.016)]
    best, _ = jax.lax.scan(closer, jnp.zeros((), norm.dtype), jnp.stack(grids))
    separates = jnp.min(metrics.output_margins(outputs, y)) > 0
    scale = jnp.where(separates, jnp.exp(best / degree), 1)
    return jax.tree.map(lambda w: (scale * w).astype(w.dtype), params)


def measure(model: Model, objective: Callable, params: Params, x: jax.Array, y: jax.Array) -> tuple:
    """Return the entries of a `RegularizationPath` from `log_loss` to `train_error`."""
    outputs = model.apply(params, x)
    log_loss, total = jax.value_and_grad(objective(model.apply))(params, x, y)
    log_data, data_gradient = jax.value_and_grad(objective(model.apply, log_l2=-np.inf))(
        params, x, y
    )
    # Gradients of the two terms of L, both divided by L.
    share = jnp.exp(log_data - log_loss)
    data_gradient = jax.tree.map(lambda g: share * g, data_gradient)
    penalty_gradient = jax.tree.map(jnp.subtract, total, data_gradient)
    sizes = [jnp.sqrt(squared_norm(g)) for g in (total, data_gradient, penalty_gradient)]
    return (
        log_loss,
        log_data,
        jnp.sqrt(squared_norm(params)),
        _margins(model, params, x, y),
        sizes[0] / (sizes[1] + sizes[2]),
        metrics.error_rate(outputs, y),
    )


def _margins(model: Model, params: Params, x: jax.Array, y: jax.Array) -> dict[str, Scalar]:
    norms: list[Norm] = ["l2"]
    if model.spec is not None:  # the others need the layers
        norms.append("layer_product")
        if model.neurons is not None:
            norms.append("balanced")
            if model.degree == 2:
                norms.append("mean_field")
    margins = {norm: metrics.normalized_margin(model, params, x, y, norm=norm) for norm in norms}
    return margins | {"smooth": metrics.normalized_margin(model, params, x, y, smooth=True)}
