"""What every data set is: inputs and labels."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
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


def floating_dtype(dtype: DTypeLike | None) -> np.dtype:
    """The dtype as JAX will make it, JAX's default for None; refused unless floating."""
    chosen = jnp.dtype(jax.dtypes.canonicalize_dtype(float if dtype is None else dtype))
    if not jnp.issubdtype(chosen, jnp.floating):
        raise TypeError(f"`dtype` must be a floating dtype; got {chosen}")
    return chosen
