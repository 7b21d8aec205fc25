import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
from helpers import ACTIVATIONS, PARAMETERIZATIONS, assert_close, keys

key = jax.random.key(0)
deep = kg.testing.models(widths=((6,), (5, 4)))


def _pair(model, key):
    a, b, c = jax.random.split(key, 3)
    return model.init(a, 3), model.init(b, 3), jax.random.normal(c, (20, 3))


@given(deep, keys, st.sampled_from([0.125, 0.5, 8.0]))  # powers of two change no digit
def test_scaling_changes_nothing_and_sides_count_alike(model, key, c):
    params0, params, x = _pair(model, key)
    shares = kg.lazy.activation_change(model, params0, params, x)
    assert shares.shape == (len(model.spec.widths),)
    assert ((shares >= 0) & (shares <= 1)).all()
    np.testing.assert_array_equal(kg.lazy.activation_change(model, params, params0, x), shares)
    scaled = jax.tree.map(lambda w: c * w, params0)
    assert (kg.lazy.activation_change(model, params0, scaled, x) == 0).all()


@given(deep, keys)
def test_counted_in_numpy(model, key):
    params0, params, x = _pair(model, key)
    expected = []
    patterns = []
    for weights in (params0, params):
        h, found = np.float64(x), []
        for w in weights[:-1]:
            z = h @ np.float64(w).T
            found.append(z > 0)
            phi = model.spec.activation
            h = np.where(z > 0, phi.positive, phi.negative) * np.abs(z) ** phi.power
        patterns.append(found)
    for before, after in zip(*patterns, strict=True):
        expected.append(np.mean(before != after))
    # A pattern may differ where rounding decides on the side of a z near 0.
    found = kg.lazy.activation_change(model, params0, params, x)
    np.testing.assert_allclose(found, expected, atol=2 / (20 * 4))


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_preactivations_make_the_outputs(activation, parameterization):
    model = kg.models.homogeneous_mlp(
        (5, 4), activation=ACTIVATIONS[activation], parameterization=parameterization
    )
    params, _, x = _pair(model, key)
    last = kg.models.preactivations(model, params, x)[-1]
    factor = model.spec.layers(3)[-1].scale
    outputs = factor * model.spec.activation(last) @ params[-1]
    assert_close(outputs, model.apply(params, x))


def test_unrelated_weights_change_half_of_the_patterns():
    model = kg.models.homogeneous_mlp((2000,))
    x, _ = kg.datasets.xor_noise(key, 40, 10)
    params0, params = (model.init(k, 10) for k in jax.random.split(key))
    share = float(kg.lazy.activation_change(model, params0, params, x)[0])
    assert abs(share - 0.5) < 6 * 0.5 / 2000**0.5  # units are independent, samples are not


def test_smooth_activations_count_slopes():
    model = kg.models.mlp((8, 6), activation="tanh")
    params0, params, x = _pair(model, key)
    found = kg.lazy.activation_change(model, params0, params, x)
    expected = []
    for z0, z in zip(
        *(kg.models.preactivations(model, p, x) for p in (params0, params)), strict=True
    ):
        slopes = [1 / np.cosh(np.asarray(v, np.float64)) ** 2 for v in (z0, z)]
        expected.append(np.mean((slopes[1] - slopes[0]) ** 2))
    assert_close(found, np.array(expected))
    assert not kg.lazy.activation_change(model, params, params, x).any()
    # For ReLU the same formula is the share of changed patterns: its slopes are 0 and 1.
    relu = kg.models.homogeneous_mlp((8, 6))
    share = kg.lazy.activation_change(relu, params0, params, x)
    slopes = [
        [jax.jvp(relu.spec.activation, (z,), (jnp.ones_like(z),))[1] for z in layers]
        for layers in (kg.models.preactivations(relu, p, x) for p in (params0, params))
    ]
    squares = [jnp.mean((a - b) ** 2) for a, b in zip(*slopes, strict=True)]
    assert_close(share, jnp.stack(squares))


def test_a_known_share():
    model = kg.models.homogeneous_mlp((4,))
    hidden, readout = jnp.array([[1.0, 0], [0, 1], [1, 1], [-1, 0]]), jnp.ones(4)
    moved = hidden.at[0].set(jnp.array([-1.0, 0]))
    x = jnp.array([[1.0, 0.5], [0.0, 1.0]])  # z of unit 0 is 1 and 0: only one of them changes
    found = kg.lazy.activation_change(model, (hidden, readout), (moved, readout), x)
    assert_close(found, jnp.array([1 / 8]))


def test_transforms():
    model = kg.models.homogeneous_mlp((8, 8))
    x = jax.random.normal(key, (10, 3))
    many = jax.vmap(lambda k: model.init(k, 3))(jax.random.split(key, 4))
    start = model.init(key, 3)
    found = jax.jit(jax.vmap(lambda p: kg.lazy.activation_change(model, start, p, x)))(many)
    one = jax.tree.map(lambda w: w[2], many)
    np.testing.assert_array_equal(found[2], kg.lazy.activation_change(model, start, one, x))
    slope = jax.grad(lambda p: kg.lazy.activation_change(model, start, p, x).sum())(one)
    assert all((leaf == 0).all() for leaf in slope)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda m, p, x: kg.lazy.activation_change(
                kg.models.homogeneous_mlp(()), (p[1][:3],), (p[1][:3],), x
            ),
            ValueError,
            "`model` must have a hidden layer",
        ),
        (lambda m, p, x: kg.lazy.activation_change(m, p, p, x[0]), ValueError, "`x` must have"),
        (
            lambda m, p, x: kg.lazy.activation_change(m, p, p, x.astype(int)),
            TypeError,
            "`x` must be a floating",
        ),
        (
            lambda m, p, x: kg.lazy.activation_change(m, p[:1], p, x),
            ValueError,
            "`params` must have the shapes",
        ),
        (lambda m, p, x: kg.models.preactivations(m, p, x[:, :2]), ValueError, "`params` must"),
    ],
)
def test_refuses(call, error, match):
    model = kg.models.homogeneous_mlp((4,))
    with pytest.raises(error, match=match):
        call(model, model.init(key, 3), jnp.ones((5, 3)))
