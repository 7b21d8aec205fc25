r"""The best two-layer ReLU network found, with a proof of how far it is from the best of any width.

gamma* = max over networks of any width of min_i y_i f(Theta; x_i) / ||Theta||^2. A network gives a
lower bound; weights p of the simplex on the samples give an upper bound (`upper_bound`). Both are
evaluated in float64 with room for rounding, so that lower <= gamma* <= upper.
"""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.arrays import cast
from kernelgap._numerics.verified import gamma
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.extras import progress_bar
from kernelgap._support.registry import saveable
from kernelgap.margins.certify.multipliers import SideMultipliers
from kernelgap.margins.certify.results import UpperBound
from kernelgap.margins.certify.weak_duality import bound_margin, bound_with_units
from kernelgap.margins.problem import Problem, prepare_problem
from kernelgap.margins.search.columns import DualPoint, UnitNetwork, best_over
from kernelgap.margins.search.networks import search_networks
from kernelgap.models import Params
from kernelgap.typing import ArrayLike, DTypeLike, Key

_CLOSE = 5e-4  # ratio - 1 that is not improved any further
_PROVED = 1e-3  # nor, where cutting planes found both ends, this


@saveable(lower="", upper="", ratio="", params=("md", "m"), weights="n")
class MarginCertificate(NamedTuple):
    """lower <= gamma* <= upper for the best normalised margin gamma* of any width.

    Attributes:
        lower: Normalised margin of `params`, a lower bound in spite of rounding; 0 where no
            network with a positive margin was found.
        upper: An upper bound in spite of rounding; inf where none was asked for.
        ratio: `upper / lower`: 1 if equal, inf if only lower is 0.
        params: Parameters of `models.homogeneous_mlp((units,))`, ||Theta|| = 1, with balanced
            units; zero where `lower` is 0, the best network of the unit ball if nothing separates
            the data.
        weights: (n,) the weights p of the simplex that prove `upper`; where none was asked for,
            the dual weights of the linear programme over the network's units.
        status: How both halves ended. `"converged"`: a network, and an upper bound to its
            tolerance. `"inseparable"`: a zero row or one point with both labels proves that no
            network has a positive margin. `"no_network"`: the search met none with a positive
            margin. `"lower_only"`: no upper bound was asked for, or it was interrupted.
            `"max_iterations"` or `"solver_failed"`: the minimisation of the upper bound ended so;
            both bounds hold, and `upper` may be loose.
        multipliers: The `SideMultipliers` that prove `upper`, as in `ViolationBound`; () where it
            was enumerated, and where none was asked for. A proof file needs them.
    """

    lower: float
    upper: float
    ratio: float
    params: Params
    weights: Float[np.ndarray, " n"]
    status: Literal[
        "converged", "inseparable", "no_network", "lower_only", "max_iterations", "solver_failed"
    ]
    multipliers: tuple[SideMultipliers, ...] = ()

    __repr__ = compact_repr
    _repr_html_ = html_repr

    def _entries(self) -> dict[str, Any]:
        numbers = {"lower": self.lower, "upper": self.upper, "ratio": self.ratio}
        return numbers | {"units": self.params[1].shape[0], "status": self.status}


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in `max_margin`, `global_net` or `global_path`; carries the best network until then.

    It is a KeyboardInterrupt and ends the program unless it is caught, as Ctrl-C should. In a
    notebook, where the interrupt ends the cell, `sys.last_value.best` still has the network.

    Attributes:
        best: The `MarginCertificate` of the best network until then, whose `upper` is inf unless
            the upper bound was finished; or the `GlobalNet`, with the bound of its own dual point.
    """

    def __init__(self, best: Any) -> None:
        super().__init__(best)
        self.best = best

    def __str__(self) -> str:
        return f"the best network until then is `best` of this exception: {self.best!r}"


def max_margin(
    x: ArrayLike,
    y: ArrayLike,
    *,
    key: Key,
    width: int = 64,
    restarts: int = 4,
    steps: int | None = None,
    rounds: int = 3,
    upper: bool = True,
    progress: bool = False,
) -> MarginCertificate:
    r"""Search the two-layer ReLU network of largest normalised margin, and certify it.

    gamma* = max_Theta min_i y_i f(Theta; x_i) / ||Theta||^2 with f = sum_j w_j relu(u_j . x), over
    all widths. The search:

    1. Networks of random weights climb the smoothed margin (several temperatures and step sizes).
    2. Over the directions of their units, the l1-SVM is solved as a linear programme; units that
       violate its dual solution are added.
    3. At most `rounds` times: the best few networks climb again from where they are, and step 2
       follows. The margin never falls.

    The upper bound comes after step 2. Both it and step 3 end as soon as upper / lower <= 1.0005.
    Where `upper_bound` is exact for d = 4 and 5, its cutting planes find a network too, and
    upper / lower <= 1.001.

    It runs on the host, in NumPy and SciPy, and cannot be traced; nothing is compiled. The
    upper bound is for two layers and one output; for deeper and multi-class networks only
    `metrics.normalized_margin` is known.

    Args:
        x: Inputs of shape (n, d).
        y: (n,) labels, -1 or +1; one class is fine.
        key: JAX random key.
        width: Hidden units of the networks of step 1; the result has as many as it needs.
        restarts: Number of networks of step 1.
        steps: Number of steps of a climb in step 1, twice those in step 3; None takes 3n, but at
            least 1000 and at most 2000.
        rounds: Number of rounds of step 3, at least 0.
        upper: False skips the upper bound, which takes half of the time or more.
        progress: Show a bar over the stages on stderr (extra `studies`).

    Returns:
        A `MarginCertificate`. Data that no network separates (a zero row, equal rows with different
        labels) have gamma* = 0: `lower` is 0, `params` are zero, and `upper` is 0, or nearly 0
        where rows are equal up to scaling or rounding only.

    Raises:
        TypeError: If an argument is traced.
        RuntimeError: If all solvers of a linear programme of the search fail.
        Interrupted: On Ctrl-C, once a network has been found; it carries that network.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> x, y = jnp.array([[3.0, 4.0]]), jnp.array([1.0])  # one sample: gamma* = ||x|| / 2
        >>> kg.margins.max_margin(x, y, key=jax.random.key(0), width=8, steps=10)
        MarginCertificate(lower=2.5, upper=2.5, ratio=1, units=1, status='converged')

    References:
        Paper A: the margin, and its l1-SVM form (T4). The search and both certificates are ours.
    """
    problem = prepare_problem(x, y)
    n, d = problem.x.shape
    checks.random_key(key)
    if not array_checks.is_concrete(key):
        raise TypeError("`key` is traced: max_margin solves linear programmes on the host. Call it "
                        "outside of jit, vmap and grad")  # fmt: skip
    width = checks.integer(width, "width", minimum=1)
    restarts = checks.integer(restarts, "restarts", minimum=1)
    if steps is not None:
        steps = checks.integer(steps, "steps", minimum=1)
    rounds = checks.integer(rounds, "rounds", minimum=0)
    if problem.conflict is not None:  # there is nothing to search for
        high = bound_margin(problem).value if upper else float(np.inf)
        params = _zero_network(d, problem.dtype)
        weights = problem.conflict.weights
        return MarginCertificate(0.0, high, _ratio(0.0, high), params, weights, "inseparable")
    networks = search_networks(
        problem, key, width=width, restarts=restarts, rounds=rounds,
        steps=steps or int(np.clip(3 * n, 1000, 2000)),
    )  # fmt: skip
    with progress_bar(
        1 + rounds + bool(upper), "max_margin", unit="stage", enabled=progress
    ) as stages:
        network, dual = next(networks)
        best, bound = _certificate(network, dual, problem, None), None
        stages.update()
        try:
            units = network.units[:0]
            if upper:  # a start from dual weights was slower, not tighter
                goal = (1 + _CLOSE) * best.lower
                bound, units = bound_with_units(problem, network.units, goal=goal)
                best = _with_bound(best, bound)
                if len(units) and best.ratio > 1 + _CLOSE:  # the cutting planes' own network
                    other = _certificate(
                        best_over(problem.x, problem.y, units), dual, problem, bound
                    )
                    best = max(best, other, key=lambda certificate: certificate.lower)
                stages.update()
            left, close = rounds, 1 + (_PROVED if len(units) else _CLOSE)
            while left and best.ratio > close and (better := next(networks, None)):
                better = _certificate(*better, problem, bound)
                best = max(best, better, key=lambda certificate: certificate.lower)
                stages.update()
                left -= 1
            stages.update(left)  # rounds that were not needed
        except KeyboardInterrupt as stop:
            raise Interrupted(best) from stop
    return best


def _certificate(
    network: UnitNetwork, dual: DualPoint, problem: Problem, bound: UpperBound | None
) -> MarginCertificate:
    """The certificate of a network for the scaled inputs, with an upper bound if there is one."""
    params, lower = _balanced(network, problem)
    high = float(np.inf)
    ratio, status = _ratio(lower, high), "lower_only" if lower > 0 else "no_network"
    best = MarginCertificate(lower * problem.scale, high, ratio, params, dual.weights, status)
    return best if bound is None else _with_bound(best, bound)


def _with_bound(best: MarginCertificate, bound: UpperBound) -> MarginCertificate:
    return best._replace(
        upper=bound.value,
        ratio=_ratio(best.lower, bound.value),
        weights=bound.weights,
        status=bound.status if best.lower > 0 else "no_network",
        multipliers=bound.violation.multipliers,
    )


def _balanced(network: UnitNetwork, problem: Problem) -> tuple[Params, float]:
    """Balanced parameters of norm 1 in the problem's dtype, and a lower bound of their margin."""
    size = np.sqrt(np.abs(network.coef) / max(2 * np.sum(np.abs(network.coef)), 1e-300))
    hidden = cast(size[:, None] * network.units, problem.dtype)
    readout = cast(np.sign(network.coef) * size, problem.dtype)
    lower = margin_below(hidden, readout, problem.x, problem.y) if len(size) else 0.0
    if not lower > 0:
        return _zero_network(problem.x.shape[1], problem.dtype), 0.0
    return (hidden, readout), lower


