import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, strategies as st
from scipy import stats

import kernelgap as kg
from helpers import PARAMETERIZATIONS, assert_close, keys, round_trips

key = jax.random.key(0)
model = kg.models.homogeneous_mlp((50,))
params = model.init(key, 3)
gradient = jax.tree.map(lambda w: jnp.sin(17 * w), params)


def _step(optimizer, params=params, gradient=gradient, state=None):
    state = optimizer.init(params) if state is None else state
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state


@given(keys, st.sampled_from([1e-3, 0.5, 2.0]))
def test_without_noise_it_is_gradient_descent_to_the_bit(key, eta):
    with_neurons = kg.optim.noisy_gd(eta, neurons=model.neurons, key=key)
    expected, _ = _step(optax.sgd(eta))
    for optimizer in (kg.optim.noisy_gd(eta, key=key), with_neurons):
        jax.tree.map(np.testing.assert_array_equal, _step(optimizer)[0], expected)


@pytest.mark.parametrize("eta", [0.1, 0.5])
def test_langevin_stationary_variance(eta):
    """On k theta^2 / 2 the chain is AR(1): variance tau / (k (1 - eta k / 2)), exactly."""
    tau, k, chains, steps = 0.3, 2.0, 20_000, 60
    optimizer = kg.optim.noisy_gd(eta, temperature=tau, key=key)
    theta = jnp.zeros(chains)

    def step(carry, _):
        theta, state = carry
        updates, state = optimizer.update(k * theta, state, theta)
        return (optax.apply_updates(theta, updates), state), None

    (theta, _), _ = jax.lax.scan(step, (theta, optimizer.init(theta)), length=steps)
    expected = tau / (k * (1 - eta * k / 2))
    # chains * variance / expected is chi-squared; the start is forgotten to (1 - eta k)^(2 steps).
    statistic = float(jnp.sum(theta**2)) / expected
    assert min(stats.chi2.cdf(statistic, chains), stats.chi2.sf(statistic, chains)) > 1e-6


def test_langevin_noise_is_independent_over_leaves_and_steps():
    big = (jnp.zeros(5000), jnp.zeros(5000))
    optimizer = kg.optim.noisy_gd(0.5, temperature=1.0, key=key)
    first, state = _step(optimizer, big, big)
    second, _ = _step(optimizer, big, big, state)
    draws = np.stack([*first, *second])  # each N(0, 2 * 0.5 * 1)
    assert stats.kstest(draws.ravel(), "norm").pvalue > 1e-6
    correlations = np.corrcoef(draws)[np.triu_indices(4, 1)]
    assert np.max(np.abs(correlations)) < 6 / 5000**0.5


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("outputs", [None, 2])
def test_redrawn_neurons_are_uniform_on_their_sphere(parameterization, outputs):
    wide = kg.models.homogeneous_mlp((4000,), parameterization=parameterization, outputs=outputs)
    start = wide.init(key, 3)
    zero = jax.tree.map(jnp.zeros_like, start)
    optimizer = kg.optim.noisy_gd(0.5, resample_rate=2.0, neurons=wide.neurons, key=key)  # all
    after, _ = _step(optimizer, start, zero)
    unit = np.asarray(wide.neurons.pack(after) / wide.neurons.radius(start))
    # A re-draw is stored as an update: it returns to the sphere up to rounding of the old weight.
    size = float(jnp.max(jnp.abs(wide.neurons.pack(start)))) / wide.neurons.radius(start)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=8e-7 * max(1, size))
    # On S^{k-1} each coordinate squared is Beta(1/2, (k-1)/2), and coordinates are uncorrelated.
    k = unit.shape[1]
    for coordinate in unit.T:
        assert stats.kstest(coordinate**2, "beta", args=(0.5, (k - 1) / 2)).pvalue > 1e-6
        assert stats.binomtest(int((coordinate > 0).sum()), 4000).pvalue > 1e-6
    second = unit.T @ unit / 4000
    np.testing.assert_allclose(second, np.eye(k) / k, atol=6 / 4000**0.5 / k**0.5)


