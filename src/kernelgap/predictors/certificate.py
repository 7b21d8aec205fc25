"""What a dual point of the hard-margin SVM proves about the best margin."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Certificate(NamedTuple):
    """What alpha proves: margin <= best margin <= upper.

    Attributes:
        margin: min_i y_i f(x_i) / ||f|| of f = sum_i alpha_i y_i K(x_i, .).
        upper: ||sum_i p_i y_i K(x_i, .)|| for p = alpha / sum(alpha).
        gap: 1 - (margin / upper)^2, the relative duality gap; 1 if the margin is not positive.
        residual: the largest violation of the optimality conditions.
    """

    margin: Float[Array, ""]
    upper: Float[Array, ""]
    gap: Float[Array, ""]
    residual: Float[Array, ""]


def certify(alpha: jax.Array, outputs: jax.Array) -> Certificate:
    """The certificate of alpha >= 0, given outputs = Q alpha = y f."""
    norm = jnp.sqrt(jnp.maximum(alpha @ outputs, 0))
    total = jnp.sum(alpha)
    positive = (norm > 0) & (total > 0)
    margin = jnp.where(positive, jnp.min(outputs) / jnp.where(positive, norm, 1), 0)
    upper = jnp.where(total > 0, norm / jnp.where(total > 0, total, 1), jnp.inf)
    violation = jnp.where(alpha > 0, jnp.abs(outputs - 1), jnp.maximum(1 - outputs, 0))
    ratio = jnp.maximum(margin, 0) / jnp.where(positive, upper, 1)
    gap = jnp.maximum(1 - jnp.square(ratio), 0)
    return Certificate(margin, upper, gap, jnp.max(violation))
