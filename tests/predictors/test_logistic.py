import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from jax.sharding import Mesh
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

import kernelgap as kg
from helpers import eps, seeds, slow_but, x64
from kernelgap.predictors import Direct, Iterative, MatrixFree
from kernelgap.predictors.logistic_newton import relative_gap

key = jax.random.key(0)
ntk = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
linear = kg.kernels.ntk(kg.models.homogeneous_mlp(()))  # <x, z>
logistic = kg.predictors.kernel_logistic
SOLVERS = (Direct(), Iterative(), MatrixFree(tile=8))


def _problem(seed, n=40, d=5):
    x = jax.random.normal(jax.random.key(seed), (n, d))
    y = jnp.where(jax.random.bernoulli(jax.random.key(seed + 1), 0.5, (n,)), 1.0, -1.0)
    return x, y


def _primal(gram, y, coef, l2, reduce=np.mean):
    """The objective in float64, from the coefficients alone."""
    gram, y, coef = np.float64(gram), np.float64(y), np.float64(coef)
    outputs = gram @ coef
    return reduce(np.logaddexp(0, -y * outputs)) + l2 * coef @ outputs


def _minimum(gram, y, l2):
    """An independent optimum: SciPy's BFGS over orthonormal features, in float64."""
    values, vectors = np.linalg.eigh(np.float64(gram))
    features = vectors * np.sqrt(np.maximum(values, 0))
    y = np.float64(y)

    def value_and_slope(w):
        margins = y * (features @ w)
        p = np.exp(-np.logaddexp(0, margins))
        value = np.mean(np.logaddexp(0, -margins)) + l2 * w @ w
        return value, 2 * l2 * w - features.T @ (y * p) / len(y)

    done = minimize(value_and_slope, np.zeros(len(y)), jac=True, method="BFGS",
                    options={"gtol": 1e-9, "maxiter": 5000})  # fmt: skip
    return done.fun


@given(seeds, st.sampled_from([1.0, 1e-2, 1e-4]), st.sampled_from(SOLVERS))
@example(556, 1e-4, Direct())  # one sample is almost on the boundary: a margin of 1.6e-5
def test_no_optimiser_finds_less(seed, l2, solver):
    x, y = _problem(seed)
    gram = ntk(x)
    found = logistic(ntk, x, y, l2=l2, solver=solver)
    value, least = _primal(gram, y, found.coef, l2), _minimum(gram, y, l2)
    assert value <= least * (1 + float(found.duality_gap) + 100 * eps())
    assert value >= least * (1 - 1e-6)  # what BFGS leaves
    assert float(found.duality_gap) <= 1e-5
    assert float(found.kkt_residual) < 0.1
    outputs = np.float64(gram) @ np.float64(found.coef)
    norm = np.sqrt(np.float64(found.coef) @ outputs)
    margin = (np.float64(y) * outputs).min() / norm
    np.testing.assert_allclose(found.margin, margin, rtol=1e-3, atol=10 * eps())


@pytest.mark.parametrize("l2", [1e-1, 1e-3])
def test_same_coefficients_as_scikit_learn(l2):
    """scikit-learn minimises ||w||^2 / 2 + C sum log(1 + exp(-m)): C = 1 / (2 n l2)."""
    with x64(True):
        x, y = kg.datasets.xor_noise(key, 60, 8, noise="gaussian")
        root = np.linalg.cholesky(np.asarray(ntk(x)))
        theirs = LogisticRegression(
            C=1 / (2 * 60 * l2), fit_intercept=False, tol=1e-10, max_iter=10_000
        ).fit(root, np.asarray(y))
        found = logistic(ntk, x, y, l2=l2, tol=1e-12)
        outputs = root @ theirs.coef_[0]
        np.testing.assert_allclose(found.decision_function(x), outputs, atol=1e-5)


