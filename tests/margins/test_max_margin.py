"""The network of largest margin: against ground truth, invariances, edges, and its parts."""

import pickle
import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

import kernelgap as kg
from helpers import eps, x64
from kernelgap.margins import best_network, max_margin
from kernelgap.margins.certificate import margin_below
from kernelgap.margins.search import climb, columns, networks
from kernelgap.margins.search.units import ascend

QUICK: dict[str, Any] = {"width": 32, "restarts": 4, "steps": 300, "rounds": 2}


def random_problem(seed, n, d):
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(n, d)), float)
    return x, jnp.asarray(np.where(rng.random(n) < 0.5, 1.0, -1.0), float)


def measured(certificate, x, y):
    model = kg.models.homogeneous_mlp((certificate.params[1].shape[0],))
    return float(kg.metrics.normalized_margin(model, certificate.params, x, y))


def grid_margin(x, y, count=20_000):
    """Half of the l1-SVM over all directions of a grid in the plane, by its dual programme."""
    angles = 2 * np.pi * np.arange(count) / count
    units = np.stack([np.cos(angles), np.sin(angles)], 1)
    features = np.maximum(units @ np.asarray(x, float).T, 0) * np.asarray(y, float)
    n = features.shape[1]
    found = linprog(
        np.r_[np.zeros(n), 1.0],
        A_ub=np.block([[features, -np.ones((count, 1))], [-features, -np.ones((count, 1))]]),
        b_ub=np.zeros(2 * count),
        A_eq=np.r_[np.ones(n), 0.0][None],
        b_eq=[1.0],
    )
    assert found.status == 0
    return found.fun / 2


@pytest.mark.parametrize("seed", range(3))
def test_in_the_plane_it_is_the_convex_programme_over_all_units(seed):
    x, y = random_problem(seed, 8, 2)
    found = max_margin(x, y, key=jax.random.key(seed), **QUICK)
    truth = grid_margin(x, y)
    # A grid of 20,000 directions loses at most 1.6e-4 * ||x|| of a kink, 1e-8 of a smooth maximum.
    room = 1e-4 * float(jnp.linalg.norm(x, axis=1).max())
    assert truth * (1 - 1e-4) <= found.lower <= truth + room
    assert found.lower <= found.upper
    assert found.ratio < 1 + 1e-3


def test_planted_margin_is_reached_and_proved():
    x, y = kg.datasets.xor_noise(jax.random.key(3), 64, 4)
    found = max_margin(x, y, key=jax.random.key(0), **QUICK)
    assert 0.124 < found.lower <= found.upper < 0.1255
    assert found.ratio == pytest.approx(found.upper / found.lower)
    assert found.status == "converged"


def test_lower_is_the_margin_of_the_parameters():
    x, y = random_problem(5, 30, 6)
    found = max_margin(x, y, key=jax.random.key(1), upper=False, **QUICK)
    assert found.lower > 0
    assert abs(measured(found, x, y) - found.lower) < 100 * eps() * float(jnp.abs(x).sum(1).max())
    hidden, readout = (np.asarray(p, float) for p in found.params)
    np.testing.assert_allclose(np.sum(hidden**2) + np.sum(readout**2), 1, rtol=100 * eps())
    np.testing.assert_allclose(np.linalg.norm(hidden, axis=1), np.abs(readout), rtol=100 * eps())
    exact = np.asarray(y, float) * (np.maximum(np.asarray(x, float) @ hidden.T, 0) @ readout)
    longdouble = exact.astype(np.longdouble).min() / (
        np.sum(hidden.astype(np.longdouble) ** 2) + np.sum(readout.astype(np.longdouble) ** 2)
    )
    assert longdouble * (1 - 1e-11) < found.lower <= longdouble
    assert found.weights.min() >= 0
    assert found.weights.sum() == pytest.approx(1)
    assert found.upper == found.ratio == np.inf
    assert found.status == "lower_only"
    assert repr(found).startswith("MarginCertificate(lower=0.")


