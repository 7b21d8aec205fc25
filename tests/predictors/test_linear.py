import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
from helpers import eps, seeds, x64
from kernelgap.predictors.linear import nystroem, solve, woodbury
from kernelgap.predictors.operators import GramMatrix

pytestmark = pytest.mark.slow

ntk = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))


def _definite(seed, n, condition):
    """A symmetric matrix with eigenvalues between 1 and `condition`."""
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(generator.normal(size=(n, n)))[0]
    return (basis * np.geomspace(1, condition, n)) @ basis.T


@jax.jit
def _solve(a, b, tol, max_products):
    def product(v):
        return jnp.matmul(a, v, precision="highest")

    return solve(product, lambda v: v, b, tol=tol, max_products=max_products)


def _run(a, b, *, tol, max_products):
    return _solve(jnp.asarray(a, b.dtype), b, tol, max_products)


@given(seeds, st.sampled_from([(), (3,)]), st.sampled_from([1e-12, 1.0, 1e12]))
def test_equals_a_direct_solve(seed, columns, size):
    n, condition, tol = 25, 100.0, 1e-5
    a = _definite(seed, n, condition)
    b = jnp.asarray(size * np.random.default_rng(seed).normal(size=(n, *columns)), float)
    found = _run(a, b, tol=tol, max_products=500)
    exact = np.linalg.solve(a, np.float64(b))
    # ||A error|| <= tol ||b|| and the least eigenvalue is 1; rounding adds condition * eps.
    bound = (tol + 10 * condition * eps()) * np.linalg.norm(b, axis=0)
    assert (np.linalg.norm(found.value - exact, axis=0) <= bound).all()
    assert float(found.residual) <= tol
    # Chebyshev's bound on the number of products: sqrt(condition) / 2 * log(2 sqrt(cond) / tol).
    assert 0 < int(found.products) <= 5 * np.log(2 * 10 / tol)


def test_columns_are_independent_and_zeros_stay_zero():
    a = _definite(0, 25, 100.0)
    b = jnp.asarray(np.random.default_rng(0).normal(size=(25, 3)), float).at[:, 1].set(0.0)
    scaled = b * jnp.array([[1e-25, 1.0, 1e5]])  # squares of the first underflow in float32
    together = _run(a, scaled, tol=1e-4, max_products=100)
    for j in (0, 2):
        alone = _run(a, b[:, j], tol=1e-4, max_products=100)
        np.testing.assert_allclose(
            together.value[:, j] / (1e-25, 1.0, 1e5)[j], alone.value, atol=1e-5
        )
    assert (np.asarray(together.value[:, 1]) == 0).all()
    nothing = _run(a, 0 * b, tol=1e-4, max_products=100)
    assert int(nothing.products) == 0
    assert float(nothing.residual) == 0


def test_products_are_counted_and_bounded():
    a = np.diag(np.r_[np.ones(10), 2 * np.ones(10), 5 * np.ones(5)])
    b = jnp.ones(25)
    assert int(_run(a, b, tol=1e-4, max_products=100).products) == 3  # three eigenvalues
    found = _run(_definite(1, 25, 100.0), b, tol=1e-5, max_products=2)
    assert int(found.products) == 2
    assert float(found.residual) > 1e-5  # and it says so
    # Of the worst column, as it is: one is solved by the first product, the other is not.
    b = jnp.stack([jnp.eye(25)[0], b], axis=1)
    found = _run(a, b, tol=1e-4, max_products=1)
    left = np.linalg.norm(b - a @ np.float64(found.value), axis=0) / np.linalg.norm(b, axis=0)
    assert left[0] < 1e-6 < 0.1 < left[1]
    np.testing.assert_allclose(found.residual, left[1], rtol=1e-4)


@given(seeds)
def test_a_matrix_that_is_not_definite_ends(seed):
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(generator.normal(size=(25, 25)))[0]
    b = jnp.asarray(generator.normal(size=25), float)
    for values in (np.linspace(-1, 1, 25), -np.ones(25), np.zeros(25), np.full(25, np.nan)):
        found = _run((basis * values) @ basis.T, b, tol=1e-5, max_products=60)
        assert int(found.products) <= 60
        assert np.isfinite(found.value).all() or not float(found.residual) <= 1e-5
    assert int(_run(-np.eye(25), b, tol=1e-5, max_products=60).products) == 1
    assert float(_run(-np.eye(25), b, tol=1e-5, max_products=60).residual) == 1


@given(seeds, st.sampled_from([(), (2,)]))
def test_woodbury_is_the_inverse(seed, columns):
    generator = np.random.default_rng(seed)
    factor, diagonal = generator.normal(size=(20, 4)), generator.uniform(0.5, 2, size=20)
    v = generator.normal(size=(20, *columns))
    found = woodbury(jnp.asarray(factor, float), jnp.asarray(diagonal, float))(
        jnp.asarray(v, float)
    )
    exact = np.linalg.solve(factor @ factor.T + np.diag(diagonal), v)
    np.testing.assert_allclose(found, exact, atol=1e3 * eps())


@given(seeds)
def test_nystroem_of_low_rank_and_identity(seed):
    """Exact off the landmarks' noise: F F' has the low rank part, `rest` the identity's share."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(600, 5))
    low = GramMatrix(jnp.asarray(features @ features.T, float))
    found = nystroem(low, 5)
    assert found.factor.shape == (600, 128)
    np.testing.assert_allclose(found.factor @ found.factor.T, low.gram, atol=0.02)
    assert float(found.remainder) <= 1e-3 * float(found.scale)
    np.testing.assert_allclose(found.scale, np.median(np.sum(features**2, axis=1)), rtol=1e-5)
    # With all inputs as landmarks, any matrix is its own approximation.
    small = jnp.asarray(features[:100] @ features[:100].T + 3 * np.eye(100), float)
    whole = nystroem(GramMatrix(small), 5)
    np.testing.assert_allclose(whole.factor @ whole.factor.T, small, atol=0.02)
    # With 128 of 600, the identity's part is left for `rest`.
    plus = GramMatrix(jnp.asarray(features @ features.T + 3 * np.eye(600), float))
    found = nystroem(plus, 5)
    assert 3 * (1 - 2 * 128 / 600) < float(found.remainder) < 3
    index = np.arange(128) * 600 // 128
    np.testing.assert_allclose(found.mean, np.mean(np.asarray(plus.gram)[np.ix_(index, index)]),
                               rtol=1e-4, atol=1e-4)  # fmt: skip


def test_a_failed_factorisation_costs_speed_only():
    found = nystroem(GramMatrix(3 * jnp.ones((25, 25)) - 2 * jnp.eye(25)), 5)
    assert (np.asarray(found.factor) == 0).all()
    assert float(found.remainder) == float(found.scale) == 1


@pytest.mark.parametrize(("precision", "factor"), [(False, 3), (True, 2)])
def test_preconditioning_helps(precision, factor):
    """In float64 by 2.1 to 3.1 only: in float32 rounding slows the plain method down as well."""
    counts = np.zeros(2)
    with x64(precision):
        for seed in range(2):
            x, y = kg.datasets.xor_noise(jax.random.key(seed), 600, 20)
            gram = GramMatrix(ntk(x))
            approximation = nystroem(gram, 20)
            inverse = woodbury(approximation.factor, jnp.full(600, approximation.remainder))
            counts += [
                int(solve(gram.product, by, y, tol=1e-3, max_products=2000).products)
                for by in (inverse, lambda v: v)
            ]
    assert factor * counts[0] <= counts[1]
