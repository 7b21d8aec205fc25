r"""The path of weak regularisation: minimisers of the regularised logistic loss as lambda falls.

Paper A: the normalised margin of a minimiser Theta_lambda of

    L(Theta) = reduce_i log(1 + exp(-y_i f(Theta; x_i))) + lambda ||Theta||^r

converges to the largest one, gamma* = max over ||Theta|| <= 1 of min_i y_i f(Theta; x_i), as lambda
tends to 0, for homogeneous nets of any depth. Margins y_i f grow like log(1 / lambda) meanwhile.
Two things make tiny lambda as easy as large ones: log L is minimised in place of L, and, wherever
lambda changes, the parameters are first rescaled to the best point of their ray, which is a search
in one dimension because f(c Theta) = c^a f(Theta).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernelgap import _checks, _extras, _programs, metrics, objectives, optim
from kernelgap._outputs import check_apply
from kernelgap._trees import squared_norm
from kernelgap.margins.margin_path import MarginPath
from kernelgap.metrics.margin import Norm
from kernelgap.models import Model, Params
from kernelgap.models.model import homogeneous_degree
from kernelgap.typing import ArrayLike, PyTree, Scalar

_COLLAPSED = 1e-3  # share of the norm at the start below which a net counts as zero


def path(
    model: Model,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    l2s: Sequence[float] | ArrayLike,
    steps: int = 1000,
    learning_rate: float = 1e-2,
    power: float = 2,
    reduction: Literal["mean", "sum"] = "mean",
    optimizer: optax.GradientTransformation | None = None,
    record: Callable[[Params], Any] | None = None,
    progress: bool = False,
) -> MarginPath:
    r"""Train along decreasing strengths of regularisation, each from where the last one ended.

    One compiled loop over all lambda; it can be jitted, and vmapped over seeds. For each lambda:
    the best multiple of the parameters if they separate the data, `steps` full-batch steps on
    log L, again the best multiple, a record. A large lambda can leave a net of zeros, or one in
    which some sample has no active unit any more: no gradient leads away from there, so that the
    next lambda starts from the given parameters again.

    Args:
        model: a `homogeneous_mlp` of any depth, or a `Model` of your own with its `degree`.
        params: where to start, for example ``model.init(key, d)``.
        x: inputs of shape (n, d).
        y: (n,) labels: -1 or +1 for one output, integers 0..k-1 for k outputs.
        l2s: strengths lambda > 0, strictly decreasing; as small as 1e-300 whatever the dtype, when
            given as Python or NumPy numbers.
        steps: full-batch steps for each lambda, at least 1.
        learning_rate: of Adam, which starts afresh for each lambda; it falls to zero by a cosine
            over the steps, and no step is so long as to move the margins by much more than 0.1.
        power: exponent r > 0 of the norm.
        reduction: `"mean"` or `"sum"` over samples.
        optimizer: any optax transformation in place of that Adam, such as
            ``optim.noisy_gd(1e-2, key=key)``; its state is kept from one lambda to the next.
        record: `record(params) -> pytree`, called at the end of each lambda; ``lambda p: p`` keeps
            the parameters.
        progress: show a bar over lambda on stderr (extra `studies`); one for all seeds under vmap.

    Returns:
        A `MarginPath`. Its margins are those of a net that classifies all samples only where
        `train_error` is 0; else more units or more steps are needed.

    Raises:
        TypeError: if `model` is no `Model`, x is not floating, `steps` is no integer,
            `learning_rate` or `power` is no number, `record` not callable or `optimizer` no optax
            transformation.
        ValueError: if shapes disagree, x or `l2s` are not finite, concrete labels are out of range,
            `l2s` are not positive and strictly decreasing, `steps` < 1, `learning_rate` <= 0,
            `power` <= 0, `reduction` is unknown, or the model is not homogeneous.
        ImportError: if tqdm is missing for `progress`.

    Example:
        On the line, with one point on each side, the largest margin of two-layer nets is
        1 / (2 (1 / 1 + 1 / 2)) = 1/3, and it is reached slowly, as 1 / log(1 / lambda):

        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((8,))
        >>> path = kg.margins.path(
        ...     model, model.init(jax.random.key(0), 1), jnp.array([[1.0], [-2.0]]),
        ...     jnp.array([1.0, -1.0]), l2s=[1e-2, 1e-4, 1e-8, 1e-16, 1e-32], steps=300)
        >>> print([f"{margin:.2f}" for margin in path.margin])
        ['0.29', '0.32', '0.33', '0.33', '0.33']

    References:
        Paper A, the theorem on weak regularisation. Loss in logarithms: after K. Lyu, J. Li, ICLR
        2020. Warm starts, the search along the ray and the learning rates are ours.
    """
    degree = homogeneous_degree(model)
    x = _checks.inputs(x)
    params = _checks.parameters(params)
    dtype = _checks.common_dtype(x, *jax.tree.leaves(params))
    x, params = x.astype(dtype), jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    logs = _log_strengths(l2s, x.dtype)
    steps = _checks.integer(steps, "steps", minimum=1)
    learning_rate = _checks.number(learning_rate, "learning_rate", minimum=0, exclusive=True)
    power = _checks.number(power, "power", minimum=0, exclusive=True)
    _checks.choice(reduction, "reduction", ("mean", "sum"))
    if record is not None:
        _checks.function(record, "record", "record(params)")
    if optimizer is not None:
        _checks.optimizer(optimizer)
    y = _checks.array(y, "y")
    if model.spec is None:
        check_apply(model.apply, params, x)

    beat = _extras.heartbeat(len(logs), "path", unit="λ", enabled=progress)
    given, reached = params, _is_reached(model.apply(params, x))

    def stage(carry: tuple, strength: tuple) -> tuple[tuple, tuple]:
        params, state = carry
        log_l2, fresh, done = strength
        # From a minimiser at zero, where the gradient vanishes, no step leads away; nor does any
        # to the right side of a sample on which all units are off.
        lost = jnp.any(reached & ~_is_reached(model.apply(params, x)))
        collapsed = lost | (squared_norm(params) < _COLLAPSED**2 * squared_norm(given))
        params = jax.tree.map(lambda w, first: jnp.where(collapsed, first, w), params, given)
        # Relative steps that move margins of about log(1 / lambda) by 0.1, or 1 from the start.
        largest = jnp.where(fresh | collapsed, 1, 0.1) / (degree * jnp.maximum(1, -log_l2))
        objective = partial(
            objectives.log_regularized_logistic, log_l2=log_l2, power=power, reduction=reduction
        )
        params = _best_multiple(model, objective, params, x, y)
        trained = optim.train(
            objective(model.apply),
            params,
            (x, y),
            optimizer or _careful_adam(learning_rate, steps, largest),
            steps=steps,
            opt_state=state,
        )
        params = _best_multiple(model, objective, trained.params, x, y)
        measured = _measure(model, objective, params, x, y)
        state = None if optimizer is None else trained.opt_state
        beat(done)
        return (params, state), (measured, None if record is None else record(params))

    carry = (params, None if optimizer is None else optimizer.init(params))
    counted = jnp.arange(1, len(logs) + 1, dtype=jnp.int32)
    stages = (logs, counted == 1, counted)
    loop = partial(jax.lax.scan, stage)
    (params, _), (measured, records) = _programs.run(loop, carry, stages)
    return MarginPath(logs, *measured, params=params, records=records)


def _is_reached(outputs: jax.Array) -> jax.Array:
    """Which samples have an output that is not exactly zero: shape (n,)."""
    return jnp.any(outputs.reshape(outputs.shape[0], -1) != 0, axis=1)


def _log_strengths(l2s: Any, dtype: Any) -> jax.Array:
    """log(lambda); taken in float64, which has smaller numbers than the dtype may have."""
    if not _checks.is_concrete(l2s):
        return jnp.log(jnp.asarray(l2s, dtype))
    return jnp.asarray(np.log(_checks.decreasing(l2s, "l2s")), dtype)


def _careful_adam(
    learning_rate: float, steps: int, largest: jax.Array
) -> optax.GradientTransformation:
    """Adam with a cosine decay to zero, and steps of at most `largest` times the parameters' norm.

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


