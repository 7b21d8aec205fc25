import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge

import kernelgap as kg
from helpers import seeds, x64

key = jax.random.key(0)
ntk = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
ridge = kg.predictors.kernel_ridge


@given(seeds, st.sampled_from([1e-3, 1.0, 30.0]), st.sampled_from([(), (2,)]))
def test_equals_scikit_learn(seed, l2, columns):
    with x64(True):
        x = jax.random.normal(jax.random.key(seed), (20, 4))
        y = jax.random.normal(jax.random.key(seed + 1), (20, *columns))
        found = ridge(ntk, x, y, l2=l2)
        theirs = KernelRidge(alpha=l2, kernel="precomputed").fit(np.asarray(ntk(x)), np.asarray(y))
        np.testing.assert_allclose(found.coef, theirs.dual_coef_, rtol=1e-6, atol=1e-8)
        assert float(found.residual) < 1e-12
        assert float(found.gap) < 1e-12
        new = jax.random.normal(jax.random.key(seed + 2), (5, 4))
        np.testing.assert_allclose(
            found.decision_function(new), theirs.predict(np.asarray(ntk(new, x))), rtol=1e-6
        )


@given(seeds)
def test_without_ridge_it_interpolates_with_least_norm(seed):
    x, y = kg.datasets.xor_noise(jax.random.key(seed), 30, 8, noise="gaussian")
    found = ridge(ntk, x, y)
    np.testing.assert_allclose(found.decision_function(x), y, atol=1e-4)
    np.testing.assert_array_equal(found.predict(x), y)
    # Any other interpolant through more centres has a larger norm.
    more = jnp.concatenate(
        [x, kg.datasets.xor_noise(jax.random.key(seed + 1), 5, 8, noise="gaussian").x]
    )
    other = ridge(ntk, more, jnp.concatenate([y, jnp.zeros(5)]))
    norms = [float(p.coef @ ntk(p.x) @ p.coef) for p in (found, other)]
    assert norms[0] <= norms[1] * (1 + 1e-4)
    # It is the SVM's competitor: its margin cannot exceed the best one.
    best = kg.predictors.hard_margin_svm(ntk, x, y)
    assert float(found.margin) <= float(best.margin) * (1 + 1e-4)


def test_singular_gram_gives_the_least_squares_solution():
    x = jax.random.normal(key, (10, 3))
    doubled = jnp.concatenate([x, x[:4]])
    y = jnp.arange(14.0)
    averaged = jnp.arange(10.0).at[:4].set((y[:4] + y[10:]) / 2)
    found = ridge(ntk, doubled, y)
    np.testing.assert_allclose(ntk(doubled)[:10] @ found.coef, averaged, atol=1e-2)


def test_the_gap_bounds_the_suboptimality():
    with x64(True):
        x, y = (np.asarray(a) for a in kg.datasets.xor_noise(key, 30, 8))
        exact, gram = ridge(ntk, x, y, l2=0.1), np.asarray(ntk(x))
    single = ridge(ntk, np.float32(x), np.float32(y), l2=0.1)

    def primal(predictor):
        coef = np.float64(predictor.coef)
        return np.sum((y - gram @ coef) ** 2) + 0.1 * coef @ gram @ coef

    assert primal(single) <= (1 + float(single.gap) + 1e-6) * primal(exact)


def test_transforms():
    x, y = kg.datasets.xor_noise(key, 20, 5)
    path = jax.jit(jax.vmap(lambda l2: ridge(ntk, x, y, l2=l2).coef))(jnp.array([0.1, 1.0, 10.0]))
    np.testing.assert_allclose(path[1], ridge(ntk, x, y, l2=1.0).coef, rtol=1e-4)
    slope = jax.grad(lambda l2: jnp.sum(ridge(ntk, x, y, l2=l2).coef ** 2))(1.0)
    ahead, behind = (float(jnp.sum(ridge(ntk, x, y, l2=l).coef ** 2)) for l in (1.05, 0.95))
    np.testing.assert_allclose(slope, (ahead - behind) / 0.1, rtol=2e-2)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"kernel": 3}, TypeError, "`kernel` must be a function"),
        ({"y": jnp.ones(2)}, ValueError, "`y` must have shape \\(3,\\) or \\(3, k\\)"),
        ({"y": jnp.ones(3, int)}, TypeError, "`y` must be a floating-point array"),
        ({"y": jnp.array([1.0, jnp.nan, 0.0])}, ValueError, "`y` must be finite"),
        ({"l2": -1.0}, ValueError, "`l2` must be a finite number >= 0"),
        ({"x": jnp.ones((3, 0))}, ValueError, "`x` must have shape \\(n, d\\) with n, d >= 1"),
    ],
)
def test_refuses(change, error, match):
    arguments = {"kernel": ntk, "x": jnp.eye(3), "y": jnp.ones(3)} | change
    positional = [arguments.pop(name) for name in ("kernel", "x", "y")]
    with pytest.raises(error, match=match):
        ridge(*positional, **arguments)
