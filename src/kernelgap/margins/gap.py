r"""The duality gap of the regularised loss, over two-layer ReLU networks of any width.

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
import numpy as np
from scipy.optimize import root_scalar
from scipy.special import entr, expit

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.blas import single_blas_thread
from kernelgap._numerics.verified import UNIT, above, gamma
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.margins.certify.weak_duality import Status, bound_violation
from kernelgap.margins.problem import Problem, prepare_problem
from kernelgap.margins.search.climb import Adam, ascend_units
from kernelgap.margins.search.columns import unit_rows
from kernelgap.models import Model, Params
from kernelgap.models.activations import HOMOGENEOUS
from kernelgap.models.model import check_layers
from kernelgap.typing import ArrayLike

_RATES = (0.02, 0.002)  # first and last step size of Adam, over the size of a parameter
_STARTS = 128  # points from which a violating unit is looked for


@saveable(loss="", lower="", gap="")
class DualityGap(NamedTuple):
    """L* lies between `lower` and `loss`, so that `loss` - L* <= `gap`; rounding is included.

    Attributes:
        loss: L(Theta) of the given parameters.
        lower: A lower bound on the loss of every two-layer network of any width.
        gap: `loss - lower`.
        status: How the minimisation of the violation bound behind `lower` ended, as in
            `ViolationBound`; `lower` is a bound in any case.
    """

    loss: float
    lower: float
    gap: float
    status: Status

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
) -> DualityGap:
    r"""Bound L(Theta) - L* for the loss of `regularized_logistic` with power 2.

    L* is the least loss over two-layer ReLU networks of ANY width, in the same parameterization.
    The dual point is the better of two: that of the given network, and that of the network which
    Adam makes of it in `steps` steps. Both are scaled until `violation_bound` proves them feasible;
    the gap at an optimum is as large as that bound is loose, and 0 up to rounding where it is
    exact (d <= 3).

    It runs on the host in float64 and cannot be traced.

    Args:
        model: A two-layer `homogeneous_mlp` with ReLU and one output, `outputs=None`.
        params: Its parameters.
        x: Inputs of shape (n, d).
        y: (n,) labels, -1 or +1.
        l2: lambda >= 0; for 0 the bound is the trivial one, 0.
        reduction: `"mean"` or `"sum"` over samples, as in `regularized_logistic`.
        steps: Adam steps from `params` for a second dual point; 0 for the first one alone.

    Returns:
        A `DualityGap`.

    Raises:
        TypeError: If an argument is traced.
        ValueError: If the model has another depth or activation, or several outputs.

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
    problem = prepare_problem(x, y)
    check_layers(model)
    params = array_checks.parameters(params)
    first, second = _factors(model, params, problem.device_x)
    if not array_checks.is_concrete(*params, l2):
        raise TypeError("`params` or `l2` is traced: duality_gap runs on the host. Call it outside "
                        "of jit, vmap and grad")  # fmt: skip
    checks.number(l2, "l2", minimum=0)
    l2 = float(l2)
    checks.choice(reduction, "reduction", ("mean", "sum"))
    steps = checks.integer(steps, "steps", minimum=0)

    samples = len(problem.y) if reduction == "mean" else 1
    loss, margins = _loss(model, params, problem, l2, samples)
    # f = s_2 w relu(s_1 u . x): a neuron of |alpha| = 1 costs 2 lambda / (s_1 s_2).
    limit = 2 * l2 * samples / (first * second) * (1 - gamma(8))
    lower, status = 0.0, "converged"  # no loss is negative
    if limit > 0:
        points = [expit(-margins)]
        if steps:
            with single_blas_thread():
                better = _descend(params, problem, first * second, l2, samples, steps)
            _, margins = _loss(model, better, problem, l2, samples)
            points.insert(0, expit(-margins))  # it is nearly always the better one
        for c in points:
            if _optimistic_value(problem, c, limit, samples) > lower:
                dual = _dual_value(problem, c, limit, samples)
                lower, status = max((lower, status), dual, key=lambda dual: dual[0])
    return DualityGap(loss, lower, max(loss - lower, 0.0), status)


def _factors(model: Model, params: Params, x: jax.Array) -> tuple[float, float]:
    """Return the factors s_1, s_2 of the forward pass; refuse models that have no such bound."""
    spec = model.spec
    two = model.neurons is not None  # two trained layers
    if not two or spec.outputs is not None or spec.activation != HOMOGENEOUS["relu"]:
        raise ValueError(
            "`model` must be a two-layer ReLU network with one output, homogeneous_mlp((width,)); "
            f"got widths {spec.widths}, outputs {spec.outputs}, {spec.activation}"
        )
    jax.eval_shape(model.apply, params, x)  # its errors say which shapes
    first, second = (layer.scale for layer in spec.layers(x.shape[1]))
    return first, second


