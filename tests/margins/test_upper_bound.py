"""Weak duality: no two-layer network has a larger normalised margin than the upper bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.optimize import OptimizeResult, linprog
from threadpoolctl import threadpool_info

import kernelgap as kg
from helpers import seeds
from kernelgap.margins.certify import enumeration, minimiser, smoothed, weak_duality


def draw(seed, shape):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    return rng, x, np.where(rng.random(shape[0]) < 0.5, 1.0, -1.0)


def best_over(units, x, y):
    """Half the l1-norm SVM's margin over given unit directions, and the net that has it."""
    features = np.maximum(x @ units.T, 0)
    k = len(units)
    found = linprog(
        np.append(np.zeros(2 * k), -1.0),
        A_ub=np.concatenate([-y[:, None] * np.concatenate([features, -features], 1),
                             np.ones((len(x), 1))], axis=1),
        b_ub=np.zeros(len(x)),
        A_eq=np.append(np.ones(2 * k), 0.0)[None],
        b_eq=np.ones(1),
    )  # fmt: skip
    alpha = found.x[:k] - found.x[k : 2 * k]
    hidden = np.sqrt(np.abs(alpha))[:, None] * units
    return -found.fun / 2, (hidden, np.sign(alpha) * np.sqrt(np.abs(alpha)))


def spread(rng, count, d):
    u = rng.normal(size=(count, d))
    return u / np.linalg.norm(u, axis=1, keepdims=True)


@given(seeds, st.sampled_from([(1, 4), (6, 1), (12, 2), (12, 3), (14, 4), (20, 7)]))
def test_no_network_has_more(seed, shape):
    """Random nets, and the best net over many random units."""
    rng, x, y = draw(seed, shape)
    bound = kg.margins.upper_bound(x, y, max_iterations=400)
    assert bound.value == bound.violation.value / 2
    assert (bound.weights >= 0).all()
    np.testing.assert_allclose(bound.weights.sum(), 1, rtol=1e-12)
    model = kg.models.homogeneous_mlp((50,))
    for key in jax.random.split(jax.random.key(seed), 3):
        params = model.init(key, shape[1])
        margin = kg.metrics.normalized_margin(
            model, params, jnp.asarray(x, float), jnp.asarray(y, float)
        )
        assert float(margin) <= bound.value * (1 + 1e-6) + 1e-12
    margin, (hidden, readout) = best_over(spread(rng, 300, shape[1]), x, y)
    assert margin <= bound.value * (1 + 1e-9) + 1e-12
    f = np.maximum(x @ hidden.T, 0) @ readout
    norm = (hidden**2).sum() + (readout**2).sum()
    assert (y * f).min() <= norm * bound.value * (1 + 1e-9) + 1e-12


@given(seeds, st.sampled_from([(12, 2), (9, 3), (14, 5)]))
def test_the_weights_prove_the_value(seed, shape):
    _, x, y = draw(seed, shape)
    bound = kg.margins.upper_bound(x, y, max_iterations=400)
    again = kg.margins.violation_bound(x, bound.weights * y)
    np.testing.assert_allclose(again.value / 2, bound.value, rtol=3e-2)
    assert bound.violation.attained <= bound.violation.value
    direct = abs((bound.weights * y) @ np.maximum(x @ bound.violation.direction, 0))
    np.testing.assert_allclose(bound.violation.attained, direct, rtol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(2, 1), (12, 2), (12, 3)])
@pytest.mark.parametrize("seed", range(2))
def test_best_to_a_thousandth_in_low_dimension(seed, n, d):
    """A network over a fine grid of units, refined where the weights say so, has as much."""
    rng, x, y = draw(seed, (n, d))
    if d == 1:
        x = np.array([[1.0 + seed], [-0.5]])
    bound = kg.margins.upper_bound(x, y)
    units = spread(rng, 500, d)
    for _ in range(20):
        margin, _ = best_over(units, x, y)
        assert margin <= bound.value
        if bound.value <= 1.001 * margin:
            break
        # Near the optimum the violating units of the proof are those of a best network.
        found = enumeration.local_maxima(x, dual_weights(units, x, y) * y)
        found.sort(key=lambda pair: -pair[0])
        units = np.concatenate([units, [unit for _, unit in found[:30]]])
    assert bound.value <= 1.001 * margin


def dual_weights(units, x, y):
    features = np.maximum(units @ x.T, 0) * y
    both = np.concatenate([features, -features])
    found = linprog(
        np.append(np.zeros(len(x)), 1.0),
        A_ub=np.concatenate([both, -np.ones((len(both), 1))], axis=1),
        b_ub=np.zeros(len(both)),
        A_eq=np.append(np.ones(len(x)), 0.0)[None],
        b_eq=np.ones(1),
    )
    return found.x[:-1]


def test_the_cutting_planes_close_the_gap():
    """Upper and lower value of the linear programme meet, on the paper's data in the plane."""
    x, y = kg.datasets.xor_noise(jax.random.key(0), 60, 3)
    bound = kg.margins.upper_bound(np.asarray(x), np.asarray(y))
    assert 0.125 <= bound.value <= 0.125 * 1.001