def test_share_and_independence_of_redraws():
    wide = kg.models.homogeneous_mlp((20_000,))
    start = wide.init(key, 2)
    zero = jax.tree.map(jnp.zeros_like, start)
    optimizer = kg.optim.noisy_gd(0.1, resample_rate=3.0, neurons=wide.neurons, key=key)
    first, state = _step(optimizer, start, zero)
    second, _ = _step(optimizer, start, zero, state)
    moved = [np.any(np.asarray(p[0] != start[0]), axis=1) for p in (first, second)]
    for which in moved:
        assert stats.binomtest(int(which.sum()), 20_000, 0.3).pvalue > 1e-6
    both = int((moved[0] & moved[1]).sum())
    assert stats.binomtest(both, 20_000, 0.09).pvalue > 1e-6
    # A neuron is re-drawn whole: readout and hidden weights move together.
    np.testing.assert_array_equal(np.asarray(first[1] != start[1]), moved[0])


def test_neurons_that_stay_take_the_gradient_step():
    optimizer = kg.optim.noisy_gd(0.1, resample_rate=5.0, neurons=model.neurons, key=key)
    after, _ = _step(optimizer)
    expected, _ = _step(optax.sgd(0.1))
    same = np.isclose(after[1], expected[1], rtol=1e-5, atol=1e-7)
    assert 0 < same.sum() < 50
    assert_close(after[0][same], expected[0][same])


@pytest.mark.parametrize(
    ("parameterization", "factor"),
    [("standard", 1), ("mean_field", 2), ("ntk", 2**0.5), ("mup", 1)],
)
def test_time_scale_of_the_measure_flow(parameterization, factor):
    """Two copies of every unit neuron are the same measure: after equal times f is the same."""
    x, y = kg.datasets.xor_noise(key, 30, 3)
    model, twice = (
        kg.models.homogeneous_mlp((m,), parameterization=parameterization) for m in (50, 100)
    )
    params = model.init(key, 3)
    particles = model.neurons.pack(params) / model.neurons.radius(params)
    radius = twice.neurons.radius(twice.init(key, 3))
    doubled = twice.neurons.unpack(radius * jnp.concatenate([particles, particles]))

    def outputs_after(model, params, eta):
        loss = kg.objectives.regularized_logistic(model.apply, l2=0.0)
        optimizer = kg.optim.noisy_gd(eta, key=key)
        return model.apply(_step(optimizer, params, jax.grad(loss)(params, x, y))[0], x)

    assert_close(outputs_after(twice, doubled, 0.1 * factor), outputs_after(model, params, 0.1))


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_rates_of_noise_in_the_time_of_the_flow(parameterization):
    """Per unit of time particles get noise of variance 2 tau m, and are re-drawn at sigma m r^2."""
    m, eta, tau, sigma = 5000, 1e-3, 0.3, 40.0
    wide = kg.models.homogeneous_mlp((m,), parameterization=parameterization)
    start = wide.init(key, 3)
    radius, zero = wide.neurons.radius(start), jax.tree.map(jnp.zeros_like, start)
    time = eta / (m * radius**2)
    assert_close(
        jnp.asarray(radius**2),
        {"standard": 1 / m, "mean_field": 1.0, "ntk": (3 / m) ** 0.5, "mup": 1 / m}[
            parameterization
        ],
    )
    hot = kg.optim.noisy_gd(eta, temperature=tau, key=key)
    moves = wide.neurons.pack(_step(hot, zero, zero)[0]) / radius
    statistic = float(jnp.sum(moves**2)) / (2 * tau * m * time)
    assert min(stats.chi2.cdf(statistic, 4 * m), stats.chi2.sf(statistic, 4 * m)) > 1e-6
    redrawn = kg.optim.noisy_gd(eta, resample_rate=sigma, neurons=wide.neurons, key=key)
    moved = np.any(np.asarray(_step(redrawn, start, zero)[0][0] != start[0]), axis=1)
    share = sigma * m * radius**2 * time  # = eta sigma
    assert stats.binomtest(int(moved.sum()), m, share).pvalue > 1e-6


