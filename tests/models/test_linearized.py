"""The linearization: the first-order Taylor expansion of a net about given parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import kernelgap as kg
from helpers import assert_close, compilations, keys, models, round_trips, x64

key = jax.random.key(0)
smooth = kg.models.mlp((5,), activation="tanh", outputs=3)
x = jax.random.normal(jax.random.key(1), (4, 3))


def _pair(model, key):
    return [model.init(k, 3) for k in jax.random.split(key)]


@given(models, keys)
def test_it_is_the_value_and_the_jacobian_at_the_start(model, key):
    start, params = _pair(model, key)
    jacobian = jax.jacobian(model.apply)(start, x)
    change = jax.tree.map(
        lambda j, p, p0: np.tensordot(j, p - p0, axes=p.ndim), jacobian, params, start
    )
    found = kg.models.linearize(model, start).apply(params, x)
    size = max(float(np.abs(part).max()) for part in change)
    assert_close(found, model.apply(start, x) + sum(change), factor=100, scale=size)


def test_it_is_affine_with_a_constant_kernel():
    start, params = _pair(smooth, key)
    linear = kg.models.linearize(smooth, start)
    middle = jax.tree.map(lambda a, b: (a + b) / 2, start, params)
    ends = linear.apply(start, x) + linear.apply(params, x)
    assert_close(linear.apply(middle, x), ends / 2, factor=100, scale=1)
    expected = kg.kernels.empirical_ntk(smooth, start)(x)
    assert_close(kg.kernels.empirical_ntk(linear, params)(x), expected, factor=1e3)


def test_what_it_neglects_is_of_second_order():
    with x64(True):
        start, step = (jax.tree.map(lambda w: w.astype(float), p) for p in _pair(smooth, key))
        linear = kg.models.linearize(smooth, start)
        errors = []
        for t in (1e-3, 1e-4):
            moved = jax.tree.map(lambda p, s, t=t: p + t * s, start, step)
            difference = smooth.apply(moved, x) - linear.apply(moved, x)
            errors.append(float(jnp.linalg.norm(difference)))
    assert 95 < errors[0] / errors[1] < 105


def test_a_linear_model_is_its_own():
    model = kg.models.homogeneous_mlp(())
    start, params = _pair(model, key)
    found = kg.models.linearize(model, start).apply(params, x)
    assert_close(found, model.apply(params, x), scale=1)


def test_linearization_error_is_its_distance():
    start, params = _pair(smooth, key)
    change = smooth.apply(params, x) - smooth.apply(start, x)
    missed = smooth.apply(params, x) - kg.models.linearize(smooth, start).apply(params, x)
    expected = jnp.linalg.norm(missed) / jnp.linalg.norm(change)
    assert_close(kg.lazy.linearization_error(smooth, start, params, x), expected, factor=100)


def test_your_own_net_of_any_tree_and_input():
    def apply(params, x):
        return jnp.sum(jnp.tanh(x * params["w"]), axis=(1, 2)) + params["b"]

    start = {"w": jnp.ones((1, 2, 2)), "b": jnp.zeros(())}
    params = {"w": jnp.full((1, 2, 2), 1.5), "b": jnp.ones(())}
    images = jnp.linspace(-1, 1, 12).reshape(3, 2, 2)
    slope = np.sum(0.5 * np.asarray(images) / np.cosh(images) ** 2, axis=(1, 2)) + 1
    linear = kg.models.linearize(kg.models.Model(lambda *_: start, apply, None), start)
    found = linear.apply(params, images)
    assert_close(found, np.asarray(apply(start, images)) + slope, scale=1)


def test_equal_linearizations_are_equal_and_compiled_once():
    start, params = _pair(smooth, key)
    again = kg.models.mlp((5,), activation="tanh", outputs=3)
    linear = kg.models.linearize(smooth, start)
    twin = kg.models.linearize(again, jax.tree.map(jnp.copy, start))
    assert twin == linear
    assert hash(twin) == hash(linear)
    assert all(other == linear for other in round_trips(linear))
    assert kg.models.linearize(smooth, params) != linear
    assert linear != smooth
    value = jax.jit(lambda model, p: model.apply(p, x).sum())
    value(linear, params)
    before = len(compilations)
    value(twin, start)
    assert len(compilations) == before


def test_about_parameters_that_are_traced():
    starts = jax.vmap(lambda k: smooth.init(k, 3))(jax.random.split(key))
    params = smooth.init(key, 3)
    batched = jax.vmap(lambda p0: kg.models.linearize(smooth, p0).apply(params, x))(starts)
    for k in range(2):
        start = jax.tree.map(lambda w, k=k: w[k], starts)
        expected = kg.models.linearize(smooth, start).apply(params, x)
        assert_close(batched[k], expected, factor=100, scale=1)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda p: kg.models.linearize(smooth.apply, p), TypeError, "`model` must be a Model"),
        (lambda p: kg.models.linearize(smooth, ()), ValueError, "`params0` must hold at least one"),
        (lambda p: kg.models.linearize(smooth, (1, 2)), TypeError, "`params0` must hold floating"),
        (
            lambda p: kg.models.linearize(smooth, p).apply(p[:1], x),
            ValueError,
            "`params` must have the structure and shapes of `params0`",
        ),
        (
            lambda p: kg.metrics.normalized_margin(
                kg.models.linearize(smooth, p), p, x, jnp.arange(4) % 3
            ),
            ValueError,
            "has no degree",
        ),
    ],
)
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call(smooth.init(key, 3))
