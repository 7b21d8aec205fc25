"""The duality gap of the regularised loss: sound, small at optima, and about the right problem."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, strategies as st
from scipy.optimize import OptimizeResult, minimize

import kernelgap as kg
from helpers import eps, seeds
from kernelgap.margins import duality_gap
from kernelgap.margins.certify import loss_bound


def random_problem(seed, n, d):
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(n, d)), float)
    return x, jnp.asarray(np.where(rng.random(n) < 0.5, 1.0, -1.0), float)


@partial(jax.jit, static_argnames=("model", "l2", "steps", "reduction"))
def trained(model, x, y, l2, *, steps, key, reduction: Literal["mean", "sum"] = "mean"):
    loss = kg.objectives.regularized_logistic(model.apply, l2=l2, reduction=reduction)
    adam = optax.adam(optax.exponential_decay(0.03, steps, 1e-3))
    return kg.optim.train(loss, model.init(key, x.shape[1]), (x, y), adam, steps=steps).params


def loss_over_grid(x, y, l2, count=400):
    """Least loss over nets with units on a grid of the circle, an upper bound of L*.

    min R(F a) + 2 l2 ||a||_1 with a = a_+ - a_-, by L-BFGS-B.
    """
    angles = 2 * np.pi * np.arange(count) / count
    features = np.maximum(np.asarray(x, float) @ np.stack([np.cos(angles), np.sin(angles)]), 0)
    signed = np.asarray(y, float)[:, None] * np.hstack([features, -features])

    def value(a):
        m = signed @ a
        slope = -1 / (1 + np.exp(m)) / len(m)
        return np.mean(np.logaddexp(0, -m)) + 2 * l2 * a.sum(), signed.T @ slope + 2 * l2

    options = {"maxiter": 5000, "maxfun": 50_000, "ftol": 1e-14, "gtol": 1e-10}
    start = np.full(2 * count, 1e-3)
    return minimize(
        value, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start), options=options
    ).fun


@pytest.mark.parametrize("seed", range(2))
def test_it_is_tight_where_the_violation_is_exact(seed):
    x, y = random_problem(seed, 12, 2)
    model = kg.models.homogeneous_mlp((64,))
    params = trained(model, x, y, 0.02, steps=3000, key=jax.random.key(seed))
    found = duality_gap(model, params, x, y, l2=0.02)
    best = loss_over_grid(x, y, 0.02)
    # 400 directions are within 0.008 of the best ones: a change of second order in the loss.
    assert found.lower <= best
    assert best - found.lower < 1e-3
    assert 0 <= found.gap < 1e-3
    value = kg.objectives.regularized_logistic(model.apply, l2=0.02)(params, x, y)
    assert found.loss == pytest.approx(float(value), rel=100 * eps())
    assert found.gap == pytest.approx(found.loss - found.lower)


@given(seeds, st.sampled_from([0.003, 0.03, 0.3]), st.sampled_from(["mean", "sum"]))
def test_no_network_is_below_the_bound(seed, l2, reduction):
    x, y = random_problem(seed, 16, 3)
    l2 = l2 * (16 if reduction == "sum" else 1)
    model = kg.models.homogeneous_mlp((24,))
    poor = model.init(jax.random.key(seed), 3)
    better = trained(model, x, y, l2, steps=500, key=jax.random.key(seed), reduction=reduction)
    arguments = {"l2": l2, "reduction": reduction}
    first = duality_gap(model, poor, x, y, steps=0, **arguments)
    second = duality_gap(model, better, x, y, **arguments)
    assert first.lower <= second.loss
    assert second.lower <= first.loss
    assert first.gap >= first.loss - second.loss
    assert second.gap >= 0


def test_mean_and_sum_are_one_problem():
    x, y = random_problem(3, 16, 3)
    model = kg.models.homogeneous_mlp((24,))
    params = model.init(jax.random.key(0), 3)
    mean = duality_gap(model, params, x, y, l2=0.01, steps=0)
    total = duality_gap(model, params, x, y, l2=0.16, reduction="sum", steps=0)
    np.testing.assert_allclose(total[:3], 16 * np.asarray(mean[:3]), rtol=1e-6)
    assert total.status == mean.status == "converged"


@pytest.mark.parametrize("parameterization", ["ntk", "mean_field"])
def test_other_parameterizations_convert(parameterization):
    x, y = random_problem(4, 16, 3)
    standard = kg.models.homogeneous_mlp((8,))
    other = kg.models.homogeneous_mlp((8,), parameterization=parameterization)
    hidden, readout = standard.init(jax.random.key(0), 3)
    (_, _, first, _), (_, _, second, _) = other.spec.layers(3)
    # The same function, and the same norm but for a factor that l2 takes up.
    factor = (first * second) ** -0.5
    params = (hidden * factor, readout * factor)
    np.testing.assert_allclose(
        other.apply(params, x), standard.apply((hidden, readout), x), rtol=1e-4, atol=1e-5
    )
    expected = duality_gap(standard, (hidden, readout), x, y, l2=0.01, steps=0)
    found = duality_gap(other, params, x, y, l2=0.01 * first * second, steps=0)
    np.testing.assert_allclose(found[:3], expected[:3], rtol=1e-4)


def test_order_of_units_and_balance_do_not_change_the_bound():
    x, y = random_problem(5, 16, 3)
    model = kg.models.homogeneous_mlp((8,))
    hidden, readout = model.init(jax.random.key(0), 3)
    found = duality_gap(model, (hidden, readout), x, y, l2=0.01, steps=0)
    order = np.random.default_rng(0).permutation(8)
    permuted = duality_gap(model, (hidden[order], readout[order]), x, y, l2=0.01, steps=0)
    np.testing.assert_allclose(permuted[:3], found[:3], rtol=1e-5)
    unbalanced = duality_gap(model, (4 * hidden, readout / 4), x, y, l2=0.01, steps=0)
    assert unbalanced.lower == pytest.approx(found.lower, rel=1e-5)
    assert unbalanced.gap > found.gap


def test_more_dual_points_never_lower_the_bound():
    x, y = kg.datasets.xor_noise(jax.random.key(0), 24, 5)
    model = kg.models.homogeneous_mlp((32,))
    params = model.init(jax.random.key(0), 5)
    one = duality_gap(model, params, x, y, l2=0.01, steps=0)
    two = duality_gap(model, params, x, y, l2=0.01, steps=500)
    assert two.loss == one.loss
    assert two.lower > one.lower + 0.01


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_bound_does_not_depend_on_the_luck_of_the_root_finder(share, monkeypatch):
    x, y = random_problem(3, 16, 3)
    model = kg.models.homogeneous_mlp((24,))
    params = model.init(jax.random.key(0), 3)
    best = duality_gap(model, params, x, y, l2=0.3, steps=0)

    def stop(function, *, bracket, **_):
        return OptimizeResult(root=bracket[0] + share * (bracket[1] - bracket[0]))

    monkeypatch.setattr(loss_bound, "root_scalar", stop)
    found = duality_gap(model, params, x, y, l2=0.3, steps=0)
    assert 0 <= found.lower <= best.lower * (1 + 1e-12)
    assert found.loss == best.loss


def test_edges():
    x, y = random_problem(6, 8, 2)
    model = kg.models.homogeneous_mlp((4,))
    params = model.init(jax.random.key(0), 2)
    # Without weight decay only 0 is proved; with much of it the zero net is the best.
    none = duality_gap(model, params, x, y, l2=0.0)
    assert none.lower == 0
    assert none.gap == none.loss
    zero = jax.tree.map(jnp.zeros_like, params)
    found = duality_gap(model, zero, x, y, l2=100.0)
    assert found.loss == pytest.approx(np.log(2))
    assert found.gap < 1e-10
    # Large outputs: c underflows to 0 or rounds to 1.
    huge = duality_gap(model, jax.tree.map(lambda p: 1e3 * p, params), x, y, l2=1e-3, steps=0)
    assert 0 <= huge.lower <= huge.loss < np.inf
    # Zero inputs are not wrong: no net does better than log 2.
    nothing = duality_gap(model, zero, 0 * x, y, l2=0.1)
    assert nothing.gap < 1e-10


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"model": kg.models.homogeneous_mlp((4, 4))}, ValueError, "two-layer"),
        ({"model": kg.models.homogeneous_mlp((4,), outputs=2)}, ValueError, "one output"),
        ({"model": kg.models.homogeneous_mlp((4,), activation="abs")}, ValueError, "ReLU"),
        ({"params": (jnp.ones((3, 2)), jnp.ones(4))}, ValueError, "shapes"),
        ({"params": (jnp.full((4, 2), jnp.nan), jnp.ones(4))}, ValueError, "finite"),
        ({"params": (jnp.ones((4, 2), int), jnp.ones(4))}, TypeError, "floating"),
        ({"x": jnp.ones(3)}, ValueError, "shape"),
        ({"x": jnp.full((3, 2), jnp.inf)}, ValueError, "finite"),
        ({"y": jnp.ones(2)}, ValueError, "`y`"),
        ({"y": jnp.zeros(3)}, ValueError, "labels"),
        ({"l2": -1.0}, ValueError, "l2"),
        ({"l2": "1"}, TypeError, "l2"),
        ({"reduction": "max"}, ValueError, "reduction"),
        ({"steps": -1}, ValueError, "steps"),
    ],
)
def test_bad_input(change, error, match):
    model = kg.models.homogeneous_mlp((4,))
    arguments = {
        "model": model, "params": (jnp.ones((4, 2)), jnp.ones(4)), "x": jnp.ones((3, 2)),
        "y": jnp.ones(3), "l2": 0.1,
    } | change  # fmt: skip
    positional = [arguments.pop(name) for name in ("model", "params", "x", "y")]
    with pytest.raises(error, match=match):
        duality_gap(*positional, **arguments)


def test_tracing_is_refused():
    model = kg.models.homogeneous_mlp((4,))
    params, y = (jnp.ones((4, 2)), jnp.ones(4)), jnp.ones(3)
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda x: duality_gap(model, params, x, y, l2=0.1).gap)(jnp.ones((3, 2)))
