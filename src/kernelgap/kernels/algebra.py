"""Sums, products and multiples of kernels, which are kernels again (Schur's product theorem).

This is what `k1 + k2`, `k1 * k2` and `2.0 * k` evaluate; the operators are those of `Kernel`. The
parts are the parameters of the combination, as pytrees: arrays that they depend on can be traced,
and combinations of equal parts are equal.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from kernelgap._numerics import checks
from kernelgap.typing import PyTree

MIXED = "mixed"
"""The name of a combination of kernels of several kinds, each evaluated as its own kind."""


class Combined(NamedTuple):
    """Static description of a combination.

    Attributes:
        operation: `"sum"` or `"product"` of two parts, or `"multiple"` of one.
        factor: Factor of a multiple if it is a number; an array is the last of the parameters.
    """

    operation: str
    factor: float | None = None

    def formula(self, parts: PyTree) -> str:
        """Return the combination as text."""
        if self.operation == "multiple":
            factor = "array" if self.factor is None else f"{self.factor!r}"
            return f"{factor} * {parts[0]!r}"
        sign = "+" if self.operation == "sum" else "*"
        return f"({parts[0]!r} {sign} {parts[1]!r})"


def gram(
    spec: Combined, params: PyTree, x1: jax.Array, x2: jax.Array | None, get: str
) -> jax.Array:
    """Return the kernel between all rows of x1 and x2, or among x1 when x2 is None."""
    return _combined(spec, params, lambda k: k.evaluate(k.spec, k.params, x1, x2, _kind(k, get)))


def diagonal(spec: Combined, params: PyTree, x: jax.Array, get: str) -> jax.Array:
    """Return k(x_i, x_i) for each row."""
    return _combined(spec, params, lambda k: k.evaluate_diag(k.spec, k.params, x, _kind(k, get)))


def _kind(kernel: Any, get: str) -> str:
    return get if get in kernel.kinds else kernel.default


def _combined(spec: Combined, params: PyTree, evaluate: Callable[[Any], jax.Array]) -> jax.Array:
    first = evaluate(params[0])
    if spec.operation == "multiple":
        return first * (params[1].astype(first.dtype) if spec.factor is None else spec.factor)
    second = evaluate(params[1])
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        raise ValueError(f"`kernel` combines two kernels, whose values must have one shape and "
                         f"dtype; got {first.dtype} of shape {first.shape} and {second.dtype} of "
                         f"shape {second.shape}")  # fmt: skip
    return first + second if spec.operation == "sum" else first * second


def checked_factor(factor: Any) -> tuple[float | None, tuple[jax.Array, ...]]:
    """Return a positive factor as a number, or as an array if it is one."""
    factor = checks.number(factor, "factor", minimum=0, exclusive=True)
    return (None, (factor,)) if isinstance(factor, jax.Array) else (float(factor), ())


def common_kinds(first: Any, second: Any) -> tuple[str, tuple[str, ...]]:
    """Return the default of a combination, and the names that `get` may ask for."""
    if first.default != second.default:
        return MIXED, (MIXED,)
    return first.default, tuple(kind for kind in first.kinds if kind in second.kinds)
