"""Upper bounds on violations and margins, as they are returned."""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.margins.certify.multipliers import SideMultipliers

Status = Literal["converged", "max_iterations", "solver_failed"]


@saveable()
class ViolationBound(NamedTuple):
    """An upper bound on h(q), and a unit that shows how far below it h(q) can be.

    Attributes:
        value: h(q) <= value, rounding errors included.
        attained: ``|sum_i q_i relu(u.x_i)|`` at `direction`, a lower bound on h(q) up to rounding.
        direction: (d,) a unit vector, the maximiser where `exact`.
        exact: True if `value` is h(q) itself, but for a relative 1e-8; for d = 4 and 5 but for
            `tol`, and 1e-3 in an `UpperBound`.
        status: How the minimisation of the bound ended; `value` is a bound in any case.
            `"converged"`: to `tol`, or it is exact. `"max_iterations"`: after `max_iterations`.
            `"solver_failed"`: the last line search broke down, so that the bound may be loose.
        multipliers: `SideMultipliers` of both signs that prove `value`, for the inputs over the
            power of two that brings their largest entry into [1/2, 1); () where `exact`.
    """

    value: float
    attained: float
    direction: Float[np.ndarray, " d"]
    exact: bool
    status: Status
    multipliers: tuple[SideMultipliers, ...] = ()

    __repr__ = compact_repr
    _repr_html_ = html_repr

    def _entries(self) -> dict[str, Any]:
        return {name: value for name, value in self._asdict().items() if name != "multipliers"}


@saveable(value="", weights="n")
class UpperBound(NamedTuple):
    """A margin that no two-layer ReLU network of any width exceeds, and its proof.

    Attributes:
        value: min_i y_i f(x_i) / ||Theta||^2 <= value for every net; rounding errors included.
        weights: (n,) the weights p >= 0, sum 1, whose violation proves it.
        violation: The bound on h(p o y), which is twice `value`; its `direction` is a unit that a
            better network may need.
        status: How the search for weights and multipliers ended, as in `ViolationBound`; for
            d <= 3 `"solver_failed"` says that a linear programme did.
    """

    value: float
    weights: Float[np.ndarray, " n"]
    violation: ViolationBound
    status: Status

    __repr__ = compact_repr
    _repr_html_ = html_repr
