import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kernelgap as kg
from helpers import assert_close

key = jax.random.key(0)
model = kg.models.homogeneous_mlp((16,))
params = model.init(key, 6)
data = kg.datasets.xor_noise(key, 40, 6)
loss = kg.objectives.regularized_logistic(model.apply, l2=1e-2)
adam = optax.adam(1e-2)


def test_equals_a_python_loop():
    trained = kg.optim.train(loss, params, data, adam, steps=20)
    expected, state, losses = params, adam.init(params), []
    for _ in range(20):
        value, gradient = jax.value_and_grad(loss)(expected, *data)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = adam.update(gradient, state, expected)
        expected = optax.apply_updates(expected, updates)
        losses.append(float(value))
    # Adam divides by gradient sizes, which amplifies the rounding of a fused loop.
    for ours, theirs in zip(trained.params, expected, strict=True):
        assert_close(ours, theirs, factor=1e4)
    assert_close(trained.losses, np.array(losses, trained.losses.dtype), factor=1e3)
    assert trained.records is None


def test_records_and_resuming():
    whole = kg.optim.train(loss, params, data, adam, steps=30, record=lambda p: p, record_every=10)
    assert whole.records[0].shape == (3, 16, 6)
    assert_close(whole.records[0][-1], whole.params[0])
    half = kg.optim.train(loss, params, data, adam, steps=10)
    assert_close(whole.records[0][0], half.params[0], factor=1e3)
    rest = kg.optim.train(loss, half.params, data, adam, steps=20, opt_state=half.opt_state)
    assert_close(rest.params[0], whole.params[0], factor=1e4)
    assert_close(jnp.concatenate([half.losses, rest.losses]), whole.losses, factor=1e3)


def test_batched_over_seeds():
    def run(key):
        return kg.optim.train(loss, model.init(key, 6), data, adam, steps=10).losses

    split = jax.random.split(key, 4)
    batched = jax.jit(jax.vmap(run))(split)
    for row, k in zip(batched, split, strict=True):
        assert_close(row, run(k), factor=1e3)


def test_it_trains():
    """The net beats the chance level where its kernel cannot: the point of the library."""
    train, test = (kg.datasets.xor_noise(k, 160, 20) for k in jax.random.split(key))
    wide = kg.models.homogeneous_mlp((64,))
    objective = kg.objectives.regularized_logistic(wide.apply, l2=1e-3)
    trained = kg.optim.train(objective, wide.init(key, 20), train, optax.adam(2e-2), steps=500)
    assert trained.losses[-1] < trained.losses[0]
    assert (wide.apply(trained.params, test.x) * test.y > 0).mean() > 0.97


def test_compiles_once_for_one_shape():
    traces = []

    def counted(params, x, y):
        traces.append(1)
        return loss(params, x, y)

    @jax.jit
    def run(params):
        return kg.optim.train(counted, params, data, adam, steps=50).losses

    run(params)
    first = len(traces)
    run(jax.tree.map(lambda w: 2 * w, params))
    assert len(traces) == first <= 3


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"loss": None}, TypeError, "`loss` must be a function"),
        ({"optimizer": 0.1}, TypeError, "`optimizer` must be an optax transformation"),
        ({"steps": 0}, ValueError, "`steps` must be an integer >= 1; got 0"),
        ({"steps": 1.5}, TypeError, "`steps`"),
        (
            {"record": lambda p: 0, "record_every": 3},
            ValueError,
            "must divide `steps`; got 3 and 10",
        ),
        ({"record_every": 0}, ValueError, "`record_every`"),
        ({"data": (data.x, data.y[:5])}, ValueError, "as many labels as rows"),
        ({"data": (data.x[0], data.y)}, ValueError, "`x` must have shape \\(n, d\\)"),
        ({"data": (data.x.at[1, 2].set(jnp.nan), data.y)}, ValueError, "first at index \\(1, 2\\)"),
        ({"data": (data.x.astype(int), data.y)}, TypeError, "must be a floating-point array"),
    ],
)
def test_refuses(options, error, match):
    defaults = {"loss": loss, "params": params, "data": data, "optimizer": adam, "steps": 10}
    with pytest.raises(error, match=match):
        kg.optim.train(**(defaults | options))
