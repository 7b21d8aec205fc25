"""Predictors in the span of a kernel as scikit-learn estimators."""

from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if

from kernelgap import kernels, models, predictors
from kernelgap._numerics import checks
from kernelgap.kernels.functions import KernelFunction
from kernelgap.models import Activation
from kernelgap.predictors import KernelPredictor
from kernelgap.sklearn import arrays


class _KernelMachine(BaseEstimator):
    """Base of classifier and regressor: their kernel, and the values of the fitted predictor."""

    kernel: Any
    depth: Any
    activation: Any
    predictor_: KernelPredictor

    def _kernel(self) -> KernelFunction:
        if callable(self.kernel):
            return self.kernel  # type: ignore[return-value]
        checks.choice(self.kernel, "kernel", ("ntk", "nngp"))
        depth = checks.integer(self.depth, "depth", minimum=1)
        # He's scale keeps the size of the kernel of ReLU nets at every depth.
        net = models.mlp(
            (1,) * depth,
            activation=self.activation,
            parameterization="ntk",
            init_scale=2**0.5,
        )
        return kernels.ntk(net) if self.kernel == "ntk" else kernels.nngp(net)

    def _values(self, x: Any) -> np.ndarray:
        x = arrays.new_inputs(self, x)
        inputs = arrays.prepared(self, x).astype(self.predictor_.x.dtype)
        values = self.predictor_.decision_function(arrays.padded(inputs))
        return np.asarray(values)[: len(x)].astype(x.dtype)


def _has_probabilities(estimator: Any) -> bool:
    return estimator.predictor == "logistic"


class NTKClassifier(ClassifierMixin, _KernelMachine):
    r"""Classification by a neural tangent kernel.

    By default it is l2-regularised kernel logistic regression, the minimiser of
    mean_i log(1 + exp(-y_i f(x_i))) + l2 ||f||^2 over the kernel's Hilbert space, for any data. The
    hard-margin SVM, its limit for l2 -> 0, needs data that the kernel separates. More than two
    classes are fitted one-versus-rest. It takes memory for n^2 numbers, and time n^3 up to a few
    thousand samples.

    Args:
        kernel: `"ntk"` or `"nngp"` of an infinitely wide net; or any kernel of this library, or a
            function `kernel(x1, x2=None) -> (n1, n2)`, called with the features and the bias.
        depth: Number of hidden layers of the net, at least 1. Not used with a kernel of your own.
        activation: Activation of the net, as for `models.mlp`: a name such as `"relu"` or `"gelu"`,
            or a `models.Activation`. Not used with a kernel of your own.
        bias: Value of a constant feature that is appended to the inputs, which makes the kernel
            that of a net with biases in its first layer; 0 for none, as in the papers.
        standardize: If True, subtract the mean of each feature and divide all features by one
            number, the root mean square of the result, so that `l2` and `bias` have the same
            meaning in any units; if False, use the inputs as they are, as in the papers.
        predictor: `"logistic"`, `"hard_margin"` (see `predictors.hard_margin_svm`) or `"ridge"`.
        l2: Strength of the regularisation, positive. For the logistic loss as above,
            scikit-learn's C is 1 / (2 n l2). For the ridge, n l2 is added to the kernel's diagonal,
            and f minimises mean_i (f(x_i) - y_i)^2 + l2 ||f||^2. Not used by the hard margin.
        tol: Relative duality gap to reach.

    Attributes:
        classes_: The labels, in order.
        predictor_: The fitted `predictors.KernelPredictor`, with its certificate. For two classes
            its labels are -1 for the first and +1 for the second.
        mean_, scale_: Shift and scale of the inputs, ``(x - mean_) / scale_``.
        n_features_in_: Number of features.
        feature_names_in_: Names of the features, if X has names.

    Raises:
        ValueError: From `fit`, if y holds one class, or the kernel does not separate the data for
            the hard margin.
        TypeError: From `fit`, if X is sparse.

    Example:
        >>> import kernelgap as kg
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> x, y = load_iris(return_X_y=True)
        >>> net = make_pipeline(StandardScaler(), kg.sklearn.NTKClassifier())
        >>> net.fit(x[::2], y[::2]).score(x[1::2], y[1::2]) > 0.9
        True

    References:
        See `predictors.kernel_logistic`, `hard_margin_svm`, `kernel_ridge` and `kernels.ntk`. The
        defaults are this project's.
    """

    def __init__(
        self,
        *,
        kernel: Literal["ntk", "nngp"] | KernelFunction = "ntk",
        depth: int = 1,
        activation: str | Activation = "relu",
        bias: float = 1.0,
        standardize: bool = True,
        predictor: Literal["logistic", "hard_margin", "ridge"] = "logistic",
        l2: float = 1e-4,
        tol: float = 1e-4,
    ) -> None:
        self.kernel = kernel
        self.depth = depth
        self.activation = activation
        self.bias = bias
        self.standardize = standardize
        self.predictor = predictor
        self.l2 = l2
        self.tol = tol

    def fit(self, X: Any, y: Any) -> "NTKClassifier":
        """Fit to inputs X of shape (n, d) and labels y of shape (n,)."""
        checks.choice(self.predictor, "predictor", ("logistic", "hard_margin", "ridge"))
        checks.number(self.l2, "l2", minimum=0, exclusive=True)
        kernel = self._kernel()
        x, y = arrays.training_set(self, X, y)
        self.classes_, index = arrays.encoded(y)
        x = jnp.asarray(arrays.fit_inputs(self, x))
        y = jnp.asarray(arrays.targets(self.classes_, index, x.dtype))
        classes = None if len(self.classes_) == 2 else len(self.classes_)
        if self.predictor == "hard_margin":
            fitted = predictors.hard_margin_svm(kernel, x, y, classes=classes, tol=self.tol)
        elif self.predictor == "ridge":
            fitted = predictors.kernel_ridge(
                kernel, x, y, l2=self.l2, reduction="mean", classes=classes, tol=self.tol
            )
        else:
            fitted = predictors.kernel_logistic(
                kernel, x, y, l2=self.l2, classes=classes, tol=self.tol
            )
        self.predictor_ = fitted
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return f(x): shape (n,), positive for the second of two classes, or (n, classes)."""
        return self._values(X)

    def predict(self, X: Any) -> np.ndarray:
        """Return the labels of shape (n,)."""
        values = self._values(X)
        index = values.argmax(axis=1) if values.ndim == 2 else (values > 0).astype(int)
        return self.classes_[index]

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of shape (n, classes), for `predictor="logistic"` only.

        They are the logistic function of f. For several classes, the values of the one-versus-rest
        problems are divided by their sum, as in scikit-learn's `OneVsRestClassifier`.
        """
        values = self._values(X)
        if values.ndim == 1:
            return np.stack([expit(-values), expit(values)], axis=1)
        each = expit(values)
        return each / each.sum(axis=1, keepdims=True)