def test_invariances():
    # Planar and small, so that every run ends at the optimum.
    x, y = random_problem(7, 8, 2)
    key = jax.random.key(0)

    def lower(x, y):
        return max_margin(x, y, key=key, upper=False, **QUICK).lower

    expected = lower(x, y)
    rotation = jnp.array([[0.6, -0.8], [0.8, 0.6]])
    order = np.random.default_rng(0).permutation(8)
    for changed in (lower(x @ rotation, y), lower(x[order], y[order]), lower(x, -y)):
        assert changed == pytest.approx(expected, rel=1e-3)
    # A power of two changes no rounding.
    assert lower(1024 * x, y) == 1024 * expected
    assert lower(x, y) == expected


def test_more_units_and_a_start_from_the_polished_net_never_hurt():
    x, y = random_problem(2, 24, 4)
    x, y = np.asarray(x, float), np.asarray(y, float)
    units = np.random.default_rng(0).normal(size=(60, 4))
    few, many = (columns.best_over(x, y, units[:k]) for k in (30, 60))
    assert many.margin >= few.margin - 1e-9
    centre = columns.DualPoint(np.full(24, 1 / 24), np.inf)
    grown, dual = columns.column_generation(
        x, y, few, centre, rng=np.random.default_rng(0), rounds=6, dtype=np.dtype(float)
    )
    assert grown.margin > few.margin
    # Weak duality: no network exceeds the violation of any weights.
    bound = kg.margins.violation_bound(x, dual.weights * y, max_iterations=50)
    assert grown.margin <= dual.violation * 1.0001 <= bound.value * 1.0002


@pytest.mark.parametrize("n", [20, 900])
def test_the_linear_programme_against_its_dual(n):
    rng = np.random.default_rng(n)
    features = rng.random((n, 40))
    y = np.where(features[:, 0] > features[:, 1], 1.0, -1.0)
    solved = columns.l1_svm(features, y)
    margins = y * (features @ solved.coef)
    assert solved.margin == pytest.approx(margins.min(), abs=1e-9)
    assert np.abs(solved.coef).sum() <= 1 + 1e-9
    # The weights prove it: no feature correlates with them by more than the margin.
    assert solved.weights.min() >= 0
    assert solved.weights.sum() == pytest.approx(1)
    assert np.abs(features.T @ (solved.weights * y)).max() <= solved.margin + 1e-7
    signed = y[:, None] * features
    dual = linprog(
        np.r_[np.zeros(n), 1.0],
        A_ub=np.block([[signed.T, -np.ones((40, 1))], [-signed.T, -np.ones((40, 1))]]),
        b_ub=np.zeros(80),
        A_eq=np.r_[np.ones(n), 0.0][None],
        b_eq=[1.0],
        method="highs-ipm",
    )
    assert solved.margin == pytest.approx(dual.fun, abs=1e-7)


def test_a_failing_solver_is_an_error(monkeypatch):
    class Failed:
        status, message = 4, "numerical difficulties"

    monkeypatch.setattr(columns, "linprog", lambda *_, **__: Failed)
    with pytest.raises(RuntimeError, match="numerical difficulties"):
        columns.l1_svm(np.ones((3, 2)), np.ones(3))


def test_another_method_steps_in_where_one_gives_up(monkeypatch):
    class Failed:
        status, message = 4, "status unknown"

    features = np.random.default_rng(0).random((30, 8))
    expected = columns.l1_svm(features, np.ones(30)).margin
    monkeypatch.setattr(
        columns, "linprog", lambda *a, **k: Failed if k["method"] == "highs" else linprog(*a, **k)
    )
    assert columns.l1_svm(features, np.ones(30)).margin == pytest.approx(expected, abs=1e-8)