@pytest.mark.parametrize("signal", ["axis", "cube"])
def test_the_planted_network_is_proved_best(signal):
    """d = 8, n = 16 d: any width has the planted network's margin at most, up to a thousandth."""
    d = 8
    x, y = kg.datasets.xor_noise(jax.random.key(1), 16 * d, d, signal=signal)
    planted = {"axis": 1 / 8, "cube": 1 / (4 * np.sqrt(2))}[signal]
    bound = kg.margins.upper_bound(x, y)
    assert planted * (1 - 1e-6) <= bound.value <= planted * 1.001


def test_never_below_the_planted_network_on_few_samples():
    for n in (4, 16, 32):
        x, y = kg.datasets.xor_noise(jax.random.key(n), n, 8)
        assert kg.margins.upper_bound(x, y, max_iterations=200).value >= 1 / 8


def test_a_start_from_weights_is_used_and_a_single_step_is_valid():
    x, y = kg.datasets.xor_noise(jax.random.key(2), 64, 6)
    good = kg.margins.upper_bound(x, y)
    from_good = kg.margins.upper_bound(x, y, weights=good.weights, max_iterations=8)
    from_uniform = kg.margins.upper_bound(x, y, max_iterations=8)
    assert 1 / 8 <= from_good.value < from_uniform.value


@given(seeds, st.sampled_from([(12, 3), (14, 5)]), st.sampled_from([0.25, 1e-30, 1e30]))
def test_homogeneous_in_x_and_symmetric_in_y(seed, shape, factor):
    rng, x, y = draw(seed, shape)
    value = kg.margins.upper_bound(x, y, max_iterations=500).value
    turn = np.linalg.qr(rng.normal(size=(shape[1], shape[1])))[0]
    order = rng.permutation(shape[0])
    np.testing.assert_allclose(
        kg.margins.upper_bound(factor * x, y, max_iterations=500).value, factor * value, rtol=5e-2
    )
    for x2, y2 in [(x @ turn, y), (x[order], y[order]), (x, -y)]:
        np.testing.assert_allclose(
            kg.margins.upper_bound(x2, y2, max_iterations=500).value, value, rtol=5e-2
        )


def test_dimensions_that_are_not_used_change_nothing():
    rng, x, y = draw(0, (20, 6))
    basis = np.linalg.qr(rng.normal(size=(30, 6)))[0].T
    value = kg.margins.upper_bound(x, y, max_iterations=1000).value
    turned = kg.margins.upper_bound(x @ basis, y, max_iterations=1000).value
    np.testing.assert_allclose(turned, value, rtol=5e-2)


@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_no_margin_is_reported_as_such(d):
    _, x, y = draw(1, (10, d))
    x[7], y[7], y[2] = x[2], 1.0, -1.0
    twice = kg.margins.upper_bound(x, y)
    assert twice.value == 0
    np.testing.assert_array_equal(np.flatnonzero(twice.weights), [2, 7])
    np.testing.assert_array_equal(twice.weights[[2, 7]], 0.5)

    x[4] = 0
    zero = kg.margins.upper_bound(x, y)
    assert zero.value == 0
    assert zero.weights[4] == 1


@pytest.mark.parametrize("d", [2, 3, 6])
def test_no_margin_from_a_linear_dependence(d):
    """Points u, v, u + v and their opposites, with opposite labels: relu(z) - relu(-z) is linear."""
    rng = np.random.default_rng(d)
    u, v = rng.normal(size=(2, d))
    half = np.stack([u, v, -u - v])
    x, y = np.concatenate([half, -half]), np.repeat([1.0, -1.0], 3)
    assert kg.margins.upper_bound(x, y).value <= 1e-3 * np.linalg.norm(x)
    margin, _ = best_over(spread(rng, 300, d), x, y)
    assert margin <= 1e-9


@pytest.mark.parametrize("d", [1, 2, 5])
def test_one_point_and_one_class(d):
    """One point: one unit along it, with margin ||x|| / 2."""
    _, x, _ = draw(2, (1, d))
    for label in (1.0, -1.0):
        bound = kg.margins.upper_bound(x, np.array([label]))
        np.testing.assert_allclose(bound.value, np.linalg.norm(x) / 2, rtol=1e-3)
        assert bound.value >= np.linalg.norm(x) / 2
    _, x, _ = draw(3, (8, d))
    one_class = kg.margins.upper_bound(np.abs(x), np.ones(8))
    margin, _ = best_over(spread(np.random.default_rng(0), 500, d), np.abs(x), np.ones(8))
    assert margin <= one_class.value


def test_takes_jax_arrays_and_integer_labels():
    x, y = kg.datasets.xor_noise(jax.random.key(0), 16, 4)
    value = kg.margins.upper_bound(x, y, max_iterations=40).value
    assert (
        kg.margins.upper_bound(np.asarray(x), np.asarray(y).astype(int), max_iterations=40).value
        == value
    )


