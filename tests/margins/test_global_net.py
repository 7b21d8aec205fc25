"""The certified minimum over all widths: against nets, grids, convex programmes and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.optimize import linprog, minimize

import kernelgap as kg
from helpers import seeds
from kernelgap.margins import global_net, global_path
from kernelgap.margins.certify import triangles
from kernelgap.margins.losses import convex_loss, smooth_hinge

LOSSES = ("logistic", "squared", "hinge")


def draw(seed, n, d, loss="logistic"):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    y = rng.normal(size=n) if loss == "squared" else np.where(rng.random(n) < 0.5, 1.0, -1.0)
    return rng, x, y


def loss_of(name, hidden, readout, x, y, l2):
    f = np.maximum(x @ hidden.T, 0) @ readout
    losses = {
        "logistic": np.logaddexp(0, -y * f),
        "squared": (f - y) ** 2 / 2,
        "hinge": np.maximum(1 - y * f, 0),
    }[name]
    return losses.mean() + l2 * (np.sum(hidden**2) + np.sum(readout**2))


def least_over(units, x, y, l2, loss):
    """The least loss over nets with these directions, by SciPy's own solvers."""
    n = len(x)
    features = np.maximum(x @ units.T, 0)
    both = np.hstack([features, -features])
    if loss == "hinge":
        return linprog(
            np.r_[np.full(both.shape[1], 2 * l2), np.full(n, 1 / n)],
            A_ub=-np.hstack([y[:, None] * both, np.eye(n)]),
            b_ub=-np.ones(n),
        ).fun

    def value(a):
        f = both @ a
        if loss == "logistic":
            losses, slopes = np.logaddexp(0, -y * f), -y / (1 + np.exp(y * f))
        else:
            losses, slopes = (f - y) ** 2 / 2, f - y
        return losses.mean() + 2 * l2 * a.sum(), both.T @ slopes / n + 2 * l2

    options = {"maxiter": 5000, "maxfun": 50_000, "ftol": 1e-14, "gtol": 1e-10}
    start, bounds = np.full(both.shape[1], 1e-3), [(0, None)] * both.shape[1]
    return minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).fun


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("l2", [0.2, 0.01])
def test_in_the_plane_both_ends_meet_at_the_least_loss_over_a_fine_grid(loss, l2):
    _, x, y = draw(1, 14, 2, loss)
    angles = 2 * np.pi * np.arange(500) / 500
    grid = least_over(np.stack([np.cos(angles), np.sin(angles)], 1), x, y, l2, loss)
    net = global_net(x, y, l2=l2, loss=loss, key=jax.random.key(0))
    assert net.status == "optimal"
    assert net.lower <= grid
    assert net.loss <= grid + 1e-3 * abs(grid)
    assert net.ratio <= 1.001


@given(seeds, st.sampled_from(LOSSES), st.sampled_from([0.3, 0.02, 1e-3]))
def test_no_network_is_below_the_bound(seed, loss, l2):
    rng, x, y = draw(seed, 14, 5, loss)
    net = global_net(x, y, l2=l2, loss=loss, key=jax.random.key(seed), max_iterations=150)
    assert 0 <= net.lower <= net.loss
    hidden, readout = (np.asarray(p, float) for p in net.params)
    again = loss_of(loss, hidden, readout, x, y, l2)
    assert again <= net.loss <= again * (1 + 1e-9)
    units = rng.normal(size=(150, 5))
    units = np.concatenate([units, hidden + 1e-12])
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    assert net.lower <= least_over(units, x, y, l2, loss) * (1 + 1e-7) + 1e-12
    for scale in (0.1, 1.0):
        random = scale * rng.normal(size=(20, 5)), scale * rng.normal(size=20)
        assert net.lower <= loss_of(loss, *random, x, y, l2)


