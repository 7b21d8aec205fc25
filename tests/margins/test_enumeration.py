"""The exact most violating unit in one, two and three dimensions."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from scipy.optimize import lsq_linear

import kernelgap as kg
from helpers import seeds
from kernelgap.margins.certify import enumeration

shapes = st.sampled_from([(n, d) for d in (1, 2, 3) for n in (1, 2, 4, 15)])
EXACT = 1e-8
"""What the enumeration adds to the value so that it stays an upper bound, relatively."""


def violation(x, q, units):
    return np.abs(np.maximum(units @ x.T, 0) @ q)


def sphere(rng, count, d):
    u = rng.normal(size=(count, d))
    return u / np.linalg.norm(u, axis=1, keepdims=True)


def draw(seed, shape, *, integer=False):
    """Points and weights; small integers give parallel, antipodal and equal points."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, shape).astype(float) if integer else rng.normal(size=shape)
    q = rng.integers(-2, 3, shape[0]).astype(float) if integer else rng.normal(size=shape[0])
    return rng, x, q


def by_linear_programme(x, q):
    """h by brute force over all 2^n activation patterns, each a convex problem (projection).

    Also the largest violation at a projection, which is not above h whatever the solver did.
    """
    best, attained = 0.0, 0.0
    n = len(x)
    for pattern in range(2**n):
        active = np.array([(pattern >> i) & 1 for i in range(n)], bool)
        cone = np.where(active, 1.0, -1.0)[:, None] * x  # the cell is {u: cone @ u >= 0}
        for sign in (1, -1):
            projection = onto_cone(cone, sign * (q[active] @ x[active]))
            length = np.linalg.norm(projection)
            best = max(best, length)
            unit = projection / max(length, 1e-300)
            attained = max(attained, violation(x, q, unit[None])[0])
    return best, attained


def onto_cone(cone, w):
    """The projection of w on {cone u >= 0}, whose norm is max w.u over its unit vectors."""
    # The dual: min ||w + cone' a|| over a >= 0.
    # Not by nnls, which fails in SciPy 1.12 to 1.15 where points are nearly parallel. There bvls may
    # end early, too, at a point that is not in the cell.
    solved = lsq_linear(cone.T, -w, bounds=(0, np.inf), method="bvls", tol=1e-14)
    projection, room = w + cone.T @ solved.x, 1e-6 * np.linalg.norm(w) * np.abs(cone).max()
    if (cone @ projection).min() >= -room:
        return projection
    best = np.zeros_like(w)
    for faces in (f for k in range(len(w)) for f in combinations(range(len(cone)), k)):
        _, singular, basis = np.linalg.svd(cone[list(faces)])
        across = basis[: len(singular)][singular > 1e-9]
        onto = w - across.T @ (across @ w)
        if (cone @ onto).min() >= -room:
            best = max(best, onto, key=np.linalg.norm)
    return best


@given(seeds, st.sampled_from([(n, d) for d in (1, 2, 3) for n in (1, 3, 6)]), st.booleans())
def test_equals_the_maximum_over_all_patterns(seed, shape, integer):
    _, x, q = draw(seed, shape, integer=integer)
    bound = kg.margins.violation_bound(x, q)
    assert bound.exact
    expected, reached = by_linear_programme(x, q)
    size = np.abs(q) @ np.linalg.norm(x, axis=1)
    assert expected <= bound.value + 1e-12 * size  # the oracle itself is not rigorous
    assert reached <= bound.value + 1e-14 * size
    np.testing.assert_allclose(bound.value, expected, rtol=EXACT, atol=1e-11 * size)
    np.testing.assert_allclose(bound.attained, bound.value, rtol=EXACT, atol=1e-11 * size)


@given(seeds, shapes, st.booleans())
def test_no_unit_violates_more_and_one_violates_as_much(seed, shape, integer):
    rng, x, q = draw(seed, shape, integer=integer)
    bound = kg.margins.violation_bound(x, q)
    assert violation(x, q, sphere(rng, 5000, shape[1])).max() <= bound.value
    np.testing.assert_allclose(np.linalg.norm(bound.direction), 1, atol=1e-12)
    assert violation(x, q, bound.direction[None]).max() <= bound.value
    np.testing.assert_allclose(bound.attained, bound.value, rtol=EXACT, atol=1e-12)


