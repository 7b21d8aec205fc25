"""Objects are what describes them: equal, hashable, picklable; and they own what they hold."""

import inspect
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg
from helpers import compilations, round_trips
from kernelgap.studies import STUDIES

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
    "diverse": lambda: kg.diversity.add_diversity_penalty(logistic(l2=1e-3), strength=0.1),
}

ntk = kg.models.homogeneous_mlp((4,), parameterization="ntk")
KERNELS = {
    "ntk": lambda: kg.kernels.ntk(ntk),
    "nngp": lambda: kg.kernels.nngp(ntk),
    "arora": lambda: kg.kernels.convert(kg.kernels.ntk(ntk), "arora"),
    "diversity": kg.diversity.diversity_kernel,
}
CONFIGURATIONS = {name: study.config for name, study in STUDIES.items()}
DESCRIBED = MODELS | LOSSES | KERNELS | CONFIGURATIONS


@pytest.mark.parametrize("make", DESCRIBED.values(), ids=DESCRIBED)
def test_equal_descriptions_are_equal_objects(make):
    value = make()
    for other in (make(), *round_trips(value)):
        assert other == value
        assert hash(other) == hash(value)
        assert repr(other) == repr(value)


@pytest.mark.parametrize("name", STUDIES)
def test_studies_go_to_other_processes(name):
    assert all(other == STUDIES[name] for other in round_trips(STUDIES[name]))


@pytest.mark.parametrize(
    "result",
    [
        kg.datasets.Dataset(x, jnp.ones(2)),
        kg.predictors.KernelPredictor(
            KERNELS["ntk"](),
            x,
            jnp.ones(2),
            jnp.float32(0.1),
            jnp.nan,
            jnp.float32(0),
            jnp.int32(3),
            jnp.int32(0),
            jnp.int32(2),
        ),
        kg.kernels.empirical_ntk(net, params),
        kg.optim.Trained(params, (), jnp.ones(3), None),
    ],
    ids=lambda result: type(result).__name__,
)
def test_results_of_arrays_come_back_whole(result):
    for other in round_trips(result):
        assert jax.tree.structure(other) == jax.tree.structure(result)
        jax.tree.map(np.testing.assert_array_equal, other, result)


def test_numpy_arrays_are_copied():
    """Also those that start where JAX could use their memory as it stands."""
    room = np.ones(16 * 24 + 16, np.float32)
    shift = -room.ctypes.data % 64 // 4
    own = room[shift : shift + 16 * 24].reshape(16, 24)
    own += np.arange(16, dtype=np.float32)[:, None]
    kernel = kg.kernels.empirical_ntk(lambda p, x: x @ p, own[0])
    data = kg.datasets.teacher(jax.random.key(0), 4, 24, params=(own, own[:, 0]))
    ridge = kg.predictors.kernel_ridge(kg.kernels.ntk(ntk), own, own[:, 0], l2=1.0)
    before = [np.array(v) for v in (kernel(own), data.y, ridge.x, ridge.decision_function(own))]
    room[:] = 7.0
    after = (kernel(before[2]), data.y, ridge.x, ridge.decision_function(before[2]))
    for now, then in zip(after, before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_what_differs_is_different():
    assert net != kg.models.homogeneous_mlp((5,))
    assert net != kg.models.homogeneous_mlp((4,), init_scale=2.0)
    assert replace(net, apply=lambda params, x: x[:, 0]) != net
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
    value(replace(net, apply=lambda params, x: x[:, 0]), logistic(l2=0.1), params)
    assert len(traced) == 2


def test_models_of_ones_own_are_equal_if_their_functions_are():
    def init(key, d, dtype=None):
        return jax.random.normal(key, (d,), dtype)

    def apply(params, x):
        return x @ params

    own = kg.models.Model(init, apply, degree=1)
    assert own == kg.models.Model(init, apply, degree=1)
    assert hash(own) == hash(kg.models.Model(init, apply, degree=1))
    assert own != kg.models.Model(init, lambda params, x: apply(params, x), degree=1)
    assert own != kg.models.Model(init, apply, degree=2)


def test_a_model_passes_through_jit_as_it_is():
    value = jax.jit(lambda model, params: model.apply(params, x))
    np.testing.assert_allclose(value(net, params), net.apply(params, x), rtol=1e-6)
    before = len(compilations)
    value(kg.models.homogeneous_mlp((4,)), params)
    assert len(compilations) == before
    other = kg.models.homogeneous_mlp((4,), activation="abs")
    np.testing.assert_allclose(value(other, params), other.apply(params, x), rtol=1e-6)


def test_noisy_gd_is_equal_by_description():
    make = partial(kg.optim.noisy_gd, 0.1, resample_rate=0.1, key=jax.random.key(0))
    again = kg.models.homogeneous_mlp((4,)).neurons
    assert make(neurons=net.neurons) == make(neurons=again)
    assert hash(make(neurons=net.neurons)) == hash(make(neurons=again))
    other = kg.models.homogeneous_mlp((5,)).neurons
    assert make(neurons=net.neurons) != make(neurons=other)
    assert make(neurons=net.neurons) != make(neurons=again, key=jax.random.key(1))


def test_scale_by_fan_in_is_equal_by_description():
    first, again, other = (
        kg.optim.scale_by_fan_in(kg.models.homogeneous_mlp((m,)), 3) for m in (4, 4, 5)
    )
    assert first == again
    assert hash(first) == hash(again)
    assert first != other


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
