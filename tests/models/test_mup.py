"""The laws of maximal updates: abc-equivalence, and one step at growing widths."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kernelgap as kg
from helpers import assert_close
from kernelgap.studies.lr_transfer_summary import predicted_slope

key = jax.random.key(0)
x = jax.random.normal(jax.random.key(1), (8, 5))
y = jnp.sin(x[:, 0])


def _net(widths, parameterization, activation: Any = "tanh"):
    return kg.models.mlp(widths, activation=activation, parameterization=parameterization)


def _outputs(model, params, optimizer):
    loss = kg.objectives.regularized_squared(model.apply)
    trained = kg.optim.train(
        loss, params, (x, y), optimizer, steps=10, record=lambda p: model.apply(p, x)
    )
    return trained.records


def _acting(model, params):
    """The weights that act in the forward pass, s_k W_k."""
    return tuple(s.scale * w for s, w in zip(model.spec.layers(5), params, strict=True))


def _rates(optimizer, *rates):
    """An optimizer with a rate for each layer."""
    layers = tuple(range(len(rates)))
    return optax.multi_transform({k: optimizer(rates[k]) for k in layers}, layers)


def test_gradient_descent_with_one_rate_is_that_of_the_table_for_each_layer():
    """Rates fan_out, fan_out / fan_in, 1 / fan_in for weights that act without factors."""
    model = _net((6, 4), "mup")
    params = model.init(key, 5)
    rates = _rates(optax.sgd, 0.05 * 6, 0.05 * 4 / 6, 0.05 / 4)
    expected = _outputs(_net((6, 4), "standard"), _acting(model, params), rates)
    assert_close(_outputs(model, params, optax.sgd(0.05)), expected, factor=300)


def test_one_hidden_layer_is_the_mean_field_parameterization_at_rate_times_width():
    mup, mean_field = _net((6,), "mup"), _net((6,), "mean_field")
    params = mup.init(key, 5)
    start = (6**0.5 * params[0], 6**0.5 * params[1])
    found = _outputs(mup, params, optax.sgd(0.05))
    assert_close(found, _outputs(mean_field, start, optax.sgd(0.05 * 6)), factor=300)
    for ours, theirs in zip(start, mean_field.init(key, 5), strict=True):
        assert_close(ours, theirs)  # and the distributions at the start are the same


@pytest.mark.parametrize("parameterization", ["standard", "mup"])
def test_adam_moves_the_same_function_in_every_parameterization(parameterization):
    """Rates 1, 1 / fan_in, 1 / fan_in for weights that act without factors."""
    model = _net((6, 4), parameterization)
    params = model.init(key, 5)

    def adam(rate):
        return optax.adam(rate, eps=0.0)

    found = _outputs(model, params, optax.chain(adam(0.05), kg.optim.scale_by_fan_in(model, 5)))
    rates = _rates(adam, 0.05, 0.05 / 6, 0.05 / 4)
    expected = _outputs(_net((6, 4), "standard"), _acting(model, params), rates)
    assert_close(found, expected, factor=3e3)


def _first_step(model, key):
    """Sizes of the changes of outputs and last activations per learning rate, SGD and Adam."""
    params = model.init(key, 5)
    scaled = kg.optim.scale_by_fan_in(model, 5)

    def both(params):
        return model.apply(params, x), kg.models.preactivations(model, params, x)[-1]

    gradient = jax.grad(lambda params: jnp.mean(y * model.apply(params, x)))(params)
    signs = jax.tree.map(jnp.sign, gradient)
    if model.spec.parameterization == "mup":
        signs, _ = scaled.update(signs, scaled.init(params))
    moves = [jax.jvp(both, (params,), (step,))[1] for step in (gradient, signs)]
    return [[jnp.sqrt(jnp.mean(change**2)) for change in move] for move in moves]


# Powers of the width with which the last activations change in the first step.
ACTIVATIONS = {
    ("sgd", "standard"): 0.5, ("sgd", "ntk"): -0.5, ("sgd", "mup"): 0,
    ("adam", "standard"): 1, ("adam", "ntk"): 0.5, ("adam", "mup"): 0,
}  # fmt: skip


@pytest.mark.parametrize("parameterization", ["standard", "ntk", "mup"])
def test_the_first_step_changes_outputs_with_the_predicted_power_of_the_width(parameterization):
    widths = (128, 1024)
    nets = [_net((width, width), parameterization, "relu") for width in widths]
    keys = jax.random.split(key, 6)
    many = jax.jit(jax.vmap(_first_step, (None, 0)), static_argnums=0)
    sizes = np.mean(np.log([many(net, keys) for net in nets]), axis=-1)
    slopes = (sizes[1] - sizes[0]) / np.log(widths[1] / widths[0])
    for optimizer, found in zip(("sgd", "adam"), slopes, strict=True):
        outputs = -predicted_slope(optimizer, parameterization, 3)
        activations = ACTIVATIONS[optimizer, parameterization]
        np.testing.assert_allclose(found, (outputs, activations), atol=0.12)


def test_the_tangent_kernel_at_the_start_does_not_depend_on_the_width():
    for widths in ((512,), (64, 512)):
        narrow, wide = (
            kg.kernels.ntk(_net(tuple(c * w for w in widths), "mup", "relu"))(x) for c in (1, 8)
        )
        assert_close(narrow, wide)


def test_a_linear_model_is_the_standard_one():
    layers = [_net((), form).spec.layers(5) for form in ("standard", "mup")]
    assert layers[0] == layers[1]
