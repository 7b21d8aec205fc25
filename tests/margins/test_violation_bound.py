"""The bound on the most violating unit: never below any unit, in any arithmetic."""

from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import example, given, strategies as st

import kernelgap as kg
from helpers import seeds
from kernelgap.margins.certify import minimiser, pricing, relaxation, smoothed, triangles
from kernelgap.margins.problem import divide_by_power_of_two

shapes = st.sampled_from([(1, 4), (3, 2), (9, 3), (12, 5), (30, 6)])
scales = st.sampled_from([1e-12, 1.0, 1e9])


def draw(seed, shape, x_scale=1.0, q_scale=1.0):
    rng = np.random.default_rng(seed)
    x = x_scale * rng.normal(size=shape) * np.exp(rng.normal(size=(shape[0], 1)))
    return rng, x, q_scale * rng.normal(size=shape[0])


def violation(x, q, units):
    return np.abs(np.maximum(units @ x.T, 0) @ q)


def searched(rng, x, q, count=200):
    """The largest violation of random units, each moved to the best unit of its cell while it helps."""
    u = rng.normal(size=(count, x.shape[1]))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    for _ in range(30):
        signs = np.sign(np.maximum(u @ x.T, 0) @ q)[:, None]
        moved = signs * ((u @ x.T > 0) * q) @ x
        moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-300)
        better = violation(x, q, moved) > violation(x, q, u)
        u = np.where(better[:, None], moved, u)
    return violation(x, q, u).max()


@given(seeds, shapes, scales, scales)
def test_no_unit_violates_more(seed, shape, x_scale, q_scale):
    rng, x, q = draw(seed, shape, x_scale, q_scale)
    bound = kg.margins.violation_bound(x, q, method="relaxation", max_iterations=80)
    assert not bound.exact
    assert searched(rng, x, q) <= bound.value
    assert bound.attained <= bound.value
    size = np.abs(q) @ np.linalg.norm(x, axis=1)
    assert bound.value <= size * (1 + 1e-11)  # the trivial bound
    np.testing.assert_allclose(
        bound.attained, violation(x, q, bound.direction[None])[0], rtol=1e-9, atol=1e-12 * size
    )


@given(seeds, st.sampled_from([(3, 2), (7, 1), (9, 3)]))
def test_the_relaxation_is_above_the_exact_value_and_near_it(seed, shape):
    _, x, q = draw(seed, shape)
    exact = kg.margins.violation_bound(x, q)
    relaxed = kg.margins.violation_bound(x, q, method="relaxation")
    assert exact.exact
    assert exact.attained <= relaxed.value
    assert relaxed.value <= 1.5 * exact.value + 1e-9 * np.abs(q) @ np.linalg.norm(x, axis=1)


@given(seeds, shapes, st.sampled_from([0.0, 0.3, 3.0]))
def test_every_value_of_the_multipliers_is_a_bound(seed, shape, spread):
    """Before any optimisation, and with variables drawn at random."""
    rng, x, q = draw(seed, shape)
    problem = relaxation.relax(x, np.sign(q))
    p = np.abs(q) / np.abs(q).sum()
    theta = minimiser.first_variables(problem, p)
    theta += spread * rng.normal(size=theta.shape)
    p, found = relaxation.multipliers(problem, theta)
    value = relaxation.certified_bound(problem, p, found)
    assert searched(rng, x, p * np.sign(q)) <= value
    # Rounding costs next to nothing.
    assert value <= smoothed.evaluate(problem, theta, 1.0).bound * (1 + 1e-9)


def with_triangles(rng, m, size, count=6):
    """Some triangles of random rows and signs, each with `size` times what K bears alone."""
    if len(m.scales) < 3:
        return m
    rows = np.sort([rng.choice(len(m.scales), 3, replace=False) for _ in range(count)])
    found = triangles.Triangles(rows, rng.choice([-1.0, 1.0], rows.shape))
    return m._replace(triangles=found, weights=size * triangles.scaled(m.scales, found))


