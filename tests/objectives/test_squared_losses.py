import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
from helpers import assert_close, keys, models

key = jax.random.key(0)
linear = kg.models.homogeneous_mlp(())


def _problem(model, key, n=7):
    params = model.init(key, 3)
    x = jax.random.normal(jax.random.fold_in(key, 1), (n, 3))
    y = jax.random.normal(jax.random.fold_in(key, 2), model.apply(params, x).shape)
    return params, x, y


@given(models, keys, st.sampled_from([0.5, 2.0, 3.0]), st.sampled_from(["mean", "sum"]))
def test_equals_its_formula_in_numpy(model, key, power, reduction):
    params, x, y = _problem(model, key)
    loss = kg.objectives.regularized_squared(model.apply, l2=0.3, power=power, reduction=reduction)
    residuals = np.float64(model.apply(params, x)) - np.float64(y)
    expected = (residuals**2).sum() / 2 / (7 if reduction == "mean" else 1)
    expected += 0.3 * sum(np.sum(np.float64(w) ** 2) for w in params) ** (power / 2)
    assert_close(loss(params, x, y), expected, factor=500)


@given(models, keys)
def test_sum_and_mean_have_the_same_minimisers(model, key):
    params, x, y = _problem(model, key)
    mean = kg.objectives.regularized_squared(model.apply, l2=0.1)(params, x, y)
    total = kg.objectives.regularized_squared(model.apply, l2=0.7, reduction="sum")
    assert_close(total(params, x, y), 7 * mean)


_gradient = jax.jit(jax.grad(kg.objectives.regularized_squared(linear.apply)))


@given(keys)
def test_least_squares_has_the_gradient_and_minimum_of_numpy(key):
    params, x, y = _problem(linear, key)
    inputs, targets = np.float64(x), np.float64(y)
    expected = inputs.T @ (inputs @ np.float64(params[0]) - targets) / 7
    np.testing.assert_allclose(_gradient(params, x, y)[0], expected, atol=1e-5 * len(y) * 10)
    best = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    at_best = _gradient((jnp.asarray(best, x.dtype),), x, y)[0]
    assert float(jnp.max(jnp.abs(at_best))) < 1e-4


def test_one_hot_targets_per_sample():
    outputs = jnp.array([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])
    y = jax.nn.one_hot(jnp.array([0, 1]), 3)
    np.testing.assert_array_equal(kg.objectives.squared_losses(outputs, y), [2.0, 0.0])


def test_transforms_traced_l2_and_huge_parameters():
    params, x, y = _problem(linear, key)
    value = lambda l2: kg.objectives.regularized_squared(linear.apply, l2=l2)(params, x, y)
    values = jax.jit(jax.vmap(value))(jnp.array([0.0, 0.1, 0.2]))
    squared = float(jnp.sum(params[0] ** 2))
    np.testing.assert_allclose(jnp.diff(values), 0.1 * squared, rtol=1e-4)
    huge = (jnp.full(3, 1e25),)
    loss = kg.objectives.regularized_squared(linear.apply, l2=0.0)
    assert float(loss(huge, 1e-25 * jnp.ones((2, 3)), 3 * jnp.ones(2))) < 1e-8


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"apply": 3}, TypeError, "`apply` must be a function"),
        ({"l2": -1.0}, ValueError, "`l2` must be a finite number >= 0; got -1"),
        ({"l2": "1"}, TypeError, "`l2`"),
        ({"power": 0}, ValueError, "`power` must be a finite number > 0"),
        ({"reduction": "max"}, ValueError, "`reduction` must be one of 'mean', 'sum'"),
    ],
)
def test_refuses(options, error, match):
    with pytest.raises(error, match=match):
        kg.objectives.regularized_squared(**({"apply": linear.apply} | options))


@pytest.mark.parametrize(
    ("outputs", "y", "error", "match"),
    [
        ((3,), jnp.ones(4), ValueError, r"`y` must have shape \(3,\)"),
        ((3,), jnp.ones((3, 1)), ValueError, r"shape of the outputs, \(3,\); got \(3, 1\)"),
        ((3, 2), jnp.ones((3, 3)), ValueError, r"shape of the outputs, \(3, 2\)"),
        ((3, 2), jnp.ones(3), ValueError, r"shape of the outputs, \(3, 2\)"),
        ((3, 2), jnp.zeros(3, int), TypeError, "must be a floating-point array"),
        ((3,), jnp.array([1.0, jnp.nan, 0.0]), ValueError, "`y` must be finite"),
        ((3, 2, 1), jnp.ones(3), ValueError, "`outputs` must have shape"),
    ],
)
def test_losses_refuse(outputs, y, error, match):
    with pytest.raises(error, match=match):
        kg.objectives.squared_losses(jnp.zeros(outputs), y)
