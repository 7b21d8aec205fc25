"""Estimators on tables of any scale."""

import numpy as np
import pytest

import kernelgap as kg

rng = np.random.default_rng(0)
X = rng.standard_normal((40, 3))
Y = np.stack([np.sin(X[:, 0]) + 0.1 * X[:, 1], 5 + X[:, 2]], axis=1)


@pytest.mark.parametrize(
    ("of_x", "of_y", "dtype"),
    [(1e-300, 1.0, "f8"), (1e-150, 1e-300, "f8"), (1e300, 1e300, "f8"), (1e30, 1e-30, "f4")],
)
def test_standardised_regression_is_homogeneous(of_x, of_y, dtype):
    regressor = kg.sklearn.NTKRegressor()
    plain = regressor.fit(X, Y).predict(X)
    x, y = (of_x * X).astype(dtype), (of_y * Y).astype(dtype)
    scaled = regressor.fit(x, y).predict(x)
    np.testing.assert_allclose(np.float64(scaled) / of_y, plain, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_standardised_classification_does_not_see_the_scale(scale):
    classifier, labels = kg.sklearn.NTKClassifier(), np.where(Y[:, 0] > 0, "up", "down")
    plain = classifier.fit(X, labels).decision_function(X)
    scaled = classifier.fit(scale * X, labels).decision_function(scale * X)
    np.testing.assert_allclose(scaled, plain, atol=1e-4)


def test_unscaled_tables_that_float32_does_not_hold_are_refused():
    for scale in (1e-300, 1e300):
        with pytest.raises(ValueError, match=r"`X` must be .* in float32; got .* Scale it"):
            kg.sklearn.NTKRegressor(standardize=False).fit(scale * X, Y)


def test_an_offset_that_float32_does_not_carry_gives_a_warning():
    offset = kg.sklearn.NTKRegressor(standardize=False, l2=1e-6)
    with pytest.warns(RuntimeWarning, match="relative residual"):
        offset.fit(X + 1000, Y)
    standardised = kg.sklearn.NTKRegressor()
    np.testing.assert_allclose(
        standardised.fit(X + 1000, Y).predict(X + 1000),
        standardised.fit(X, Y).predict(X),
        atol=1e-4,
    )