@given(seeds, st.sampled_from([1e-6, 1e-3, 1.0, 1e3]), st.sampled_from([0.01, 1.0, 1e3]))
def test_the_gap_is_the_duality_gap_at_any_point(seed, b, size):
    """Against P - D from their definitions, in float64; the dual value is recomputed from q."""
    with x64(True):
        x, y = _problem(seed)
        gram = np.asarray(ntk(x)) * size
        generator = np.random.default_rng(seed)
        q = generator.uniform(size=40) ** generator.choice([0.1, 1, 10])
        q[:3] = 0, 1, 1e-300
        coef, y = q * np.asarray(y) / b, np.asarray(y)
        outputs = gram @ coef
        energy = 0.5 * b * coef @ outputs
        primal = np.sum(np.logaddexp(0, -y * outputs)) + energy
        inner = (t * np.log(np.where(t > 0, t, 1)) for t in (q, 1 - q))
        dual = -sum(np.sum(part) for part in inner) - energy
        assert dual <= primal
        found = float(relative_gap(jnp.asarray(coef), jnp.asarray(outputs), jnp.asarray(y),
                                   jnp.asarray(b)))  # fmt: skip
        np.testing.assert_allclose(found, min((primal - dual) / primal, 1), rtol=1e-6, atol=1e-12)
        outside = jnp.asarray(coef).at[0].set(-0.1 * y[0] / b)
        assert (
            float(relative_gap(outside, jnp.asarray(outputs), jnp.asarray(y), jnp.asarray(b))) == 1
        )


@given(seeds)
def test_the_gap_keeps_its_digits_near_the_optimum(seed):
    """Against its definition in extended precision, which P - D needs there."""
    with x64(True):
        x, y = _problem(seed)
        exact = logistic(ntk, x, y, l2=1e-3, tol=1e-13)
        noise = 1 + 5e-3 * np.random.default_rng(seed).uniform(size=40)
        coef, b = exact.coef * jnp.asarray(noise), jnp.asarray(2 * 40 * 1e-3)
        arguments = coef, ntk(x) @ coef, y, b
        double = relative_gap(*arguments)
        single = relative_gap(*(a.astype(jnp.float32) for a in arguments))
    coef, outputs, y, b = (np.longdouble(np.asarray(a)) for a in arguments)
    q, p = b * y * coef, 1 / (1 + np.exp(y * outputs))
    primal = np.sum(np.log1p(np.exp(-y * outputs))) + b * coef @ outputs / 2
    gap = np.sum(q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))) / primal
    assert 1e-9 < float(gap) < 1e-3
    np.testing.assert_allclose(float(double), float(gap), rtol=1e-5)
    np.testing.assert_allclose(float(single), float(gap), rtol=0.05)


@pytest.mark.slow
def test_methods_reductions_and_scaling_agree():
    x, y = kg.datasets.xor_noise(key, 130, 10, noise="gaussian")
    base = logistic(ntk, x, y, l2=1e-4, solver=Direct())
    outputs = base.decision_function(x)
    others = [logistic(ntk, x, y, l2=1e-4, solver=s) for s in ("auto", Iterative())]
    mesh = Mesh(np.array(jax.devices()[:1]), ("rows",))
    others += [
        logistic(ntk, x, y, l2=1e-4, solver=MatrixFree(tile=40)),
        logistic(ntk, x, y, l2=1e-4, solver=MatrixFree(mesh=mesh)),
        logistic(ntk, x, y, l2=130 * 1e-4, reduction="sum"),
        # A kernel c times as large is a penalty c times as small.
        logistic(lambda a, b=None: 4 * ntk(a, b), x, y, l2=4e-4),
    ]
    # Objectives agree to 1e-5, and are strongly convex in the outputs: these to its root.
    for other in others:
        np.testing.assert_allclose(other.decision_function(x), outputs, atol=2e-2)
    negative = logistic(ntk, x, -y, l2=1e-4, solver=Direct())
    np.testing.assert_allclose(negative.decision_function(x), -outputs, atol=1e-4)
    order = jax.random.permutation(key, 130)
    permuted = logistic(ntk, x[order], y[order], l2=1e-4, solver=Direct())
    np.testing.assert_allclose(permuted.decision_function(x), outputs, atol=1e-3)


def test_linear_kernel_equals_the_weights_of_a_linear_model():
    with x64(True):
        x, y = _problem(3, n=50, d=4)
        model = kg.models.homogeneous_mlp(())
        found = logistic(linear, x, y, l2=0.01, tol=1e-12)
        params = jax.tree.map(lambda p: (x.T @ found.coef).reshape(p.shape), model.init(key, 4))
        objective = kg.objectives.regularized_logistic(model.apply, l2=0.01, power=2)
        slope = jax.grad(objective)(params, x, y)
        assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(slope)) < 1e-6
        # Its value is that of the certificate's objective.
        value = _primal(linear(x), y, found.coef, 0.01)
        np.testing.assert_allclose(objective(params, x, y), value, rtol=1e-10)


