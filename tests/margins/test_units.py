"""The local search for the most violating unit: a lower bound, an exact value, a climb."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
from helpers import assert_close, eps, seeds
from kernelgap.margins.search.units import ascend

shapes = st.sampled_from([(1, 3), (12, 2), (30, 5)])


def problem(seed, n, d):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(n, d)), float), jnp.asarray(rng.normal(size=n), float)


def objective(x, q, u):
    return np.maximum(np.asarray(u, float) @ np.asarray(x, float).T, 0) @ np.asarray(q, float)


@given(seeds, shapes)
def test_value_is_the_formula_at_a_unit_direction(seed, shape):
    x, q = problem(seed, *shape)
    unit = kg.margins.most_violating_unit(x, q, key=jax.random.key(seed), restarts=8, steps=20)
    scale = np.abs(q) @ np.linalg.norm(x, axis=1)
    assert_close(jnp.linalg.norm(unit.direction), 1)
    reached = objective(x, q, unit.direction)
    assert_close(unit.value, abs(reached), scale=scale)
    assert float(unit.sign) == np.sign(reached)


@given(seeds, shapes)
def test_the_ascent_never_falls(seed, shape):
    x, q = problem(seed, *shape)
    starts = jax.random.normal(jax.random.key(seed), (16, shape[1]))
    values = [ascend(x, q, starts, steps=steps)[1] for steps in (1, 5, 25)]
    unit_starts = starts / jnp.linalg.norm(starts, axis=1, keepdims=True)
    values.insert(0, jnp.abs(jnp.asarray(objective(x, q, unit_starts), x.dtype)))
    room = 20 * eps() * float(np.abs(q) @ np.linalg.norm(x, axis=1))
    for before, after in itertools.pairwise(values):
        assert (after >= before - room).all()


@given(seeds)
def test_in_the_plane_it_is_between_a_fine_grid_and_the_exact_value(seed):
    x, q = problem(seed, 12, 2)
    angles = np.linspace(0, 2 * np.pi, 20_001)
    grid = np.abs(objective(x, q, np.stack([np.cos(angles), np.sin(angles)], 1))).max()
    exact = kg.margins.violation_bound(x, np.asarray(q, float))
    found = float(kg.margins.most_violating_unit(x, q, key=jax.random.key(seed)).value)
    scale = float(np.abs(q) @ np.linalg.norm(x, axis=1))
    assert exact.exact
    assert found <= exact.value + 50 * eps() * scale
    # Many starts on a circle: no basin is missed; a grid step moves the value by 1.6e-4 at most.
    assert found >= grid - 2e-6 * scale


@given(seeds)
def test_never_above_the_rigorous_bound_in_higher_dimension(seed):
    x, q = problem(seed, 20, 5)
    found = kg.margins.most_violating_unit(x, q, key=jax.random.key(seed), restarts=32)
    bound = kg.margins.violation_bound(x, np.asarray(q, float), max_iterations=50)
    assert float(found.value) <= bound.value * (1 + 100 * eps())


def test_one_sample_and_orthogonal_rows_have_known_maxima():
    key = jax.random.key(0)
    x = jnp.array([[3.0, 0.0, 4.0]])
    found = kg.margins.most_violating_unit(x, jnp.array([-2.0]), key=key)
    assert_close(found.value, 10)
    # The value is flat there: its last digits fix half of the direction's.
    np.testing.assert_allclose(found.direction, x[0] / 5, atol=10 * eps() ** 0.5)
    # Orthogonal rows: the positive ones share the unit, ||(q_i ||x_i||)_+||, or the negative ones.
    sizes = jnp.array([1.0, 2.0, 3.0, 0.5])
    rotation = jnp.linalg.qr(jax.random.normal(key, (4, 4)))[0]
    q = jnp.array([2.0, 1.5, -1.0, -3.0])
    found = kg.margins.most_violating_unit(sizes[:, None] * rotation, q, key=key, steps=300)
    assert_close(found.value, np.hypot(2.0, 3.0))
    assert float(found.sign) == 1


def test_given_starts_are_used_and_zero_rows_ignored():
    # A needle: 200 pairs cancel but for one direction of the last coordinate.
    x, _ = problem(0, 20, 6)
    q = jnp.ones(20)
    good = kg.margins.most_violating_unit(x, q, key=jax.random.key(0)).direction
    starts = jnp.stack([jnp.zeros(6), 1e3 * good])
    alone = kg.margins.most_violating_unit(x, q, key=jax.random.key(1), restarts=1, steps=1)
    helped = kg.margins.most_violating_unit(
        x, q, key=jax.random.key(1), restarts=1, steps=1, starts=starts
    )
    best = abs(objective(x, q, good))
    assert float(alone.value) < 0.999 * best
    assert float(helped.value) >= best * (1 - 100 * eps())


def test_zero_coefficients_zero_rows_and_extreme_scales():
    x, q = problem(0, 10, 3)
    key = jax.random.key(0)
    zero = kg.margins.most_violating_unit(x, 0 * q, key=key)
    assert float(zero.value) == 0
    assert_close(jnp.linalg.norm(zero.direction), 1)
    nothing = kg.margins.most_violating_unit(0 * x, q, key=key)
    assert float(nothing.value) == 0
    assert np.isfinite(np.asarray(nothing.direction)).all()
    usual = kg.margins.most_violating_unit(x, q, key=key)
    for scale in (2.0**-60, 2.0**60):
        scaled = kg.margins.most_violating_unit(x * scale, q * scale, key=key)
        assert_close(scaled.value / scale / scale, usual.value)


def test_jit_vmap_and_nan():
    x, q = problem(0, 10, 3)
    keys = jax.random.split(jax.random.key(0), 2)

    def run(x, key):
        return kg.margins.most_violating_unit(x, q, key=key, restarts=4, steps=10)

    both = jax.jit(jax.vmap(run))(jnp.stack([x, x.at[0, 0].set(jnp.nan)]), keys)
    assert_close(both.value[0], run(x, keys[0]).value)
    assert np.isnan(both.value[1])


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"x": jnp.ones(3)}, ValueError, "shape"),
        ({"x": jnp.ones((3, 2), int)}, TypeError, "floating"),
        ({"x": jnp.full((3, 2), jnp.nan)}, ValueError, "finite"),
        ({"q": jnp.ones(4)}, ValueError, "`q`"),
        ({"q": jnp.array([1.0, jnp.inf, 0.0])}, ValueError, "finite"),
        ({"key": 0}, TypeError, "random key"),
        ({"restarts": 0}, ValueError, "restarts"),
        ({"steps": 0}, ValueError, "steps"),
        ({"steps": 1.5}, TypeError, "steps"),
        ({"starts": jnp.ones((2, 3))}, ValueError, "starts"),
    ],
)
def test_bad_input(change, error, match):
    arguments = {"x": jnp.ones((3, 2)), "q": jnp.ones(3), "key": jax.random.key(0)} | change
    x, q = arguments.pop("x"), arguments.pop("q")
    with pytest.raises(error, match=match):
        kg.margins.most_violating_unit(x, q, **arguments)