def test_climbing_keeps_the_best_iterate_and_zero_units():
    x, y = (np.asarray(part) for part in random_problem(0, 20, 3))
    nets = climb.random_nets(np.random.default_rng(0), 2, 8, 3)
    nets.readout[:, -1], nets.hidden[:, -1] = 0, 0

    def margin(nets, k):
        return margin_below(
            nets.hidden[k], nets.readout[k], np.asarray(x, float), np.asarray(y, float)
        )

    def ascend(nets, pair, steps):
        pairs = np.array([pair] * 2)
        return climb.ascend_margin(
            nets, x[None], y[None], temperatures=pairs, rates=pairs, steps=steps
        )

    short, long = (ascend(nets, (0.1, 0.001), steps) for steps in (1, 300))
    # From there, steps far too long only do harm; the start is what comes back.
    again = ascend(long, (1.0, 1.0), 20)
    for k in range(2):
        values = [margin(these, k) for these in (nets, short, long, again)]
        assert values[0] <= values[1] + 10 * eps()
        assert values[1] < values[2] <= values[3] + 10 * eps()
    assert (long.readout[:, -1] == 0).all()
    assert (long.hidden[:, -1] == 0).all()
    squares = np.sum(long.readout**2, 1) + np.sum(long.hidden**2, (1, 2))
    np.testing.assert_allclose(squares, 2, 1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_a_climb_follows_the_gradient(seed):
    """A short first step of Adam moves every parameter by the sign of its derivative."""
    x, y = (np.asarray(part, float) for part in random_problem(seed, 12, 3))
    nets = climb.random_nets(np.random.default_rng(seed), 1, 4, 3)
    t, pair = 0.3, np.array([[1e-6, 1e-6]])

    def smoothed(theta):
        outputs = y * (np.maximum(x @ theta[:, 1:].T, 0) @ theta[:, 0]) * 2 / np.sum(theta**2)
        return -t * np.log(np.sum(np.exp(-outputs / t)))

    theta = np.concatenate([nets.readout[0][:, None], nets.hidden[0]], axis=1)
    theta *= np.sqrt(2 / np.sum(theta**2))
    derivative = np.empty_like(theta)
    for index in np.ndindex(theta.shape):
        ahead, behind = theta.copy(), theta.copy()
        ahead[index] += 1e-5
        behind[index] -= 1e-5
        derivative[index] = (smoothed(ahead) - smoothed(behind)) / 2e-5
    temperatures = np.full((1, 2), t)
    moved = climb.ascend_margin(
        nets, x[None], y[None], temperatures=temperatures, rates=pair, steps=2
    )
    moved = np.concatenate([moved.readout[0][:, None], moved.hidden[0]], axis=1)
    clear = np.abs(derivative) > 1e-4
    assert clear.sum() >= 8
    if (moved != theta).any():  # the first step may lower the least margin
        np.testing.assert_array_equal(np.sign(moved - theta)[clear], np.sign(derivative)[clear])


def test_the_climb_of_units_ends_where_the_compiled_one_does():
    x, _ = random_problem(3, 30, 4)
    q = np.random.default_rng(3).normal(size=30)
    starts = np.random.default_rng(4).normal(size=(64, 4))
    starts /= np.linalg.norm(starts, axis=1, keepdims=True)
    moved = climb.ascend_units(np.asarray(x), q, starts, steps=100, kept=16)
    assert len(moved) == 32
    reached = np.abs(np.maximum(moved @ np.asarray(x, float).T, 0) @ q).max()
    _, values, _ = ascend(x, jnp.asarray(q, x.dtype), jnp.asarray(starts, x.dtype), steps=100)
    assert reached == pytest.approx(float(values.max()), rel=1e-4)


def test_one_sample_one_dimension_one_class():
    key = jax.random.key(0)
    one = max_margin(jnp.array([[3.0, 4.0, 0.0, 12.0]]), jnp.array([-1.0]), key=key, **QUICK)
    assert one.lower == pytest.approx(6.5, rel=1e-6)
    assert one.ratio < 1 + 1e-4
    assert one.params[1].shape == (1,)
    # d = 1: both half lines have their unit; margins 1 a and 2 b with a + b = 1.
    line = max_margin(jnp.array([[1.0], [-2.0], [3.0]]), jnp.array([1.0, -1.0, 1.0]), key=key,
                      **QUICK)  # fmt: skip
    assert line.lower == pytest.approx(1 / 3, rel=1e-6)
    assert line.ratio < 1 + 1e-4
    # One class: a unit along the point of the hull that is nearest to 0 is not always best;
    # here it is, by symmetry.
    same = max_margin(jnp.array([[1.0, 1.0], [1.0, -1.0]]), jnp.ones(2), key=key, **QUICK)
    assert same.lower == pytest.approx(0.5, rel=1e-5)
    assert same.ratio < 1 + 1e-4


INSEPARABLE = {
    "zero row": ([[0.0, 0.0], [1.0, 2.0]], [1, -1]),
    "both labels": ([[1.0, 2.0], [3.0, 1.0], [1.0, 2.0]], [1, 1, -1]),
    "one ray": ([[1.0, 2.0], [2.0, 4.0]], [1, -1]),
    # f(x) - f(-x) is linear, and no linear function has these signs.
    "odd": ([[1, 0], [0.5, 1], [-0.5, 1], [-1, 0], [-0.5, -1], [0.5, -1]], [1, -1, 1, -1, 1, -1]),
}


@pytest.mark.parametrize("name", INSEPARABLE)
def test_inseparable_data_have_margin_zero_and_no_crash(name, monkeypatch):
    if name in ("zero row", "both labels"):  # known before any search
        monkeypatch.delattr(networks, "ascend_margin")
    x, y = (jnp.asarray(part, float) for part in INSEPARABLE[name])
    found = max_margin(x, y, key=jax.random.key(0), **QUICK)
    assert found.lower == 0
    assert 0 <= found.upper < 1e-9
    assert found.ratio == (1 if found.upper == 0 else np.inf)
    assert found.status == ("inseparable" if name in ("zero row", "both labels") else "no_network")
    assert not any(np.asarray(p).any() for p in found.params)


def test_dtype_follows_and_extreme_scales_work():
    x, y = random_problem(1, 10, 2)
    key = jax.random.key(0)
    with x64(True):
        brief: dict[str, Any] = {"width": 8, "restarts": 1, "steps": 50, "rounds": 0}
        found = max_margin(np.asarray(x, float), y, key=key, upper=False, **brief)
        assert found.lower > 0
        assert {p.dtype for p in found.params} == {jnp.dtype(jnp.float64)}
    usual = max_margin(x, y, key=key, upper=False, **QUICK).lower
    for scale in (2.0**-100, 2.0**100):
        scaled = max_margin(x * scale, y, key=key, upper=False, **QUICK).lower
        assert scaled / scale == pytest.approx(usual, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"x": jnp.ones(3)}, ValueError, "shape"),
        ({"x": jnp.ones((3, 2), int)}, TypeError, "floating"),
        ({"x": jnp.full((3, 2), jnp.nan)}, ValueError, "finite"),
        ({"y": jnp.ones(4)}, ValueError, "`y`"),
        ({"y": jnp.array([1.0, 0.0, -1.0])}, ValueError, "labels"),
        ({"key": 0}, TypeError, "random key"),
        ({"width": 0}, ValueError, "width"),
        ({"restarts": 0}, ValueError, "restarts"),
        ({"steps": 0}, ValueError, "steps"),
        ({"rounds": -1}, ValueError, "rounds"),
    ],
)
def test_bad_input(change, error, match):
    arguments = {"x": jnp.ones((3, 2)), "y": jnp.ones(3), "key": jax.random.key(0)} | change
    x, y = arguments.pop("x"), arguments.pop("y")
    with pytest.raises(error, match=match):
        max_margin(x, y, **arguments)


