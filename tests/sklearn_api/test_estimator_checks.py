"""scikit-learn's own checks of an estimator, nearly all of whose time is JAX compiling new shapes."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from kernelgap.sklearn import MaxMarginNetClassifier, NTKClassifier, NTKRegressor

pytestmark = pytest.mark.slow

quick_net = MaxMarginNetClassifier(hidden_layer_sizes=(32,), steps=100, random_state=0)


# Nothing is expected to fail. Three checks that need SCIPY_ARRAY_API skip themselves.
@parametrize_with_checks([NTKClassifier(), NTKRegressor(), quick_net])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