def test_path_rises_to_the_hard_margin_and_equals_cold_starts():
    x, y = kg.datasets.xor_noise(key, 130, 10, noise="gaussian")
    l2s = (1e-2, 1e-4, 1e-6, 1e-9, 1e-12)
    path = kg.predictors.logistic_path(ntk, x, y, l2s=l2s)
    best = float(kg.predictors.hard_margin_svm(ntk, x, y).margin)
    margins = np.array([float(fit.margin) for fit in path])
    assert (np.diff(margins) > 0).all()
    assert margins[-1] < best * (1 + 1e-4)
    # The loss is within a share of log n of the largest term: at ||f|| = r the margin is within
    # log(n) / r of the best, plus what the penalty holds back, of the same order.
    for fit, margin in zip(path[2:], margins[2:], strict=True):
        norm = float(jnp.sqrt(fit.coef @ ntk(x) @ fit.coef))
        assert best - margin <= 2 * np.log(130) / norm
    colds = [logistic(ntk, x, y, l2=l2) for l2 in l2s]
    # Warm starts are what a path is for.
    assert sum(int(fit.iterations) for fit in path) < sum(int(fit.iterations) for fit in colds)
    for cold, fit in zip(colds, path, strict=True):
        assert float(fit.duality_gap) <= 1e-5
        np.testing.assert_allclose(fit.decision_function(x), cold.decision_function(x), rtol=1e-2,
                                   atol=1e-2)  # fmt: skip


@pytest.mark.parametrize("solver", slow_but(SOLVERS, (Iterative(),)))
def test_inseparable_data_and_small_penalties(solver):
    x, _ = _problem(0)
    x = jnp.concatenate([x, x[:5]])
    y = jnp.sign(x[:, 0]).at[-5:].multiply(-1.0)
    gram = ntk(x)
    for l2 in (1e-2, 1e-4):
        found = logistic(ntk, x, y, l2=l2, solver=solver)
        assert float(found.duality_gap) <= 1e-5
        assert float(found.margin) < 0
        assert _primal(gram, y, found.coef, l2) >= 10 / 45 * np.log(2)  # the conflicting pairs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = logistic(ntk, x, y, l2=1e-12, solver=solver)
    assert np.isfinite(found.coef).all()
    assert 0 <= float(found.duality_gap) <= 1


@pytest.mark.parametrize("precision", slow_but([False, True], [False]))
@pytest.mark.parametrize("l2", [1e-4, 1e-8, 1e-12])
def test_singular_gram_matrices_by_factorisation(l2, precision):
    """Rank 2 of 400: the certificate is that of the true optimum, not of rounding."""
    with x64(precision):
        x = jax.random.normal(key, (400, 2))
        y = jnp.sign(x[:, 0])
        found = logistic(linear, x, y, l2=l2, solver=Direct(), tol=1e-4)
    assert float(found.duality_gap) <= 1e-4
    x, y, coef = (np.float64(a) for a in (x, y, found.coef))

    def primal(w):
        return np.mean(np.logaddexp(0, -y * (x @ w))) + l2 * w @ w

    w = x.T @ coef
    options = {"xatol": 1e-9, "fatol": 1e-18, "maxiter": 4000}
    least = minimize(primal, w, method="Nelder-Mead", options=options).fun
    assert primal(w) <= least * (1 + 1e-3)


def test_classes_are_separate_machines():
    x, _ = _problem(5, n=60)
    y = jnp.argmax(x[:, :3], axis=1)
    found = logistic(ntk, x, y, l2=1e-3, classes=3)
    assert found.coef.shape == (60, 3)
    assert found.duality_gap.shape == found.margin.shape == found.kkt_residual.shape == (3,)
    for j in range(3):
        alone = logistic(ntk, x, jnp.where(y == j, 1.0, -1.0), l2=1e-3)
        np.testing.assert_allclose(found.coef[:, j], alone.coef, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found.predict(x), jnp.argmax(found.decision_function(x), axis=1))
    assert float(jnp.mean(found.predict(x) == y)) > 0.9
    path = kg.predictors.logistic_path(ntk, x, y, l2s=(1e-2, 1e-3), classes=3)
    # Gaps of 1e-5 leave outputs their roots.
    outputs = found.decision_function(x)
    np.testing.assert_allclose(path[1].decision_function(x), outputs, rtol=3e-2, atol=1e-2)