def test_schedules_drive_both_noises():
    """Step 0: nothing; step 1: heat; step 2: re-draws of 3 in 10; step 3: nothing again."""
    wide = kg.models.homogeneous_mlp((20_000,))
    start = jax.tree.map(jnp.zeros_like, wide.init(key, 2))
    optimizer = kg.optim.noisy_gd(
        optax.piecewise_constant_schedule(0.1, {2: 2.0}),  # 0.1, then 0.2 from step 2 on
        temperature=lambda step: jnp.where(step == 1, 5.0, 0.0),
        resample_rate=lambda step: jnp.where(step == 2, 1.5, 0.0),
        neurons=wide.neurons, key=key,
    )  # fmt: skip
    state, params, path = None, start, []
    for _ in range(4):
        params, state = _step(optimizer, params, start, state)
        path.append(np.asarray(wide.neurons.pack(params)))
    assert (path[0] == 0).all()
    assert stats.kstest(path[1].ravel(), "norm").pvalue > 1e-6  # sqrt(2 * 0.1 * 5) = 1
    moved = np.any(path[2] != path[1], axis=1)
    assert stats.binomtest(int(moved.sum()), 20_000, 0.3).pvalue > 1e-6
    np.testing.assert_array_equal(path[3], path[2])


def test_signs_are_conserved_without_redraws_and_only_then():
    """From w_j = ||u_j|| > 0 gradient descent keeps f >= 0 and the loss above P(y < 0) log 2."""
    x, y = kg.datasets.xor_noise(key, 40, 4)
    loss = kg.objectives.regularized_logistic(model.apply, l2=0.0)
    hidden = jax.random.normal(key, (50, 4)) / 50**0.5
    start = (hidden, jnp.linalg.norm(hidden, axis=1))
    # The law in continuous time: d/dt (w^2 - ||u||^2) = 2 (w g_w - u . g_u) = 0.
    g_u, g_w = jax.grad(loss)(start, x, y)
    size = float(jnp.max(jnp.abs(start[1] * g_w)))
    assert_close(jnp.sum(hidden * g_u, axis=1), start[1] * g_w, scale=size)
    floor = float(jnp.mean(jnp.where(y < 0, 1.0, 0.0))) * np.log(2)

    def run(rate):  # small steps: the law is one of the flow
        optimizer = kg.optim.noisy_gd(0.01, resample_rate=rate, neurons=model.neurons, key=key)
        return kg.optim.train(
            loss, start, (x, y), optimizer, steps=4000, record=lambda p: jnp.min(p[1])
        )

    plain, redrawn = run(0.0), run(0.1)
    assert (plain.records > 0).all()
    assert (plain.losses >= floor * (1 - 1e-5)).all()
    assert plain.losses[-1] < 1.2 * floor  # it gets there: the rest is what signs forbid
    assert redrawn.records.min() < 0
    assert redrawn.losses.min() < 0.95 * floor


def test_schedules_hyperparameter_injection_and_chain():
    def schedule(count):
        return 0.1 / (1 + jnp.asarray(count, float))

    optimizer = kg.optim.noisy_gd(
        schedule, temperature=lambda count: jnp.zeros(()), resample_rate=lambda count: jnp.zeros(()),
        neurons=model.neurons, key=key,
    )  # fmt: skip
    reference = optax.sgd(schedule)
    (a, s), (b, t) = _step(optimizer), _step(reference)
    (a, _), (b, _) = _step(optimizer, a, gradient, s), _step(reference, b, gradient, t)
    jax.tree.map(assert_close, a, b)
    injected = optax.inject_hyperparams(kg.optim.noisy_gd, static_args=("neurons", "key"))(
        learning_rate=0.1, temperature=0.0, resample_rate=0.0, neurons=model.neurons, key=key
    )
    state = injected.init(params)
    state.hyperparams["learning_rate"] = jnp.asarray(0.2)
    assert_close(_step(injected, state=state)[0][0], _step(optax.sgd(0.2))[0][0])
    chained = optax.chain(optax.clip_by_global_norm(1e-3), kg.optim.noisy_gd(0.1, key=key))
    moved = jax.tree.map(jnp.subtract, _step(chained)[0], params)
    squared = sum(float(jnp.sum(leaf**2)) for leaf in moved)
    np.testing.assert_allclose(squared**0.5, 1e-4, rtol=1e-2)