@given(seeds, shapes)
def test_multipliers_that_break_their_constraints_are_paid_for(seed, shape):
    rng, x, q = draw(seed, shape)
    problem = relaxation.relax(x, np.sign(q))
    theta = minimiser.first_variables(problem, np.abs(q) / np.abs(q).sum())
    p, found = relaxation.multipliers(problem, theta)
    most, r = p.max(), problem.norms[:, None].max()
    for change in (
        lambda m: m._replace(transfer=3 * m.transfer),
        lambda m: m._replace(
            quadratic=100 * m.quadratic + 100 * most / r, scales=most / 9 + m.scales
        ),
        lambda m: m._replace(quadratic=0.9 * m.quadratic, scales=m.scales + 1),
        lambda m: with_triangles(rng, m, 0.3),
        lambda m: with_triangles(rng, m, 30.0),  # K is not positive definite
        lambda m: with_triangles(rng, m, -1.0),
    ):
        value = relaxation.certified_bound(problem, p, [change(m) for m in found])
        assert searched(rng, x, p * np.sign(q)) <= value


def of_three_points(multipliers, triangle, weight):
    """The multipliers with one triangle between three positive points."""
    scales = np.array([1, 1 / 3, 1 / 3, 1 / 3])
    change = {"scales": scales, "triangles": triangle, "weights": np.array([weight])}
    return [m._replace(**change) if len(m.scales) == 4 else m for m in multipliers]


def test_triangles_of_any_weight_prove_no_more_than_holds():
    """For equal points all signs agree: (sigma_1 + sigma_2 + sigma_3)^2 = 9, the bound is tight.

    A negative weight is invalid, and just above 1/3 K is no longer positive semidefinite.
    """
    x, q = np.tile([[1.0, 0, 0, 0]], (3, 1)), np.full(3, 1 / 3)
    problem = relaxation.relax(x, np.ones(3))
    p, found = relaxation.multipliers(problem, minimiser.first_variables(problem, q))
    one = triangles.Triangles(np.array([[1, 2, 3]]), np.ones((1, 3)))
    for weight in (-0.3, -0.03, 0.0, 0.33, 0.3334, 1.0):
        changed = of_three_points(found, one, weight / 3)
        value = relaxation.certified_bound(problem, p, changed)
        assert 1 <= value < 1 + 1e-9  # no unit on the ball sees more than the norms, either


def test_an_indefinite_form_of_signs_is_paid_for():
    """b'z = 0 hides it from V - KZ; what is left of sum t - sum mu is far below the truth, 4/3."""
    x = np.array([[1.0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]])
    problem = relaxation.relax(x, np.ones(3))
    p, found = relaxation.multipliers(
        problem, minimiser.first_variables(problem, np.full(3, 1 / 3))
    )
    one = triangles.Triangles(np.array([[1, 2, 3]]), np.array([[1.0, 1, -1]]))
    changed = of_three_points(found, one, 5.0)
    assert relaxation.certified_bound(problem, p, changed) >= 4 / 3 * (1 - 1e-12)


@given(seeds, st.sampled_from([(7, 3), (12, 5)]), st.sampled_from([0.03, 0.5]))
@example(10018, (7, 3), 0.03)  # a large third derivative
def test_gradient(seed, shape, smoothing):
    rng, x, q = draw(seed, shape)
    problem = relaxation.relax(x, np.sign(q), partners=3, normalised=bool(seed % 2))
    theta = minimiser.first_variables(problem, np.abs(q) / np.abs(q).sum())
    problem, theta = pricing.reprice(problem, theta, smoothing, 0.03)
    theta += 0.3 * rng.normal(size=theta.shape)
    for side in problem.sides:
        cuts = relaxation.views(side, theta).triangles
        cuts[:] = 0.5 * rng.random(len(cuts)) / max(len(cuts), 1)
    value = smoothed.evaluate(problem, theta, smoothing)
    assert value.smooth >= value.bound - 1e-12
    step = 1e-6
    for direction in rng.normal(size=(5, theta.size)):
        ahead = smoothed.evaluate(problem, theta + step * direction, smoothing).smooth
        behind = smoothed.evaluate(problem, theta - step * direction, smoothing).smooth
        expected = (ahead - behind) / (2 * step)
        scale = np.linalg.norm(value.gradient) * np.linalg.norm(direction)
        np.testing.assert_allclose(value.gradient @ direction, expected, atol=1e-6 * scale)


