r"""Generalisation bounds from margins, for homogeneous nets."""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from kernelgap._numerics import checks
from kernelgap.bounds.bound import (
    Bound,
    arguments,
    deviation,
    mean_square_within,
    possible_margin,
)
from kernelgap.typing import ArrayLike


def two_layer_margin_bound(
    margin: ArrayLike,
    *,
    n: ArrayLike,
    radius: ArrayLike,
    mean_square: ArrayLike | None = None,
    delta: ArrayLike = 0.05,
) -> Bound:
    r"""Return the bound for two-layer ReLU nets of any width of paper A's first version.

    (6 / gamma) sqrt(D / n) + sqrt(log log2(4 C / gamma) / n) + sqrt(log(1 / delta) / (2 n))

    Args:
        margin: gamma = min_i y_i f(x_i) / ||Theta||^2 in the standard parameterization, as
            `metrics.normalized_margin` returns it. Not above C / 2, which no net exceeds.
        n: Number of samples, at least 1.
        radius: C, the largest norm of an input under the distribution, positive; not estimated
            from the sample.
        mean_square: D = sum_i ||x_i||^2 / n, at most C^2; C^2 if None.
        delta: Probability with which the bound may fail, in (0, 1).

    All arguments may be arrays that broadcast.

    Returns:
        A `Bound` with status `"paper"`; infinite where the margin is not positive.

    Example:
        >>> import kernelgap as kg
        >>> kg.bounds.two_layer_margin_bound(0.125, n=1000, radius=4.4)  # XOR, d = 20
        Bound(vacuous: 6.76 >= 1; paper: (6/gamma) sqrt(D/n) + eps, ... arXiv:1810.05369v1)

    References:
        Paper A, first version; eps as in S. Kakade, K. Sridharan, A. Tewari, NeurIPS 2008.
    """
    gamma, n, radius, delta = arguments(margin=margin, n=n, radius=radius, delta=delta)
    square = mean_square_within(mean_square, radius, "mean_square")
    gamma, n, radius, delta, square = jnp.broadcast_arrays(gamma, n, radius, delta, square)
    gamma, positive = possible_margin(gamma, radius / 2, "radius / 2")
    value = 6 / gamma * jnp.sqrt(square / n) + _paper_deviation(gamma, n, radius, delta)
    return Bound(
        jnp.where(positive, value, jnp.inf),
        "paper",
        "(6/gamma) sqrt(D/n) + eps, Wei, Lee, Liu, Ma, arXiv:1810.05369v1",
    )


def deep_margin_bound(
    margin: ArrayLike,
    *,
    depth: ArrayLike,
    n: ArrayLike,
    radius: ArrayLike,
    delta: ArrayLike = 0.05,
    form: Literal["explicit", "paper"] = "explicit",
) -> Bound:
    r"""Return a bound for homogeneous nets of any depth and width, with 1-Lipschitz activations.

    With K = `depth`, C = `radius` and R = C K^(-K/2), the largest output of a net with
    ||Theta|| <= 1 on inputs with ||x|| <= C:

    - `"explicit"`: (4 R / gamma) (1 + sqrt(2 K log 2)) / sqrt(n) + sqrt(log log2(2 R / gamma) / n)
      + sqrt(log(2 / delta) / (2 n));
    - `"paper"`: C / (gamma K^((K-1)/2) sqrt(n)) + sqrt(log log2(4 C / gamma) / n)
      + sqrt(log(1 / delta) / (2 n)), which holds up to an unknown constant.

    The two main terms agree but for the constant 4 (sqrt(2 log 2) + 1 / sqrt(K)).

    Args:
        margin: gamma = min_i y_i f(x_i) / ||Theta||^K in the standard parameterization. Not above
            R, which no net exceeds.
        depth: Number of weight matrices, K >= 1.
        n: Number of samples, at least 1.
        radius: C, the largest norm of an input under the distribution, positive; not estimated
            from the sample.
        delta: Probability with which the bound may fail, in (0, 1).
        form: As listed.

    All arguments but `form` may be arrays that broadcast.

    Returns:
        A `Bound`: `"derived"`, or `"recalled"` without its constant; infinite where the margin is
        not positive.

    Example:
        >>> import kernelgap as kg
        >>> kg.bounds.deep_margin_bound(0.125, depth=2, n=10**6, radius=4.4)
        Bound(error <= 0.19; derived: 4 R (1 + sqrt(2 K log 2)) / (gamma sqrt(n)) + eps, ...)

    References:
        The explicit form: Rademacher complexity of N. Golowich, A. Rakhlin, O. Shamir, COLT 2018,
        theorem 1 (recalled), with the product of the layers' norms at most K^(-K/2) by the
        inequality of the means; then the margin bound of V. Koltchinskii, D. Panchenko, Annals of
        Statistics 2002, its constants derived as for `kernel_margin_bound`. The other: paper A.
    """
    checks.choice(form, "form", ("explicit", "paper"))
    gamma, depth, n, radius, delta = arguments(
        margin=margin, depth=depth, n=n, radius=radius, delta=delta
    )
    gamma, depth, n, radius, delta = jnp.broadcast_arrays(gamma, depth, n, radius, delta)
    largest = radius * depth ** (-depth / 2)
    gamma, positive = possible_margin(gamma, largest, "radius * depth^(-depth / 2)")
    if form == "paper":
        value = radius / gamma * depth ** ((1 - depth) / 2) / jnp.sqrt(n)
        value += _paper_deviation(gamma, n, radius, delta)
        source = "C / (gamma K^((K-1)/2) sqrt(n)) + eps, Wei, Lee, Liu, Ma, arXiv:1810.05369"
        return Bound(jnp.where(positive, value, jnp.inf), "recalled", source, constant=False)
    complexity = largest * (1 + jnp.sqrt(2 * math.log(2) * depth)) / jnp.sqrt(n)
    value = 4 / gamma * complexity + deviation(gamma, n, largest, delta)
    source = "4 R (1 + sqrt(2 K log 2)) / (gamma sqrt(n)) + eps, from Golowich et al. 2018"
    return Bound(jnp.where(positive, value, jnp.inf), "derived", source)


def _paper_deviation(
    gamma: jax.Array, n: jax.Array, radius: jax.Array, delta: jax.Array
) -> jax.Array:
    scales = jnp.sqrt(jnp.log(jnp.log2(4 * radius / gamma)) / n)
    return scales + jnp.sqrt(-jnp.log(delta) / (2 * n))
