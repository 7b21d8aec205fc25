import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import kernelgap as kg
from helpers import x64
from kernelgap.sklearn import MaxMarginNetClassifier, NTKClassifier, NTKRegressor, arrays

pytestmark = pytest.mark.slow

quick_net = MaxMarginNetClassifier(hidden_layer_sizes=(32,), steps=100, random_state=0)


def _xor(n=64, d=5, seed=0, dtype=np.float32, noise="gaussian"):
    x, y = kg.datasets.xor_noise(jax.random.key(seed), n, d, noise=noise)
    return np.asarray(x, dtype), np.asarray(y)


PLAIN = {"bias": 0, "standardize": False}


def test_the_logistic_classifier_is_scikit_learns_on_features_of_the_kernel():
    """C = 1 / (2 n l2), on a Cholesky factor of the Gram matrix, in float64."""
    x, y = _xor(dtype=np.float64)
    with x64(True):
        ours = NTKClassifier(l2=1e-3, tol=1e-12, **PLAIN).fit(x, y)
        net = kg.models.homogeneous_mlp((1,), parameterization="ntk", init_scale=2**0.5)
        root = np.linalg.cholesky(np.asarray(kg.kernels.ntk(net)(jnp.asarray(x))))
        theirs = LogisticRegression(
            C=1 / (2 * 64 * 1e-3), fit_intercept=False, tol=1e-10, max_iter=10_000
        ).fit(root, y)
        np.testing.assert_allclose(
            ours.decision_function(x), theirs.decision_function(root), atol=1e-5
        )
        np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(root), atol=1e-5)
        assert ours.decision_function(x).dtype == np.float64


def test_kernels_of_smooth_nets():
    x, y = _xor()
    assert NTKClassifier(activation="gelu", depth=2).fit(x, y).score(x, y) == 1
    with pytest.raises(ValueError, match="for which there is models.mlp"):
        MaxMarginNetClassifier(activation="gelu").fit(x, y)


@pytest.mark.parametrize("k", [None, 2])
def test_the_regressor_is_scikit_learns_kernel_ridge_on_centred_targets(k):
    x, _ = _xor(dtype=np.float64)
    y = np.random.default_rng(0).normal(size=(64,) if k is None else (64, k)) + 5
    with x64(True):
        ours = NTKRegressor(l2=1e-2, depth=2, kernel="nngp").fit(x, y)
        scaled = (x - x.mean(0)) / np.sqrt(np.mean((x - x.mean(0)) ** 2))
        inputs = jnp.asarray(np.hstack([scaled, np.ones((64, 1))]))
        net = kg.models.homogeneous_mlp((1, 1), parameterization="ntk", init_scale=2**0.5)
        gram = np.asarray(kg.kernels.nngp(net)(inputs))
        theirs = KernelRidge(alpha=64 * 1e-2, kernel="precomputed").fit(gram, y - y.mean(0))
        np.testing.assert_allclose(ours.predict(x), theirs.predict(gram) + y.mean(0), rtol=1e-9)
    np.testing.assert_allclose(ours.intercept_, y.mean(axis=0))


