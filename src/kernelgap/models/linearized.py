r"""The linearization of a net at given parameters, the model of lazy training.

    f_lin(Theta; x) = f(Theta_0; x) + <grad f(Theta_0; x), Theta - Theta_0>

is linear in the displacement Theta - Theta_0. Its tangent kernel is the empirical NTK of the net at
Theta_0, whatever Theta is.
"""

import jax

from kernelgap._numerics import array_checks, arrays
from kernelgap._numerics.closure import Closure
from kernelgap._numerics.trees import check_alike, difference, promoted
from kernelgap.models.model import Model, check_model
from kernelgap.typing import Apply, PyTree


def linearize(model: Model, params0: PyTree) -> Model:
    r"""Return the first-order Taylor expansion of a model in its parameters, as a model.

        f_lin(Theta; x) = f(Theta_0; x) + <grad f(Theta_0; x), Theta - Theta_0>.

    It takes parameters of the same structure and inputs of the same shape as the model, and is
    trained like it, from `params0`. One evaluation costs one forward-mode derivative of the model;
    no Jacobian is formed.

    Args:
        model: Any `Model`, also one of your own.
        params0: The parameters at which it is linearized; may be traced.

    Returns:
        A `Model` with the `init` of the given one, without `degree`, `spec` and `neurons`: it is
        linear in the displacement from `params0`, but not homogeneous in the parameters.
        Linearizations of equal models at equal parameters are equal.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((64,))
        >>> params0 = model.init(jax.random.key(0), 10)
        >>> linear = kg.models.linearize(model, params0)
        >>> x, y = kg.datasets.xor_noise(jax.random.key(1), 32, 10)
        >>> bool(abs(linear.apply(params0, x) - model.apply(params0, x)).max() < 1e-5)
        True
        >>> params = model.init(jax.random.key(2), 10)
        >>> moved, kernel0 = (kg.kernels.empirical_ntk(linear, params)(x),
        ...                   kg.kernels.empirical_ntk(model, params0)(x))
        >>> bool(abs(moved - kernel0).max() < 1e-4 * kernel0.max())
        True

    References:
        J. Lee et al., "Wide Neural Networks of Any Depth Evolve as Linear Models Under Gradient
        Descent", NeurIPS 2019; L. Chizat, E. Oyallon, F. Bach, NeurIPS 2019.
    """
    check_model(model)
    params0 = array_checks.parameters(params0, "params0")
    return Model(model.init, Closure(_apply, model.apply, params0), None)


def _apply(apply: Apply, params0: PyTree, params: PyTree, x: jax.Array) -> jax.Array:
    params, x = array_checks.parameters(params, finite=False), array_checks.examples(x)
    value, slope = first_order(apply, params0, params, x)
    return value + slope


def first_order(
    apply: Apply, params0: PyTree, params: PyTree, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return f(params0; x) and the derivative of f there in the direction params - params0."""
    check_alike(params0, params)
    # Forward-mode derivatives need one dtype, that of both trees where they differ.
    params0, params = promoted(params0, params), promoted(params, params0)
    # JAX's derivatives of what is not compiled forget a mesh that is a part of the type.
    typed = arrays.on_explicit_mesh(x, *jax.tree.leaves(params0))
    forward = jax.jit(apply) if typed else apply
    return jax.jvp(lambda p: forward(p, x), (params0,), (difference(params, params0),))
