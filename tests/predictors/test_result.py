"""The result that all predictors share: what its status says, and what `score` counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score

import kernelgap as kg
from helpers import assert_close
from kernelgap.predictors import Direct, Status

kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((8,), parameterization="ntk"))
x = jax.random.normal(jax.random.key(0), (8, 3))
y = jnp.tile(jnp.array([1.0, -1.0]), 4)
conflicting = x.at[1].set(x[0])  # rows 0 and 1 are equal, with different labels
FITS = {
    "hard_margin_svm": lambda x, y, **o: kg.predictors.hard_margin_svm(kernel, x, y, **o),
    "kernel_logistic": lambda x, y, **o: kg.predictors.kernel_logistic(kernel, x, y, l2=0.1, **o),
    "kernel_ridge": lambda x, y, **o: kg.predictors.kernel_ridge(kernel, x, y, **o),
    "best_in_span": lambda x, y, **o: kg.predictors.best_in_span(kernel, x, x, y, **o),
}


def _status(fit):
    return Status(int(fit.status))


@pytest.mark.parametrize("name", FITS)
def test_status_says_whether_the_tolerance_was_reached(name):
    fit = FITS[name]
    assert _status(fit(x, y)) is Status.CONVERGED
    with pytest.warns(RuntimeWarning, match=f"{name} stopped at"):
        assert _status(fit(x, y, tol=1e-20)) is Status.ABOVE_TOL
    batched = jax.jit(jax.vmap(fit))(jnp.stack([x, x.at[0, 0].set(jnp.nan)]), jnp.stack([y, y]))
    assert batched.status.tolist() == [Status.CONVERGED, Status.INVALID]
    assert batched.status.dtype == jnp.int32
    assert np.isnan(batched.coef[1]).all()
    assert np.isnan(batched.kkt_residual[1])


@pytest.mark.parametrize("name", FITS)
def test_max_iterations_are_counted(name):
    with pytest.warns(RuntimeWarning, match=f"{name} stopped at"):
        fit = FITS[name](x, y, solver=Direct(max_iterations=1), tol=1e-12)
    assert int(fit.iterations) <= 2  # of each solution: some methods have two


CASES = {
    "separable": (kernel, x, y, Status.CONVERGED),
    "equal rows": (kernel, conflicting, y, Status.INSEPARABLE),
    "zero row": (kernel, x.at[2].set(0), y, Status.INSEPARABLE),
    "negative": (lambda a, b=None: -kernel(a, b), x, y, Status.INDEFINITE),
}


@pytest.mark.parametrize("name", CASES)
def test_without_throw_the_status_comes_in_place_of_the_error(name):
    kernel, x, y, status = CASES[name]
    if status is not Status.CONVERGED:
        with pytest.raises(ValueError):
            kg.predictors.hard_margin_svm(kernel, x, y)

    def call(x, y):
        return kg.predictors.hard_margin_svm(kernel, x, y, throw=False)

    for fit in (call(x, y), jax.jit(call)(x, y)):
        assert _status(fit) is status
        numbers = [fit.coef, fit.margin, fit.duality_gap, fit.kkt_residual]
        missing = [np.isnan(number).all() for number in numbers]
        assert missing == [status is not Status.CONVERGED] * 4
    assert f"status='{status.name}'" in repr(fit)


def test_without_throw_one_class_may_fail_alone():
    labels = jnp.array([0, 1, 2, 2, 2, 2, 2, 2])  # rows 0 and 1 are equal
    fit = kg.predictors.hard_margin_svm(kernel, conflicting, labels, classes=3, throw=False)
    assert fit.status.tolist() == [Status.INSEPARABLE, Status.INSEPARABLE, Status.CONVERGED]
    assert np.isnan(fit.coef[:, :2]).all()
    assert np.isfinite(fit.coef[:, 2]).all()
    assert np.isnan(fit.margin).tolist() == [True, True, False]


def _scores(fit, x, y):
    return fit.score(x, y), jax.jit(lambda fit, x, y: fit.score(x, y))(fit, x, y)


@pytest.mark.parametrize("name", ["hard_margin_svm", "kernel_logistic"])
def test_score_of_classifiers_is_accuracy(name):
    fit = FITS[name](x, y)
    new, labels = -x[::-1], y.at[0].set(1.0)
    right = accuracy_score(np.asarray(labels), np.asarray(fit.predict(new)))
    assert 0 < right < 1
    for score in (*_scores(fit, new, labels), *_scores(fit, new, labels.astype(int))):
        assert_close(score, right)
    broken = fit._replace(coef=fit.coef * jnp.nan, status=jnp.int32(Status.INVALID))
    assert np.isnan(broken.decision_function(x)).all()
    assert [float(s) for s in _scores(broken, x, y)] == [0, 0]  # NaN is predicted -1, and wrong


def test_score_of_several_classes_is_accuracy():
    labels = jnp.arange(8) % 3
    fit = kg.predictors.kernel_ridge(kernel, x, labels, classes=3, l2=0.1)
    new = x + 0.8 * x[::-1]
    right = accuracy_score(np.asarray(labels), np.asarray(fit.predict(new)))
    assert 0 < right < 1
    for score in _scores(fit, new, labels):
        assert_close(score, right)


@pytest.mark.parametrize("outputs", [(), (2,)])
def test_score_of_regressions_is_r_squared(outputs):
    targets = jax.random.normal(jax.random.key(1), (8, *outputs))
    targets = targets.at[:, 0].set(0.5) if outputs else targets  # constant: counts as 0 or 1
    fit = kg.predictors.kernel_ridge(kernel, x, targets, l2=0.1)
    values = np.asarray(fit.decision_function(x))
    for score in _scores(fit, x, targets):
        assert_close(score, r2_score(np.asarray(targets), values), factor=100)
    signs = kg.predictors.kernel_ridge(kernel, x, y, l2=5.0)
    right = r2_score(np.asarray(y), np.asarray(signs.decision_function(x)))
    assert right < 0.99
    for score in _scores(signs, x, y):
        assert_close(score, right, factor=100)
    assert np.isnan(fit.score(x[:1], targets[:1]))


def test_score_refuses():
    svm, ridge = FITS["hard_margin_svm"](x, y), FITS["kernel_ridge"](x, y)
    two = kg.predictors.kernel_ridge(kernel, x, jnp.stack([y, x[:, 0]], axis=1))
    for call, match in (
        (lambda: svm.score(x, x[:, 0]), "`y` must hold labels -1 and \\+1"),
        (lambda: svm.score(x, y[:3]), "`y` must have shape \\(8,\\)"),
        (lambda: ridge.score(x, y[:, None]), "`y` must have shape \\(8,\\)"),
        (lambda: two.score(x, y), "`y` must have shape \\(8, 2\\)"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    with pytest.raises(TypeError, match="`y` must be a floating-point array"):
        ridge.score(x, jnp.arange(8))
