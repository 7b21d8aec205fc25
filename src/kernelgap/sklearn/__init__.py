"""scikit-learn estimators over this library's kernel predictors and nets.

`NTKClassifier` and `NTKRegressor` fit a predictor in the span of a kernel, `MaxMarginNetClassifier`
trains a net towards the largest normalised margin. They work in pipelines, grid searches and
everywhere else scikit-learn's estimators do. Only this module imports scikit-learn (extra
`sklearn`).

For inputs of dtype float32, computations and results are in float32. scikit-learn converts all
other inputs to float64. Computations are then in float64 if `jax_enable_x64` is on; if it is off,
JAX rounds all arrays to float32, and the float64 results have seven correct digits.
"""

from kernelgap._support.extras import missing_extra

try:
    from sklearn.utils.validation import validate_data as _needed  # noqa: F401
except ImportError as error:
    raise missing_extra(
        "kernelgap.sklearn needs", "scikit-learn 1.6 or newer", "sklearn"
    ) from error

from kernelgap.sklearn.machines import NTKClassifier, NTKRegressor
from kernelgap.sklearn.network import MaxMarginNetClassifier

__all__ = ["MaxMarginNetClassifier", "NTKClassifier", "NTKRegressor"]
