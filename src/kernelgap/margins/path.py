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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from kernelgap import objectives, optim
from kernelgap._numerics import array_checks, checks, programs
from kernelgap._numerics.outputs import check_apply
from kernelgap._numerics.trees import squared_norm
from kernelgap._support import extras
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.margins.path_steps import best_multiple, careful_adam, is_reached, measure
from kernelgap.models import Model, Params
from kernelgap.models.model import homogeneous_degree
from kernelgap.typing import ArrayLike, PyTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_COLLAPSED = 1e-3  # share of the norm at the start below which a net counts as zero


@saveable()
class RegularizationPath(NamedTuple):
    """Records at the end of each lambda: arrays of shape (len,), or (seeds, len) under vmap.

    Attributes:
        log_l2: log(lambda), decreasing.
        log_loss: log L(Theta_lambda).
        log_data_loss: Logarithm of the data term of L alone.
        norm: ||Theta_lambda||.
        margins: Normalised margins by name: `"l2"`, `"smooth"` (the smoothed margin in the l2
            norm), and for nets that have them `"layer_product"`, `"balanced"`, `"mean_field"`.
        stationarity: ``||grad L|| / (||grad data term|| + ||grad penalty||)``, between 0 (a
            stationary point) and 1.
        train_error: Share of training samples without a positive margin.
        params: Parameters at the last lambda.
        records: The values of `record`, stacked; None without `record`.
    """

    log_l2: Float[Array, "... len"]
    log_loss: Float[Array, "... len"]
    log_data_loss: Float[Array, "... len"]
    norm: Float[Array, "... len"]
    margins: dict[str, Float[Array, "... len"]]
    stationarity: Float[Array, "... len"]
    train_error: Float[Array, "... len"]
    params: Params
    records: PyTree

    __repr__ = compact_repr
    _repr_html_ = html_repr

    @property
    def l2(self) -> Float[Array, "... len"]:
        """The strengths lambda, 0 where the dtype has no such number."""
        return jnp.exp(self.log_l2)

    @property
    def loss(self) -> Float[Array, "... len"]:
        """L(Theta_lambda), 0 where it underflows."""
        return jnp.exp(self.log_loss)

    @property
    def data_loss(self) -> Float[Array, "... len"]:
        """The data term of L, 0 where it underflows."""
        return jnp.exp(self.log_data_loss)

    @property
    def margin(self) -> Float[Array, "... len"]:
        """The normalised margin min_i y_i f / ||Theta||^a."""
        return self.margins["l2"]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Plot the normalised margin against lambda, a line per seed (extra `studies`)."""
        ax = extras.get_axes(ax)
        extras.plot_curves(ax, self._strengths(), np.asarray(self.margin), {"marker": ".", "lw": 1})
        ax.set_xscale("log")
        ax.invert_xaxis()
        ax.set_xlabel("λ")
        ax.set_ylabel("normalised margin")
        return ax

    def to_pandas(self) -> "DataFrame":
        """Return a row per lambda, and per seed where there are several (extra `studies`)."""
        names = ("norm", "log_loss", "log_data_loss", "stationarity", "train_error")
        return extras.data_frame(
            {"log_l2": self.log_l2, "l2": self._strengths()}
            | {f"{name}_margin": margins for name, margins in self.margins.items()}
            | {name: getattr(self, name) for name in names}
        )

    def _strengths(self) -> np.ndarray:
        """Lambda in float64, which has smaller numbers than the dtype of the path."""
        return np.exp(np.asarray(self.log_l2, float))


def regularization_path(
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
) -> RegularizationPath:
    r"""Train along decreasing strengths of regularisation, each from the end of the last one.

    One compiled loop over all lambda; it can be jitted, and vmapped over seeds. For each lambda:
    the best multiple of the parameters if they separate the data, `steps` full-batch steps on
    log L, again the best multiple, a record. A large lambda can leave a net of zeros, or one in
    which some sample has no active unit any more: no gradient leads away from there, so that the
    next lambda starts from the given parameters again.

    Args:
        model: A `homogeneous_mlp` of any depth, or a `Model` of your own with its `degree`.
        params: Initial parameters, for example ``model.init(key, d)``.
        x: Inputs of shape (n, d).
        y: (n,) labels: -1 or +1 for one output, integers 0..k-1 for k outputs.
        l2s: Strengths lambda > 0, strictly decreasing; as small as 1e-300 whatever the dtype, when
            given as Python or NumPy numbers.
        steps: Number of full-batch steps for each lambda, at least 1.
        learning_rate: Peak Adam learning rate; cosine-decayed to 0 for each lambda, with steps
            clipped so that margins move by about 0.1 at most. Adam starts afresh for each lambda.
        power: Exponent r > 0 of the norm.
        reduction: `"mean"` or `"sum"` over samples.
        optimizer: Any optax transformation in place of that Adam, such as
            ``optim.noisy_gd(1e-2, key=key)``; its state is kept from one lambda to the next.
        record: `record(params) -> pytree`, called at the end of each lambda; ``lambda p: p`` keeps
            the parameters.
        progress: Show a bar over lambda on stderr (extra `studies`), one for all seeds under vmap.

    Returns:
        A `RegularizationPath`. Its margins are those of a net that classifies all samples where
        `train_error` is 0; elsewhere more units or more steps are needed.

    Example:
        On the line, with one point on each side, the largest margin of two-layer nets is
        1 / (2 (1 / 1 + 1 / 2)) = 1/3, and it is reached slowly, as 1 / log(1 / lambda):

        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((8,))
        >>> path = kg.margins.regularization_path(
        ...     model, model.init(jax.random.key(0), 1), jnp.array([[1.0], [-2.0]]),
        ...     jnp.array([1.0, -1.0]), l2s=[1e-2, 1e-4, 1e-8, 1e-16, 1e-32], steps=300)
        >>> print([f"{margin:.2f}" for margin in path.margin])
        ['0.29', '0.32', '0.33', '0.33', '0.33']

    References:
        Paper A, the theorem on weak regularisation. Loss in logarithms: after K. Lyu, J. Li, ICLR
        2020. Warm starts, the search along the ray and the learning rates are ours.
    """
    degree = homogeneous_degree(model)
    x = array_checks.inputs(x)
    params = array_checks.parameters(params)
    dtype = array_checks.common_dtype(x, *jax.tree.leaves(params))
    x, params = x.astype(dtype), jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    logs = _log_strengths(l2s, x.dtype)
    steps = checks.integer(steps, "steps", minimum=1)
    learning_rate = checks.number(learning_rate, "learning_rate", minimum=0, exclusive=True)
    power = checks.number(power, "power", minimum=0, exclusive=True)
    checks.choice(reduction, "reduction", ("mean", "sum"))
    if record is not None:
        checks.function(record, "record", "record(params)")
    if optimizer is not None:
        checks.optimizer(optimizer)
    y = array_checks.array(y, "y")
    if model.spec is None:
        check_apply(model.apply, params, x)

    beat = extras.heartbeat(len(logs), "path", unit="λ", enabled=progress)
    given, reached = params, is_reached(model.apply(params, x))

    def stage(carry: tuple, strength: tuple) -> tuple[tuple, tuple]:
        params, state = carry
        log_l2, fresh, done = strength
        # From a minimiser at zero, where the gradient vanishes, no step leads away; nor does any
        # to the right side of a sample on which all units are off.
        lost = jnp.any(reached & ~is_reached(model.apply(params, x)))
        collapsed = lost | (squared_norm(params) < _COLLAPSED**2 * squared_norm(given))
        params = jax.tree.map(lambda w, first: jnp.where(collapsed, first, w), params, given)
        # Relative steps that move margins of about log(1 / lambda) by 0.1, or 1 from the start.
        largest = jnp.where(fresh | collapsed, 1, 0.1) / (degree * jnp.maximum(1, -log_l2))
        objective = partial(
            objectives.log_regularized_logistic, log_l2=log_l2, power=power, reduction=reduction
        )
        params = best_multiple(model, objective, params, x, y)
        trained = optim.train(
            objective(model.apply),
            params,
            (x, y),
            optimizer or careful_adam(learning_rate, steps, largest),
            steps=steps,
            opt_state=state,
        )
        params = best_multiple(model, objective, trained.params, x, y)
        measured = measure(model, objective, params, x, y)
        state = None if optimizer is None else trained.opt_state
        beat(done)
        return (params, state), (measured, None if record is None else record(params))

    carry = (params, None if optimizer is None else optimizer.init(params))
    counted = jnp.arange(1, len(logs) + 1, dtype=jnp.int32)
    stages = (logs, counted == 1, counted)
    loop = partial(jax.lax.scan, stage)
    (params, _), (measured, records) = programs.run(loop, carry, stages)
    return RegularizationPath(logs, *measured, params=params, records=records)


def _log_strengths(l2s: Any, dtype: Any) -> jax.Array:
    """log(lambda); taken in float64, which has smaller numbers than the dtype may have."""
    if not array_checks.is_concrete(l2s):
        return jnp.log(jnp.asarray(l2s, dtype))
    return jnp.asarray(np.log(checks.decreasing(l2s, "l2s")), dtype)