def test_one_point_in_closed_form():
    """ell(a r) + 2 lambda a for the best a: one unit along the point."""
    r, l2 = 5.0, 0.1
    x, y = np.array([[3.0, 4.0]]), np.array([1.0])
    a = np.log(r / (2 * l2) - 1) / r
    expected = {
        "logistic": np.log1p(np.exp(-a * r)) + 2 * l2 * a,
        "squared": 2 * l2 * (1 - 2 * l2 / r) / r + (2 * l2 / r) ** 2 / 2 * 1,
        "hinge": 2 * l2 / r,
    }
    for loss, value in expected.items():
        net = global_net(x, y, l2=l2, loss=loss, key=jax.random.key(0), tol=1e-6)
        assert net.loss == pytest.approx(value, rel=1e-5)
        assert net.ratio == pytest.approx(1, abs=1e-5)
        assert len(net.params[1]) == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_much_weight_decay_leaves_the_zero_network(loss):
    _, x, y = draw(2, 9, 4, loss)
    net = global_net(x, y, l2=1e3, loss=loss, key=jax.random.key(0))
    zero = {"logistic": np.log(2), "squared": np.mean(y**2) / 2, "hinge": 1.0}[loss]
    assert net.loss == pytest.approx(zero)
    assert net.status == "optimal"
    assert not np.any(net.params[1])


def test_xor_is_proved_to_a_thousandth_and_the_path_ends_at_the_largest_margin():
    x, y = kg.datasets.xor_noise(jax.random.key(0), 48, 4)
    path = global_path(x, y, l2s=(1e-2, 1e-4, 1e-7), key=jax.random.key(1), tol=2e-3)
    assert all(net.ratio <= 1.002 for net in path)
    models = [kg.models.homogeneous_mlp((len(net.params[1]),)) for net in path]
    margins = [
        float(kg.metrics.normalized_margin(model, net.params, x, y))
        for model, net in zip(models, path, strict=True)
    ]
    best = kg.margins.max_margin(x, y, key=jax.random.key(0), steps=200)
    assert margins == sorted(margins)
    assert best.lower * 0.95 <= margins[-1] <= best.upper


@pytest.mark.parametrize("loss", LOSSES)
def test_the_dual_point_is_feasible_and_nearly_tight(loss):
    """No unit sees more of q than it costs, 2 lambda n; on these data the best unit sees nearly it."""
    x, y = kg.datasets.xor_noise(jax.random.key(0), 40, 6)
    net = kg.margins.global_net(x, y, l2=0.01, loss=loss, key=jax.random.key(1))
    unit = kg.margins.most_violating_unit(x, net.weights, key=jax.random.key(2))
    assert 0.99 * 0.8 <= unit.value <= 0.8 * (1 + 1e-6)


def test_mean_sum_and_scale_are_one_problem():
    _, x, y = draw(3, 12, 3)
    mean = global_net(x, y, l2=0.02, key=jax.random.key(0), max_iterations=300)
    total = global_net(x, y, l2=0.24, key=jax.random.key(0), reduction="sum", max_iterations=300)
    np.testing.assert_allclose(total[:3], 12 * np.asarray(mean[:3]), rtol=1e-2, atol=1e-3)
    large = global_net(8 * x, y, l2=0.16, key=jax.random.key(0), max_iterations=300)
    np.testing.assert_allclose(large[:2], mean[:2], rtol=1e-6)


def test_rows_of_zeros_cost_what_they_cost():
    _, x, y = draw(4, 8, 3)
    x = np.concatenate([x, np.zeros((2, 3)), np.full((1, 3), 1e-200)])
    y = np.append(y, [1.0, -1.0, 1.0])
    rest = global_net(x[:8], y[:8], l2=0.16, key=jax.random.key(0), reduction="sum")
    whole = global_net(x, y, l2=0.16, key=jax.random.key(0), reduction="sum")
    assert whole.loss == pytest.approx(rest.loss + 3 * np.log(2), rel=1e-4)
    assert whole.ratio <= rest.ratio + 1e-3
    nothing = global_net(np.zeros((3, 3)), y[:3], l2=0.1, key=jax.random.key(0))
    assert nothing.loss == pytest.approx(np.log(2))
    assert nothing.status == "optimal"


def test_the_squared_loss_of_opposite_targets_at_one_point():
    """No conflict for targets: f = 0 is the best between -1 and 1."""
    x, y = np.ones((2, 3)), np.array([1.0, -1.0])
    net = global_net(x, y, l2=0.01, loss="squared", key=jax.random.key(0))
    assert net.loss == pytest.approx(0.5, rel=1e-3)
    assert net.status == "optimal"


def test_the_interrupt_carries_the_network(monkeypatch):
    _, x, y = draw(5, 20, 6)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("kernelgap.margins.objective.bound_loss", interrupted)
    with pytest.raises(KeyboardInterrupt) as stop:
        global_net(x, y, l2=0.05, key=jax.random.key(0))
    best = stop.value.best
    assert 0 < best.lower <= best.loss


