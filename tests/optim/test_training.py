import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kernelgap as kg
from helpers import assert_close, compilations

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


small = kg.models.homogeneous_mlp((4,))
start = small.init(key, 3)
x, y = kg.datasets.xor_noise(key, 8, 3)
small_loss = kg.objectives.regularized_logistic(small.apply, l2=1e-2)


def _value(params, obj_fn=None):
    return small_loss(params, x, y)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(optax.sgd(0.5), optax.scale_by_backtracking_linesearch(5)),
        pytest.param(optax.lbfgs(memory_size=2), marks=pytest.mark.slow),
        optax.chain(optax.sgd(0.5), optax.contrib.reduce_on_plateau(patience=1, rtol=0.5)),
        optax.MultiSteps(optax.polyak_sgd(), 2),
        pytest.param(optax.contrib.sophia(0.01), marks=pytest.mark.slow),
        optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.05), opaque_mode=True),
    ],
    ids=["linesearch", "lbfgs", "plateau", "polyak", "sophia", "sam"],
)
def test_extra_arguments_equal_a_python_loop(optimizer):
    """As optax documents each: what `train` stops and takes up again is one long run, too."""
    found = kg.optim.train(small_loss, start, (x, y), optimizer, steps=2)
    found = kg.optim.train(
        small_loss, found.params, (x, y), optimizer, steps=3, opt_state=found.opt_state
    )
    takes = inspect.signature(optimizer.update).parameters
    expected, state = start, optimizer.init(start)
    for _ in range(5):
        value, gradient = jax.value_and_grad(_value)(expected)
        extra = {"value": value, "grad": gradient, "value_fn": _value, "obj_fn": _value}
        if "grad_fn" in takes:
            extra = {"grad_fn": lambda params, call: jax.grad(_value)(params)}
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, expected, **extra)
        expected = optax.apply_updates(expected, updates)
    for ours, theirs in zip(found.params, expected, strict=True):
        assert_close(ours, theirs, factor=1e3)


def test_lookahead_trains_its_fast_parameters():
    optimizer = optax.lookahead(optax.sgd(0.5), 2, 0.5)
    both = optax.LookaheadParams.init_synced(start)
    found = kg.optim.train(small_loss, both, (x, y), optimizer, steps=2)
    plain = kg.optim.train(small_loss, start, (x, y), optax.sgd(0.5), steps=2)
    for k in range(2):
        assert_close(found.params.fast[k], (start[k] + plain.params[k]) / 2, factor=1e3)
    with pytest.raises(TypeError, match="`params` must be optax.LookaheadParams.init_synced"):
        kg.optim.train(small_loss, start, (x, y), optimizer, steps=2)


@pytest.mark.parametrize(
    ("optimizer", "error", "match"),
    [
        (
            optax.chain(optax.clip(1.0), optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1))),
            TypeError,
            "extra arguments do not fit.*'value'.*wrap a member of a chain",
        ),
        (
            optax.contrib.differentially_private_aggregate(1.0, 0.1, 0),
            ValueError,
            "`optimizer` must return updates of the shapes of the parameters.*per example",
        ),
    ],
)
def test_optimizers_that_want_something_else_are_refused(optimizer, error, match):
    with pytest.raises(error, match=match):
        kg.optim.train(small_loss, start, (x, y), optimizer, steps=2)


def test_what_is_returned_can_be_donated():
    """prodigy keeps the first parameters, inject_hyperparams numbers that no step changes."""
    optimizer = optax.inject_hyperparams(optax.contrib.prodigy)(0.1)
    own = optimizer.init(start)
    discard = jax.jit(lambda tree: jax.tree.map(jnp.sum, tree), donate_argnums=0)
    for state in (None, own):
        found = kg.optim.train(small_loss, start, (x, y), optimizer, steps=2, opt_state=state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sums need none of the buffers
            discard((found.params, found.opt_state))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((start, own)))


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


def _own_loss(weight):
    return lambda params, x, y: small_loss(params, x, y) + weight * jnp.sum(params[1] ** 2)


def _scheduled(rate):
    schedule = optax.cosine_decay_schedule(rate, 4)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))


def _redrawn(rate):
    return kg.optim.noisy_gd(rate, temperature=0.1, neurons=small.neurons, key=key)


@pytest.mark.parametrize("make", [_scheduled, _redrawn, optax.sgd])
def test_what_does_the_same_is_compiled_once(make):
    """Optimizers, losses and records are new functions at every call; other numbers are seen."""

    def call(rate=0.1, weight=0.5):
        return kg.optim.train(
            _own_loss(weight), start, (x, y), make(rate), steps=4, record=lambda p: p[1].sum()
        )

    first = call()
    before = len(compilations)
    again = call()
    assert len(compilations) == before
    jax.tree.map(np.testing.assert_array_equal, again.records, first.records)
    for changed in (call(rate=0.2), call(weight=0.25)):
        assert changed.records[-1] != first.records[-1]


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
