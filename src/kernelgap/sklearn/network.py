"""A net trained towards the largest normalised margin, as a scikit-learn estimator."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state

from kernelgap import margins, metrics, models
from kernelgap._numerics import checks
from kernelgap.models import Activation, Model, Params
from kernelgap.sklearn import arrays

_EASY = 1e15  # output of padding rows, at which their loss is zero


class MaxMarginNetClassifier(ClassifierMixin, BaseEstimator):
    r"""A net without biases, trained towards the largest normalised margin.

    Along decreasing lambda, `margins.regularization_path` minimises
    mean_i log(1 + exp(-y_i f(Theta; x_i))) + lambda ||Theta||^2, each from the
    previous solution. On data that some net separates, the normalised margin min_i y_i f(x_i) /
    ||Theta||^a tends to the largest one, as far as the minimisation succeeds. Other data are fitted
    too, with a negative margin. Several classes are fitted at once, by softmax.

    There is no `predict_proba`: probabilities would be overconfident as lambda -> 0.

    Args:
        hidden_layer_sizes: Widths of the hidden layers.
        activation: `"relu"`, `"leaky_relu"`, `"abs"` or a `models.Activation`.
        bias: Value of a constant feature that is appended to the inputs, so that the first layer
            has biases; 0 for none, as in the papers.
        standardize: If True, subtract the mean of each feature and divide all features by one
            number, the root mean square of the result, so that `l2s` and `bias` have the same
            meaning in any units; if False, use the inputs as they are, as in the papers.
        l2s: Strengths lambda, positive and decreasing.
        steps: Full-batch Adam steps for each lambda.
        learning_rate: Adam learning rate.
        certify: If True, compute `upper_`, for two classes, one hidden layer and `"relu"` only. It
            takes seconds for a few hundred samples, and more than the training for thousands.
        random_state: Seed of the initial weights, an int, a `RandomState` or None.

    Attributes:
        classes_: The labels, in order.
        params_: Parameters of `model_`, NumPy arrays with ||Theta|| = 1.
        margin_: The normalised margin on the training set, for the inputs as shifted and scaled.
            Two classes have labels -1 for the first and +1 for the second.
        upper_: An upper bound on the normalised margin of every net of any width on the same
            inputs, if `certify` is set.
        mean_, scale_: Shift and scale of the inputs, ``(x - mean_) / scale_``.
        n_features_in_: Number of features.
        feature_names_in_: Names of the features, if X has names.

    Raises:
        ValueError: From `fit`, if y holds one class, or `certify` is set for a net that has no
            certificate.
        TypeError: From `fit`, if X is sparse.

    Example:
        >>> import jax, numpy as np, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 100, 6)
        >>> net = kg.sklearn.MaxMarginNetClassifier(
        ...     bias=0, standardize=False, certify=True, random_state=0)
        >>> net = net.fit(np.asarray(x), np.asarray(y))
        >>> bool(0.12 < net.margin_ <= net.upper_ < 0.13)  # the planted net has 1/8
        True

    References:
        Paper A, its theorem on weak regularisation. For the path and the bound see
        `margins.regularization_path` and `margins.upper_bound`. The defaults are this project's.
    """

    def __init__(
        self,
        *,
        hidden_layer_sizes: Sequence[int] = (128,),
        activation: str | Activation = "relu",
        bias: float = 1.0,
        standardize: bool = True,
        l2s: Sequence[float] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
        steps: int = 500,
        learning_rate: float = 1e-2,
        certify: bool = False,
        random_state: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.bias = bias
        self.standardize = standardize
        self.l2s = l2s
        self.steps = steps
        self.learning_rate = learning_rate
        self.certify = certify
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "MaxMarginNetClassifier":
        """Fit to inputs X of shape (n, d) and labels y of shape (n,)."""
        l2s = np.asarray(checks.decreasing(self.l2s, "l2s"))
        steps = checks.integer(self.steps, "steps", minimum=1)
        checks.number(self.learning_rate, "learning_rate", minimum=0, exclusive=True)
        x, y = arrays.training_set(self, X, y)
        self.classes_, index = arrays.encoded(y)
        model = self._model()
        if self.certify and not _has_certificate(model):
            raise ValueError("`certify` is for two classes, one hidden layer and 'relu'; "
                             f"got {len(self.classes_)} classes and {model.spec}")  # fmt: skip
        x = arrays.fit_inputs(self, x)
        labels = arrays.targets(self.classes_, index, x.dtype)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        params = model.init(jax.random.key(seed), x.shape[1], x.dtype)
        rate = float(self.learning_rate)
        params = _trained(model, params, x, labels, l2s, steps, rate)
        norm = np.sqrt(sum(np.sum(np.square(w, dtype=np.float64)) for w in params))
        # Scaling all weights does not change the predictions of a homogeneous net.
        self.params_ = tuple((np.asarray(w) / (norm or 1)).astype(w.dtype) for w in params)
        outputs = _outputs(model, self.params_, x)
        self.margin_ = float(np.min(metrics.output_margins(outputs, jnp.asarray(labels))))
        if self.certify:
            self.upper_ = margins.upper_bound(x, labels).value
        return self

    @property
    def model_(self) -> Model:
        """The net, a `models.homogeneous_mlp`; its inputs include the constant feature, if any."""
        return self._model()

    def decision_function(self, X: Any) -> np.ndarray:
        """Return f(x) / ||Theta||^a: (n,), positive for the second class of two, or (n, k)."""
        x = arrays.new_inputs(self, X)
        outputs = _outputs(self._model(), self.params_, arrays.prepared(self, x))
        return np.asarray(outputs).astype(x.dtype)

    def predict(self, X: Any) -> np.ndarray:
        """Return the labels of shape (n,)."""
        values = self.decision_function(X)
        index = values.argmax(axis=1) if values.ndim == 2 else (values > 0).astype(int)
        return self.classes_[index]

    def _model(self) -> Model:
        sizes = self.hidden_layer_sizes
        if isinstance(sizes, str) or not isinstance(sizes, Sequence | np.ndarray):
            raise TypeError(f"`hidden_layer_sizes` must be a sequence of widths, such as (128,); "
                            f"got {sizes!r:.40}")  # fmt: skip
        sizes = tuple(checks.integer(size, "hidden_layer_sizes", minimum=1) for size in sizes)
        outputs = None if len(self.classes_) == 2 else len(self.classes_)
        activation: Any = self.activation
        return models.homogeneous_mlp(sizes, activation=activation, outputs=outputs)


def _has_certificate(model: Model) -> bool:
    spec = model.spec
    relu = models.relu_power(1)
    return len(spec.widths) == 1 and spec.activation == relu and spec.outputs is None


def _outputs(model: Model, params: Any, x: np.ndarray) -> jax.Array:
    inputs = arrays.padded(x.astype(params[0].dtype))
    return _apply(model, params, inputs)[: len(x)]


@partial(jax.jit, static_argnames="model")
def _apply(model: Model, params: Params, x: jax.Array) -> jax.Array:
    return model.apply(params, x)


def _trained(
    model: Model,
    params: Params,
    x: np.ndarray,
    y: np.ndarray,
    l2s: np.ndarray,
    steps: int,
    learning_rate: float,
) -> Params:
    """Return the parameters at the end of the path, trained in one of few shapes."""
    n, d = x.shape
    rows, columns = arrays.rounded_up(n) - n, max(4, 2 ** (d - 1).bit_length()) - d
    x = np.pad(x, ((0, rows), (0, columns)))
    y = np.pad(y, (0, rows), mode="edge")
    first = jnp.pad(params[0], [(0, 0)] * (params[0].ndim - 1) + [(0, columns)])
    # Padding rows have no loss, so that the mean over all rows is n / (n + rows) of the mean.
    strengths = jnp.asarray(n / (n + rows) * l2s, x.dtype)
    last = _path(model, (first, *params[1:]), x, y, n, strengths, steps, learning_rate)
    return (last[0][..., :d], *last[1:])


@partial(jax.jit, static_argnames=("model", "steps", "learning_rate"))
def _path(
    model: Model,
    params: Params,
    x: jax.Array,
    y: jax.Array,
    n: jax.Array,
    l2s: jax.Array,
    steps: int,
    learning_rate: float,
) -> Params:
    """Follow the path on the first n rows; padding rows get the outputs that their labels want."""
    k = model.spec.outputs
    easy = _EASY * (y if k is None else jax.nn.one_hot(y, k, dtype=x.dtype))
    counts = (jnp.arange(len(x)) < n).reshape((-1,) + (1,) * (easy.ndim - 1))

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return jnp.where(counts, model.apply(params, x), easy)

    path = margins.regularization_path(
        replace(model, apply=apply), params, x, y,
        l2s=l2s, steps=steps, learning_rate=learning_rate,
    )  # fmt: skip
    return path.params