@given(seeds)
def test_triangles_hold_for_all_signs_and_are_found_where_moments_break_them(seed):
    rng = np.random.default_rng(seed)
    size = 7
    rows = np.sort([rng.choice(size, 3, replace=False) for _ in range(5)])
    some = triangles.Triangles(rows, rng.choice([-1.0, 1.0], rows.shape))
    scales, weights = np.exp(rng.normal(size=size)), rng.random(5)
    k = triangles.sign_form(scales, some, weights)
    for sigma in rng.choice([-1.0, 1.0], (50, size)):
        assert sigma @ k @ sigma <= scales.sum() - weights.sum() + 1e-9
        assert (some.values(np.outer(sigma, sigma)) >= 1).all()
    vectors = rng.normal(size=(size, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    moments = vectors @ vectors.T
    found = triangles.violated(moments, scales, triangles.no_triangles(), 10_000)
    expected = sum(
        np.linalg.norm(vectors[i] + a * vectors[j] + b * vectors[m]) ** 2 < 1 - 1e-3
        for i in range(size) for j in range(i + 1, size) for m in range(j + 1, size)
        for a in (1, -1) for b in (1, -1)
    )  # fmt: skip
    assert len(found.rows) == expected
    assert (found.values(moments) < 1).all()
    assert not len(triangles.violated(moments, scales, found, 10_000).rows)


@pytest.mark.parametrize("loss", LOSSES)
def test_conjugates_and_derivatives(loss):
    rng = np.random.default_rng(0)
    chosen = convex_loss(loss) if loss != "hinge" else smooth_hinge(0.2)
    exact = convex_loss(loss)
    y = rng.normal(size=6) if loss == "squared" else np.sign(rng.normal(size=6))
    f, h = rng.normal(size=6), 1e-5
    slope = (chosen.value(y, f + h) - chosen.value(y, f - h)) / (2 * h)
    np.testing.assert_allclose(chosen.pull(y, f), -slope, atol=1e-8)
    bend = (chosen.pull(y, f - h) - chosen.pull(y, f + h)) / (2 * h)
    np.testing.assert_allclose(chosen.curvature(y, f), bend, atol=1e-7)
    # D(y, q) = min_f ell + q f, over a grid, for q of the interval.
    q = y * rng.random(6) if loss != "squared" else rng.normal(size=6)
    grid = np.linspace(-12, 12, 20_001)[:, None]
    least = (exact.value(y, grid) + q * grid).min(axis=0)
    np.testing.assert_allclose(exact.dual(y, q), least, atol=2e-3)
    slope = (exact.dual(y, q + h * y) - exact.dual(y, q - h * y)) / (2 * h)
    np.testing.assert_allclose(exact.dual_slope(y, q) * y, slope, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"l2": 0.0}, ValueError, "l2"),
        ({"l2": -1.0}, ValueError, "l2"),
        ({"loss": "exponential"}, ValueError, "loss"),
        ({"reduction": "max"}, ValueError, "reduction"),
        ({"y": np.zeros(3)}, ValueError, "labels"),
        ({"y": np.ones(2)}, ValueError, "`y`"),
        ({"x": np.full((3, 2), np.nan)}, ValueError, "finite"),
        ({"tol": 0.0}, ValueError, "tol"),
        ({"max_iterations": -1}, ValueError, "max_iterations"),
        ({"key": 3}, TypeError, "key"),
    ],
)
def test_bad_input(change, error, match):
    arguments = {
        "x": np.ones((3, 2)), "y": np.ones(3), "l2": 0.1, "key": jax.random.key(0)
    } | change  # fmt: skip
    with pytest.raises(error, match=match):
        global_net(arguments.pop("x"), arguments.pop("y"), **arguments)


def test_a_path_must_descend():
    with pytest.raises(ValueError, match="descending"):
        global_path(np.ones((3, 2)), np.ones(3), l2s=(1e-3, 1e-2), key=jax.random.key(0))


def test_tracing_is_refused():
    def traced(x):
        return global_net(x, jnp.ones(3), l2=0.1, key=jax.random.key(0)).loss

    with pytest.raises(TypeError, match="traced"):
        jax.jit(traced)(jnp.ones((3, 2)))
