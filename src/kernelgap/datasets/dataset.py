"""The `Dataset` type."""

from typing import NamedTuple

from jaxtyping import Array, Float, Int

from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable


@saveable(x="nd", y="n")
class Dataset(NamedTuple):
    """Inputs and labels.

    Attributes:
        x: Inputs of shape (n, d).
        y: Labels of shape (n,): -1.0 and +1.0, integer classes, or real targets.
    """

    x: Float[Array, "n d"]
    y: Float[Array, " n"] | Int[Array, " n"]

    __repr__ = compact_repr
    _repr_html_ = html_repr
