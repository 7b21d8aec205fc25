"""From scikit-learn's arrays to JAX's: checks, dtypes, a constant input, few shapes.

JAX compiles a program for each shape. The folds of a cross-validation differ in size by a sample:
rounding sizes up to a few values lets them share compiled programs.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from kernelgap._numerics import checks

_DTYPES = (np.float64, np.float32)  # dtypes that are kept; all others become the first


def training_set(
    estimator: Any, x: Any, y: Any, *, real: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs (n, d) and labels (n,), or real targets (n,) or (n, k), of a fit."""
    options = {"multi_output": True, "y_numeric": True} if real else {}
    x, y = validate_data(estimator, x, y, dtype=_DTYPES, **options)
    return np.asarray(x), np.asarray(y)


def encoded(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes in order and the index of each label; refuse real targets or one class."""
    check_classification_targets(y)
    classes, index = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"`y` must hold at least 2 classes; got 1 class, {classes[0]!r}")
    return classes, index


def targets(classes: np.ndarray, index: np.ndarray, dtype: Any) -> np.ndarray:
    """Return signs, +1 for the second of two classes, else the index of each class."""
    return np.where(index == 1, 1, -1).astype(dtype) if len(classes) == 2 else index


def new_inputs(estimator: Any, x: Any) -> np.ndarray:
    """Return inputs of a prediction, with as many features as the estimator was fitted with."""
    check_is_fitted(estimator)
    return np.asarray(validate_data(estimator, x, reset=False, dtype=_DTYPES))


def fit_inputs(estimator: Any, x: np.ndarray) -> np.ndarray:
    """Set `mean_` and `scale_`, and return the inputs for the computation; see `prepared`."""
    checks.number(estimator.bias, "bias")
    if not isinstance(estimator.standardize, bool | np.bool_):
        raise TypeError(f"`standardize` must be a bool; got {estimator.standardize!r:.40}")
    mean, scale = np.zeros(x.shape[1]), 1.0
    if estimator.standardize:
        unit = binary_scale(x)  # sums of squares neither overflow nor underflow
        mean = (x / unit).mean(axis=0)
        scale = unit * (float(np.sqrt(np.mean(np.square(x / unit - mean)))) or 1.0)
        mean = unit * mean
    estimator.mean_, estimator.scale_ = mean, scale
    inputs = prepared(estimator, x)
    size, least = float(np.max(np.abs(x - mean)) / scale), float(np.finfo(inputs.dtype).tiny)
    if 0 < size < least:
        raise ValueError(f"`X` must be at least {least:.2g} in {inputs.dtype}; got entries up to "
                         f"{size:.2g}. Scale it")  # fmt: skip
    return inputs


def prepared(estimator: Any, x: np.ndarray) -> np.ndarray:
    """Return (x - mean_) / scale_ and the constant feature, in the dtype of the computation."""
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    scaled = (x - estimator.mean_) / estimator.scale_
    largest = float(np.finfo(dtype).max)
    if not np.abs(scaled).max() <= largest:
        raise ValueError(f"`X` must be at most {largest:.2g} in {dtype}; got "
                         f"{np.abs(scaled).max():.2g}. Scale it")  # fmt: skip
    constant = np.full((len(x), 1 if estimator.bias else 0), estimator.bias)
    return np.concatenate([scaled, constant], axis=1).astype(dtype)


def binary_scale(values: np.ndarray) -> float:
    """Return the power of two below the largest absolute value; 1 if all values are zero."""
    largest = float(np.max(np.abs(values)))
    return float(np.ldexp(1.0, np.frexp(largest)[1] - 1)) if largest > 0 else 1.0


def rounded_up(size: int) -> int:
    """Round up to multiples of 32, of 64 above 256, and so on: by at most 1/4 above 128."""
    step = max(32, 2 ** ((size - 1).bit_length() - 3))
    return -(-size // step) * step


def padded(x: np.ndarray) -> jax.Array:
    """Return the rows followed by copies of the last one, `rounded_up` in number."""
    return jnp.asarray(np.pad(x, ((0, rounded_up(len(x)) - len(x)), (0, 0)), mode="edge"))
