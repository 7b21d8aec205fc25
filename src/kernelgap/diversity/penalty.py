r"""The diversity penalty: units of a layer that point to different sides of the inputs.

R(W) = (1/m^2) sum_ij k(w_i, w_j)^2, k = 1/2 - theta / (2 pi), is up to a constant the squared
discrepancy of the units over random slices of the sphere (`diversity.slice_discrepancy`).
"""

from collections.abc import Callable

import jax

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.closure import Closure
from kernelgap.diversity.wedges import mean_wedge
from kernelgap.objectives.form import penalized
from kernelgap.typing import ArrayLike, Loss, PyTree, Scalar


def diversity_penalty(w: ArrayLike) -> Scalar:
    r"""Return the unevenness of units on the sphere, R(W) = (1/m^2) sum_ij k(w_i, w_j)^2.

    With k = 1/2 - theta_ij / (2 pi), theta_ij the angle of two units. Only the directions of the
    units count. Its least possible value over infinitely many units is 1/16 + psi_1(d/2) /
    (8 pi^2), psi_1 the trigamma function, reached by uniform ones; m random units exceed it by
    (3/16 - psi_1(d/2) / (8 pi^2)) / m in the mean.

    It takes O(m^2 d) time, O(m d) memory and a few tiles; one pass gives value and gradient.

    Args:
        w: Units of shape (m, d), one per row, of any non-negative norm.

    Returns:
        A scalar in [1/(4m), 1/4]. Value and gradient are finite everywhere. The gradient of a pair
        is at most 1 / (pi m^2 ||w_i||) and is taken for 0 where two units coincide in direction;
        there k is exactly 1/2. A zero unit is taken at right angles to all others and has no
        gradient. Works under `jit`, `vmap`, `grad` and `jvp`; NaN units give NaN under them.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.diversity.diversity_penalty(jnp.eye(2)))  # (1/4 + 1/16) / 2
        0.15625

    References:
        Paper B (a penalty on the discrepancy of the units; form derived, that it is the paper's
        exact regulariser is recalled). The value of a pair at an angle of pi, 0, is derived.
    """
    return mean_wedge(array_checks.inputs(w, "w"), 2, 0.0)


def add_diversity_penalty(
    loss: Loss,
    *,
    strength: float | jax.Array,
    first_layer: Callable[[PyTree], jax.Array] | None = None,
) -> Loss:
    """Return a loss plus strength * diversity_penalty(units), for any model with a first layer.

    Args:
        loss: `loss(params, x, y) -> scalar`, such as `regularized_logistic(model.apply, l2=1e-4)`.
        strength: lambda >= 0; may be traced, so that one compiled function serves many strengths.
            At 0 the penalty is not evaluated.
        first_layer: `first_layer(params) -> (m, d)`, the units in rows. By default the first leaf
            of the parameters, which is W_1 of a `homogeneous_mlp` and the array itself where the
            parameters are one. A flax layer would be `lambda p: p["Dense_0"]["kernel"].T`.

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
        Paper B (the regularised objective).
    """
    checks.function(loss, "loss", "loss(params, x, y), such as regularized_logistic(...)")
    strength = checks.number(strength, "strength", minimum=0)
    if first_layer is not None:
        checks.function(first_layer, "first_layer", "first_layer(params) -> (m, d)")
    return Closure(_penalized, loss, first_layer or _first_leaf, strength=strength)


def _penalized(
    loss: Loss,
    first_layer: Callable[[PyTree], jax.Array],
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
    return penalized(value, strength, mean_wedge(units, 2, 0.0))


def _first_leaf(params: PyTree) -> jax.Array:
    leaves = jax.tree.leaves(params)
    if not leaves or jax.numpy.ndim(leaves[0]) != 2:
        shape = jax.numpy.shape(leaves[0]) if leaves else "no array"
        raise ValueError(f"the first leaf of `params` must be the first layer, of shape (m, d); "
                         f"got {shape}. Pass `first_layer`, which picks it")  # fmt: skip
    return leaves[0]
