"""Mistakes of a first day, and what the errors say of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg
from kernelgap.studies.estimates import mean_interval

key = jax.random.key(0)
x, y = kg.datasets.xor_noise(key, 8, 3)
model = kg.models.homogeneous_mlp((4,))
params = model.init(key, 3)
kernel = kg.kernels.ntk(model)
column = kg.models.homogeneous_mlp((4,), outputs=1)  # as flax's nn.Dense(1) makes them


@pytest.mark.parametrize("labels", [(y + 1) / 2, ((y + 1) / 2).astype(int), y > 0])
def test_labels_zero_and_one(labels):
    with pytest.raises(ValueError, match=r"For labels 0 and 1 pass 2.0 \* y - 1"):
        kg.predictors.hard_margin_svm(kernel, x, labels)


def test_other_labels_get_no_hint():
    with pytest.raises(ValueError, match=r"only; got \[3.0\]$"):
        kg.predictors.hard_margin_svm(kernel, x, y.at[0].set(3.0))


def test_outputs_with_a_last_axis_of_one():
    loss = kg.objectives.regularized_logistic(column.apply, l2=0.1)
    with pytest.raises(ValueError, match=r"got \(8, 1\): use apply\(params, x\)\[:, 0\]"):
        loss(column.init(key, 3), x, y)


def test_signs_as_classes():
    with pytest.raises(ValueError, match="Labels -1 and \\+1 are floats"):
        kg.metrics.target_alignment(kernel(x), y.astype(int))


def test_parameters_where_weights_are_asked_for():
    with pytest.raises(TypeError, match="`w` must be an array of numbers; got a tuple of 2"):
        kg.diversity.smallest_singular_value(params, x)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize(
    "fit",
    [
        lambda x, y: kg.predictors.hard_margin_svm(kernel, x, y),
        lambda x, y: kg.predictors.kernel_logistic(kernel, x, y, l2=0.1),
        lambda x, y: kg.predictors.kernel_ridge(kernel, x, y, l2=0.1),
        lambda x, y: kg.predictors.best_in_span(kernel, x, x, y),
    ],
)
def test_half_precision_in_predictors(fit, dtype):
    with pytest.raises(TypeError, match="must be float32 or float64.*got (bfloat16|float16)"):
        fit(x.astype(dtype), y.astype(dtype))


@pytest.mark.parametrize("room", [kg, kg.kernels, kg.testing], ids=lambda room: room.__name__)
def test_tab_completion_offers_our_names_only(room):
    offered = dir(room)
    assert set(room.__all__) <= set(offered)
    assert not {"Any", "TYPE_CHECKING", "import_module", "missing_extra"} & set(offered)


@pytest.mark.parametrize("lowest", [0.0, -np.inf])
def test_a_mean_that_does_not_exist_has_no_interval(lowest):
    assert np.isnan(mean_interval([0.1, np.nan], (lowest, np.inf))).all()


@pytest.mark.parametrize("own", [kg.models.Model(model.init, model.apply, 2), model.apply])
def test_kernels_of_nets_of_ones_own(own):
    with pytest.raises(TypeError, match=r"have kernels.empirical_ntk\(apply, params\)"):
        kg.kernels.ntk(own)


def test_saving_a_net_of_ones_own(tmp_path):
    own = kg.models.Model(model.init, model.apply, 2)
    with pytest.raises(
        TypeError, match="a Model with functions of your own, which cannot be saved.*its parameters"
    ):
        kg.save(tmp_path / "own.npz", (own, params))


def test_gradients_where_features_are_dependent():
    """Equal samples: the singular value is 0 but for rounding, and may be moved all the same."""
    equal = jnp.concatenate([x[:4], x[:4]])
    w = jax.random.normal(key, (6, 3), x.dtype)
    gradient = jax.grad(lambda x: kg.diversity.smallest_singular_value(w, x).value)
    assert jnp.isfinite(gradient(equal)).all()
    assert jnp.isfinite(gradient(equal.at[0].set(0.0))).all()  # a sample without active unit


def test_tuples_of_numbers_are_arrays():
    nets = kg.objectives.regularized_logistic(model.apply, l2=0.1)
    listed = nets(params, x, [1.0, -1.0] * 4)
    assert nets(params, x, (1.0, -1.0) * 4) == listed
