import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from jax.sharding import Mesh
from sklearn.datasets import load_digits
from sklearn.svm import SVC

import kernelgap as kg
from helpers import assert_close, certificate_in_float64, seeds, slow_but, x64
from kernelgap.predictors import Direct, Iterative, MatrixFree
from kernelgap.predictors.block_exchange import exchange
from kernelgap.predictors.dual import certify
from kernelgap.predictors.operators import GramMatrix

key = jax.random.key(0)
ntk = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
linear = kg.kernels.ntk(kg.models.homogeneous_mlp(()))  # <x, z>
svm = kg.predictors.hard_margin_svm
SOLVERS = (Direct(), Iterative(), MatrixFree(tile=8))


def _problem(seed, n, d):
    x = jax.random.normal(jax.random.key(seed), (n, d))
    labels = (
        jax.random.bernoulli(jax.random.key(seed + 1), 0.5, (n,))
        .at[:2]
        .set(jnp.array([True, False]))
    )
    return x, jnp.where(labels, 1.0, -1.0)


@given(seeds, st.sampled_from([(12, 3), (40, 10), (80, 5)]))
def test_the_certificate_holds(seed, shape):
    """Weak duality, and a gap that is what it says."""
    x, y = _problem(seed, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # near-coincident points leave a gap in float32
        found = svm(ntk, x, y)
    margin, upper = certificate_in_float64(ntk(x), y, found.coef)
    assert margin <= upper * (1 + 1e-12)
    tolerance = 1e4 * np.finfo(x.dtype).eps
    np.testing.assert_allclose(found.margin, margin, rtol=tolerance)
    np.testing.assert_allclose(found.duality_gap, 1 - (margin / upper) ** 2, atol=tolerance)
    # No other function has a larger margin than the bound: try random ones.
    other = np.random.default_rng(seed).normal(size=(shape[0], 50))
    gram = np.float64(ntk(x))
    margins = (np.float64(y)[:, None] * (gram @ other)).min(axis=0)
    assert (margins / np.sqrt(np.sum(other * (gram @ other), axis=0)) <= upper + 1e-9).all()


@given(seeds)
def test_the_gap_is_the_duality_gap_at_any_point(seed):
    """P = ||f||^2 / 2 with f scaled to functional margin 1, D the best dual value along alpha."""
    x, y = kg.datasets.xor_noise(jax.random.key(seed), 60, 8)
    q = np.float64(ntk(x)) * np.outer(y, y)
    # So near the optimum that the margin is still positive.
    noise = np.random.default_rng(seed).uniform(0.995, 1.005, size=60)
    alpha = np.float64(svm(ntk, x, y).coef * y) * noise
    outputs = q @ alpha
    found = certify(jnp.asarray(alpha, x.dtype), jnp.asarray(outputs, x.dtype))
    best = alpha.sum() ** 2 / (
        2 * alpha @ outputs
    )  # max over c of c 1'alpha - c^2 alpha'Q alpha / 2
    primal = 0.5 * (alpha @ outputs) / outputs.min() ** 2
    assert 1e-3 < (primal - best) / primal < 0.9
    np.testing.assert_allclose(found.gap, (primal - best) / primal, rtol=1e-3)
    np.testing.assert_allclose(found.margin, (2 * primal) ** -0.5, rtol=1e-4)
    np.testing.assert_allclose(found.upper, (2 * best) ** -0.5, rtol=1e-4)


@given(seeds, st.sampled_from([(12, 3), (40, 10), (60, 2), (80, 40)]))
def test_same_optimum_as_libsvm(seed, shape):
    """libsvm has a bias; on the data with their mirror images (-phi, -y) it is zero by symmetry."""
    with x64(True):
        x, y = _problem(seed, *shape)
        x, y = np.asarray(x), np.asarray(y)
        gram = np.asarray(ntk(x))
        with warnings.catch_warnings():
            # Some draws stop just above the tolerance; libsvm may never stop.
            warnings.simplefilter("ignore")
            found = svm(ntk, x, y, tol=1e-9)
            libsvm = SVC(kernel="precomputed", C=1e10, tol=1e-9, max_iter=1_000_000)
            mirrored = np.block([[gram, -gram], [-gram, gram]])
            theirs = libsvm.fit(mirrored, np.r_[y, -y])
        coef = np.zeros(2 * len(y))
        coef[theirs.support_] = theirs.dual_coef_[0]
        beta = coef[: len(y)] - coef[len(y) :]
        margin = (y * (gram @ beta)).min() / np.sqrt(beta @ gram @ beta)
        assert float(found.duality_gap) <= 1e-8
        assert margin <= float(found.margin) * (1 + 1e-6)
        # Where the margin is small, libsvm stops up to a tenth below it.
        if shape[1] >= 10:
            assert margin >= float(found.margin) * 0.999
            np.testing.assert_allclose(found.coef, beta, atol=1e-3 * np.abs(beta).max())


def test_exact_small_cases():
    # Two points: f = a x; the margin is the smaller distance along the difference of y x.
    x, y = jnp.array([[2.0, 0.0], [0.0, -1.0]]), jnp.array([1.0, -1.0])
    found = svm(linear, x, y)  # signed points (2, 0), (0, 1): hull distance 2 / sqrt(5)
    assert_close(found.margin, 2 / 5**0.5)
    assert_close(found.coef, jnp.array([1 / 4, -1.0]))
    # A third point beyond the margin is no support vector.
    x, y = jnp.array([[2.0, 0.0], [0.0, -1.0], [5.0, 5.0]]), jnp.array([1.0, -1.0, 1.0])
    found = svm(linear, x, y)
    assert_close(found.margin, 2 / 5**0.5)
    assert float(found.coef[2]) == 0
    # The signed points (1, 1) and (1, -1), and (3, 0) inside the cone: margin 1.
    x, y = jnp.array([[1.0, 1.0], [-1.0, 1.0], [3.0, 0.0]]), jnp.array([1.0, -1.0, 1.0])
    assert_close(svm(linear, x, y).margin, 1.0)


@pytest.mark.parametrize("precision", slow_but([False, True], [False]))
def test_linear_kernel_with_few_support_vectors_and_singular_gram(precision):
    with x64(precision):
        x = jax.random.normal(key, (300, 2))
        y = jnp.sign(x[:, 0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = svm(linear, x, y, tol=1e-9 if precision else 1e-4)
        # The margin is 0.009 of the inputs' size: float32 carries its square, 1e-4, to 1e-3.
        assert float(found.duality_gap) <= (1e-9 if precision else 1e-3)
        assert int((found.coef != 0).sum()) <= 3
        direction = np.float64(x.T @ found.coef)
        margins = np.float64(y) * (np.float64(x) @ direction) / np.linalg.norm(direction)
        angles = np.linspace(0, 2 * np.pi, 100_001)
        candidates = np.float64(y)[:, None] * (
            np.float64(x) @ np.stack([np.cos(angles), np.sin(angles)])
        )
        np.testing.assert_allclose(margins.min(), candidates.min(axis=0).max(), rtol=1e-3)


@given(seeds, st.floats(0.1, 10))
def test_scaling_the_kernel_scales_the_margin(seed, c):
    x, y = kg.datasets.xor_noise(jax.random.key(seed), 40, 8)
    a = svm(ntk, x, y)
    b = svm(jnp.asarray(c**2) * ntk, x, y)  # an array: one program for every c
    np.testing.assert_allclose(b.margin, c * a.margin, rtol=1e-4)
    np.testing.assert_allclose(b.decision_function(x), a.decision_function(x), rtol=1e-3)


@given(seeds)
def test_permuting_and_flipping_samples(seed):
    x, y = kg.datasets.xor_noise(jax.random.key(seed), 40, 8)
    order = jax.random.permutation(jax.random.key(seed), 40)
    a, b, c = svm(ntk, x, y), svm(ntk, x[order], y[order]), svm(ntk, x, -y)
    outputs = a.decision_function(x)
    np.testing.assert_allclose(b.decision_function(x), outputs, rtol=1e-3)
    np.testing.assert_allclose(c.decision_function(x), -outputs, rtol=1e-3)


def test_large_problem_in_float32_reaches_its_gap():
    """n = 3200: the target of the library for the dense solver."""
    x, y = kg.datasets.xor_noise(key, 3200, 40, dtype=jnp.float32)
    found = svm(ntk, x, y)
    margin, upper = certificate_in_float64(ntk(x), y, found.coef)
    assert 1 - (margin / upper) ** 2 <= 1e-4
    assert float(found.duality_gap) <= 1e-4
    assert int(found.iterations) < 20


def test_predictions_and_pytree():
    x, y = kg.datasets.xor_noise(key, 60, 8)
    found = svm(ntk, x, y)
    np.testing.assert_array_equal(found.predict(x), y)
    assert_close(found.decision_function(x[:5]), ntk(x[:5], x) @ found.coef)
    again = jax.jit(lambda predictor, x: predictor.decision_function(x))(found, x)
    assert_close(again, found.decision_function(x))
    custom = svm(lambda a, b=None: a @ (a if b is None else b).T + 1.0, x, x[:, 2])
    assert jax.jit(lambda p: p.predict(x))(custom).shape == (60,)


def test_under_jit_vmap_and_grad():
    split = jax.random.split(key, 3)
    data = [kg.datasets.xor_noise(k, 40, 8) for k in split]
    x, y = (jnp.stack(a) for a in zip(*data, strict=True))
    batched = jax.jit(jax.vmap(lambda x, y: svm(ntk, x, y)))(x, y)
    for i, (a, b) in enumerate(data):
        single = svm(ntk, a, b)
        outputs = [ntk(a) @ coef for coef in (batched.coef[i], single.coef)]
        np.testing.assert_allclose(*outputs, rtol=1e-3)  # equal inputs share their coefficient
        assert float(batched.duality_gap[i]) <= 1e-4
    # A predictor differentiates in its input.
    slope = jax.grad(lambda z: single.decision_function(z[None])[0])(x[0, 0])
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("solver", slow_but(SOLVERS, (Iterative(),)))
def test_not_separable_is_said_with_its_certificate(solver):
    x = jax.random.normal(key, (30, 4))
    doubled, y = jnp.concatenate([x, x[:1]]), jnp.ones(31).at[5:].set(-1.0)
    with pytest.raises(ValueError, match="data are not separable by this kernel in float.*norm"):
        svm(ntk, doubled, y.at[-1].set(-y[0]), solver=solver)
    plane = jax.random.normal(key, (300, 2))
    with pytest.raises(ValueError, match="not separable"):
        svm(linear, plane, jnp.sign(plane[:, 0] * plane[:, 1]), solver=solver)
    found = jax.jit(lambda x, y: svm(ntk, x, y, solver=solver))(doubled, y.at[-1].set(-y[0]))
    # No margin, but for rounding: equal inputs may differ in their last digits.
    zero = 4 * np.finfo(x.dtype).eps * float(jnp.mean(ntk.diag(x)))
    assert not float(found.margin) ** 2 * np.sign(float(found.margin)) > zero
    assert not float(found.duality_gap) <= 0.01
    with pytest.raises(ValueError, match="class 0 and the rest are not separable"):
        svm(ntk, doubled, jnp.zeros(31, int).at[5:].set(1).at[-1].set(1), classes=2, solver=solver)


@pytest.mark.parametrize("solver", slow_but(SOLVERS, (Iterative(),)))
def test_a_gram_matrix_that_is_not_definite_is_said(solver):
    x, y = (a.astype(jnp.float32) for a in _problem(23, 60, 2))
    with pytest.raises(ValueError, match="not positive definite to rounding.*float64"):
        svm(lambda a, b=None: -ntk(a, b), x, y, solver=solver)
    if solver != MatrixFree(tile=8):  # one that is indefinite
        broken = ntk(x) - 2 * jnp.max(ntk(x)) * jnp.eye(60, dtype=x.dtype)
        with pytest.raises(ValueError, match="not positive definite to rounding.*float64"):
            svm(lambda a, b=None: broken, x, y, solver=solver)


def test_equal_inputs_of_one_class_are_no_obstacle():
    x, y = kg.datasets.xor_noise(key, 60, 8)
    once = svm(ntk, x, y)
    twice = svm(ntk, jnp.concatenate([x, x[:20]]), jnp.concatenate([y, y[:20]]))
    np.testing.assert_allclose(twice.margin, once.margin, rtol=1e-4)


@pytest.mark.parametrize("solver", slow_but(SOLVERS, (Direct(),)))
def test_warns_above_tol(solver):
    x, y = kg.datasets.xor_noise(key, 60, 8, dtype=jnp.float32)
    with pytest.warns(RuntimeWarning, match="relative duality gap of .*in float32; .*float64"):
        svm(ntk, x, y, tol=1e-12, solver=solver)
    # One step is no proof that data are not separable.
    x, y = _problem(1, 60, 10)
    with pytest.warns(RuntimeWarning, match=r"gap of .*for the data after [12] iterations"):
        found = svm(ntk, x, y, solver=replace(solver, max_iterations=1))
    assert 1e-4 < float(found.duality_gap) <= 1
    margin, upper = certificate_in_float64(ntk(x), y, found.coef)
    np.testing.assert_allclose(found.duality_gap, 1 - (max(margin, 0) / upper) ** 2, atol=1e-3)


def _spectra():
    """Problems of every kind: name -> inputs, labels."""
    x, y = kg.datasets.xor_noise(key, 300, 12, noise="gaussian")
    normal = jax.random.normal(key, (300, 12))
    digits, numbers = load_digits(return_X_y=True)
    digits = jnp.asarray(digits[:300] / 16, normal.dtype)
    return {
        "xor": (x, y),
        "random labels": (normal, _problem(0, 300, 12)[1]),
        "smooth labels": (normal, jnp.sign(normal[:, 0])),
        "digits": (digits, jnp.where(jnp.asarray(numbers[:300]) == 3, 1.0, -1.0)),
        "sorted": (normal[jnp.argsort(normal[:, 0])], jnp.sign(jnp.sort(normal[:, 0]))),
    }


def test_methods_find_the_same_margin_within_their_gaps():
    for name, (x, y) in _spectra().items():
        gram, bounds = ntk(x), []
        for solver in (Direct(), Iterative(), MatrixFree(tile=128)):
            found = svm(ntk, x, y, solver=solver)
            margin, upper = certificate_in_float64(gram, y, found.coef)
            assert 1 - (margin / upper) ** 2 <= 1e-4, name
            np.testing.assert_allclose(found.margin, margin, rtol=1e-4)
            bounds.append((margin, upper))
        margins, uppers = np.transpose(bounds)
        assert margins.max() <= uppers.min() * (1 + 1e-9), name
        # libsvm, on the data with their mirror images, as above.
        gram, signs = np.float64(gram), np.float64(y)
        mirrored = np.block([[gram, -gram], [-gram, gram]])
        theirs = SVC(kernel="precomputed", C=1e10, tol=1e-5).fit(mirrored, np.r_[signs, -signs])
        coef = np.zeros(600)
        coef[theirs.support_] = theirs.dual_coef_[0]
        beta = coef[:300] - coef[300:]
        theirs = (signs * (gram @ beta)).min() / np.sqrt(beta @ gram @ beta)
        assert theirs <= uppers.min() * (1 + 1e-9), name
        assert theirs >= 0.98 * margins.max(), name


@pytest.mark.parametrize("precision", slow_but([False, True], [False]))
def test_products_alone_reach_small_gaps(precision):
    with x64(precision):
        x, y = kg.datasets.xor_noise(key, 2000, 30)
        gram = ntk(x)
        for solver in (Iterative(), MatrixFree(tile=8)):
            found = svm(ntk, x, y, solver=solver, tol=1e-8 if precision else 1e-5)
            margin, upper = certificate_in_float64(gram, y, found.coef)
            assert 1 - (margin / upper) ** 2 <= (1e-8 if precision else 1e-5)
            assert int(found.iterations) < 20
            assert int(found.support_size) == int((found.coef != 0).sum()) > 1500


@pytest.mark.parametrize("few", [False, True])
def test_iterative_methods_on_nearly_singular_matrices(few):
    """They reach `tol` or say that they did not; factorisations take over by themselves."""
    x = jax.random.normal(key, (600, 3))
    y = jnp.sign(x[:, 0] + 0.3 * x[:, 1] ** 2 - 0.1)
    x = jnp.concatenate([x[:300], x[:300] + 1e-4 * x[300:]]) if few else x
    y = jnp.tile(y[:300], 2) if few else y
    gram = ntk(x)
    for solver in (Iterative(), Direct()):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = svm(ntk, x, y, solver=solver, tol=1e-3)
        assert bool(found.duality_gap <= 1e-3) != bool(caught)
        margin, upper = certificate_in_float64(gram, y, found.coef)
        assert margin > 0
        np.testing.assert_allclose(found.duality_gap, 1 - (margin / upper) ** 2, atol=1e-3)
    assert float(found.duality_gap) <= 1e-3


def test_auto_falls_back_to_factorisations(monkeypatch):
    monkeypatch.setattr("kernelgap.predictors.operators.SMALL", 10)
    x = jax.random.normal(key, (300, 10))
    x = jnp.concatenate([x, x + 1e-4 * jax.random.normal(jax.random.key(1), x.shape)])
    y = jnp.sign(x[:, 0] * x[:, 1])
    with pytest.warns(RuntimeWarning, match=r"solver=Direct\(\)"):
        iterative = svm(ntk, x, y, solver=Iterative())
    # How far float32 gets on these nearly equal inputs depends on the order of sums.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert float(svm(ntk, x, y).duality_gap) < 0.5 * float(iterative.duality_gap)


@pytest.mark.parametrize("precision", slow_but([False, True], [False]))
def test_singular_matrices_without_factorisations(precision):
    """Rank 2 of 300: exchanges alone fail, proximal problems do not."""
    with x64(precision):
        x = jax.random.normal(key, (300, 2))
        y = jnp.sign(x[:, 0])
        tol = 1e-8 if precision else 1e-3
        goal = jnp.asarray(tol, x.dtype)
        found = exchange(GramMatrix(linear(x)), y, goal, 2, 1000)
        assert float(found.certificate.gap) <= tol
        assert int(found.products) < 200 * int(found.iterations) + 1
        np.testing.assert_allclose(
            found.certificate.margin, svm(linear, x, y, tol=tol).margin, rtol=tol
        )


@pytest.mark.parametrize("solver", slow_but(SOLVERS, (Iterative(),)))
def test_batches_equal_the_loop(solver):
    split = jax.random.split(key, 3)
    data = [kg.datasets.xor_noise(k, 40, 8, noise="gaussian") for k in split]
    x, y = (jnp.stack(a) for a in zip(*data, strict=True))
    batched = jax.jit(jax.vmap(lambda x, y: svm(ntk, x, y, solver=solver)))(x, y)
    for i, (a, b) in enumerate(data):
        single = svm(ntk, a, b, solver=solver)
        np.testing.assert_allclose(batched.margin[i], single.margin, rtol=1e-4)
        outputs = [ntk(a) @ coef for coef in (batched.coef[i], single.coef)]
        np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-3)
        assert float(batched.duality_gap[i]) <= 1e-4


@pytest.mark.parametrize("solver", slow_but(SOLVERS, (MatrixFree(tile=8),)))
def test_invariances_of_each_method(solver):
    x, y = kg.datasets.xor_noise(key, 130, 10, noise="gaussian")
    base = svm(ntk, x, y, solver=solver)
    outputs = base.decision_function(x)
    order = jax.random.permutation(key, 130)
    permuted = svm(ntk, x[order], y[order], solver=solver)
    np.testing.assert_allclose(permuted.margin, base.margin, rtol=1e-4)
    np.testing.assert_allclose(permuted.decision_function(x), outputs, rtol=2e-2)
    flipped = svm(ntk, x, -y, solver=solver)
    np.testing.assert_allclose(flipped.decision_function(x), -outputs, rtol=1e-3, atol=1e-3)
    # By a power of 4 all roundings scale along.
    scaled = svm(lambda a, b=None: 16 * ntk(a, b), x, y, solver=solver)
    np.testing.assert_allclose(scaled.margin, 4 * base.margin, rtol=1e-4)
    np.testing.assert_allclose(16 * scaled.coef, base.coef, atol=2e-2 * float(base.coef.max()))


@pytest.mark.parametrize("solver", slow_but(SOLVERS, (Direct(),)))
def test_dtype_follows_the_inputs(solver):
    """Single precision stays so where double precision is switched on."""
    with x64(True):
        x, y = kg.datasets.xor_noise(key, 40, 8, noise="gaussian", dtype=jnp.float32)
        fits = [
            svm(ntk, x, y, solver=solver),
            kg.predictors.kernel_logistic(ntk, x, y, l2=1e-3, solver=solver),
            kg.predictors.kernel_ridge(ntk, x, y, l2=1e-1, solver=solver),
        ]
    for fit in fits:
        assert {a.dtype for a in (fit.coef, fit.margin, fit.duality_gap, fit.kkt_residual)} == {
            x.dtype
        }
        assert float(fit.duality_gap) <= 1e-4


def test_a_mesh_of_one_device_changes_nothing():
    x, y = kg.datasets.xor_noise(key, 130, 10, noise="gaussian")
    mesh = Mesh(np.array(jax.devices()[:1]), ("rows",))
    alone = svm(ntk, x, y, solver=MatrixFree(tile=40))
    shared = svm(ntk, x, y, solver=MatrixFree(tile=40, mesh=mesh))
    np.testing.assert_allclose(shared.coef, alone.coef, atol=1e-4 * float(alone.coef.max()))


def test_classes_are_separate_machines():
    digits, numbers = load_digits(return_X_y=True)
    x, y = jnp.asarray(digits[:400] / 16, float), jnp.asarray(numbers[:400])
    found = svm(ntk, x, y, classes=10)
    assert found.coef.shape == (400, 10)
    for part in (
        found.margin,
        found.duality_gap,
        found.kkt_residual,
        found.iterations,
        found.support_size,
    ):
        assert part.shape == (10,)
    for j in (0, 7):
        alone = svm(ntk, x, jnp.where(y == j, 1.0, -1.0))
        np.testing.assert_allclose(found.coef[:, j], alone.coef, atol=1e-5)
        np.testing.assert_allclose(found.margin[j], alone.margin, rtol=1e-5)
    values = found.decision_function(x)
    assert values.shape == (400, 10)
    np.testing.assert_array_equal(found.predict(x), np.argmax(values, axis=1))
    np.testing.assert_array_equal(found.predict(x), y)
    unseen = jnp.asarray(digits[400:800] / 16, float)
    assert np.mean(found.predict(unseen) == numbers[400:800]) > 0.8  # chance: 0.1
    small = svm(ntk, x, y.astype(jnp.uint8), classes=10, solver=Iterative())
    np.testing.assert_allclose(small.margin, found.margin, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"kernel": None}, TypeError, "`kernel` must be a function"),
        ({"kernel": lambda a, b=None: jnp.ones((2, 2))}, ValueError, "return shape \\(3, 3\\)"),
        ({"kernel": lambda a, b=None: jnp.full((3, 3), jnp.nan)}, ValueError, "returned NaN"),
        ({"x": jnp.ones(3)}, ValueError, "`x` must have shape \\(n, d\\)"),
        ({"x": jnp.ones((3, 2), int)}, TypeError, "`x` must be a floating-point array"),
        ({"x": jnp.ones((3, 2)).at[0, 1].set(jnp.nan)}, ValueError, "`x` must be finite"),
        ({"y": jnp.ones(2)}, ValueError, "`y` must have shape \\(3,\\)"),
        ({"y": jnp.array([0.0, 1.0, 1.0])}, ValueError, "labels -1 and \\+1 only"),
        ({"y": jnp.ones(3)}, ValueError, "both classes -1 and \\+1; got only \\+1"),
        ({"tol": 0}, ValueError, "`tol` must be a finite number > 0"),
        ({"solver": "fast"}, TypeError, "`solver` must be 'auto', Direct.*got 'fast'"),
        ({"throw": 0}, TypeError, "`throw` must be True or False; got 0"),
        ({"classes": 1, "y": jnp.arange(3)}, ValueError, "`classes` must be an integer >= 2"),
        ({"classes": 3}, ValueError, "`y` must hold integer classes 0..2"),
        ({"classes": 2, "y": jnp.arange(3)}, ValueError, "must hold classes 0..1; got \\[2\\]"),
        ({"classes": 4, "y": jnp.arange(3)}, ValueError, "every class 0..3; missing: \\[3\\]"),
    ],
)
def test_refuses(change, error, match):
    arguments = {"kernel": ntk, "x": jnp.eye(3)[:, :2] + 1.0, "y": jnp.array([1.0, -1.0, 1.0])}
    arguments |= change
    positional = [arguments.pop(name) for name in ("kernel", "x", "y")]
    with pytest.raises(error, match=match):
        svm(*positional, **arguments)


def test_forward_derivatives_are_those_of_differences():
    """At the optimum the margin moves as its certificate does, whatever the iteration did."""
    with x64(True):
        x, y = kg.datasets.xor_noise(key, 16, 4, dtype=float)
        x = x + 0.3 * jax.random.normal(jax.random.key(1), x.shape, x.dtype)
        direction = jax.random.normal(jax.random.key(2), x.shape, x.dtype)

        def outputs(t):
            at = x + t * direction
            regression = kg.predictors.kernel_logistic(ntk, at, y, l2=1e-2, tol=1e-12)
            return jnp.append(regression.coef, svm(ntk, at, y, tol=1e-8).margin)

        _, slopes = jax.jvp(outputs, (0.0,), (1.0,))
        h = 1e-5
        np.testing.assert_allclose(slopes, (outputs(h) - outputs(-h)) / (2 * h), atol=1e-6)
        with pytest.raises(TypeError, match="hard_margin_svm can be .* in forward mode only"):
            jax.grad(lambda t: outputs(t)[-1])(0.0)
