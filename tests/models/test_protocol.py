"""Models and losses are what describes them: equal, hashable, picklable, in other processes too."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg
from helpers import round_trips

MODELS = {
    "relu": partial(kg.models.homogeneous_mlp, (4,)),
    "deep": partial(kg.models.homogeneous_mlp, [3, 3], activation="abs", outputs=2),
    "smooth": partial(kg.models.mlp, (4,), activation="tanh", parameterization="ntk"),
    "fixed": partial(kg.models.fixed_sign_net, 4, signs=np.array([1, -1, 1, -1])),
}
net = kg.models.homogeneous_mlp((4,))
params = net.init(jax.random.key(0), 3)
x = jnp.ones((2, 3))
logistic = partial(kg.objectives.regularized_logistic, net.apply)
LOSSES = {
    "logistic": partial(logistic, l2=1e-3),
    "array": lambda: logistic(l2=jnp.float32(1e-3)),
    "log": partial(kg.objectives.log_regularized_logistic, net.apply, log_l2=-7.0),
    "unregularized": partial(kg.objectives.log_regularized_logistic, net.apply, log_l2=-np.inf),
    "squared": partial(kg.objectives.regularized_squared, net.apply),
    "diverse": lambda: kg.objectives.with_diversity(logistic(l2=1e-3), strength=0.1),
}


@pytest.mark.parametrize("make", [*MODELS.values(), *LOSSES.values()], ids=[*MODELS, *LOSSES])
def test_equal_descriptions_are_equal_objects(make):
    value = make()
    for other in (make(), *round_trips(value)):
        assert other == value
        assert hash(other) == hash(value)
        assert repr(other) == repr(value)


def test_what_differs_is_different():
    assert net != kg.models.homogeneous_mlp((5,))
    assert net != kg.models.homogeneous_mlp((4,), init_scale=2.0)
    assert net._replace(apply=lambda params, x: x[:, 0]) != net
    assert net.init != net.apply
    assert logistic(l2=1e-3) != logistic(l2=1e-2)
    assert logistic(l2=1e-3) != LOSSES["squared"]()
    # These promote differently, so that one cannot stand for the other in a compiled function.
    assert logistic(l2=0.5) != logistic(l2=np.float32(0.5))


def test_equal_models_share_what_was_compiled():
    traced = []

    @partial(jax.jit, static_argnames=("model", "loss"))
    def value(model, loss, params):
        traced.append(model)
        return loss(params, x, jnp.ones(2)) + model.apply(params, x).sum()

    for model in (net, kg.models.homogeneous_mlp((4,)), *round_trips(net)):
        value(model, kg.objectives.regularized_logistic(model.apply, l2=0.1), params)
    assert len(traced) == 1
    value(net._replace(apply=lambda params, x: x[:, 0]), logistic(l2=0.1), params)
    assert len(traced) == 2


def test_a_loss_keeps_the_strength_it_was_given():
    strength = np.array(0.5)
    loss = logistic(l2=strength)
    before = loss(params, x, jnp.ones(2))
    strength[...] = 7.0
    assert loss(params, x, jnp.ones(2)) == before
    assert loss == logistic(l2=np.array(0.5))


def test_signatures_are_those_of_the_documentation():
    assert list(inspect.signature(net.init).parameters) == ["key", "d", "dtype"]
    assert list(inspect.signature(net.apply).parameters) == ["params", "x"]
    assert net.apply(params=params, x=x).shape == (2,)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda c: kg.models.homogeneous_mlp((4,), init_scale=c), "init_scale"),
        (lambda c: kg.models.fixed_sign_net(4, scale=c), "scale"),
        (kg.models.leaky_relu, "slope"),
        (kg.models.relu_power, "power"),
        (lambda c: kg.models.mlp((4,), activation=kg.models.Activation(1.0, c, 1.0)), "negative"),
    ],
)
def test_descriptions_are_not_traced(make, name):
    with pytest.raises(TypeError, match=f"{name}` must be a number that is known before tracing"):
        jax.jit(lambda c: make(c) and c)(1.0)
