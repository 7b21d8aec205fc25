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
    "kernel_ridge by method='iterative'": lambda x, y: kg.predictors.kernel_ridge(
        kernel, x, y, l2=0.1, method="iterative"
    ),
}


@pytest.mark.parametrize("name", FITS)
def test_reverse_mode_is_refused_by_name(name):
    x, y = kg.datasets.xor_noise(jax.random.key(0), 8, 3)
    with pytest.raises(TypeError, match=f"{name} can be differentiated in forward mode only"):
        jax.grad(lambda x: FITS[name](x, y).margin)(x)


@pytest.mark.parametrize("name", list(FITS)[:2])
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