def test_tracing_is_refused():
    y = jnp.ones(3)
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda x: max_margin(x, y, key=jax.random.key(0)).lower)(jnp.ones((3, 2)))


@pytest.mark.parametrize("where", ["bound_with_units", "column_generation"])
def test_ctrl_c_keeps_the_best_network_until_then(monkeypatch, where):
    x, y = random_problem(5, 10, 3)
    module = best_network if where == "bound_with_units" else networks
    original, calls = getattr(module, where), []
    monkeypatch.setattr(best_network, "_CLOSE", 0.0)  # every round is needed

    def pressed(*args, **kwargs):
        calls.append(where)
        if len(calls) == (1 if where == "bound_with_units" else 2):  # not before there is a network
            signal.raise_signal(signal.SIGINT)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, where, pressed)
    with pytest.raises(KeyboardInterrupt) as stop:
        max_margin(x, y, key=jax.random.key(0), **QUICK)
    assert isinstance(stop.value, kg.margins.Interrupted)
    best = stop.value.best
    assert best.lower > 0
    assert np.isinf(best.upper) == np.isinf(best.ratio) == (where == "bound_with_units")
    assert best.lower == pytest.approx(measured(best, x, y), rel=1e-5)
    assert repr(best) in str(stop.value)
    assert pickle.loads(pickle.dumps(stop.value)).best.lower == best.lower
    if where == "bound_with_units":  # the first round of the search was done
        first = max_margin(x, y, key=jax.random.key(0), upper=False, **QUICK | {"rounds": 0})
        assert best.lower == first.lower