def test_the_hard_margin_is_the_svm_and_ridge_the_ridge():
    x, y = _xor()
    svm = NTKClassifier(predictor="hard_margin", **PLAIN).fit(x, y)
    direct = kg.predictors.hard_margin_svm(svm.predictor_.kernel, jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(svm.predictor_.margin, direct.margin, rtol=1e-3)
    assert float(svm.predictor_.duality_gap) < 1e-4
    assert not hasattr(svm, "predict_proba")
    ridge = NTKClassifier(predictor="ridge", l2=1e-2, **PLAIN).fit(x, y)
    gram = np.asarray(svm.predictor_.kernel(jnp.asarray(x)), float)
    expected = gram @ np.linalg.solve(gram + 0.64 * np.eye(64), y)
    np.testing.assert_allclose(ridge.decision_function(x), expected, atol=1e-4)


def test_labels_are_strings_in_order_and_classes_are_one_against_the_rest():
    x, index = load_iris(return_X_y=True)
    names = np.array(["c", "a", "b"])[index]  # 0 -> c
    fitted = NTKClassifier().fit(x, names)
    assert fitted.classes_.tolist() == ["a", "b", "c"]
    assert fitted.score(x, names) > 0.95
    values = fitted.decision_function(x)
    assert values.shape == (150, 3)
    each = expit(values)
    np.testing.assert_allclose(
        fitted.predict_proba(x), each / each.sum(1, keepdims=True), rtol=1e-6
    )
    two = NTKClassifier().fit(x[index != 1], names[index != 1])
    rest = NTKClassifier().fit(x[index != 1], np.where(names[index != 1] == "c", 1, 0))
    np.testing.assert_array_equal(two.decision_function(x), rest.decision_function(x))
    assert (two.predict(x[index == 0]) == "c").all()
    assert two.predict_proba(x[index == 0])[:, 1].min() > 0.5


@pytest.mark.parametrize("estimator", [NTKClassifier(), NTKRegressor(), quick_net])
def test_float32_is_kept_and_float64_is_as_exact_as_jax_is(estimator):
    x, y = _xor()
    one = clone(estimator).fit(x, y)
    values = getattr(one, "decision_function", one.predict)
    assert values(x).dtype == np.float32
    assert values(x.astype(float)).dtype == np.float64
    inner = one.params_[0] if estimator is quick_net else one.predictor_.x
    assert inner.dtype == np.float32
    two = clone(estimator).fit(x.astype(float), y)
    inner = two.params_[0] if estimator is quick_net else two.predictor_.x
    assert inner.dtype == jnp.zeros(()).dtype


@pytest.mark.parametrize("estimator", [NTKClassifier(), NTKRegressor()])
def test_units_do_not_matter_unless_asked(estimator):
    x, y = _xor()
    values = [
        getattr(e, "decision_function", e.predict)(inputs)
        for inputs in (x, 1000 * x.astype(float) + 1e5)
        for e in [clone(estimator).fit(inputs, y)]
    ]
    np.testing.assert_allclose(values[0], values[1], atol=1e-3)
    constant = clone(estimator).fit(np.ones((6, 2)), [0, 1, 0, 1, 0, 1])
    assert constant.scale_ == 1
    raw = clone(estimator).set_params(standardize=False, bias=0).fit(x, y)
    np.testing.assert_array_equal(raw.predictor_.x, x)
    assert clone(estimator).fit(x, y).predictor_.x.shape == (64, 6)


def test_pipelines_and_grid_searches_run_over_parameters():
    x, y = _xor(96)
    chain = make_pipeline(StandardScaler(), NTKClassifier(**PLAIN))
    grid = {"ntkclassifier__l2": [1e-3, 1e2], "ntkclassifier__kernel": ["ntk", "nngp"]}
    search = GridSearchCV(chain, grid, cv=3, scoring="neg_log_loss").fit(x, y)
    assert search.best_params_["ntkclassifier__l2"] == 1e-3
    assert search.score(x, y) > -0.5


def test_kernels_of_ones_own_can_be_cloned_and_pickled():
    x, y = _xor()
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((1, 1), parameterization="ntk"))
    mine = NTKClassifier(kernel=kernel, **PLAIN)
    fitted = pickle.loads(pickle.dumps(clone(mine).fit(x, y)))
    assert fitted.kernel == kernel == fitted.predictor_.kernel
    linear = NTKClassifier(kernel=lambda a, b=None: jnp.matmul(a, (a if b is None else b).T))
    assert linear.fit(x, x[:, 0] > 0).score(x, x[:, 0] > 0) > 0.9


