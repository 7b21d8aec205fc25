import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from jax.sharding import Mesh
from sklearn.kernel_ridge import KernelRidge

import kernelgap as kg
from helpers import eps, seeds, slow_but, x64
from kernelgap.predictors import Direct, Iterative, MatrixFree

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
        assert float(found.kkt_residual) < 1e-12
        assert float(found.duality_gap) < 1e-12
        new = jax.random.normal(jax.random.key(seed + 2), (5, 4))
        np.testing.assert_allclose(
            found.decision_function(new), theirs.predict(np.asarray(ntk(new, x))),
            rtol=1e-6, atol=1e-8,
        )  # fmt: skip


def test_the_mean_needs_a_ridge_smaller_by_n():
    x, y = kg.datasets.xor_noise(key, 32, 4)
    total, mean = ridge(ntk, x, y, l2=0.25), ridge(ntk, x, y, l2=0.25 / 32, reduction="mean")
    np.testing.assert_array_equal(mean.coef, total.coef)
    np.testing.assert_array_equal(mean.duality_gap, total.duality_gap)


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
    with pytest.warns(RuntimeWarning, match="equal inputs with different targets"):
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

    assert primal(single) <= (1 + float(single.duality_gap) + 1e-6) * primal(exact)


def test_transforms():
    x, y = kg.datasets.xor_noise(key, 20, 5)
    path = jax.jit(jax.vmap(lambda l2: ridge(ntk, x, y, l2=l2).coef))(jnp.array([0.1, 1.0, 10.0]))
    np.testing.assert_allclose(path[1], ridge(ntk, x, y, l2=1.0).coef, rtol=1e-4)
    slope = jax.grad(lambda l2: jnp.sum(ridge(ntk, x, y, l2=l2).coef ** 2))(1.0)
    ahead, behind = (float(jnp.sum(ridge(ntk, x, y, l2=l).coef ** 2)) for l in (1.05, 0.95))
    np.testing.assert_allclose(slope, (ahead - behind) / 0.1, rtol=2e-2)


def _residual_in_float64(found, y, l2):
    gram, coef, y = np.float64(ntk(found.x)), np.float64(found.coef), np.float64(y)
    error = y - gram @ coef - l2 * coef
    return np.max(np.linalg.norm(error, axis=0) / np.linalg.norm(y, axis=0))


@pytest.mark.parametrize("columns", [(), pytest.param((3,), marks=pytest.mark.slow)])
@pytest.mark.parametrize("l2", [0.0, 1e-2, 10.0])
def test_methods_agree_and_their_residuals_are_honest(columns, l2):
    x, _ = kg.datasets.xor_noise(key, 130, 10, noise="gaussian")
    y = jax.random.normal(jax.random.key(1), (130, *columns))
    y = y * jnp.array([[1.0, 1e-4, 0.1]]) if columns else y  # each output counts for itself
    mesh = Mesh(np.array(jax.devices()[:1]), ("rows",))
    exact = np.linalg.solve(np.float64(ntk(x)) + l2 * np.eye(130), np.float64(y))
    condition = np.linalg.cond(np.float64(ntk(x)) + l2 * np.eye(130))
    solvers = [Direct(), Iterative(), MatrixFree(tile=40), MatrixFree(mesh=mesh)]
    for solver in solvers:
        found = ridge(ntk, x, y, l2=l2, solver=solver)
        assert found.coef.shape == y.shape
        assert float(found.kkt_residual) <= 1e-5 or isinstance(solver, Direct)
        honest = _residual_in_float64(found, y, l2)
        assert honest <= 1.1 * float(found.kkt_residual) + 30 * eps()
        assert np.isnan(found.margin)  # these targets are no signs
        assert bool(jnp.isnan(found.duality_gap)) == (l2 == 0)
        error = np.linalg.norm(found.coef - exact, axis=0)
        bound = (honest + condition * 30 * eps()) * np.linalg.norm(exact, axis=0) * condition
        assert (error <= bound).all()
        np.testing.assert_allclose(
            found.decision_function(x), np.float64(ntk(x)) @ exact,
            atol=2e-3 * float(jnp.abs(y).max()),
        )  # fmt: skip


def _offset(n, offset):
    rng = np.random.default_rng(n)
    x = (rng.standard_normal((n, 6)) + offset).astype(np.float32)
    return x, rng.standard_normal(n).astype(np.float32)


