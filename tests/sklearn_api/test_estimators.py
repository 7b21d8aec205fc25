from sklearn.utils.estimator_checks import parametrize_with_checks

import kernelgap.sklearn as ks


@parametrize_with_checks(
    [
        ks.NTKClassifier(),
        ks.NTKRegressor(),
        ks.MaxMarginNetClassifier(hidden_layer_sizes=(32,), steps=100, random_state=0),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