@given(seeds, st.sampled_from([(9, 3), (12, 5)]), st.sampled_from([0.5, 8.0]))
def test_homogeneous_and_invariant(seed, shape, factor):
    rng, x, q = draw(seed, shape)
    d = shape[1]
    turn, order = np.linalg.qr(rng.normal(size=(d, d)))[0], rng.permutation(shape[0])
    value = kg.margins.violation_bound(x, q, max_iterations=500).value
    rescale = np.exp(rng.normal(size=(shape[0], 1)))
    # Powers of two change no digit; otherwise paths differ by rounding and end within `tol`.
    assert kg.margins.violation_bound(factor * x, q, max_iterations=500).value == factor * value
    assert kg.margins.violation_bound(x, factor * q, max_iterations=500).value == factor * value
    for x2, q2 in [
        (x @ turn, q), (x[order], q[order]), (x, -q), (rescale * x, q / rescale[:, 0])
    ]:  # fmt: skip
        np.testing.assert_allclose(
            kg.margins.violation_bound(x2, q2, max_iterations=500).value, value, rtol=5e-2
        )


def test_multipliers_that_overflow_leave_the_trivial_bound():
    _, x, q = draw(0, (12, 5))
    problem = relaxation.relax(x, np.sign(q))
    p, found = relaxation.multipliers(problem, minimiser.first_variables(problem, np.abs(q)))
    broken = [m._replace(scales=np.inf * m.scales) for m in found]
    expected = max(p[q > 0] @ problem.norms[q > 0], p[q < 0] @ problem.norms[q < 0])
    value = relaxation.certified_bound(problem, p, broken)
    assert expected <= value <= expected * (1 + 1e-12)


@given(seeds, st.sampled_from([(4, 2), (6, 4)]), st.sampled_from([np.float32, np.float64]))
def test_rounding_never_takes_the_bound_below_exact_arithmetic(seed, shape, dtype):
    """The violation of the returned unit, in rational arithmetic, on data with ties in float."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=shape) * 10.0 ** rng.integers(-6, 7, (shape[0], 1))).astype(dtype)
    q = (rng.normal(size=shape[0]) * 10.0 ** rng.integers(-6, 7, shape[0])).astype(dtype)
    for method in ("auto", "relaxation"):
        bound = kg.margins.violation_bound(x, q, method=method, max_iterations=40)
        u = [Fraction(float(v)) for v in bound.direction]
        total = sum(
            Fraction(float(qi))
            * max(sum(Fraction(float(v)) * w for v, w in zip(row, u, strict=True)), 0)
            for qi, row in zip(q, x, strict=True)
        )
        # ||u|| may exceed 1 by rounding: compare squares.
        assert total**2 <= Fraction(bound.value) ** 2 * sum(w * w for w in u)


def test_transfers_cancel_what_is_equal():
    """q relu(u.x) - q relu(u.x) is 0: only the transfer sees it."""
    x = np.random.default_rng(0).normal(size=(5, 6))
    q = np.ones(5)
    bound = kg.margins.violation_bound(np.concatenate([x, x]), np.concatenate([q, -q]))
    assert bound.value <= 1e-2 * np.linalg.norm(x, axis=1).sum()


def test_new_partners_are_found():
    """Each point's twin is the only partner of use, and is none of those it starts with."""
    x = np.random.default_rng(0).normal(size=(8, 6))
    x, signs = np.concatenate([x, x]), np.repeat([1.0, -1.0], 8)
    problem = relaxation.relax(x, signs, partners=2)
    twin = np.arange(8)
    partners = np.sort([(twin + 1) % 8, (twin + 3) % 8], axis=0)
    first, second = (s._replace(partners=partners) for s in problem.sides)
    problem = problem._replace(sides=(first, second._replace(start=first.stop)))
    start = minimiser.first_variables(problem, np.full(16, 1 / 16))
    before = smoothed.evaluate(problem, start, 1.0).bound
    repriced, theta = pricing.reprice(problem, start, 0.03, 0.03)
    for side in repriced.sides:
        chosen = relaxation.views(side, theta).shares[3:][side.partners == twin]
        assert chosen.size >= 1
        assert (chosen > 0).all()  # x - T x is shorter for T > 0
    best = minimiser.minimise(problem, start, steps=1500, tol=1e-4, fixed=True)
    again = smoothed.evaluate(best.relaxation, best.theta, 1.0).bound
    assert again == pytest.approx(best.bound, abs=1e-12 * before)
    assert best.bound <= 0.05 * before
    assert all((side.partners == twin).any(axis=0).all() for side in best.relaxation.sides)


