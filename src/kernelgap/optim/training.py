"""Full-batch training with any optax optimizer in one compiled loop."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks, programs
from kernelgap._support import extras
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.datasets import Dataset
from kernelgap.typing import ArrayLike, Loss, PyTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

# The extra arguments that optax's transformations may ask for.
_EXTRA = ("value", "grad", "value_fn", "obj_fn", "grad_fn")


@saveable()
class Trained(NamedTuple):
    """The result of `train`.

    Attributes:
        params: Parameters after the last step.
        opt_state: State of the optimizer after the last step, from which `train` can continue.
        losses: The loss before each step, of shape (steps,).
        records: The values of `record`, stacked along a first axis of length
            steps // record_every; None without `record`.
    """

    params: PyTree
    opt_state: PyTree
    losses: Float[Array, " steps"]
    records: PyTree

    __repr__ = compact_repr
    _repr_html_ = html_repr

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Plot the loss before each step, a line per seed (extra `studies`)."""
        ax, losses = extras.get_axes(ax), np.asarray(self.losses)
        extras.plot_curves(ax, np.arange(losses.shape[-1]), losses, {"lw": 1})
        if np.all(losses > 0):
            ax.set_yscale("log")
        ax.set_xlabel("step")
        ax.set_ylabel("loss")
        return ax

    def to_pandas(self) -> "DataFrame":
        """Return the columns step and loss, and seed if there are several (extra `studies`)."""
        losses = np.asarray(self.losses)
        return extras.data_frame({"step": np.arange(losses.shape[-1]), "loss": losses})


def train(
    loss: Loss,
    params: PyTree,
    data: Dataset | tuple[ArrayLike, ArrayLike],
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    record: Callable[[PyTree], Any] | None = None,
    record_every: int = 1,
    opt_state: PyTree | None = None,
    progress: bool = False,
) -> Trained:
    """Minimise `loss(params, x, y)` over the whole data set for a fixed number of steps.

    The loop is one `jax.lax.scan`. The function can be jitted, and vmapped over seeds: over
    parameters, data and keys at once (see the example). A second call with the same shapes compiles
    nothing, also with a new loss or a new optimizer if these do the same: the program is traced and
    recognized. Under `vmap` and `grad` outside of `jit` each call compiles.

    Args:
        loss: `loss(params, x, y) -> scalar`, such as from `objectives.regularized_logistic`.
        params: Initial parameters.
        data: `(x, y)` with x of shape (n, d) and y with n entries along its first axis.
        optimizer: Any optax transformation. Those with extra arguments get `value`, `grad`,
            `value_fn`, `obj_fn` and `grad_fn` of the loss on all data: line searches
            (`optax.lbfgs`), `reduce_on_plateau`, Polyak steps, `sophia`, `sam` and others. For
            `optax.lookahead` start from `optax.LookaheadParams.init_synced(params)`.
        steps: Number of steps, at least 1.
        record: `record(params) -> pytree`, called after every `record_every`-th step.
        record_every: Must divide `steps`.
        opt_state: State to continue from; a fresh one when None. It is copied, so that it stays
            valid where the returned state is donated.
        progress: Show a bar on stderr (extra `studies`); one for all seeds under vmap. The loop is
            one XLA computation and cannot be interrupted; split it into several calls for that.

    Returns:
        `Trained(params, opt_state, losses, records)`.

    Raises:
        TypeError: If the optimizer asks for extra arguments that are not listed above.
        ValueError: If `opt_state` belongs to another optimizer or to other parameters, or updates
            do not have the shapes of the parameters.

    Example:
        Eight seeds in one compiled loop:

        >>> import jax, optax, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((32,))
        >>> loss = kg.objectives.regularized_logistic(model.apply, l2=1e-3)
        >>> def run(key):
        ...     data_key, init_key = jax.random.split(key)
        ...     data = kg.datasets.xor_noise(data_key, 64, 8)
        ...     params = model.init(init_key, 8)
        ...     return kg.optim.train(loss, params, data, optax.adam(1e-2), steps=100)
        >>> trained = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 8))
        >>> trained.losses.shape
        (8, 100)
    """
    checks.function(loss, "loss", "loss(params, x, y)")
    checks.optimizer(optimizer)
    steps = checks.integer(steps, "steps", minimum=1)
    record_every = checks.integer(record_every, "record_every", minimum=1)
    if record is not None and steps % record_every:
        raise ValueError(f"`record_every` must divide `steps`; got {record_every} and {steps}")
    if record is not None:
        checks.function(record, "record", "record(params)")
    params = array_checks.parameters(params)
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"`data` must be a Dataset or a pair (x, y); got {type(data).__name__}")
    x = array_checks.inputs(data[0])
    y = array_checks.array(data[1], "y")
    if y.shape[:1] != x.shape[:1]:
        raise ValueError(f"`data` must be (x, y) with as many labels as rows of x; "
                         f"got shapes {x.shape} and {y.shape}")  # fmt: skip

    def objective(params: PyTree, *, obj_fn: Any = None, grad_fn: Any = None) -> jax.Array:
        del obj_fn, grad_fn  # line searches pass on what they do not use themselves
        return loss(params, x, y)

    def gradient_at(params: PyTree, call: Any) -> PyTree:
        del call  # the number of a call within a step; all calls see the same data
        return jax.grad(objective)(params)

    functions = {"value_fn": objective, "obj_fn": objective, "grad_fn": gradient_at}
    init, update = _in_standard_modes(optimizer.init), _in_standard_modes(optimizer.update)
    extra_arguments = _extra_arguments(optimizer.update)
    if opt_state is None:
        opt_state = init(params)
    else:
        expected = jax.eval_shape(init, params)
        wanted, shapes = (jax.tree.map(np.shape, state) for state in (expected, opt_state))
        if wanted != shapes:
            raise ValueError(f"`opt_state` must be a state of `optimizer` for these parameters, "
                             f"such as `Trained.opt_state`; got {shapes!s:.80}")  # fmt: skip
        opt_state = jax.tree_util.tree_map_with_path(_state_leaf, opt_state, expected)
    _check_lookahead(params, opt_state)

    beat = extras.heartbeat(steps, "train", unit="step", enabled=progress)

    def step(carry: tuple, done: jax.Array) -> tuple[tuple, jax.Array]:
        params, state = carry
        beat(done)
        fast = params.fast if isinstance(params, optax.LookaheadParams) else params
        value, gradient = jax.value_and_grad(objective)(fast)
        extra = functions | {"value": value, "grad": gradient}
        extra = {name: extra[name] for name in extra_arguments}
        updates, state = update(gradient, state, params, **extra)
        _check_updates(updates, params)
        return (optax.apply_updates(params, updates), state), value

    def leg(carry: tuple, counted: jax.Array) -> tuple[tuple, tuple]:
        carry, losses = jax.lax.scan(step, carry, counted)
        return carry, (losses, None if record is None else record(carry[0]))

    def loop(carry: tuple, counted: jax.Array) -> tuple[tuple, tuple]:
        if record is None:
            return leg(carry, counted)
        carry, (losses, records) = jax.lax.scan(leg, carry, counted.reshape(-1, record_every))
        return carry, (losses.reshape(steps), records)

    # A loop returns the buffers that it does not change, and states may hold the parameters. The
    # loop gets copies of its own, so that the result can be donated.
    carry = jax.tree.map(jnp.copy, (params, opt_state))
    counted = jnp.arange(1, steps + 1, dtype=jnp.int32)
    (params, opt_state), (losses, records) = programs.run(loop, carry, counted)
    return Trained(params, opt_state, losses, records)


