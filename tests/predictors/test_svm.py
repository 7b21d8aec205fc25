import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.svm import SVC

import kernelgap as kg
from helpers import assert_close, keys, seeds, x64
from kernelgap.predictors.certificate import certify
from kernelgap.predictors.operators import GramMatrix

key = jax.random.key(0)
ntk = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
linear = kg.kernels.ntk(kg.models.homogeneous_mlp(()))  # <x, z>
svm = kg.predictors.hard_margin_svm


def _problem(seed, n, d):
    x = jax.random.normal(jax.random.key(seed), (n, d))
    labels = (
        jax.random.bernoulli(jax.random.key(seed + 1), 0.5, (n,))
        .at[:2]
        .set(jnp.array([True, False]))
    )
    return x, jnp.where(labels, 1.0, -1.0)


def _certificate_in_float64(gram, y, coef):
    """(margin, upper bound) recomputed from the coefficients alone."""
    gram, y, alpha = np.float64(gram), np.float64(y), np.float64(y) * np.float64(coef)
    assert (alpha >= 0).all()
    outputs = y * (gram @ (alpha * y))
    norm = np.sqrt(alpha @ outputs)
    return outputs.min() / norm, norm / alpha.sum()


@given(seeds, st.sampled_from([(12, 3), (40, 10), (80, 5)]))
def test_the_certificate_holds(seed, shape):
    """Weak duality, and a gap that is what it says."""
    x, y = _problem(seed, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # near-coincident points leave a gap in float32
        found = svm(ntk, x, y)
    margin, upper = _certificate_in_float64(ntk(x), y, found.coef)
    assert margin <= upper * (1 + 1e-12)
    tolerance = 1e4 * np.finfo(x.dtype).eps
    np.testing.assert_allclose(found.margin, margin, rtol=tolerance)
    np.testing.assert_allclose(found.gap, 1 - (margin / upper) ** 2, atol=tolerance)
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
    # Around the optimum, where the margin is still positive.
    noise = np.random.default_rng(seed).uniform(0.98, 1.02, size=60)
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
        found = svm(ntk, x, y, tol=1e-9)
        mirrored = np.block([[gram, -gram], [-gram, gram]])
        theirs = SVC(kernel="precomputed", C=1e10, tol=1e-9).fit(mirrored, np.r_[y, -y])
        coef = np.zeros(2 * len(y))
        coef[theirs.support_] = theirs.dual_coef_[0]
        beta = coef[: len(y)] - coef[len(y) :]
        margin = (y * (gram @ beta)).min() / np.sqrt(beta @ gram @ beta)
        assert margin <= float(found.margin) * (1 + 1e-6)
        # What libsvm leaves is its own: our gap is 1e-9.
        assert margin >= float(found.margin) * 0.98
        if shape[1] >= 10:
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


@pytest.mark.parametrize("precision", [False, True])
def test_linear_kernel_with_few_support_vectors_and_singular_gram(precision):
    with x64(precision):
        x = jax.random.normal(key, (300, 2))
        y = jnp.sign(x[:, 0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = svm(linear, x, y)
        # The margin is 0.009 of the inputs' size: float32 carries its square, 1e-4, to 1e-3.
        assert float(found.gap) <= (1e-9 if precision else 1e-3)
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
    b = svm(lambda p, q=None: c**2 * ntk(p, q), x, y)
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
    margin, upper = _certificate_in_float64(ntk(x), y, found.coef)
    assert 1 - (margin / upper) ** 2 <= 1e-4
    assert float(found.gap) <= 1e-4
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
        assert float(batched.gap[i]) <= 1e-4
    # A predictor differentiates in its input.
    slope = jax.grad(lambda z: single.decision_function(z[None])[0])(x[0, 0])
    assert np.isfinite(slope).all()


def test_not_separable_is_said_with_its_certificate():
    x = jax.random.normal(key, (30, 4))
    doubled, y = jnp.concatenate([x, x[:1]]), jnp.ones(31).at[5:].set(-1.0)
    with pytest.raises(ValueError, match="not separable by this kernel in float.*kernel norm"):
        svm(ntk, doubled, y.at[-1].set(-y[0]))
    plane = jax.random.normal(key, (300, 2))
    with pytest.raises(ValueError, match="not separable"):
        svm(linear, plane, jnp.sign(plane[:, 0] * plane[:, 1]))
    _, certificate, _ = jax.jit(lambda g, y: dual.solve(g, y, 1e-4, 100))(
        ntk(doubled), y.at[-1].set(-y[0])
    )
    assert not certificate.margin > 0
    assert float(certificate.gap) == 1


def test_a_gram_matrix_beyond_float32_is_said():
    x, y = (a.astype(jnp.float32) for a in _problem(23, 60, 2))
    gram = ntk(x)
    broken = gram - 2 * jnp.max(gram) * jnp.eye(60, dtype=gram.dtype)
    with pytest.raises(ValueError, match="not positive definite to rounding.*float64"):
        svm(lambda a, b=None: broken, x, y)


def test_equal_inputs_of_one_class_are_no_obstacle():
    x, y = kg.datasets.xor_noise(key, 60, 8)
    once = svm(ntk, x, y)
    twice = svm(ntk, jnp.concatenate([x, x[:20]]), jnp.concatenate([y, y[:20]]))
    np.testing.assert_allclose(twice.margin, once.margin, rtol=1e-4)


def test_warns_above_tol():
    x, y = kg.datasets.xor_noise(key, 60, 8, dtype=jnp.float32)
    with pytest.warns(RuntimeWarning, match="relative duality gap of .*float64"):
        svm(ntk, x, y, tol=1e-12)


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
        ({"max_iterations": 0}, ValueError, "`max_iterations` must be an integer >= 1"),
    ],
)
def test_refuses(change, error, match):
    arguments = {"kernel": ntk, "x": jnp.eye(3)[:, :2] + 1.0, "y": jnp.array([1.0, -1.0, 1.0])}
    arguments |= change
    positional = [arguments.pop(name) for name in ("kernel", "x", "y")]
    with pytest.raises(error, match=match):
        svm(*positional, **arguments)


@given(keys)
def test_accurate_product(key):
    """Sums of cancelling terms keep an error far below that of summing one by one."""
    n = 801
    a = jax.random.normal(key, (n, n), jnp.float32)
    v = jnp.sort(jax.random.normal(jax.random.fold_in(key, 1), (n,), jnp.float32))
    q, v = a + a.T + 50.0, v - v.mean()  # the constant part of q cancels, after growing for long
    exact = np.float64(q) @ np.float64(v)
    error = np.abs(np.asarray(GramMatrix(q).accurate(v, jnp.mean(q))) - exact)
    size = np.abs(np.float64(q)) @ np.abs(np.float64(v))
    assert np.max(error / size) < np.finfo(np.float32).eps / 4
