r"""The diversity penalty: units of a layer that point to different sides of the inputs.

P(W) = (1/m^2) sum_ij k(w_i, w_j)^2, k = 1/2 - theta / (2 pi), is up to a constant the squared
discrepancy of the units over random slices of the sphere (`diversity.slice_discrepancy`). Paper B
penalises its mean over distinct pairs, R(W) = (m P - 1/4) / (m - 1).
"""

from collections.abc import Callable
from typing import Literal

import jax

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.closure import Closure
from kernelgap.diversity.wedges import mean_wedge
from kernelgap.objectives.form import penalized
from kernelgap.typing import ArrayLike, Loss, PyTree, Scalar

Pairs = Literal["all", "distinct"]


def diversity_penalty(w: ArrayLike, *, pairs: Pairs = "all") -> Scalar:
    r"""Return the unevenness of units on the sphere, the mean of k(w_i, w_j)^2 over pairs.

    With k = 1/2 - theta_ij / (2 pi), theta_ij the angle of two units. Only the directions of the
    units count. The mean over all m^2 pairs is P; that over the m (m - 1) pairs of distinct units
    is the R of paper B, R = (m P - 1/4) / (m - 1). They have the same minimisers, and a strength
    lambda of R is a strength lambda m / (m - 1) of P.

    The least possible value over infinitely many units is 1/16 + psi_1(d/2) / (8 pi^2), psi_1 the
    trigamma function, reached by uniform ones. This is the mean of R over m random units; P exceeds
    it by (3/16 - psi_1(d/2) / (8 pi^2)) / m in the mean.

    It takes O(m^2 d) time, O(m d) memory and a few tiles; one pass gives value and gradient.

    Args:
        w: Units of shape (m, d), one per row, of any non-negative norm.
        pairs: `"all"` for P, `"distinct"` for R, which needs at least 2 units.

    Returns:
        A scalar in [1/(4m), 1/4], or [0, 1/4] for R up to rounding. Value and gradient are finite
        everywhere. The gradient of a pair of P is at most 1 / (pi m^2 ||w_i||) and is taken for 0
        where two units coincide in direction; there k is exactly 1/2. A zero unit is taken at right
        angles to all others and has no gradient. Works under `jit`, `vmap`, `grad` and `jvp`;
        NaN units give NaN under them.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.diversity.diversity_penalty(jnp.eye(2)))  # (1/4 + 1/16) / 2
        0.15625
        >>> print(kg.diversity.diversity_penalty(jnp.eye(2), pairs="distinct"))
        0.0625

    References:
        Paper B, eq. 28 (R); the expectations are derived.
    """
    checks.choice(pairs, "pairs", ("all", "distinct"))
    return _penalty(array_checks.inputs(w, "w"), pairs, "w")


def _penalty(w: jax.Array, pairs: Pairs, name: str) -> Scalar:
    mean, m = mean_wedge(w, 2, 0.0), w.shape[0]
    if pairs == "all":
        return mean
    if m < 2:
        raise ValueError(f'`{name}` must have at least 2 units for `pairs="distinct"`; got {m}')
    return (m * mean - 0.25) / (m - 1)


def add_diversity_penalty(
    loss: Loss,
    *,
    strength: float | jax.Array,
    first_layer: Callable[[PyTree], jax.Array] | None = None,
    pairs: Pairs = "all",
) -> Loss:
    """Return a loss plus strength * diversity_penalty(units), for any model with a first layer.

    Args:
        loss: `loss(params, x, y) -> scalar`, such as `regularized_logistic(model.apply, l2=1e-4)`.
        strength: lambda >= 0; may be traced, so that one compiled function serves many strengths.
            At 0 the penalty is not evaluated.
        first_layer: `first_layer(params) -> (m, d)`, the units in rows. By default the first leaf
            of the parameters, which is W_1 of a `homogeneous_mlp` and the array itself where the
            parameters are one. A flax layer would be `lambda p: p["Dense_0"]["kernel"].T`.
        pairs: `"all"`, or `"distinct"` for paper B's R; see `diversity_penalty`.

    Returns:
        `loss(params, x, y) -> scalar`. Losses of equal arguments are equal.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 32, 10)
        >>> model = kg.models.homogeneous_mlp((64,))
        >>> data_term = kg.objectives.regularized_logistic(model.apply, l2=1e-3)
        >>> loss = kg.diversity.add_diversity_penalty(data_term, strength=0.1)
        >>> params = model.init(jax.random.key(1), 10)
        >>> difference = loss(params, x, y) - data_term(params, x, y)
        >>> bool(abs(difference - 0.1 * kg.diversity.diversity_penalty(params[0])) < 1e-6)
        True

    References:
        Paper B (the regularised objective, with `pairs="distinct"`).
    """
    checks.function(loss, "loss", "loss(params, x, y), such as regularized_logistic(...)")
    strength = checks.number(strength, "strength", minimum=0)
    if first_layer is not None:
        checks.function(first_layer, "first_layer", "first_layer(params) -> (m, d)")
    checks.choice(pairs, "pairs", ("all", "distinct"))
    return Closure(_penalized, loss, first_layer or _first_leaf, pairs, strength=strength)


def _penalized(
    loss: Loss,
    first_layer: Callable[[PyTree], jax.Array],
    pairs: Pairs,
    params: PyTree,
    x: jax.Array,
    y: jax.Array,
    *,
    strength: float | jax.Array,
) -> Scalar:
    value = loss(params, x, y)
    if array_checks.is_concrete(strength) and float(strength) == 0:
        return value
    units = array_checks.inputs(first_layer(params), "first_layer")
    return penalized(value, strength, _penalty(units, pairs, "first_layer"))


def _first_leaf(params: PyTree) -> jax.Array:
    leaves = jax.tree.leaves(params)
    if not leaves or jax.numpy.ndim(leaves[0]) != 2:
        shape = jax.numpy.shape(leaves[0]) if leaves else "no array"
        raise ValueError(f"the first leaf of `params` must be the first layer, of shape (m, d); "
                         f"got {shape}. Pass `first_layer`, which picks it")  # fmt: skip
    return leaves[0]
