"""Full-batch training with any optax optimiser in one compiled loop."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from kernelgap import _checks, _extras
from kernelgap._display import shown
from kernelgap.datasets import Dataset
from kernelgap.typing import ArrayLike, Loss, PyTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


@shown
class Trained(NamedTuple):
    """The outcome of `train`.

    Attributes:
        params: parameters after the last step.
        opt_state: optimiser state after the last step, to go on from.
        losses: (steps,) the loss before each step.
        records: what `record` returned, stacked along a first axis of length
            steps // record_every; None without `record`.
    """

    params: PyTree
    opt_state: PyTree
    losses: Float[Array, " steps"]
    records: PyTree

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """The loss before each step, a line per seed, as matplotlib Axes (extra `studies`)."""
        ax, losses = _extras.axes(ax), np.asarray(self.losses)
        _extras.curves(ax, np.arange(losses.shape[-1]), losses, {"lw": 1})
        if np.all(losses > 0):
            ax.set_yscale("log")
        ax.set_xlabel("step")
        ax.set_ylabel("loss")
        return ax

    def to_pandas(self) -> "DataFrame":
        """Columns step and loss, and seed where there are several (extra `studies`)."""
        losses = np.asarray(self.losses)
        return _extras.data_frame({"step": np.arange(losses.shape[-1]), "loss": losses})


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
    parameters, data and keys at once (see the example).

    Args:
        loss: `loss(params, x, y) -> scalar`, such as from `objectives.regularized_logistic`.
        params: initial parameters.
        data: `(x, y)` with x of shape (n, d) and y with n entries along its first axis.
        optimizer: any optax transformation.
        steps: number of steps, at least 1.
        record: `record(params) -> pytree`, called after every `record_every`-th step.
        record_every: must divide `steps`.
        opt_state: state to go on from; fresh when None.
        progress: show a bar on stderr (extra `studies`); one for all seeds under vmap. The loop is
            one computation, which Ctrl-C does not end: to be able to stop, train in several calls.

    Returns:
        `Trained(params, opt_state, losses, records)`.

    Raises:
        TypeError: if `loss` or `record` is not callable, `optimizer` no optax transformation,
            `steps` no integer, x or a parameter not floating, or `data` no pair.
        ValueError: if shapes of x and y disagree, x or a parameter is not finite, `steps` < 1,
            `record_every` does not divide `steps`, or `opt_state` is of another optimiser or for
            other parameters.
        ImportError: if tqdm is missing for `progress`.

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
    _checks.function(loss, "loss", "loss(params, x, y)")
    _checks.optimizer(optimizer)
    steps = _checks.integer(steps, "steps", minimum=1)
    record_every = _checks.integer(record_every, "record_every", minimum=1)
    if record is not None and steps % record_every:
        raise ValueError(f"`record_every` must divide `steps`; got {record_every} and {steps}")
    if record is not None:
        _checks.function(record, "record", "record(params)")
    params = _checks.parameters(params)
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"`data` must be a Dataset or a pair (x, y); got {type(data).__name__}")
    x = _checks.inputs(data[0])
    y = _checks.array(data[1], "y")
    if y.shape[:1] != x.shape[:1]:
        raise ValueError(f"`data` must be (x, y) with as many labels as rows of x; "
                         f"got shapes {x.shape} and {y.shape}")  # fmt: skip

    if opt_state is not None:
        expected = jax.eval_shape(optimizer.init, params)
        wanted, given = (jax.tree.map(np.shape, state) for state in (expected, opt_state))
        if wanted != given:
            raise ValueError(f"`opt_state` must be a state of `optimizer` for these parameters, "
                             f"such as `Trained.opt_state`; got {given!s:.80}")  # fmt: skip
        opt_state = jax.tree_util.tree_map_with_path(_state_leaf, opt_state, expected)

    beat = _extras.heartbeat(steps, "train", unit="step", shown=progress)

    def step(carry: tuple, done: jax.Array) -> tuple[tuple, jax.Array]:
        params, state = carry
        beat(done)
        value, gradient = jax.value_and_grad(loss)(params, x, y)
        with jax.numpy_dtype_promotion("standard"):  # optax does not know the strict mode
            updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    carry = (params, optimizer.init(params) if opt_state is None else opt_state)
    counted = jnp.arange(1, steps + 1, dtype=jnp.int32)
    if record is None:
        (params, opt_state), losses = jax.lax.scan(step, carry, counted)
        return Trained(params, opt_state, losses, None)

    def leg(carry: tuple, some: jax.Array) -> tuple[tuple, tuple]:
        carry, losses = jax.lax.scan(step, carry, some)
        return carry, (losses, record(carry[0]))

    (params, opt_state), (losses, records) = jax.lax.scan(
        leg, carry, counted.reshape(-1, record_every)
    )
    return Trained(params, opt_state, losses.reshape(steps), records)


def _state_leaf(path: Any, leaf: Any, expected: Any) -> Any:
    """The leaf of an optimiser's state, refused unless it has the dtype that the loop gives it."""
    dtype = leaf.dtype if isinstance(leaf, jax.Array) else jnp.result_type(leaf)
    if dtype != expected.dtype:
        raise TypeError(
            "`opt_state` must have the dtypes that these parameters ask for; "
            f"`opt_state{jax.tree_util.keystr(path)}` must be {expected.dtype}; got {dtype}. Pass "
            "parameters of the dtype that the state was made for, or opt_state=None"
        )
    return leaf
