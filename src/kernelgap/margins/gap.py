r"""The duality gap of the regularised loss, over two-layer ReLU networks of any width.

Its lower end is that of `global_net`, which does not depend on the given network; for
every q with h(q) <= c,

    L* >= D(q),    h(q) = max_{||u|| <= 1} |sum_i q_i relu(u . x_i)|,

c the cost of a unit. For the logistic loss q = c o y and D is the binary entropy of c in [0, 1]^n.
"""

from typing import NamedTuple

import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.verified import gamma
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.margins.certify.results import Status
from kernelgap.margins.losses import Name
from kernelgap.margins.objective import (
    Reduction,
    forward_factors,
    loss_above,
    lower_bound,
    prepare,
    search,
)
from kernelgap.margins.search.columns import unit_rows
from kernelgap.margins.search.fitting import Signed
from kernelgap.models import Model, Params
from kernelgap.typing import ArrayLike


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
    loss: Name = "logistic",
    reduction: Reduction = "mean",
    steps: int = 2000,
) -> DualityGap:
    r"""Bound L(Theta) - L* for a regularised loss with power 2, as of `regularized_logistic`.

    L* is the least loss over two-layer ReLU networks of ANY width, in the same parameterization.
    The lower bound is that of `global_net`: dual point and multipliers are chosen together, from
    the dual point of the best network that a search from the given one finds. The gap at an
    optimum is as large as the relaxation behind it is loose, and 0 up to rounding where it is
    exact (d <= 3). With `steps=0` the dual point is the given network's own: a cheap test of
    networks near an optimum, far too pessimistic elsewhere.

    It runs on the host in float64 and cannot be traced.

    Args:
        model: A two-layer `homogeneous_mlp` with ReLU and one output, `outputs=None`.
        params: Its parameters.
        x: Inputs of shape (n, d).
        y: (n,) labels, -1 or +1; real targets for the squared loss.
        l2: lambda >= 0; for 0 the bound is the trivial one, 0.
        loss: `"logistic"`, `"squared"` or `"hinge"`, as in `global_net`.
        reduction: `"mean"` or `"sum"` over samples, as in `regularized_logistic`.
        steps: The largest number of quasi-Newton steps on the bound; 0 for the cheap one.

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
    objective = prepare(x, y, loss, reduction)
    problem = objective.problem
    params = array_checks.parameters(params)
    first, second = forward_factors(model, params, problem.device_x)
    if not array_checks.is_concrete(*params, l2):
        raise TypeError("`params` or `l2` is traced: duality_gap runs on the host. Call it outside "
                        "of jit, vmap and grad")  # fmt: skip
    checks.number(l2, "l2", minimum=0)
    l2 = float(l2)
    steps = checks.integer(steps, "steps", minimum=0)

    hidden, readout = (np.asarray(p, float) for p in params)
    value, outputs = loss_above(objective, hidden, readout, l2, (first, second))
    # f = s_2 w relu(s_1 u . x): a unit of |alpha| = 1 costs 2 lambda / (s_1 s_2).
    objective = objective.with_cost(l2, first * second)
    if not objective.c > 0:
        return DualityGap(value, 0.0, value, "converged")  # no loss is negative
    q = objective.loss.pull(objective.y, outputs)
    if steps:
        lengths = np.linalg.norm(hidden, axis=1)
        coef = np.abs(readout) * lengths * first * second * problem.scale
        net = Signed(unit_rows(hidden), np.where(readout < 0, -1.0, 1.0), coef)
        q = search(objective, np.random.default_rng(0), net).q
    goal = value * objective.samples * (1 - 1e-12)
    bound = lower_bound(objective, q, steps=steps, tol=1e-3, goal=goal)
    lower = max(min(bound.value / objective.samples * (1 - gamma(2)), value), 0.0)
    return DualityGap(value, lower, value - lower, bound.status)