def test_equals_a_fine_grid_in_the_plane():
    _, x, q = draw(3, (40, 2))
    angles = np.linspace(0, 2 * np.pi, 200_001)
    grid = violation(x, q, np.stack([np.cos(angles), np.sin(angles)], axis=1)).max()
    bound = kg.margins.violation_bound(x, q)
    # Near its maximum F is concave or has a kink upwards: a grid of step s loses at most
    # the Lipschitz constant times s.
    step = angles[1] * (np.abs(q) @ np.linalg.norm(x, axis=1))
    assert grid <= bound.value <= grid + step


def test_beats_local_search_in_space():
    rng, x, q = draw(4, (60, 3))
    units = sphere(rng, 500, 3)
    for _ in range(50):  # ascent: the best unit for each unit's own cell
        active = units @ x.T > 0
        values = np.maximum(units @ x.T, 0) @ q
        moves = np.sign(values)[:, None] * (active * q) @ x
        moves /= np.linalg.norm(moves, axis=1, keepdims=True)
        better = violation(x, q, moves) > violation(x, q, units)
        units = np.where(better[:, None], moves, units)
    found = violation(x, q, units).max()
    bound = kg.margins.violation_bound(x, q)
    assert found <= bound.value <= found * 1.01


@given(seeds, st.sampled_from([(8, 2), (8, 3)]), st.sampled_from([1e-3, 1e-6, 1e-9, 1e-13, 1e-16]))
@example(5157, (8, 3), 1e-13)  # bvls ends at 1.2 times the maximum
# bvls ends 1e-10 above the maximum, outside of the cell; in 60 digits ours holds.
@example(1273110, (8, 2), 1e-9)
def test_nearly_parallel_points_lose_nothing(seed, shape, size):
    """Points next to each other, opposite each other, and circles next to a common point."""
    rng, x, q = draw(seed, shape)
    x[2:4] = x[:2] + size * rng.normal(size=(2, shape[1]))
    x[4:6] = -2 * x[:2] + size * rng.normal(size=(2, shape[1]))
    if shape[1] == 3:
        x[6] = x[0] + x[1] + size * rng.normal(size=3)
    bound = kg.margins.violation_bound(x, q)
    expected, reached = by_linear_programme(x, q)
    total = np.abs(q) @ np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(bound.value, expected, rtol=EXACT, atol=1e-11 * total)
    assert expected <= bound.value + 1e-9 * total
    assert reached <= bound.value + 1e-12 * total


@pytest.mark.parametrize("d", [1, 2, 3])
def test_one_point(d):
    x = 3 * np.eye(d)[:1]
    bound = kg.margins.violation_bound(x, np.array([-2.0]))
    np.testing.assert_allclose(bound.value, 6, rtol=EXACT)
    np.testing.assert_allclose(bound.direction, np.eye(d)[0], atol=1e-12)


def test_a_plane_holds_the_same_in_space():
    rng, x, q = draw(5, (20, 2))
    basis = np.linalg.qr(rng.normal(size=(3, 3)))[0][:2]
    flat, turned = kg.margins.violation_bound(x, q), kg.margins.violation_bound(x @ basis, q)
    np.testing.assert_allclose(turned.value, flat.value, rtol=EXACT)


def test_local_maxima_are_attained():
    _, x, q = draw(6, (10, 2))
    for value, unit in enumeration.local_maxima(x, q):
        assert value <= violation(x, q, unit[None])[0] + 1e-12


def test_a_cell_that_is_bounded_by_inactive_points_only():
    """The octant u > 0: its walls belong to -e_1, -e_2, -e_3, its maximum to (1, 1, 1)."""
    x = np.concatenate([-np.eye(3), np.ones((1, 3))])
    bound = kg.margins.violation_bound(x, np.array([-0.1, -0.1, -0.1, 1.0]))
    np.testing.assert_allclose(bound.value, np.sqrt(3), rtol=EXACT)
    np.testing.assert_allclose(bound.direction, np.ones(3) / np.sqrt(3), atol=1e-12)