@pytest.mark.filterwarnings("ignore:kernel_ridge stopped")
@pytest.mark.parametrize("l2", [0.0, 1e-2])
@pytest.mark.parametrize("offset", [0, 30, 100, 1000])
def test_as_accurate_as_lapack_on_the_same_matrix(offset, l2):
    """Large offsets make the Gram matrix nearly singular, then indefinite, in float32.

    Rounding of the coefficients alone moves residuals by a factor of two.
    """
    x, y = _offset(60, offset)
    system = np.asarray(ntk(x)) + np.float32(l2) * np.eye(60, dtype=np.float32)
    theirs = np.linalg.solve(system, y)
    bound = np.linalg.norm(np.float64(system) @ theirs - y) / np.linalg.norm(y)
    found = ridge(ntk, x, y, l2=l2)
    assert _residual_in_float64(found, y, l2) <= 3 * bound + 30 * eps()


@given(seeds, st.sampled_from([12, 24]))
@example(0, 24)
def test_the_residual_is_that_of_the_coefficients(seed, n):
    x = jax.random.normal(jax.random.key(seed), (n, 3))
    y = jnp.tile(jnp.array([1.0, -1.0]), n // 2)
    found = ridge(ntk, x, y, tol=1.0)
    honest = _residual_in_float64(found, y, 0)
    terms = np.abs(np.float64(ntk(x))) @ np.abs(np.float64(found.coef))
    # Kernel values of two programs differ in their last bits.
    rounding = eps() * (4 + np.linalg.norm(terms) / np.linalg.norm(y) / 4)
    assert abs(float(found.kkt_residual) - honest) <= 0.4 * honest + rounding


def test_a_residual_above_tol_never_goes_without_a_warning():
    x, y = _offset(60, 100)
    for tol in (1e-5, 1.0):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = ridge(ntk, x, y, l2=1e-2, tol=tol)
        assert bool(caught) == (not float(found.kkt_residual) <= tol)
        assert np.isclose(found.kkt_residual, _residual_in_float64(found, y, 1e-2), rtol=0.2)
    assert float(found.kkt_residual) > 1e-5


@pytest.mark.parametrize("l2", [0.0, 1.0])
@pytest.mark.parametrize(("of_x", "of_y"), [(1e-12, 1e-30), (1e15, 1e30), (1.0, 1e-30)])
def test_homogeneous_at_any_scale(of_x, of_y, l2):
    x, _ = kg.datasets.xor_noise(key, 30, 8, noise="gaussian", dtype=jnp.float32)
    y = jax.random.normal(jax.random.key(1), (30,), jnp.float32)
    plain = ridge(ntk, x, y, l2=l2)
    scaled = ridge(ntk, of_x * x, of_y * y, l2=l2 * of_x**2)
    np.testing.assert_allclose(scaled.kkt_residual, plain.kkt_residual, rtol=10, atol=30 * eps())
    np.testing.assert_allclose(
        scaled.decision_function(of_x * x) / of_y, plain.decision_function(x), atol=1e-4
    )
    np.testing.assert_allclose(scaled.duality_gap, plain.duality_gap, rtol=100, atol=1e-9)


def test_scales_at_which_float32_ends_are_refused():
    x, y = kg.datasets.xor_noise(key, 30, 8, dtype=jnp.float32)
    for scale, match in ((1e-25, "too small"), (1e-17, "too small"), (1e19, "too large"),
                         (1e25, "too large")):  # fmt: skip
        with pytest.raises(ValueError, match=f"is {match}.*largest entry"):
            ridge(ntk, scale * x, y)


def test_derivatives_in_the_targets_are_those_of_the_pseudo_inverse():
    """Inputs on a line: the Gram matrix of three points has rank two."""
    with x64(True):
        x = np.array([[1.0], [-2.0], [3.0]])
        gram = np.asarray(ntk(x))
        expected = gram[0] @ np.linalg.pinv(gram)

        def value(y):
            return ridge(ntk, x, y).decision_function(x)[0]

        y = jnp.array([1.0, 0.5, 3.0])  # a function of the span
        for derivative in (jax.grad, jax.jacfwd):
            np.testing.assert_allclose(derivative(value)(y), expected, atol=1e-10)


def test_debugging_nans_is_usable():
    x, y = _offset(20, 0)
    with jax.debug_nans(True):
        for targets in (y, np.sign(y)):
            assert np.isnan(ridge(ntk, x, targets).duality_gap)


def test_the_gap_is_the_duality_gap_of_a_rough_solution():
    """P - D from their definitions, with the dual point l2 coef."""
    x, _ = kg.datasets.xor_noise(key, 130, 10, noise="gaussian")
    y, l2 = jax.random.normal(jax.random.key(1), (130,)), 0.01
    found = ridge(ntk, x, y, l2=l2, solver=Iterative(), tol=0.1)
    gram, coef, targets = np.float64(ntk(x)), np.float64(found.coef), np.float64(y)
    energy = coef @ gram @ coef
    primal = np.sum((gram @ coef - targets) ** 2) + l2 * energy
    dual = 2 * l2 * coef @ targets - l2**2 * coef @ coef - l2 * energy
    assert (primal - dual) / primal > 1e-4
    np.testing.assert_allclose(found.duality_gap, (primal - dual) / primal, rtol=1e-2)


def test_classes_are_indicators():
    x = jax.random.normal(key, (60, 5))
    y = jnp.argmax(x[:, :3], axis=1)
    found = ridge(ntk, x, y, l2=0.1, classes=3)
    assert found.coef.shape == (60, 3)
    for j in range(3):
        alone = ridge(ntk, x, jnp.where(y == j, 2 / 3, -1 / 3), l2=0.1)
        np.testing.assert_allclose(found.coef[:, j], alone.coef, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(found.predict(x), np.argmax(found.decision_function(x), axis=1))
    assert float(jnp.mean(found.predict(x) == y)) > 0.95
    iterative = ridge(ntk, x, y, l2=0.1, classes=3, solver=Iterative())
    np.testing.assert_allclose(
        iterative.decision_function(x), found.decision_function(x), atol=1e-4
    )


@pytest.mark.parametrize("solver", slow_but([Iterative(), MatrixFree(tile=16)], [Iterative()]))
def test_iterative_methods_say_what_they_did_not_reach(solver):
    x = jax.random.normal(key, (100, 3))
    doubled, y = jnp.concatenate([x, x]), jnp.arange(200.0)
    with pytest.warns(RuntimeWarning, match="relative residual of .*float64"):
        found = ridge(ntk, doubled, y, solver=solver)
    np.testing.assert_allclose(_residual_in_float64(found, y, 0), found.kkt_residual, rtol=1e-2)
    assert float(found.kkt_residual) > 0.1
    zero = ridge(ntk, x, 0 * y[:100], l2=0.1, solver=solver)
    assert (np.asarray(zero.coef) == 0).all()
    batched = jax.vmap(lambda l2: ridge(ntk, x, y[:100], l2=l2, solver=solver).coef)(
        jnp.array([0.1, 10.0])
    )
    np.testing.assert_allclose(
        ntk(x) @ batched[1], ntk(x) @ ridge(ntk, x, y[:100], l2=10.0).coef, atol=1e-2
    )


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"kernel": 3}, TypeError, "`kernel` must be a function"),
        ({"y": jnp.ones(2)}, ValueError, "`y` must have shape \\(3,\\) or \\(3, k\\)"),
        ({"y": jnp.ones(3, int)}, TypeError, "`y` must be a floating-point array"),
        ({"y": jnp.array([1.0, jnp.nan, 0.0])}, ValueError, "`y` must be finite"),
        ({"tol": 0.0}, ValueError, "`tol` must be a finite number > 0"),
        ({"reduction": "max"}, ValueError, "`reduction` must be one of 'mean', 'sum'"),
        ({"solver": Direct}, TypeError, "`solver` must be 'auto', Direct.*got the class Direct"),
        ({"classes": 2}, ValueError, "`y` must hold integer classes 0..1"),
        ({"classes": 4, "y": jnp.arange(3)}, ValueError, "every class 0..3; missing: \\[3\\]"),
        ({"l2": -1.0}, ValueError, "`l2` must be a finite number >= 0"),
        ({"x": jnp.ones((3, 0))}, ValueError, "`x` must have shape \\(n, d\\) with n, d >= 1"),
    ],
)
def test_refuses(change, error, match):
    arguments = {"kernel": ntk, "x": jnp.eye(3), "y": jnp.ones(3)} | change
    positional = [arguments.pop(name) for name in ("kernel", "x", "y")]
    with pytest.raises(error, match=match):
        ridge(*positional, **arguments)