def test_double_precision_data_are_not_rounded():
    """Two points apart by less than float32 sees, with both labels: separable still."""
    x = np.array([[1.0, 0.0], [1.0, 1e-9]])
    bound = kg.margins.upper_bound(x, np.array([1.0, -1.0]))
    assert bound.value > 1e-11
    assert bound.weights.min() > 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.ones(3)}, ValueError, "`x` must have shape"),
        ({"x": np.ones((3, 2), int)}, TypeError, "`x` must be a floating"),
        ({"x": np.full((3, 2), np.nan)}, ValueError, "`x` must be finite"),
        ({"y": np.ones(4)}, ValueError, "`y` must have shape"),
        ({"y": np.array([1.0, 0.0, -1.0])}, ValueError, "labels -1 and"),
        ({"weights": np.array([0.5, 0.6, -0.1])}, ValueError, "non-negative and sum to 1"),
        ({"weights": np.array([0.5, 0.6, 0.1])}, ValueError, "non-negative and sum to 1"),
        ({"weights": np.full(3, np.nan)}, ValueError, "`weights` must be finite"),
        ({"weights": np.ones(2) / 2}, ValueError, "`weights` must have shape"),
        ({"weights": np.ones(3, int)}, TypeError, "`weights` must be a floating"),
        ({"max_iterations": 0}, ValueError, "`max_iterations` must be an integer >= 1"),
        ({"tol": -1.0}, ValueError, "`tol` must be"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {"x": np.ones((3, 2)), "y": np.array([1.0, -1.0, 1.0])} | change
    with pytest.raises(error, match=message):
        kg.margins.upper_bound(arguments.pop("x"), arguments.pop("y"), **arguments)


def test_the_search_runs_on_one_blas_thread_and_gives_the_others_back(monkeypatch):
    def threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    seen, original = [], smoothed.smooth_eigenvalue

    def interrupted(*args):
        seen.append(threads())
        if len(seen) == 5:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(smoothed, "smooth_eigenvalue", interrupted)
    x = np.random.default_rng(0).standard_normal((20, 6))
    before = threads()
    with pytest.raises(KeyboardInterrupt):
        kg.margins.upper_bound(x, np.sign(x[:, 0] * x[:, 1]))
    assert seen == [{1}] * 5
    assert threads() == before


@pytest.mark.parametrize("d", [2, 5])
def test_soft_failures_are_told_and_leave_a_bound(d, monkeypatch):
    """A linear programme or a line search that fails costs tightness; the status says so."""
    _, x, y = draw(4, (12, d))
    best = kg.margins.upper_bound(x, y)
    assert best.status == best.violation.status == "converged"

    class Failed:
        x, status, message = None, 4, "numerical difficulties"

    def stops(objective, theta, **options):
        objective(theta)
        return OptimizeResult(x=theta, status=2, nit=0)

    monkeypatch.setattr(enumeration, "linprog", lambda *_, **__: Failed)
    monkeypatch.setattr(minimiser, "minimize", stops)
    failed = kg.margins.upper_bound(x, y)
    assert failed.status == "solver_failed"
    assert np.isfinite(failed.value)
    assert failed.value >= best.value * (1 - 1e-4)


def test_too_few_steps_are_told():
    _, x, y = draw(5, (30, 6))
    assert kg.margins.upper_bound(x, y, max_iterations=3).status == "max_iterations"
    assert kg.margins.violation_bound(x, y / 30, max_iterations=3).status == "max_iterations"
    assert kg.margins.violation_bound(x, y / 30).status == "converged"


def test_a_small_subspace_and_threads_lead_to_the_same_bound(monkeypatch):
    """The search sees six of twelve dimensions at first, and adds what it misses."""
    _, x, y = draw(6, (40, 12))
    x *= 0.7 ** np.arange(12)
    whole = kg.margins.upper_bound(x, y, max_iterations=1200)
    widths, original = [], minimiser.evaluate

    def seen(relaxed, *args):
        widths.append(relaxed.x.shape[1])
        return original(relaxed, *args)

    monkeypatch.setattr(minimiser, "_DIMENSIONS", 6)
    monkeypatch.setattr(minimiser, "_GROWTH", 2)
    monkeypatch.setattr(minimiser, "evaluate", seen)
    monkeypatch.setattr(smoothed, "_LARGE", 0)
    part = kg.margins.upper_bound(x, y, max_iterations=1200)
    assert {6, 12} <= set(widths)  # the first stage; the first bound is for all of H
    assert len(set(widths)) > 2
    np.testing.assert_allclose(part.value, whole.value, rtol=3e-2)
    margin, _ = best_over(spread(np.random.default_rng(0), 500, 12), x, y)
    assert margin <= part.value


def test_a_goal_ends_the_search_early():
    x, y = kg.datasets.xor_noise(jax.random.key(2), 64, 6)
    problem = weak_duality.prepare_problem(x, y)
    near, best = (weak_duality.bound_margin(problem, goal=goal) for goal in (0.2, 0.0))
    assert best.value < 0.19 < near.value <= 0.2 * (1 + 1e-9)
    assert near.status == "converged"
