"""Loops that stop where they have converged are differentiated forward, or refused by name."""

import jax
import jax.numpy as jnp
import pytest

import kernelgap as kg
from helpers import x64

kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((8,), parameterization="ntk"))
FITS = {
    "hard_margin_svm": lambda x, y: kg.predictors.hard_margin_svm(kernel, x, y, tol=1e-10),
    "kernel_logistic": lambda x, y: kg.predictors.kernel_logistic(kernel, x, y, l2=0.1),
}


@pytest.mark.parametrize("name", FITS)
def test_reverse_mode_is_refused_by_name(name):
    x, y = kg.datasets.xor_noise(jax.random.key(0), 8, 3)
    with pytest.raises(TypeError, match=f"{name} can be differentiated in forward mode only"):
        jax.grad(lambda x: FITS[name](x, y).margin)(x)


@pytest.mark.parametrize("name", FITS)
def test_forward_mode_is_right(name):
    """Against central differences, whose error is about 1e-16 / step + step^2."""
    with x64(True):
        x = jax.random.normal(jax.random.key(0), (8, 3))
        y = jnp.tile(jnp.array([1.0, -1.0, -1.0, 1.0]), 2)
        direction = jax.random.normal(jax.random.key(1), x.shape)

        def margin(t):
            return FITS[name](x + t * direction, y).margin

        _, slope = jax.jvp(margin, (0.0,), (1.0,))
        step = 1e-5
        assert abs(slope - (margin(step) - margin(-step)) / (2 * step)) < 1e-5


@pytest.mark.parametrize("solver", [kg.predictors.Direct(), kg.predictors.Iterative()])
def test_ridge_has_both_modes_whatever_its_loops(solver):
    with x64(True):
        x = jax.random.normal(jax.random.key(0), (8, 3))
        y, direction = jax.random.normal(jax.random.key(1), (2, 8))

        def value(x, y, l2):
            fit = kg.predictors.kernel_ridge(kernel, x, y, l2=l2, solver=solver, tol=1e-12)
            return fit.decision_function(x) @ direction

        def exact(x, y, l2):
            gram = kernel(x)
            return direction @ gram @ jnp.linalg.solve(gram + l2 * jnp.eye(8), y)

        for argument in range(3):
            expected = jax.grad(exact, argument)(x, y, 0.1)
            for mode in (jax.grad, jax.jacfwd):
                found = mode(value, argument)(x, y, 0.1)
                assert jnp.allclose(found, expected, rtol=1e-8, atol=1e-10), (argument, mode)
