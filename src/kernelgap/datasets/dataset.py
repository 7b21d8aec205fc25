"""What every data set is: inputs and labels."""

from typing import NamedTuple

from jaxtyping import Array, Float, Int

from kernelgap._display import shown


@shown
class Dataset(NamedTuple):
    """Inputs and labels.

    Attributes:
        x: inputs of shape (n, d).
        y: labels of shape (n,), each -1. or +1., or class indices where that is said.
    """

    x: Float[Array, "n d"]
    y: Float[Array, " n"] | Int[Array, " n"]
