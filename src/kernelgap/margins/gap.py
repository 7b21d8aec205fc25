r"""How far a two-layer ReLU network is from the best of any width, for the regularised loss.

For L(Theta) = R(f) + lambda ||Theta||^2 with R the mean (or sum) of logistic losses, the best units
of given directions are balanced, so that over all widths

    L* = min_alpha R(sum_j alpha_j relu(u_j . x)) + 2 lambda ||alpha||_1,    ||u_j|| = 1.

Its Fenchel dual: for every c in [0, 1]^n with h(c o y) <= 2 lambda n (2 lambda for the sum), where
h(q) = max_{||u|| <= 1} |sum_i q_i relu(u . x_i)|,

    L* >= reduce_i H(c_i),    H(c) = -c log c - (1 - c) log(1 - c).

The optimal c_i are sigmoid(-y_i f(x_i)). For any network these, scaled down to h <= 2 lambda n, are
feasible, which makes the gap L(Theta) - reduce H a certificate.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import entr, expit

from kernelgap import _checks, _programs, objectives, optim
from kernelgap._display import compact_repr, html_repr
from kernelgap.margins.violation import violation_bound
from kernelgap.models import Model, Params
from kernelgap.models.activations import HOMOGENEOUS
from kernelgap.models.model import check_layers
from kernelgap.typing import ArrayLike

_RATES = (0.02, 0.002)  # first and last step size of Adam, over the size of a parameter
_EPS = float(np.finfo(float).eps)


class LossGap(NamedTuple):
    """L* is between `lower` and `loss`, so `loss` - L* <= `gap`; rounding is included.

    Attributes:
        loss: L(Theta) of the given parameters.
        lower: a lower bound on the loss of every two-layer network of any width.
        gap: loss - lower.
    """

    loss: float
    lower: float
    gap: float

    __repr__ = compact_repr
    _repr_html_ = html_repr


def duality_gap(
    model: Model,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    l2: float,
    reduction: Literal["mean", "sum"] = "mean",
    steps: int = 1000,
) -> LossGap:
    r"""A bound on L(Theta) - L* for the loss of `regularized_logistic` with power 2.

    L* is the least loss over two-layer ReLU networks of ANY width, in the same parameterization.
    The dual point is the better of two: that of the given network, and that of the network which
    Adam makes of it in `steps` steps. Both are scaled until `violation_bound` proves them feasible;
    the gap at an optimum is as large as that bound is loose, and 0 up to rounding where it is
    exact (d <= 3).

    It runs on the host in float64 and cannot be traced.

    Args:
        model: a two-layer `homogeneous_mlp` with ReLU and one output, `outputs=None`.
        params: its parameters.
        x: inputs of shape (n, d).
        y: (n,) labels, -1 or +1.
        l2: lambda >= 0; for 0 the bound is the trivial one, 0.
        reduction: `"mean"` or `"sum"` over samples, as in `regularized_logistic`.
        steps: Adam steps from `params` for a second dual point; 0 for the first one alone.

    Returns:
        A `LossGap(loss, lower, gap)` of Python floats.

    Raises:
        TypeError: if x or `params` are not floating, or something is traced.
        ValueError: if shapes disagree, values are not finite, labels are not -1 or +1, `l2` or
            `steps` < 0, `reduction` is unknown, or the model has another depth, activation or
            several outputs.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 40, 2)
        >>> model, params = kg.models.homogeneous_mlp((4,)), kg.datasets.planted_xor(2)
        >>> scaled = jax.tree.map(lambda p: 1.9 * p, params)
        >>> far, near = (kg.margins.duality_gap(model, p, x, y, l2=0.01) for p in (params, scaled))
        >>> 0 <= near.gap < far.gap
        True

    References:
        Paper A: the objective, and its l1 form over all units (T4). The dual bound is derived here.
    """
    given = x
    x = _checks.inputs(x)
    n = x.shape[0]
    y = _checks.signs(y, n)
    check_layers(model)
    params = _checks.parameters(params)
    first, second = _factors(model, params, x)
    if not _checks.is_concrete(x, y, *params, l2):
        raise TypeError("duality_gap runs on the host and cannot be traced: call it outside of "
                        "jit, vmap and grad")  # fmt: skip
    _checks.number(l2, "l2", minimum=0)
    l2 = float(l2)
    _checks.choice(reduction, "reduction", ("mean", "sum"))
    steps = _checks.integer(steps, "steps", minimum=0)

    # As given: jnp.asarray may have rounded it.
    exact_x, exact_y = np.asarray(given, float), np.asarray(y, float)
    samples = n if reduction == "mean" else 1
    loss, margins = _loss(model, params, exact_x, exact_y, l2, samples)
    # f = s_2 w relu(s_1 u . x): a neuron of |alpha| = 1 costs 2 lambda / (s_1 s_2).
    limit = 2 * l2 * samples / (first * second) * (1 - 4 * _EPS)
    lower = 0.0  # no loss is negative
    if limit > 0:
        lower = _dual_value(exact_x, exact_y, expit(-margins), limit, samples)
        if steps:
            better = _descend(model, params, x, y.astype(x.dtype), l2, reduction, steps)
            _, margins = _loss(model, better, exact_x, exact_y, l2, samples)
            other = _dual_value(exact_x, exact_y, expit(-margins), limit, samples)
            lower = max(lower, other)
    return LossGap(loss, lower, max(loss - lower, 0.0))


def _factors(model: Model, params: Params, x: jax.Array) -> tuple[float, float]:
    """The factors s_1, s_2 of the forward pass of a model that the bound is about."""
    spec = model.spec
    two = model.neurons is not None  # two trained layers
    if not two or spec.outputs is not None or spec.activation != HOMOGENEOUS["relu"]:
        raise ValueError(
            "`model` must be a two-layer ReLU network with one output, homogeneous_mlp((width,)); "
            f"got widths {spec.widths}, outputs {spec.outputs}, {spec.activation}"
        )
    jax.eval_shape(model.apply, params, x)  # its errors say which shapes
    (_, _, first, _), (_, _, second, _) = spec.layers(x.shape[1])
    return first, second


def _loss(
    model: Model, params: Params, x: np.ndarray, y: np.ndarray, l2: float, samples: int
) -> tuple[float, np.ndarray]:
    """An upper bound on the loss, and y_i f(x_i), in float64."""
    hidden, readout = (np.asarray(p, float) for p in params)
    (_, _, first, _), (_, _, second, _) = model.spec.layers(x.shape[1])
    margins = first * second * y * (np.maximum(x @ hidden.T, 0) @ readout)
    # Sums of k terms err by less than k eps of the sum of absolute values.
    room = (x.shape[1] + len(readout) + 8) * _EPS
    sizes = np.linalg.norm(x, axis=1) * np.sum(
        np.abs(readout) * np.linalg.norm(hidden, axis=1) * first * second
    )
    data = np.sum(np.logaddexp(0, -margins)) + room * np.sum(sizes)
    squares = np.sum(hidden**2) + np.sum(readout**2)
    total = data / samples + l2 * squares
    return float(total * (1 + (hidden.size + len(readout) + len(x) + 8) * _EPS)), margins


def _dual_value(x: np.ndarray, y: np.ndarray, c: np.ndarray, limit: float, samples: int) -> float:
    """The best lower bound on L* among the feasible multiples of c."""
    c = np.maximum(c, 1e-300)
    bound = violation_bound(x, c * y).value
    largest = 1 / np.max(c)
    if bound > 0:
        largest = min(largest, limit / bound)
    largest *= 1 - 8 * _EPS

    def value(s: float) -> float:
        return float(np.sum(entr(s * c) + entr(1 - s * c)))

    low, high = 0.0, largest
    for _ in range(60):  # bisection on the derivative, which falls in s
        s = (low + high) / 2
        rising = np.sum(c * np.log(np.maximum(1 - s * c, 1e-300) / np.maximum(s * c, 1e-300))) > 0
        low, high = (s, high) if rising else (low, s)
    best = max(value(low), value(largest))
    # 1 - s c is off by eps / 2, which entr makes at most 40 eps of.
    return max(best * (1 - (len(x) + 16) * _EPS) - 40 * _EPS * len(x), 0.0) / samples


def _descend(
    model: Model,
    params: Params,
    x: jax.Array,
    y: jax.Array,
    l2: float,
    reduction: Literal["mean", "sum"],
    steps: int,
) -> Params:
    """Adam on the loss from the given parameters, the step size falling geometrically."""
    loss = objectives.regularized_logistic(model.apply, l2=l2, reduction=reduction)
    size = float(np.sqrt(np.mean([np.mean(np.square(np.asarray(p, float))) for p in params])))
    first, last = _RATES
    rate = jnp.asarray(first * (size if size > 0 else 1.0))  # an array, so that no program holds it
    adam = optax.adam(optax.exponential_decay(rate, steps, last / first))

    def descend(params: Params, x: jax.Array, y: jax.Array) -> Params:
        return optim.train(loss, params, (x, y), adam, steps=steps).params

    return _programs.run(descend, params, x, y)
