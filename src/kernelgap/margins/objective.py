"""A problem of least regularised loss: checked, searched, bounded, and evaluated with rounding."""

from typing import Literal, NamedTuple

import jax
import numpy as np

from kernelgap._numerics import checks
from kernelgap._numerics.blas import single_blas_thread
from kernelgap._numerics.verified import above, gamma
from kernelgap.margins.certify.loss_bound import LossBound, bound_loss
from kernelgap.margins.losses import ConvexLoss, Name, convex_loss, smooth_hinge
from kernelgap.margins.problem import Problem, prepare_problem
from kernelgap.margins.search.fitting import Fit, Signed, fit_hinge, least_loss, no_units
from kernelgap.models import Model, Params
from kernelgap.models.activations import HOMOGENEOUS
from kernelgap.models.model import check_layers
from kernelgap.typing import ArrayLike

Reduction = Literal["mean", "sum"]

_WIDTH, _RESTARTS, _DESCENT, _ROUNDS = 64, 2, 600, 40  # of the search
_VIOLATION = 1e-5  # relative violation of c from which the search adds units
_HINGES = (0.1, 0.03, 0.01, 0.003, 0.001)  # smoothing of the hinge loss, over its value at 0


class Objective(NamedTuple):
    """A prepared problem: targets, loss, and what a unit costs for the scaled inputs.

    The sum of the losses plus c ||alpha||_1 is minimised, which is `samples` times L; c is rounded
    down, and 0 until `with_cost`.
    """

    problem: Problem
    y: np.ndarray
    loss: ConvexLoss
    samples: int
    c: float = 0.0

    def with_cost(self, l2: float, scale: float = 1.0) -> "Objective":
        """Return the problem for a strength, and for outputs of `scale` times w relu(u.x)."""
        cost = 2 * l2 * self.samples / (scale * self.problem.scale)
        return self._replace(c=cost * (1 - gamma(16)))


def prepare(x: ArrayLike, y: ArrayLike, loss: Name, reduction: Reduction) -> Objective:
    """Check data, loss and reduction."""
    checks.choice(loss, "loss", ("logistic", "squared", "hinge"))
    checks.choice(reduction, "reduction", ("mean", "sum"))
    chosen = convex_loss(loss)
    problem = prepare_problem(x, y, labels=chosen.labels)
    samples = len(problem.y) if reduction == "mean" else 1
    return Objective(problem, problem.y, chosen, samples)


def forward_factors(model: Model, params: Params, x: jax.Array) -> tuple[float, float]:
    """Return the factors s_1, s_2 of the forward pass; refuse models that have no such bound."""
    check_layers(model)
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


def search(objective: Objective, rng: np.random.Generator, start: Signed | None) -> Fit:
    """Return the best network found for the scaled inputs."""
    x, y, loss = objective.problem.x, objective.y, objective.loss
    net = no_units(x.shape[1]) if start is None else start
    stages = [loss] if loss.smooth else [smooth_hinge(s) for s in _HINGES]
    fit = None
    with single_blas_thread():
        for k, stage in enumerate(stages):
            fit = least_loss(
                x, y, stage, objective.c, rng=rng, start=net, width=_WIDTH,
                restarts=_RESTARTS if k == 0 and start is None else 0,
                rounds=_ROUNDS, steps=_DESCENT, tol=_VIOLATION,
            )  # fmt: skip
            net = fit.net
        assert fit is not None
        return fit if loss.smooth else fit._replace(net=fit_hinge(x, y, objective.c, fit.net))


def lower_bound(
    objective: Objective, q: np.ndarray, *, steps: int, tol: float, goal: float = np.inf
) -> LossBound:
    """Return the lower bound on `samples` times L* from a dual point on."""
    return bound_loss(
        objective.problem.x, objective.y, objective.loss, objective.c, q,
        steps=steps, tol=min(tol / 5, 1e-4), goal=goal,
    )  # fmt: skip


def loss_above(
    objective: Objective,
    hidden: ArrayLike,
    readout: ArrayLike,
    l2: float,
    factors: tuple[float, float] = (1.0, 1.0),
) -> tuple[float, np.ndarray]:
    """Return an upper bound on L(Theta), and the outputs, in float64.

    All losses have slope 1 in f at most, but for the squared one, |f - y|.
    """
    x, y = objective.problem.inputs, objective.y
    u, w, scale = np.asarray(hidden, float), np.asarray(readout, float), factors[0] * factors[1]
    outputs = scale * (np.maximum(x @ u.T, 0) @ w)
    # Twice the roundings of an output: room for those of this bound, and of the factors.
    room = gamma(2 * (x.shape[1] + len(w) + 8))
    sizes = np.linalg.norm(x, axis=1) * np.sum(np.abs(w) * np.linalg.norm(u, axis=1) * scale)
    errors = room * sizes
    slopes = np.ones(len(y)) if objective.loss.labels else np.abs(outputs - y) + errors
    data = np.sum(objective.loss.value(y, outputs)) + np.sum(slopes * errors)
    total = data / objective.samples + l2 * (np.sum(u**2) + np.sum(w**2))
    return above(float(total), 2 * (u.size + len(w) + len(x) + 8)), outputs
