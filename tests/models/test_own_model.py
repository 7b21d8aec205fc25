"""A `Model` of functions of one's own: the same numbers as for the model it copies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg
from helpers import assert_close

WIDTH, D = 12, 4
key = jax.random.key(0)
theirs = kg.models.homogeneous_mlp((WIDTH,))
x, y = kg.datasets.xor_noise(key, 16, D)


def own(params):
    hidden, readout = params
    return {"readout": readout, "hidden": hidden.T}


def init(key, d, dtype=None):
    return own(theirs.init(key, d, dtype))


def apply(params, x):
    z = x @ params["hidden"]
    return jnp.where(z > 0, z, 0) @ params["readout"]


model = kg.models.Model(init, apply, degree=2)
neurons = kg.models.Neurons(
    pack=lambda p: jnp.concatenate([p["readout"][:, None], p["hidden"].T], axis=1),
    unpack=lambda rows: {"hidden": rows[:, 1:].T, "readout": rows[:, 0]},
    radius=lambda p: p["readout"].size ** -0.5,
)
params = theirs.init(jax.random.key(1), D)
planted = tuple(jnp.tile(w, (3, 1) if w.ndim == 2 else 3) for w in kg.datasets.planted_xor(D))


@pytest.mark.parametrize("smooth", [False, True])
def test_margins_are_those_of_the_copy(smooth):
    found = kg.metrics.normalized_margin(model, own(params), x, y, smooth=smooth)
    assert_close(found, kg.metrics.normalized_margin(theirs, params, x, y, smooth=smooth), scale=1)


@pytest.mark.parametrize("multipliers", ["optimal", "exponential"])
def test_residuals_are_those_of_the_copy(multipliers):
    noise = 0.1 * jax.random.normal(jax.random.key(2), planted[0].shape)
    near = (planted[0] + noise, planted[1])
    found = kg.margins.kkt_residuals(model, own(near), x, y, multipliers=multipliers)
    expected = kg.margins.kkt_residuals(theirs, near, x, y, multipliers=multipliers)
    assert np.isfinite(expected.gap)
    for name in ("stationarity", "slackness", "margin"):  # multipliers need not be unique
        assert_close(getattr(found, name), getattr(expected, name), factor=1e4, scale=1)


def test_paths_are_those_of_the_copy():
    options = {"l2s": [1e-2, 1e-4], "steps": 60}
    found = kg.margins.regularization_path(model, own(params), x, y, **options)
    expected = kg.margins.regularization_path(theirs, params, x, y, **options)
    # Sixty steps of Adam carry the rounding of another order of sums.
    np.testing.assert_allclose(found.margin, expected.margin, atol=1e-3)
    np.testing.assert_allclose(found.log_loss, expected.log_loss, atol=1e-2)
    assert set(found.margins) == {"l2", "smooth"}
    assert "margins" in repr(found)


def test_noisy_gd_takes_neurons_of_ones_own():
    def step(params, neurons):
        optimizer = kg.optim.noisy_gd(0.5, resample_rate=1.0, neurons=neurons, key=key)
        gradient = jax.tree.map(jnp.zeros_like, params)
        return optimizer.update(gradient, optimizer.init(params), params)[0]

    expected = own(step(params, theirs.neurons))
    assert any((w != 0).any() for w in expected.values())
    for name, found in step(own(params), neurons).items():
        assert_close(found, expected[name], scale=1)


def test_laws_and_laziness_take_it():
    kernel = kg.kernels.empirical_ntk(model, own(params))
    assert_close(kernel(x), kg.kernels.empirical_ntk(theirs, params)(x), factor=1e3)
    panel = kg.lazy.laziness(model, own(params), x, y, kernel=kg.kernels.empirical_ntk)
    assert panel(own(params)).activation_change is None
    kg.testing.assert_infinite_width(
        lambda width: model, kg.kernels.ntk(theirs), x[:3], key=key, width=WIDTH, bias=0
    )


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: kg.metrics.normalized_margin(apply, own(params), x, y), TypeError, "degree=2"),
        (
            lambda: kg.margins.regularization_path(apply, own(params), x, y, l2s=[0.1]),
            TypeError,
            "must be a Mod",
        ),
        (lambda: kg.margins.kkt_residuals(apply, own(params), x, y), TypeError, "must be a Model"),
        (
            lambda: kg.metrics.normalized_margin(
                kg.models.Model(init, apply, None), own(params), x, y
            ),
            ValueError,
            "has no degree",
        ),
        (
            lambda: kg.metrics.normalized_margin(model, own(params), x, y, norm="balanced"),
            TypeError,
            "for norm='balanced' `model` must describe its layers",
        ),
        (
            lambda: kg.margins.kkt_residuals(model, own(params), x, y, kinks=1e-3),
            ValueError,
            "`kinks` is for",
        ),
        (lambda: kg.models.preactivations(model, own(params), x), TypeError, "describe its layers"),
        (
            lambda: kg.lazy.activation_change(model, own(params), own(params), x),
            TypeError,
            "describe its layers.*got a Model of your own",
        ),
        (
            lambda: kg.margins.duality_gap(model, own(params), x, y, l2=0.1),
            TypeError,
            "describe its layers",
        ),
        (
            lambda: kg.lazy.tangent_lipschitz(apply, own(params), x),
            TypeError,
            "must be a Model, .*got function",
        ),
        (lambda: theirs.neurons.pack(own(params)), TypeError, "write models.Neurons"),
    ],
)
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()
