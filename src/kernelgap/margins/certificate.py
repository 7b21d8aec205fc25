r"""Certificates of the largest margin: a network, and a bound that no width exceeds."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from kernelgap._numerics.arrays import cast
from kernelgap._numerics.verified import gamma
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.margins.certify.multipliers import SideMultipliers
from kernelgap.margins.certify.results import UpperBound
from kernelgap.margins.problem import Problem
from kernelgap.margins.search.columns import DualPoint, UnitNetwork
from kernelgap.models import Params
from kernelgap.typing import ArrayLike, DTypeLike


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


def inseparable(problem: Problem, high: float) -> MarginCertificate:
    """Return the certificate of data that no network separates."""
    assert problem.conflict is not None
    params, weights = _zero_network(problem.x.shape[1], problem.dtype), problem.conflict.weights
    return MarginCertificate(0.0, high, _ratio(0.0, high), params, weights, "inseparable")


def certify_network(
    network: UnitNetwork, dual: DualPoint, problem: Problem, bound: UpperBound | None
) -> MarginCertificate:
    """The certificate of a network for the scaled inputs, with an upper bound if there is one."""
    params, lower = _balanced(network, problem)
    high = float(np.inf)
    ratio, status = _ratio(lower, high), "lower_only" if lower > 0 else "no_network"
    best = MarginCertificate(lower * problem.scale, high, ratio, params, dual.weights, status)
    return best if bound is None else with_bound(best, bound)


def with_bound(best: MarginCertificate, bound: UpperBound) -> MarginCertificate:
    """Return a certificate with an upper bound."""
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
