r"""The `Bound` type, and what all generalisation bounds here share.

Every bound is one on the probability of error on fresh data of a classifier that makes no error on
its n training samples and has normalised margin gamma there. It holds with probability at least
1 - delta over the sample, at once for all classifiers and margins. All but the leave-one-out bound
have the form

    complexity / (gamma sqrt(n)) + eps,    eps = sqrt(log log2(. / gamma) / n) + sqrt(log(.) / n),

where the first root in eps pays for not fixing gamma in advance. A `Bound` says where its constants
come from, and never shows a value of 1 or more as if it were a probability.

There is no such function for paper A's lower bound: on the XOR distribution in d dimensions, with
n at most of the order of d^2 samples, every predictor in the span of the tangent kernel's
functions at the samples has an error bounded away from 0, while a weakly regularised net with four
units or more has one of the order of sqrt(d / n). Its constants are not known to us; the study
`gap` measures the two errors.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._support.display import html_repr, short
from kernelgap._support.registry import saveable
from kernelgap.typing import ArrayLike

Status = Literal["paper", "recalled", "derived"]


@saveable()
class Bound(NamedTuple):
    """A bound on the probability of error, or on a loss, and how far it can be trusted.

    Attributes:
        value: The bound; any shape. May be `ceiling` or more: see `vacuous`.
        status: `"paper"`: a formula of the paper, read there; `"recalled"`: one of a paper, not
            checked against its text; `"derived"`: worked out by this project from `source`.
        source: The formula and where it comes from.
        constant: False if the formula holds only up to a universal constant that is not known;
            then `value` is a rate, to be compared between settings, and bounds nothing.
        ceiling: The largest possible value of what is bounded: 1 for probabilities.
    """

    value: jax.Array
    status: Status
    source: str
    constant: bool = True
    ceiling: jax.Array | float = 1.0

    _repr_html_ = html_repr

    @property
    def vacuous(self) -> jax.Array:
        """True where the bound says nothing: from `ceiling` on, everywhere without its constant."""
        says = self.value < self.ceiling
        return ~says if self.constant else jnp.ones_like(says)

    def __repr__(self) -> str:
        return f"Bound({self._described()}; {self.status}: {self.source})"

    def _entries(self) -> dict[str, Any]:
        about = {"status": self.status, "source": self.source}
        return {"value": self.value, "says": self._described()} | about

    def _described(self) -> str:
        if not isinstance(self.value, jax.Array | np.ndarray) or not array_checks.is_concrete(
            self.value
        ):
            return short(self.value)
        values = np.asarray(self.value)
        if not self.constant:
            size = f"{values:.3g}" if values.ndim == 0 else f"of shape {values.shape}"
            return f"a rate {size}, up to an unknown constant"
        if values.ndim == 0:
            name = "error" if isinstance(self.ceiling, float | int) else "loss"
            says = f"{name} <= {values:.3g}"
            return says if values < self.ceiling else f"vacuous: {values:.3g} >= {self.ceiling:.3g}"
        useful = values[values < self.ceiling]
        least = f", the least {useful.min():.3g}" if useful.size else ""
        return f"{values.size - useful.size} of {values.size} vacuous{least}"


_POSITIVE: dict[str, Any] = {"minimum": 0, "exclusive": True}
_RANGES: dict[str, dict[str, Any]] = {
    "margin": {},
    "n": {"minimum": 1},
    "depth": {"minimum": 1},
    "radius": _POSITIVE,
    "delta": {"minimum": 0, "maximum": 1, "exclusive": True},
    "mean_square": _POSITIVE,
    "trace": _POSITIVE,
    "distance": {"minimum": 0},
    "curvature": {"minimum": 0},
    "loss_lipschitz": {"minimum": 0},
    "train_loss": {"minimum": 0, "maximum": 1},
    "norm_sum": _POSITIVE,
    "largest_target": _POSITIVE,
    "smallest_radius": _POSITIVE,
}


def arguments(
    ranges: Mapping[str, dict[str, Any]] | None = None, /, **values: Any
) -> list[jax.Array]:
    """Return the arguments as floating arrays of one dtype, each checked against its range."""
    allowed = _RANGES | dict(ranges or {})
    arrays = [checks.numbers(value, name, **allowed[name]) for name, value in values.items()]
    floating = [
        a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating) and not a.weak_type
    ]
    dtype = np.result_type(*floating) if floating else jnp.zeros(()).dtype
    return [a.astype(dtype) for a in arrays]


def mean_square_within(
    value: ArrayLike | None, radius: jax.Array, name: str, n: jax.Array | None = None
) -> jax.Array:
    """Return `value` (over n), which must be at most radius^2; radius^2 where it is None."""
    if value is None:
        return radius**2
    (total,) = arguments(**{name: value})
    total = total.astype(radius.dtype)
    if n is not None:
        total, n = jnp.broadcast_arrays(total, n)
        total = total / n
    total, radius = jnp.broadcast_arrays(total, radius)
    if array_checks.is_concrete(total, radius):
        excess = np.asarray(total / radius**2)
        if (excess > 1 + 1e-4).any():
            raise ValueError(f"`{name}` belongs to inputs of at most the norm `radius`; got a mean "
                             f"square of {excess.max():.3g} times radius^2")  # fmt: skip
    return total


def possible_margin(gamma: jax.Array, largest: jax.Array, name: str) -> tuple[jax.Array, jax.Array]:
    """Refuse margins that no classifier can have; return (gamma made safe, gamma > 0)."""
    if array_checks.is_concrete(gamma, largest):
        ratio = np.asarray(gamma / largest)
        if (ratio > 1 + 1e-4).any():
            raise ValueError(f"`margin` cannot be above {name}; got {ratio.max():.3g} times that. "
                             "Is it normalised, and `radius` the largest norm?")  # fmt: skip
    positive = gamma > 0
    return jnp.where(positive, gamma, largest), positive


def deviation(gamma: jax.Array, n: jax.Array, largest: jax.Array, delta: jax.Array) -> jax.Array:
    """Return sqrt(log log2(2 largest / gamma) / n) + sqrt(log(2 / delta) / (2 n))."""
    # Rounding may put gamma above the largest margin: log2 then falls below 1.
    scales = jnp.log(jnp.maximum(jnp.log2(2 * largest / gamma), 1))
    return jnp.sqrt(scales / n) + jnp.sqrt(jnp.log(2 / delta) / (2 * n))