def _loss(
    model: Model, params: tuple[ArrayLike, ...], problem: Problem, l2: float, samples: int
) -> tuple[float, np.ndarray]:
    """Return an upper bound on the loss, and y_i f(x_i), in float64."""
    x, y = problem.inputs, problem.y
    hidden, readout = (np.asarray(p, float) for p in params)
    first, second = (layer.scale for layer in model.spec.layers(x.shape[1]))
    margins = first * second * y * (np.maximum(x @ hidden.T, 0) @ readout)
    # Twice the roundings of an output: room for those of this bound, and of the factors.
    room = gamma(2 * (x.shape[1] + len(readout) + 8))
    sizes = np.linalg.norm(x, axis=1) * np.sum(
        np.abs(readout) * np.linalg.norm(hidden, axis=1) * first * second
    )
    data = np.sum(np.logaddexp(0, -margins)) + room * np.sum(sizes)
    squares = np.sum(hidden**2) + np.sum(readout**2)
    total = data / samples + l2 * squares
    return above(total, 2 * (hidden.size + len(readout) + len(x) + 8)), margins


def _optimistic_value(problem: Problem, c: np.ndarray, limit: float, samples: int) -> float:
    """Return more than `_dual_value` can, as no bound on h is below what some unit attains."""
    x, q = problem.x, c * problem.y
    units = ascend_units(x, q, unit_rows(x[:_STARTS]), steps=30, kept=16)
    attained = float(np.max(np.abs(np.maximum(units @ x.T, 0) @ q)))
    return _best_multiple(np.maximum(c, 1e-300), limit, attained * problem.scale) / samples


def _dual_value(
    problem: Problem, c: np.ndarray, limit: float, samples: int
) -> tuple[float, Status]:
    """Return the best lower bound on L* among the feasible multiples of c, and its status."""
    c = np.maximum(c, 1e-300)
    violation = bound_violation(problem.x, c * problem.y)
    lower = _best_multiple(c, limit, violation.value * problem.scale)
    # 1 - s c is off by u, which entr makes at most 80 u of.
    room = 80 * UNIT * len(c)
    lower = lower * (1 - gamma(2 * (len(c) + 16))) - room
    return max(lower, 0.0) / samples, violation.status


def _best_multiple(c: np.ndarray, limit: float, bound: float) -> float:
    """Return the largest sum_i H(s c_i) with s * bound <= limit, up to rounding."""
    largest = 1 / np.max(c)
    if bound > 0:
        largest = min(largest, limit / bound)
    largest *= 1 - gamma(16)

    def value(s: float) -> float:
        return float(np.sum(entr(s * c) + entr(1 - s * c)))

    def slope(s: float) -> float:
        """The derivative of `value`, which falls in s and is positive at 0."""
        return float(np.sum(c * np.log(np.maximum(1 - s * c, 1e-300) / np.maximum(s * c, 1e-300))))

    best = value(largest)
    if slope(largest) < 0 < slope(0.0):  # every multiple up to `largest` is feasible
        peak = root_scalar(slope, bracket=(0.0, largest), xtol=1e-15 * largest).root
        best = max(best, value(min(max(peak, 0.0), largest)))
    return best


def _descend(
    params: Params, problem: Problem, scale: float, l2: float, samples: int, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Run Adam on the loss from the given parameters, with a geometrically decaying step size."""
    x, y = problem.inputs, problem.y
    hidden, readout = (np.asarray(p, float) for p in params)
    size = float(np.sqrt(np.mean([np.mean(np.square(p)) for p in (hidden, readout)])))
    first, last = (rate * (size if size > 0 else 1.0) for rate in _RATES)
    theta = np.concatenate([readout[:, None], hidden], axis=1)
    adam = Adam(theta)
    for k in range(steps):
        scores = np.maximum(theta[:, 1:] @ x.T, 0)
        margins = scale * y * (theta[:, 0] @ scores)
        pulls = expit(-margins) * y * scale / samples
        gradient = np.empty_like(theta)
        gradient[:, 0] = scores @ pulls
        gradient[:, 1:] = theta[:, :1] * (((scores > 0) * pulls) @ x)
        gradient -= 2 * l2 * theta
        adam.ascend(theta, gradient, first * (last / first) ** (k / steps))
    return theta[:, 1:], theta[:, 0]
