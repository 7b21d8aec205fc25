"""Kernels on one CPU are evaluated in blocks of few shapes, with the kernel's own values."""

import jax
import numpy as np
import pytest

import kernelgap as kg
from helpers import compilations, eps
from kernelgap.kernels.tiled.blocks import gram_matrix

ntk = kg.kernels.ntk(kg.models.homogeneous_mlp((4,), parameterization="ntk"))
inputs = jax.device_put(np.random.default_rng(0).standard_normal((1100, 5)).astype(np.float32))
tolerance = 100 * eps()


@pytest.mark.parametrize("n", [1, 128, 129, 1100])
def test_gram_matrices(n):
    x = inputs[:n]
    gram, expected = np.asarray(gram_matrix(ntk, x)), np.asarray(ntk(x))
    np.testing.assert_allclose(gram, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_allclose(gram.diagonal(), ntk.diag(x), rtol=tolerance)


@pytest.mark.parametrize("tile", [None, 1, 7])
def test_products(tile):
    x1, x2, v = inputs[:9], inputs[9:20], np.random.default_rng(1).standard_normal((11, 2))
    expected = np.asarray(ntk(x1, x2)) @ v
    product = kg.kernels.matmul(ntk, x1, v, x2=x2, tile=tile)
    np.testing.assert_allclose(product, expected, rtol=tolerance, atol=tolerance)
    transformed = jax.jit(lambda x: kg.kernels.matmul(ntk, x, v, x2=x2, tile=tile))(x1)
    np.testing.assert_allclose(product, transformed, rtol=tolerance, atol=tolerance)


def test_other_numbers_of_inputs_compile_nothing():
    host = np.asarray(inputs)
    for n1, n2 in ((300, 130), (1100, 200), (700, 1000)):
        x1, x2, v = jax.device_put((host[:n1], host[:n2], np.ones(n2, np.float32)))
        before = len(compilations)
        kg.kernels.matmul(ntk, x1, v, x2=x2)
        assert n1 == 300 or len(compilations) == before