def test_under_jit_and_vmap_over_keys():
    def run(key):
        optimizer = kg.optim.noisy_gd(
            0.1, temperature=0.1, resample_rate=1.0, neurons=model.neurons, key=key
        )
        return _step(optimizer)[0][0]

    split = jax.random.split(key, 3)
    batched = jax.jit(jax.vmap(run))(split)
    assert_close(batched[1], run(split[1]))
    assert not np.allclose(batched[0], batched[1])


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"key": 0}, TypeError, "`key` must be a JAX random key"),
        ({"learning_rate": 0.0}, ValueError, "`learning_rate` must be a finite number > 0; got 0"),
        ({"learning_rate": -1.0}, ValueError, "`learning_rate`"),
        ({"temperature": -1.0}, ValueError, "`temperature` must be a finite number >= 0"),
        ({"resample_rate": -1.0}, ValueError, "`resample_rate`"),
        ({"resample_rate": 1.0}, ValueError, "`resample_rate` needs `neurons`"),
        ({"resample_rate": 20.0, "neurons": model.neurons}, ValueError,
         "`learning_rate \\* resample_rate` must be a finite number <= 1; got 2"),
        ({"neurons": model}, TypeError, "`neurons` must be model.neurons"),
        ({"temperature": "hot"}, TypeError, "`temperature`"),
    ],
)  # fmt: skip
def test_refuses(options, error, match):
    with pytest.raises(error, match=match):
        kg.optim.noisy_gd(**({"learning_rate": 0.1, "key": key} | options))


def test_update_needs_params():
    optimizer = kg.optim.noisy_gd(0.1, key=key)
    with pytest.raises(ValueError, match="needs the parameters"):
        optimizer.update(gradient, optimizer.init(params))


@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_states_can_be_donated_and_the_callers_key_stays(make_key):
    own = make_key(5)
    optimizer = kg.optim.noisy_gd(
        0.1, temperature=1e-3, resample_rate=0.5, neurons=model.neurons, key=own
    )
    step = jax.jit(lambda s: optimizer.update(gradient, s, params), donate_argnums=0)
    first, second = (step(jax.device_put(optimizer.init(params)))[0] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    state = jax.jit(optimizer.init)(params)
    for _ in range(2):
        _, state = step(state)
    states = jax.vmap(lambda _: optimizer.init(params))(jnp.arange(2))
    jax.jit(jax.vmap(lambda s: optimizer.update(gradient, s, params)), donate_argnums=0)(states)
    assert not own.is_deleted()
    jax.jit(lambda k: k, donate_argnums=0)(jax.jit(jnp.copy, donate_argnums=0)(own))
    step(optimizer.init(params))  # whatever became of the caller's key


def test_two_states_share_no_buffer():
    optimizer = kg.optim.noisy_gd(0.1, key=jax.random.PRNGKey(0))
    one, two = optimizer.init(params), optimizer.init(params)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((one, two))]
    assert len(set(pointers)) == len(pointers)


_noisy = {"temperature": 1e-3, "resample_rate": 0.5, "neurons": model.neurons, "key": key}


def _same(one, two):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, two)


def test_injected_hyperparameters_are_the_plain_ones():
    """Traced: without neurons too, where the rate might turn out not to be zero."""
    for options in (_noisy, {"key": key}):
        injected = optax.inject_hyperparams(kg.optim.noisy_gd, static_args=("neurons", "key"))(
            optax.constant_schedule(0.1), **options
        )
        expected, _ = _step(kg.optim.noisy_gd(0.1, **options))
        updates, _ = jax.jit(injected.update)(gradient, injected.init(params), params)
        _same(optax.apply_updates(params, updates), expected)


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": -0.1}, {"temperature": -1.0}, {"resample_rate": -1.0},
     {"resample_rate": 11.0}, {"neurons": None}],
)  # fmt: skip
def test_traced_hyperparameters_out_of_range_give_nan(change):
    given = {"learning_rate": 0.1} | _noisy | change

    @jax.jit
    def step(eta, tau, sigma):
        optimizer = kg.optim.noisy_gd(
            eta, temperature=tau, resample_rate=sigma, neurons=given["neurons"], key=key
        )
        return optimizer.update(gradient, optimizer.init(params), params)[0]

    updates = step(given["learning_rate"], given["temperature"], given["resample_rate"])
    assert all(np.isnan(leaf).all() for leaf in updates)