@pytest.mark.parametrize("solver", slow_but(SOLVERS, (Direct(),)))
def test_traced_penalty_and_batches(solver):
    x, y = _problem(1)
    l2s = jnp.array([1e-1, 1e-3])
    batched = jax.jit(jax.vmap(lambda l2: logistic(ntk, x, y, l2=l2, solver=solver)))(l2s)
    for i in range(2):
        alone = logistic(ntk, x, y, l2=float(l2s[i]), solver=solver)
        outputs = [ntk(x) @ coef for coef in (batched.coef[i], alone.coef)]
        np.testing.assert_allclose(*outputs, atol=1e-2)
        assert float(batched.duality_gap[i]) <= 1e-5


def test_warns_above_tol():
    x, y = _problem(1)
    with pytest.warns(RuntimeWarning, match=r"gap of .*after 1 Newton steps.*solver=Direct\(\)"):
        found = logistic(ntk, x, y, l2=1e-5, solver=Iterative(max_iterations=1))
    assert float(found.duality_gap) > 1e-5
    with pytest.warns(RuntimeWarning, match=r"in float\d\d; float64"):
        logistic(ntk, x, y, l2=1e-5, solver=Direct(max_iterations=1))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"kernel": None}, TypeError, "`kernel` must be a function"),
        ({"x": jnp.ones(3)}, ValueError, "`x` must have shape \\(n, d\\)"),
        ({"x": jnp.ones((3, 2), int)}, TypeError, "`x` must be a floating-point array"),
        ({"y": jnp.zeros(3)}, ValueError, "labels -1 and \\+1 only"),
        ({"y": jnp.ones(2)}, ValueError, "`y` must have shape \\(3,\\)"),
        ({"l2": 0.0}, ValueError, "`l2` must be a finite number > 0"),
        ({"l2": jnp.ones(3)}, TypeError, "`l2` must be a finite number > 0"),
        ({"tol": 0.0}, ValueError, "`tol` must be a finite number > 0"),
        ({"solver": "direct"}, TypeError, "`solver` must be 'auto', Direct.*got 'direct'"),
        ({"reduction": "max"}, ValueError, "`reduction` must be one of 'mean', 'sum'"),
        ({"classes": 1}, ValueError, "`classes` must be an integer >= 2"),
        ({"classes": 2}, ValueError, "`y` must hold integer classes 0..1"),
    ],
)
def test_refuses(change, error, match):
    arguments = {"kernel": ntk, "x": jnp.eye(3), "y": jnp.array([1.0, -1.0, 1.0]), "l2": 0.1}
    arguments |= change
    positional = [arguments.pop(name) for name in ("kernel", "x", "y")]
    with pytest.raises(error, match=match):
        logistic(*positional, **arguments)


def test_a_traced_penalty_must_be_a_number_too():
    x, y = _problem(1)
    with pytest.raises(TypeError, match="`l2` must be a finite number > 0"):
        jax.jit(lambda l2: logistic(ntk, x, y, l2=l2))(jnp.ones(40))


@pytest.mark.parametrize(
    ("l2s", "error", "match"),
    [
        (0.1, TypeError, "`l2s` must be a non-empty sequence"),
        ("0.1", TypeError, "`l2s` must be a non-empty sequence"),
        ((), TypeError, "`l2s` must be a non-empty sequence"),
        ((0.1, 0.1), ValueError, "`l2s` must decrease"),
        ((0.1, 0.2), ValueError, "`l2s` must decrease"),
        ((0.1, 0.0), ValueError, "`l2s` must be a finite number > 0"),
    ],
)
def test_path_refuses(l2s, error, match):
    with pytest.raises(error, match=match):
        kg.predictors.logistic_path(ntk, jnp.eye(2), jnp.array([1.0, -1.0]), l2s=l2s)