def test_zero_rows_and_weights_do_not_count():
    rng, x, q = draw(0, (9, 5))
    value = kg.margins.violation_bound(x, q).value
    more = np.concatenate([x, np.zeros((1, 5)), rng.normal(size=(1, 5))])
    assert kg.margins.violation_bound(more, np.append(q, [2.0, 0.0])).value == value
    zero = kg.margins.violation_bound(np.zeros((3, 5)), np.ones(3))
    assert (zero.value, zero.attained, zero.exact) == (0, 0, True)
    assert kg.margins.violation_bound(x, 0 * q).value == 0


@pytest.mark.parametrize("d", [2, 5])
def test_rows_of_very_different_size(d):
    x = np.ones((3, d)) * np.array([[1.0], [1e-200], [1e-120]])
    bound = kg.margins.violation_bound(x, np.array([1.0, 1.0, -1.0]))
    np.testing.assert_allclose(bound.value, np.sqrt(d), rtol=1e-6)
    tiny = kg.margins.violation_bound(1e-200 * np.ones((2, d)), np.array([1.0, 1.0]))
    np.testing.assert_allclose(tiny.value, 2e-200 * np.sqrt(d), rtol=1e-6)


def test_scaling_by_powers_of_two_is_exact():
    a = np.random.default_rng(0).normal(size=50) * 1e-30
    scaled, scale = divide_by_power_of_two(a)
    assert (scaled * scale == a).all()
    assert 0.5 <= np.abs(scaled).max() < 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.ones(3)}, ValueError, "`x` must have shape"),
        ({"x": np.ones((3, 2), int)}, TypeError, "`x` must be a floating"),
        ({"x": np.full((3, 2), np.nan)}, ValueError, "`x` must be finite"),
        ({"q": np.ones(4)}, ValueError, "`q` must have shape"),
        ({"q": np.array([1.0, np.inf, 0.0])}, ValueError, "`q` must be finite"),
        ({"q": np.ones(3, int)}, TypeError, "`q` must be a floating"),
        ({"method": "sdp"}, ValueError, "`method` must be one of"),
        ({"x": np.ones((3, 6)), "method": "exact"}, ValueError, "needs d <= 5; got d = 6"),
        ({"max_iterations": 0}, ValueError, "`max_iterations` must be an integer >= 1"),
        ({"max_iterations": 1.5}, TypeError, "`max_iterations` must be an integer"),
        ({"tol": 0}, ValueError, "`tol` must be"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {"x": np.ones((3, 2)), "q": np.ones(3)} | change
    with pytest.raises(error, match=message):
        kg.margins.violation_bound(arguments.pop("x"), arguments.pop("q"), **arguments)


def test_bounds_are_computed_outside_of_jit():
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(lambda x: kg.margins.violation_bound(x, np.ones(3)).value)(np.ones((3, 2)))
