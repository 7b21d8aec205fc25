import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import kernelgap as kg
from helpers import assert_close, keys, labels_for, models

key = jax.random.key(0)
linear = kg.models.homogeneous_mlp(())


def _loss(model, params, x, y, **options):
    return kg.objectives.regularized_logistic(model.apply, **options)(params, x, y)


@given(models, keys, st.sampled_from([0.5, 1.0, 2.0, 3.5]), st.sampled_from(["mean", "sum"]))
def test_equals_its_formula_in_numpy(model, key, power, reduction):
    params = model.init(key, 3)
    x = jax.random.normal(jax.random.fold_in(key, 1), (7, 3))
    y = labels_for(model, jax.random.fold_in(key, 2), 7)
    found = _loss(model, params, x, y, l2=0.3, power=power, reduction=reduction)
    outputs = np.float64(model.apply(params, x))
    if outputs.ndim == 1:
        losses = np.logaddexp(0, -np.float64(y) * outputs)
    else:
        losses = special.logsumexp(outputs, axis=1) - outputs[np.arange(7), np.asarray(y)]
    norm = np.sqrt(sum(np.sum(np.float64(w) ** 2) for w in params))
    expected = getattr(np, reduction)(losses) + 0.3 * norm**power
    assert_close(found, expected, factor=200)


@given(models, keys)
def test_sum_and_mean_have_the_same_minimisers(model, key):
    params = model.init(key, 3)
    x = jax.random.normal(jax.random.fold_in(key, 1), (7, 3))
    y = labels_for(model, jax.random.fold_in(key, 2), 7)
    mean = _loss(model, params, x, y, l2=0.1)
    total = _loss(model, params, x, y, l2=0.7, reduction="sum")
    assert_close(total, 7 * mean)


@pytest.mark.parametrize("logit", [1e4, 1e30])
def test_stable_at_huge_logits(logit):
    x, w = jnp.array([[1.0], [-1.0]]), (jnp.array([logit]),)
    y = jnp.array([1.0, 1.0])
    loss = kg.objectives.regularized_logistic(linear.apply, l2=0.0, reduction="sum")
    value, (gradient,) = jax.value_and_grad(loss)(w, x, y)
    np.testing.assert_allclose(value, logit, rtol=1e-6)
    np.testing.assert_allclose(gradient, [1.0], rtol=1e-6)
    three = kg.models.homogeneous_mlp((), outputs=3)
    loss = kg.objectives.regularized_logistic(three.apply, l2=0.0, reduction="sum")
    w = (jnp.array([[logit], [0.0], [-logit]]),)
    value, (gradient,) = jax.value_and_grad(loss)(w, x, jnp.array([0, 0]))
    np.testing.assert_allclose(value, 2 * logit, rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_the_exponential_tail_is_kept():
    loss = kg.objectives.logistic_losses(jnp.array([50.0]), jnp.array([1.0]))
    np.testing.assert_allclose(loss, np.exp(-50), rtol=1e-5)


@pytest.mark.parametrize("power", [0.5, 1, 2, 3])
def test_gradient_is_finite_at_zero_parameters(power):
    model = kg.models.homogeneous_mlp((3,))
    zero = jax.tree.map(jnp.zeros_like, model.init(key, 2))
    loss = kg.objectives.regularized_logistic(model.apply, l2=1.0, power=power)
    gradient = jax.grad(loss)(zero, jnp.ones((2, 2)), jnp.array([1.0, -1.0]))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_transforms_and_traced_l2():
    x, y = kg.datasets.xor_noise(key, 20, 5)
    model = kg.models.homogeneous_mlp((4,))
    params = model.init(key, 5)

    def value(l2):
        return _loss(model, params, x, y, l2=l2)

    strengths = jnp.array([0.0, 0.1, 0.2])
    values = jax.jit(jax.vmap(value))(strengths)
    squared = sum(float(jnp.sum(w**2)) for w in params)
    np.testing.assert_allclose(jnp.diff(values), 0.1 * squared, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(value)(0.1), squared, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"l2": -1.0}, ValueError, "`l2` must be a finite number >= 0; got -1"),
        ({"l2": float("inf")}, ValueError, "`l2`"),
        ({"l2": "1"}, TypeError, "`l2`"),
        ({"l2": 1.0, "power": 0}, ValueError, "`power` must be a finite number > 0"),
        ({"l2": 1.0, "reduction": "max"}, ValueError, "`reduction` must be one of 'mean', 'sum'"),
        ({"l2": 1.0, "apply": 3}, TypeError, "`apply` must be a function"),
    ],
)
def test_refuses(options, error, match):
    with pytest.raises(error, match=match):
        kg.objectives.regularized_logistic(**({"apply": linear.apply} | options))


@pytest.mark.parametrize(
    ("outputs", "y", "match"),
    [
        ((3,), jnp.array([1.0, 0.0, 1.0]), "labels -1 and \\+1 only; got \\[0.0\\]"),
        ((3,), jnp.ones(4), "must have shape \\(3,\\)"),
        ((3, 2), jnp.ones(3), "must hold integer classes 0..1"),
        ((3, 2), jnp.array([0, 1, 2]), "must hold classes 0..1; got \\[2\\]"),
        ((3, 2, 1), jnp.ones(3), "`apply` must return shape"),
    ],
)
def test_losses_refuse(outputs, y, match):
    with pytest.raises(ValueError, match=match):
        kg.objectives.logistic_losses(jnp.zeros(outputs), y)
