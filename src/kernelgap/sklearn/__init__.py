"""scikit-learn estimators over this library's kernel predictors and nets.

`NTKClassifier` and `NTKRegressor` fit a predictor in the span of a kernel, `MaxMarginNetClassifier`
trains a net towards the largest normalised margin. They work in pipelines, grid searches and
wherever else scikit-learn's estimators do; this room alone imports scikit-learn (extra `sklearn`).

Inputs of dtype float32 are computed with in float32, and results are float32. All other inputs are
float64 to scikit-learn: they are computed with in float64 where `jax_enable_x64` is on, and rounded
to float32 where it is off, like all arrays that meet JAX. Results are float64 then, with seven
digits of it meant.
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