class NTKRegressor(RegressorMixin, _KernelMachine):
    r"""Ridge regression by a neural tangent kernel.

    It minimises mean_i (f(x_i) + c - y_i)^2 + l2 ||f||^2 over the kernel's Hilbert space, where c
    is the mean of y. Several targets are fitted at once.

    Args:
        kernel: As in `NTKClassifier`, like the arguments up to `standardize`.
        depth: Number of hidden layers of the net, at least 1.
        activation: Activation of the net.
        bias: Value of the constant feature; 0 for none.
        standardize: If True, shift and scale the inputs.
        l2: Strength of the regularisation, at least 0. scikit-learn's alpha is n l2. For 0, f is
            the interpolant of least norm.
        tol: Relative residual to reach.

    Attributes:
        intercept_: The mean of y, of shape () or (k,).
        target_scale_: A power of two near the size of ``y - intercept_``.
        predictor_: The `predictors.KernelPredictor`, fitted to
            ``(y - intercept_) / target_scale_``.
        mean_, scale_: Shift and scale of the inputs, ``(x - mean_) / scale_``.
        n_features_in_: Number of features.
        feature_names_in_: Names of the features, if X has names.

    Raises:
        TypeError: From `fit`, if X is sparse.

    Example:
        >>> import numpy as np, kernelgap as kg
        >>> x = np.linspace(-3, 3, 50)[:, None]
        >>> kg.sklearn.NTKRegressor(l2=1e-5).fit(x, np.sin(x[:, 0])).score(x, np.sin(x[:, 0])) > 0.9
        True

    References:
        See `predictors.kernel_ridge` and `kernels.ntk`. The defaults are this project's.
    """

    def __init__(
        self,
        *,
        kernel: Literal["ntk", "nngp"] | KernelFunction = "ntk",
        depth: int = 1,
        activation: str | Activation = "relu",
        bias: float = 1.0,
        standardize: bool = True,
        l2: float = 1e-3,
        tol: float = 1e-4,
    ) -> None:
        self.kernel = kernel
        self.depth = depth
        self.activation = activation
        self.bias = bias
        self.standardize = standardize
        self.l2 = l2
        self.tol = tol

    def fit(self, X: Any, y: Any) -> "NTKRegressor":
        """Fit to inputs X of shape (n, d) and real targets y of shape (n,) or (n, k)."""
        checks.number(self.l2, "l2", minimum=0)
        kernel = self._kernel()
        x, y = arrays.training_set(self, X, y, real=True)
        x = arrays.fit_inputs(self, x)
        y = y.astype(np.float64)
        unit = arrays.binary_scale(y)
        centred = y / unit - (y / unit).mean(axis=0)
        self.intercept_ = unit * (y / unit).mean(axis=0)
        spread = arrays.binary_scale(centred)
        self.target_scale_ = unit * spread
        centred = jnp.asarray((centred / spread).astype(x.dtype))
        self.predictor_ = predictors.kernel_ridge(
            kernel, jnp.asarray(x), centred, l2=self.l2, reduction="mean", tol=self.tol
        )
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the values of f, of shape (n,) or (n, k)."""
        values = self._values(X)
        return (values * self.target_scale_ + self.intercept_).astype(values.dtype)

    def __sklearn_tags__(self) -> Any:
        """Declare that several targets can be fitted at once."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
