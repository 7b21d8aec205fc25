r"""The network of least regularised loss over all widths, with a proof of how close it is.

For L(Theta) = R(f) + lambda ||Theta||^2 with R the mean or the sum of convex losses, the best units
of given directions are balanced, so that over all widths of two-layer ReLU networks

    L* = min_alpha R(sum_j alpha_j relu(u_j . x)) + 2 lambda ||alpha||_1,    ||u_j|| = 1.

The network comes from column generation (`margins.search.fitting`); the proof is a point of the
Fenchel dual, chosen together with the bound on violations (`margins.certify.loss_bound`). Both ends
are evaluated in float64 with room for rounding: lower <= L* <= loss.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.arrays import cast
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.margins.best_network import Interrupted
from kernelgap.margins.certify.loss_bound import LossBound, bound_on_ray
from kernelgap.margins.certify.multipliers import SideMultipliers
from kernelgap.margins.losses import Name
from kernelgap.margins.objective import (
    Objective,
    Reduction,
    loss_above,
    lower_bound,
    prepare,
    search,
)
from kernelgap.margins.search.fitting import Fit
from kernelgap.models import Params
from kernelgap.typing import ArrayLike, Key


@saveable(loss="", lower="", gap="", ratio="", params=("md", "m"), weights="n")
class GlobalNet(NamedTuple):
    """lower <= L* <= loss for the least loss L* of a two-layer ReLU network of any width.

    Attributes:
        loss: L(Theta) of `params`, an upper bound on L* in spite of rounding.
        lower: A lower bound on the loss of every such network, in spite of rounding.
        gap: `loss - lower`.
        ratio: `loss / lower`; 1 if both are 0, inf if only `lower` is 0.
        params: Parameters of `models.homogeneous_mlp((units,))` with balanced units; one unit of
            weight zero where the zero network is the best.
        weights: (n,) the dual point q that proves `lower`; at an optimum q_i is minus the
            derivative of the i-th loss by its output.
        status: `"optimal"`: the ratio is at most 1 + tol. Else how the search for the bound ended:
            `"converged"`: the bound gives no more, or the network is not the best;
            `"max_iterations"`, `"solver_failed"`: the bound holds, and may be loose.
        multipliers: Those that prove the violation of `weights`, for `proofs.write_loss`; () where
            it is exact.
    """

    loss: float
    lower: float
    gap: float
    ratio: float
    params: Params
    weights: Float[np.ndarray, " n"]
    status: Literal["optimal", "converged", "max_iterations", "solver_failed"]
    multipliers: tuple[SideMultipliers, ...] = ()

    __repr__ = compact_repr
    _repr_html_ = html_repr

    def _entries(self) -> dict[str, Any]:
        numbers = {"loss": self.loss, "lower": self.lower, "ratio": self.ratio}
        return numbers | {"units": self.params[1].shape[0], "status": self.status}


def global_net(
    x: ArrayLike,
    y: ArrayLike,
    *,
    l2: float,
    key: Key,
    loss: Name = "logistic",
    reduction: Reduction = "mean",
    max_iterations: int = 3000,
    tol: float = 1e-3,
) -> GlobalNet:
    r"""Find the two-layer ReLU network of least regularised loss over all widths, and certify it.

    L(Theta) = reduce_i ell(y_i, f(x_i)) + l2 ||Theta||^2, f = sum_j w_j relu(u_j . x), with as many
    units as it needs. The search adds units that violate the optimality condition of the convex
    form, fits all coefficients anew, and moves all parameters by gradient steps in between. The
    lower bound is maximised over dual points and the multipliers of `violation_bound` together; it
    ends as soon as loss / lower <= 1 + tol.

    It runs on the host in float64 and cannot be traced; nothing is compiled.

    Args:
        x: Inputs of shape (n, d).
        y: (n,) labels, -1 or +1; real targets for the squared loss.
        l2: lambda > 0.
        key: JAX random key, for the starts of the search.
        loss: `"logistic"`, log(1 + exp(-y f)); `"squared"`, (f - y)^2 / 2; `"hinge"`,
            max(0, 1 - y f).
        reduction: `"mean"` or `"sum"` over samples.
        max_iterations: The largest number of quasi-Newton steps of the bound; with 0 it comes from
            the network's own dual point alone.
        tol: The relative gap that is small enough.

    Returns:
        A `GlobalNet`.

    Raises:
        TypeError: If an argument is traced.
        Interrupted: On Ctrl-C, once the network has been found; it carries it with a bound.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 32, 3)
        >>> net = kg.margins.global_net(x, y, l2=0.01, key=jax.random.key(1))
        >>> net.lower <= net.loss, net.ratio < 1.001, net.status
        (True, True, 'optimal')
        >>> model = kg.models.homogeneous_mlp((4,))
        >>> loss = kg.objectives.regularized_logistic(model.apply, l2=0.01)
        >>> bool(loss(net.params, x, y) <= loss(kg.datasets.planted_xor(3), x, y))
        True

    References:
        Paper A: the objective, and its l1 form over all units (T4). Search and bound are ours.
    """
    return _nets(x, y, [l2], key, loss, reduction, max_iterations, tol)[0]


def global_path(
    x: ArrayLike,
    y: ArrayLike,
    *,
    l2s: Sequence[float],
    key: Key,
    loss: Name = "logistic",
    reduction: Reduction = "mean",
    max_iterations: int = 3000,
    tol: float = 1e-3,
) -> tuple[GlobalNet, ...]:
    r"""Return the certified `global_net` of each strength, each search started from the one before.

    As lambda -> 0 the normalised margins of the networks tend to the largest over all widths,
    that of `max_margin` (paper A, T1), here with a proof at every lambda.

    Args:
        x: Inputs of shape (n, d).
        y: (n,) labels, -1 or +1; real targets for the squared loss.
        l2s: Strengths lambda > 0, descending.
        key: JAX random key, for the starts of the searches.
        loss: As in `global_net`.
        reduction: `"mean"` or `"sum"` over samples.
        max_iterations: As in `global_net`, for each strength.
        tol: As in `global_net`.

    Returns:
        A `GlobalNet` for each strength.

    Raises:
        ValueError: If strengths do not descend.
        Interrupted: On Ctrl-C; it carries the last network. To keep the others, call `global_net`.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 32, 3)
        >>> path = kg.margins.global_path(x, y, l2s=(0.01, 1e-6), key=jax.random.key(1))
        >>> models = [kg.models.homogeneous_mlp((len(net.params[1]),)) for net in path]
        >>> first, last = (
        ...     kg.metrics.normalized_margin(model, net.params, x, y)
        ...     for model, net in zip(models, path))
        >>> bool(first < last < 0.126)
        True

    References:
        Paper A, T1: weak regularisation leads to the largest normalised margin.
    """
    if isinstance(l2s, str) or not hasattr(l2s, "__iter__"):
        raise TypeError(f"`l2s` must be a sequence of numbers > 0; got {type(l2s).__name__}")
    strengths = [checks.number(l2, "l2s", minimum=0, exclusive=True) for l2 in l2s]
    if not strengths or any(b >= a for a, b in pairwise(strengths)):
        raise ValueError(f"`l2s` must be one or more descending strengths; got {strengths}")
    return _nets(x, y, strengths, key, loss, reduction, max_iterations, tol)


def _nets(
    x: ArrayLike,
    y: ArrayLike,
    l2s: list[float],
    key: Key,
    loss: Name,
    reduction: Reduction,
    max_iterations: int,
    tol: float,
) -> tuple[GlobalNet, ...]:
    checks.random_key(key)
    if not array_checks.is_concrete(key):
        raise TypeError("`key` is traced: global_net runs on the host. Call it outside of jit, "
                        "vmap and grad")  # fmt: skip
    strengths = [checks.number(l2, "l2", minimum=0, exclusive=True) for l2 in l2s]
    if not array_checks.is_concrete(*strengths):
        raise TypeError("`l2` is traced: global_net runs on the host. Call it outside of jit, "
                        "vmap and grad")  # fmt: skip
    max_iterations = checks.integer(max_iterations, "max_iterations", minimum=0)
    checks.number(tol, "tol", minimum=0, exclusive=True)
    prepared = prepare(x, y, loss, reduction)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    start, nets = None, []
    for l2 in map(float, strengths):
        objective = prepared.with_cost(l2)
        fit = search(objective, rng, start)
        nets.append(_certified(objective, fit, l2, max_iterations, tol))
        start = fit.net
    return tuple(nets)


def _certified(
    objective: Objective, fit: Fit, l2: float, max_iterations: int, tol: float
) -> GlobalNet:
    params, value = _params(objective, fit, l2)

    def net(bound: LossBound) -> GlobalNet:
        lower = float(np.nextafter(bound.value / objective.samples, -np.inf))
        lower = min(max(lower, 0.0), value)
        ratio = value / lower if lower > 0 else (1.0 if value == 0 else float(np.inf))
        status = "optimal" if ratio <= 1 + tol else bound.status
        return GlobalNet(
            value, lower, value - lower, ratio, params, bound.q, status, bound.multipliers
        )

    try:
        goal = value * objective.samples / (1 + 0.9 * tol)
        return net(lower_bound(objective, fit.q, steps=max_iterations, tol=tol, goal=goal))
    except KeyboardInterrupt as stop:
        x, y = objective.problem.x, objective.y
        raise Interrupted(net(bound_on_ray(x, y, objective.loss, objective.c, fit.q))) from stop


def _params(objective: Objective, fit: Fit, l2: float) -> tuple[Params, float]:
    """Balanced parameters for the inputs as given, and their loss, rounded up."""
    problem, net = objective.problem, fit.net
    size = np.sqrt(net.coef / problem.scale)
    hidden = cast(size[:, None] * net.units, problem.dtype)
    readout = cast(net.signs * size, problem.dtype)
    if not len(size):
        hidden = jnp.zeros((1, problem.x.shape[1]), problem.dtype)
        readout = jnp.zeros(1, problem.dtype)
    return (hidden, readout), loss_above(objective, hidden, readout, l2)[0]