def _best_multiple(
    model: Model, objective: Callable, params: Params, x: jax.Array, y: jax.Array
) -> Params:
    """The multiple of params of least loss; params unless they separate the data."""
    degree = homogeneous_degree(model)
    outputs = model.apply(params, x)
    squared = squared_norm(params)
    norm = jnp.sqrt(jnp.where(squared > 0, squared, 1))

    def value(log_scale: jax.Array) -> jax.Array:  # the outputs times e^log_scale
        loss = objective(lambda radius, _: outputs * (radius / norm) ** degree)
        return loss(norm * jnp.exp(log_scale / degree), x, y)

    best = jnp.zeros((), norm.dtype)
    for width in (4.0, 0.25, 0.016):  # the loss need not be convex along the ray: look first
        candidates = best + jnp.linspace(-width, width, 33, dtype=norm.dtype)
        best = candidates[jnp.argmin(jax.vmap(value)(candidates))]
    separates = jnp.min(metrics.output_margins(outputs, y)) > 0
    scale = jnp.where(separates, jnp.exp(best / degree), 1)
    return jax.tree.map(lambda w: (scale * w).astype(w.dtype), params)


def _measure(
    model: Model, objective: Callable, params: Params, x: jax.Array, y: jax.Array
) -> tuple:
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