def _zero_network(d: int, dtype: DTypeLike) -> Params:
    return jnp.zeros((1, d), dtype), jnp.zeros(1, dtype)


def margin_below(hidden: ArrayLike, readout: ArrayLike, x: np.ndarray, y: np.ndarray) -> float:
    """Return min_i y_i f(x_i) / ||Theta||^2 in float64, below the exact value despite rounding.

    An output is a sum of products of sums, d + m + 2 roundings in all: it is off by at most gamma
    times the sum of the absolute values, which ||x|| sum_j |w_j| ||u_j|| bounds. Twice as many, and
    some more, leave room for the rounding of these bounds themselves.
    """
    u, w = np.asarray(hidden, float), np.asarray(readout, float)
    outputs = np.maximum(x @ u.T, 0) @ w
    room = gamma(2 * (x.shape[1] + len(w) + 8))
    error = room * np.linalg.norm(x, axis=1) * np.sum(np.abs(w) * np.linalg.norm(u, axis=1))
    worst = np.min(y * outputs - error)
    squares = np.sum(u * u) + np.sum(w * w)
    return float(worst / squares * (1 - np.sign(worst) * gamma(2 * (u.size + len(w) + 8))))


def _ratio(lower: float, upper: float) -> float:
    if lower > 0:
        return upper / lower
    return 1.0 if upper <= 0 else float(np.inf)