def test_accumulated_steps_draw_once():
    """Between its steps `MultiSteps` changes neither parameters nor key."""
    accumulated = optax.MultiSteps(kg.optim.noisy_gd(0.1, **_noisy), 3)
    state, moved = accumulated.init(params), params
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(2):
            updates, state = accumulated.update(gradient, state, moved)
            assert all(not leaf.any() for leaf in updates)
        updates, state = accumulated.update(gradient, state, moved)
    expected, after = _step(kg.optim.noisy_gd(0.1, **_noisy))
    _same(optax.apply_updates(params, updates), expected)
    assert (state.inner_opt_state.key == after.key).all()
    assert int(state.inner_opt_state.step) == 1


def test_masks_leave_whole_neurons_or_none():
    tree = {"head": jnp.ones(2), "net": params}
    neurons = kg.models.Neurons(
        pack=lambda p: model.neurons.pack(p["net"]),
        unpack=lambda rows: {"net": model.neurons.unpack(rows)},
        radius=lambda p: model.neurons.radius(p["net"]),
    )
    optimizer = optax.multi_transform(
        {"noisy": kg.optim.noisy_gd(0.1, **_noisy | {"neurons": neurons}), "sgd": optax.sgd(1.0)},
        {"head": "sgd", "net": "noisy"},
    )
    after, _ = _step(optimizer, tree, {"head": jnp.ones(2), "net": gradient})
    _same(after, {"head": jnp.zeros(2), "net": _step(kg.optim.noisy_gd(0.1, **_noisy))[0]})
    half = optax.masked(kg.optim.noisy_gd(0.1, **_noisy), (True, False))
    with pytest.raises(TypeError, match="give both layers of a neuron the same label"):
        _step(half)
    wrong = model.neurons._replace(unpack=lambda rows: rows)
    with pytest.raises(ValueError, match="`neurons.unpack` must return arrays of the shapes"):
        _step(kg.optim.noisy_gd(0.1, **_noisy | {"neurons": wrong}))


def test_equal_transformations_are_equal_and_pickle():
    optimizer = kg.optim.noisy_gd(0.1, **_noisy)
    for other in (kg.optim.noisy_gd(0.1, **_noisy), *round_trips(optimizer)):
        assert other == optimizer
        assert hash(other) == hash(optimizer)
    assert optimizer != kg.optim.noisy_gd(0.1, **_noisy | {"key": jax.random.key(1)})
    for state in round_trips(optimizer.init(params)):
        _same(_step(optimizer, state=state)[0], _step(optimizer)[0])


def test_traced_numbers_out_of_range_make_the_update_nan():
    """Eagerly they are refused."""
    model = kg.models.homogeneous_mlp((4,))
    params = model.init(jax.random.key(0), 3)

    @jax.jit
    def size(numbers):
        learning_rate, temperature, resample_rate = numbers
        optimizer = kg.optim.noisy_gd(
            learning_rate, temperature=temperature, resample_rate=resample_rate,
            neurons=model.neurons, key=jax.random.key(1),
        )  # fmt: skip
        updates, _ = optimizer.update(params, optimizer.init(params), params)
        return jnp.stack([jnp.sum(leaf) for leaf in updates])

    for bad in ((0, 0.1, 0.1), (-0.1, 0.1, 0.1), (0.1, -0.1, 0.1), (0.1, 0.1, -1), (0.1, 0.1, 11)):
        assert jnp.isnan(size(jnp.array(bad, jnp.float32))).all(), bad
    assert jnp.isfinite(size(jnp.array([0.1, 0.1, 0.1], jnp.float32))).all()
