"""Branch and bound over cones: against enumeration, attained violations and convex programmes."""

import jax
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.optimize import lsq_linear

import kernelgap as kg
from helpers import seeds
from kernelgap.margins.certify import cone_bounds, cones, cutting_planes, enumeration, weak_duality


def draw(seed, n, d, *, integer=False):
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (n, d)).astype(float) if integer else rng.normal(size=(n, d))
    x[np.abs(x).max(axis=1) == 0] = 1.0
    return rng, x / 8, rng.normal(size=n)


@given(seeds, st.sampled_from([(3, 2), (15, 2), (2, 3), (12, 3)]), st.booleans())
def test_agrees_with_the_enumeration(seed, shape, integer):
    _, x, q = draw(seed, *shape, integer=integer)
    exact, _, _ = enumeration.most_violating(x, q)
    bound = cones.most_violating(x, q, tol=1e-4)
    assert bound.closed
    assert exact * (1 - 1e-8) <= bound.value <= exact * (1 + 1.1e-4) + 1e-8
    assert bound.attained <= bound.value


def cell_maximum(x, q, signs, sign):
    """The largest F on one cell: the norm of the projection of its vector on the cell."""
    active = signs > 0
    found = lsq_linear(
        (signs[:, None] * x).T, -sign * (q[active] @ x[active]), bounds=(0, np.inf), method="bvls"
    )
    return np.sqrt(2 * found.cost)


@pytest.mark.parametrize(("n", "d"), [(5, 4), (6, 5)])
def test_agrees_with_all_cells_in_four_and_five_dimensions(n, d):
    _, x, q = draw(d, n, d)
    patterns = 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) - 1.0
    exact = max(cell_maximum(x, q, signs, sign) for signs in patterns for sign in (1, -1))
    bound = kg.margins.violation_bound(x, q, tol=1e-5)
    assert bound.exact
    assert exact * (1 - 1e-9) <= bound.value <= exact * (1 + 1.1e-5)


@given(seeds, st.sampled_from([(9, 4), (14, 4), (8, 5)]), st.booleans())
def test_no_unit_violates_more(seed, shape, integer):
    rng, x, q = draw(seed, *shape, integer=integer)
    bound = kg.margins.violation_bound(x, q, method="exact")
    units = rng.normal(size=(5000, shape[1]))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    assert cones.violations(x, q, units).max() <= bound.value
    np.testing.assert_allclose(np.linalg.norm(bound.direction), 1, atol=1e-12)
    assert bound.attained <= bound.value <= bound.attained * (1 + 2e-4)
    # Every bound of a cone is one: also those that are left when the number of cones is limited.
    few = cones.most_violating(x, q, limit=40)
    assert bound.attained <= few.value


@pytest.mark.parametrize("d", [4, 5])
def test_bounds_of_cones_and_cells_are_above_all_their_units(d):
    """F at random units of every cone of a tree, whatever is decided there."""
    rng, x, q = draw(d, 12, d)
    group = cone_bounds.Group(cones._orthants(d), np.inf, x, q, np.zeros(d), 0)
    for _ in range(9):
        result = cone_bounds.evaluate(group, 0.0)
        a = rng.exponential(size=(20, *group.cones.shape[:2])) ** 2
        units = np.einsum("rmk,mkd->rmd", a, group.cones)
        units /= np.linalg.norm(units, axis=2, keepdims=True)
        values = np.maximum(units @ x.T, 0) @ q
        assert (values <= result.bounds + 1e-12).all()
        assert (result.values <= result.bounds + 1e-12).all()
        keep = rng.permutation(len(group.cones))[:60]
        left = np.isin(np.arange(len(group.cones)), keep)
        group = group._replace(cones=cones._split(group, result, left))


def test_groups_of_neighbours_change_nothing(monkeypatch):
    _, x, q = draw(3, 40, 4)
    whole = cones.most_violating(x, q)
    monkeypatch.setattr(cones, "_BATCH", 32)
    parts = cones.most_violating(x, q)
    np.testing.assert_allclose(parts.value, whole.value, rtol=2e-4)
    assert parts.closed


@pytest.mark.parametrize(("d", "n", "scale"), [(4, 14, 1.0), (5, 9, 1e20), (4, 9, 1e-20)])
def test_both_ends_of_the_margin_meet_on_random_labels(d, n, scale):
    rng = np.random.default_rng(n)
    x, y = scale * rng.normal(size=(n, d)), np.where(rng.random(n) < 0.5, 1.0, -1.0)
    best = kg.margins.max_margin(x, y, key=jax.random.key(0), steps=50, restarts=1)
    assert best.status == "converged"
    assert 1 <= best.ratio <= 1.001
    assert kg.margins.upper_bound(x, y).violation.exact


def test_points_of_a_plane_in_five_dimensions():
    rng = np.random.default_rng(0)
    flat, y = rng.normal(size=(8, 2)), np.where(rng.random(8) < 0.5, 1.0, -1.0)
    basis = np.linalg.qr(rng.normal(size=(5, 2)))[0]
    there = kg.margins.upper_bound(flat @ basis.T, y).value
    np.testing.assert_allclose(there, kg.margins.upper_bound(flat, y).value, rtol=1.1e-3)


def test_too_few_cones_are_told_and_the_relaxation_steps_in(monkeypatch):
    _, x, q = draw(5, 10, 4)
    y = np.sign(q)
    exact = kg.margins.violation_bound(x, q)
    relaxed = kg.margins.violation_bound(x, q, method="relaxation", max_iterations=200)
    margin = kg.margins.upper_bound(x, y)
    monkeypatch.setattr(weak_duality, "_CONES", 30)
    few = kg.margins.violation_bound(x, q, method="exact")
    assert few.status == "max_iterations"
    assert not few.exact
    assert few.value >= exact.attained
    assert (
        exact.attained
        <= kg.margins.violation_bound(x, q, max_iterations=200).value
        <= relaxed.value
    )
    loose = kg.margins.upper_bound(x, y, max_iterations=100)
    assert loose.value >= margin.value * (1 - 1e-3)
    assert np.isfinite(loose.value)


def test_a_failed_linear_programme_is_told(monkeypatch):
    _, x, q = draw(6, 12, 4)
    monkeypatch.setattr(cutting_planes, "least_violation", lambda features: None)
    result = cutting_planes.least_violated_weights(x, np.sign(q))
    assert not result.solved
    assert np.isfinite(result.bound.value)