def test_the_net_nears_the_planted_margin_and_its_bound():
    x, y = _xor(100, 6, noise="sign")
    net = MaxMarginNetClassifier(certify=True, random_state=0, **PLAIN).fit(x, y)
    assert 0.122 < net.margin_ <= net.upper_ < 0.1255
    params = tuple(jnp.asarray(w) for w in net.params_)
    found = kg.metrics.normalized_margin(net.model_, params, jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(net.margin_, found, rtol=1e-5)
    np.testing.assert_allclose(sum(np.sum(w**2) for w in net.params_), 1, rtol=1e-5)
    np.testing.assert_allclose(net.margin_, (y * net.decision_function(x)).min(), rtol=1e-5)
    assert not hasattr(net, "predict_proba")


def test_rows_that_pad_change_nothing():
    """Against margins.regularization_path on the very rows, of which there are no round number."""
    x, y = _xor(93, 5, seed=1)
    net = MaxMarginNetClassifier(
        hidden_layer_sizes=(32,), steps=200, l2s=(1e-2, 1e-3), random_state=3, **PLAIN
    )
    net.fit(x, y)
    seed = np.random.RandomState(3).randint(np.iinfo(np.int32).max)
    params = net.model_.init(jax.random.key(seed), 5, np.float32)
    path = kg.margins.regularization_path(net.model_, params, jnp.asarray(x), jnp.asarray(y),
                           l2s=(1e-2, 1e-3), steps=200)  # fmt: skip
    np.testing.assert_allclose(net.margin_, path.margin[-1], rtol=1e-3)
    outputs = np.asarray(net.model_.apply(path.params, jnp.asarray(x)))
    np.testing.assert_allclose(
        net.decision_function(x), outputs / float(path.norm[-1]) ** 2, atol=1e-4
    )


def test_the_net_takes_classes_depth_and_data_that_nothing_separates():
    x, y = load_iris(return_X_y=True)
    net = clone(quick_net).set_params(hidden_layer_sizes=[16, 16]).fit(x, y)
    assert net.decision_function(x).shape == (150, 3)
    assert net.score(x, y) > 0.9
    assert net.model_.degree == 3
    same = np.ones((6, 2))
    assert clone(quick_net).fit(same, [0, 1, 0, 1, 0, 1]).margin_ <= 0


def test_random_state_decides_the_net():
    x, y = _xor()
    one, again, other = (
        clone(quick_net).set_params(random_state=state).fit(x, y).params_[0]
        for state in (0, np.random.RandomState(0), 1)
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01


def test_sizes_are_rounded_up_by_little():
    for size in (1, 31, 32, 33, 129, 300, 513, 1000, 12345):
        assert size <= arrays.rounded_up(size) <= max(32, size + 31, 1.25 * size)
    assert len({arrays.rounded_up(n) for n in range(900, 1000)}) == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"predictor": "svm"}, ValueError, "`predictor` must be one of"),
        ({"l2": 0}, ValueError, "`l2` must be a finite number > 0"),
        ({"kernel": "rbf"}, ValueError, "`kernel` must be one of 'ntk', 'nngp'"),
        ({"depth": 0}, ValueError, "`depth` must be an integer >= 1"),
        ({"bias": "no"}, TypeError, "`bias` must be a finite number"),
        ({"standardize": 1}, TypeError, "`standardize` must be a bool; got 1"),
        ({"activation": "sine"}, ValueError, "`activation` must be one of"),
    ],
)
def test_parameters_are_checked_by_fit(options, error, message):
    x, y = _xor()
    with pytest.raises(error, match=message):
        NTKClassifier(**options).fit(x, y)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"l2s": (1e-3, 1e-2)}, ValueError, "`l2s` must decrease strictly"),
        ({"l2s": 1e-3}, TypeError, "`l2s` must be a non-empty sequence"),
        ({"l2s": ()}, TypeError, "`l2s` must be a non-empty sequence"),
        ({"steps": 0}, ValueError, "`steps` must be an integer >= 1"),
        ({"learning_rate": 0}, ValueError, "`learning_rate` must be"),
        ({"hidden_layer_sizes": 8}, TypeError, "`hidden_layer_sizes` must be a sequence"),
        ({"hidden_layer_sizes": (0,)}, ValueError, "`hidden_layer_sizes` must be an integer >= 1"),
        ({"certify": True, "hidden_layer_sizes": (8, 8)}, ValueError, "`certify` is for two"),
        ({"certify": True, "activation": "abs"}, ValueError, "`certify` is for two"),
    ],
)
def test_parameters_of_the_net_are_checked_by_fit(options, error, message):
    x, y = _xor()
    with pytest.raises(error, match=message):
        MaxMarginNetClassifier(**options).fit(x, y)


def test_bad_data_are_refused():
    x, y = _xor()
    with pytest.raises(ValueError, match="at least 2 classes; got 1 class"):
        NTKClassifier().fit(x, np.ones(64))
    with pytest.raises(ValueError, match="`certify` is for two classes"):
        MaxMarginNetClassifier(certify=True).fit(x, np.arange(64) % 3)
    with pytest.raises(ValueError, match="`l2` must be"):
        NTKRegressor(l2=-1).fit(x, y)
    with pytest.raises(ValueError, match="not separable by this kernel"):
        NTKClassifier(predictor="hard_margin").fit(np.ones((4, 2)), [0, 1, 0, 1])
    if jnp.zeros(()).dtype == jnp.float32:
        huge = NTKClassifier(standardize=False)
        with pytest.raises(
            ValueError, match=r"`X` must be at most 3.4e\+38 in float32; got 1e\+50"
        ):
            huge.fit(np.full((4, 2), 1e50), [0, 1, 0, 1])


def test_without_scikit_learn_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['sklearn.utils.validation'] = None; import kernelgap as kg\n"
        "assert 'sklearn' in dir(kg)\n"
        "try: kg.sklearn\n"
        "except ImportError as error: assert \"pip install 'kernelgap[sklearn]'\" in str(error)\n"
        "else: raise AssertionError"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
