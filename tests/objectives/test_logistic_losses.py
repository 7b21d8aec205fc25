from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
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


@given(models, keys, st.sampled_from([1.0, 2.0, 3.5]), st.sampled_from(["mean", "sum"]))
def test_logarithm_of_the_loss_and_its_gradient(model, key, power, reduction):
    params = model.init(key, 3)
    x = jax.random.normal(jax.random.fold_in(key, 1), (7, 3))
    y = labels_for(model, jax.random.fold_in(key, 2), 7)
    options = {"power": power, "reduction": reduction}
    for l2 in (0.3, 0.0):
        loss = kg.objectives.regularized_logistic(model.apply, l2=l2, **options)
        log_l2 = float(np.log(l2)) if l2 else -np.inf
        log_loss = kg.objectives.log_regularized_logistic(model.apply, log_l2=log_l2, **options)
        value, gradient = jax.value_and_grad(loss)(params, x, y)
        found, slope = jax.value_and_grad(log_loss)(params, x, y)
        assert_close(found, np.log(value), scale=1 + abs(np.log(float(value))))
        size = max(float(jnp.max(jnp.abs(g))) for g in gradient) / float(value)
        for ours, theirs in zip(slope, gradient, strict=True):
            assert_close(ours, theirs / value, factor=1000, scale=size)


@pytest.mark.parametrize("q", [-1e30, -50.0, -1.0, 0.0, 3.0, 14.0, 16.0, 37.0, 100.0, 1e4, 1e30])
def test_logarithm_is_accurate_where_the_loss_is_not(q):
    """log log(1 + e^-q) in NumPy's float64, and its limits beyond."""
    expected = -q if q > 700 else np.log(np.logaddexp(0, -q))
    logs = partial(kg.objectives.logistic_losses, log=True)
    for y, sign in ((1.0, 1), (-1.0, -1)):
        outputs = jnp.array([sign * q])
        np.testing.assert_allclose(logs(outputs, jnp.array([y]))[0], expected, rtol=2e-6)
    # Two classes with a gap of q are the same; so are three when the third is far behind.
    np.testing.assert_allclose(logs(jnp.array([[0.0, q]]), jnp.array([1]))[0], expected, rtol=2e-6)
    far = -2 * abs(q) - 100
    third = logs(jnp.array([[0.0, q, far]]), jnp.array([1]))[0]
    np.testing.assert_allclose(third, expected, rtol=2e-6)
    slope = jax.grad(lambda o: logs(o, jnp.ones(1))[0])(jnp.array([q]))[0]
    z = min(max(-q, -700.0), 700.0)  # sigmoid(z) / softplus(z), 1 far below 0
    ratio = special.expit(z) / np.logaddexp(0, z) if q < 700 else 1.0
    np.testing.assert_allclose(slope, -ratio if q > -700 else 1 / q, rtol=1e-5)


def test_log_loss_at_zero_parameters_and_far_beyond_underflow():
    x, y = kg.datasets.xor_noise(key, 12, 4)
    model = kg.models.homogeneous_mlp((4,))
    zero = jax.tree.map(jnp.zeros_like, kg.datasets.planted_xor(4))
    loss = kg.objectives.log_regularized_logistic(model.apply, log_l2=-3.0)
    value, gradient = jax.value_and_grad(loss)(zero, x, y)
    np.testing.assert_allclose(value, np.log(np.log(2)), rtol=1e-6)
    assert all((g == 0).all() for g in gradient)
    # The planted net c times: data term e^{-c^2}, penalty lambda 8 c^2.
    scaled = jax.tree.map(lambda w: 20 * w, kg.datasets.planted_xor(4))
    for log_l2 in (-350.0, -1000.0):
        found = kg.objectives.log_regularized_logistic(model.apply, log_l2=log_l2)(scaled, x, y)
        expected = np.logaddexp(-400, log_l2 + np.log(3200))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@given(keys, st.sampled_from([2, 3, 5]))
def test_soft_margins_bracket_the_margins(key, k):
    outputs = 10 * jax.random.normal(key, (9, k))
    y = jax.random.randint(jax.random.fold_in(key, 1), (9,), 0, k)
    hard = kg.metrics.output_margins(outputs, y)
    soft = kg.metrics.output_margins(outputs, y, smooth=True)
    slack = 1e-5 * float(jnp.max(jnp.abs(outputs)))
    assert (soft <= hard + slack).all()
    assert (soft >= hard - np.log(k - 1) - slack).all()
    losses = kg.objectives.logistic_losses(outputs, y)
    assert_close(jax.nn.softplus(-soft), losses, factor=1000, scale=float(jnp.max(losses)))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"apply": 3}, TypeError, "`apply` must be a function"),
        ({"log_l2": np.inf}, ValueError, "`log_l2` must be a finite number"),
        ({"log_l2": np.nan}, ValueError, "`log_l2`"),
        ({"log_l2": "small"}, TypeError, "`log_l2`"),
        ({"power": 0}, ValueError, "`power`"),
        ({"reduction": "max"}, ValueError, "`reduction`"),
    ],
)
def test_log_loss_refuses(options, error, match):
    arguments = {"apply": linear.apply, "log_l2": -1.0} | options
    with pytest.raises(error, match=match):
        kg.objectives.log_regularized_logistic(arguments.pop("apply"), **arguments)


def test_soft_margins_refuse():
    with pytest.raises(ValueError, match="k >= 2; got \\(3, 1\\)"):
        kg.metrics.output_margins(jnp.ones((3, 1)), jnp.zeros(3, int), smooth=True)
    with pytest.raises(ValueError, match="labels -1 and"):
        kg.objectives.logistic_losses(jnp.ones(3), jnp.zeros(3), log=True)


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
        ((3, 2, 1), jnp.ones(3), "`outputs` must have shape"),
    ],
)
def test_losses_refuse(outputs, y, match):
    with pytest.raises(ValueError, match=match):
        kg.objectives.logistic_losses(jnp.zeros(outputs), y)
