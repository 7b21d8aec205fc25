"""scikit-learn estimators over this library's kernel predictors and nets.

`NTKClassifier` and `NTKRegressor` fit a predictor in the span of a kernel, `MaxMarginNetClassifier`
trains a net towards the largest normalised margin. They work in pipelines, grid searches and
wherever else scikit-learn's estimators do; this room alone imports scikit-learn (extra `sklearn`).

Inputs of dtype float32 are computed with in float32. All others are float64 to scikit-learn, and
are computed with in float64 where `jax_enable_x64` is on and in float32 where it is off, as all
arrays that meet JAX. Results have the dtype that was computed with.
"""

try:
    from sklearn.utils.validation import validate_data as _needed  # noqa: F401
except ImportError as error:
    raise ImportError(
        "kernelgap.sklearn needs scikit-learn 1.6 or newer: pip install 'kernelgap[sklearn]'"
    ) from error

from kernelgap.sklearn.machines import NTKClassifier, NTKRegressor
from kernelgap.sklearn.network import MaxMarginNetClassifier

__all__ = ["MaxMarginNetClassifier", "NTKClassifier", "NTKRegressor"]