def test_ctrl_c_before_there_is_a_network(monkeypatch):
    monkeypatch.setattr(
        networks, "ascend_margin", lambda *a, **k: signal.raise_signal(signal.SIGINT)
    )
    with pytest.raises(KeyboardInterrupt) as stop:
        max_margin(*random_problem(5, 10, 3), key=jax.random.key(0), **QUICK)
    assert type(stop.value) is KeyboardInterrupt


def test_nothing_is_checked_or_scaled_twice(monkeypatch):
    """One preparation serves the search, the lower and the upper half."""
    calls, original = [], best_network.prepare_problem

    def prepare(*args):
        calls.append(args)
        return original(*args)

    monkeypatch.setattr(best_network, "prepare_problem", prepare)
    monkeypatch.setattr("kernelgap.margins.certify.weak_duality.prepare_problem", None)
    monkeypatch.setattr("kernelgap.margins.certify.weak_duality.host_inputs", None)
    x, y = random_problem(5, 10, 3)
    assert max_margin(x, y, key=jax.random.key(0), **QUICK).status == "converged"
    assert len(calls) == 1


def test_a_start_is_never_lost():
    """The planted net is the largest-margin one on most samples, and random starts miss it."""
    x, y = kg.datasets.xor_noise(jax.random.key(3), 60, 30)
    start = kg.datasets.planted_xor(30)
    quick = {"key": jax.random.key(0), "width": 2, "restarts": 1, "steps": 1, "rounds": 0}
    without = max_margin(x, y, upper=False, **quick)
    best = max_margin(x, y, start=start, upper=False, **quick)
    assert best.lower >= 1 / 8 * (1 - 1e-6) > without.lower
    few = max_margin(x[:20], y[:20], start=start, upper=False, **quick)  # n < d: another basis
    assert few.lower >= 1 / 8 * (1 - 1e-6)


@pytest.mark.parametrize(
    "start", [(jnp.ones((3, 4)), jnp.ones(2)), jnp.ones((3, 2)), (jnp.ones(2),)]
)
def test_a_start_of_another_shape_is_refused(start):
    with pytest.raises(ValueError, match=r"`start` must be \(hidden, readout\)"):
        max_margin(jnp.eye(2), jnp.array([1.0, -1.0]), key=jax.random.key(0), start=start)


def test_several_data_sets_at_once_are_searched_as_each_alone():
    data = [kg.datasets.xor_noise(jax.random.key(k), 24, 6) for k in range(3)]
    keys, start = list(jax.random.split(jax.random.key(9), 3)), kg.datasets.planted_xor(6)
    x, y = (np.stack([np.asarray(pair[k]) for pair in data]) for k in (0, 1))
    nets = best_network.max_margins(x, y, keys=keys, restarts=2, rounds=2, start=start, certified=1)
    for k, net in enumerate(nets):
        alone = max_margin(*data[k], key=keys[k], restarts=2, rounds=2, start=start, upper=False)
        assert net.lower == pytest.approx(alone.lower, rel=2e-3)
        assert (net.upper < np.inf) == (k == 0)
    assert nets[0].lower <= nets[0].upper