def _extra_arguments(update: Callable) -> tuple[str, ...]:
    """Return the names of optax's extra arguments that an optimizer takes."""
    parameters = inspect.signature(update).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return _EXTRA
    return tuple(name for name in _EXTRA if name in parameters)


def _in_standard_modes(function: Callable) -> Callable:
    """Wrap a function of an optimizer: optax does not support strict promotion."""

    def call(*args: Any, **extra: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            try:
                return function(*args, **extra)
            except TypeError as error:
                if "keyword" not in str(error):
                    raise
                raise TypeError(
                    f"`optimizer` and its extra arguments do not fit: {error}. train passes "
                    f"{', '.join(_EXTRA)}; wrap a member of a chain that refuses them as "
                    "optax.GradientTransformation(member.init, member.update)"
                ) from error

    return call


def _check_lookahead(params: PyTree, state: PyTree) -> None:
    def is_lookahead(node: Any) -> bool:
        return isinstance(node, optax.LookaheadState)

    nodes = jax.tree.leaves(state, is_leaf=is_lookahead)
    if any(map(is_lookahead, nodes)) and not isinstance(params, optax.LookaheadParams):
        raise TypeError("`params` must be optax.LookaheadParams.init_synced(params) for "
                        f"optax.lookahead; got {type(params).__name__}")  # fmt: skip


def _check_updates(updates: PyTree, params: PyTree) -> None:
    shapes, expected = (list(map(jnp.shape, jax.tree.leaves(t))) for t in (updates, params))
    if shapes != expected:
        raise ValueError(f"`optimizer` must return updates of the shapes of the parameters, "
                         f"{expected}; got {shapes}. Those that want a gradient per example, such "
                         "as differentially private ones, are not for train")  # fmt: skip


def _state_leaf(path: Any, leaf: Any, expected: Any) -> Any:
    """Return the leaf of a state; refuse it unless it has the dtype that the loop gives it."""
    dtype = leaf.dtype if isinstance(leaf, jax.Array) else jnp.result_type(leaf)
    if dtype != expected.dtype:
        raise TypeError(
            "`opt_state` must have the dtypes that these parameters ask for; "
            f"`opt_state{jax.tree_util.keystr(path)}` must be {expected.dtype}; got {dtype}. Pass "
            "parameters of the dtype that the state was made for, or opt_state=None"
        )
    return leaf
