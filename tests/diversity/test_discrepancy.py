import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import integrate, special

import kernelgap as kg
from helpers import assert_close, eps, keys, slow_but, x64
from kernelgap.diversity import wedges

slices = kg.diversity.slice_discrepancy
hemispheres = kg.diversity.hemisphere_discrepancy
worst = kg.diversity.max_slice_discrepancy
key = jax.random.key(0)


def share(x, z):
    """k of unit vectors in numpy, pairwise over leading axes."""
    angle = 2 * np.arctan2(np.linalg.norm(x - z, axis=-1), np.linalg.norm(x + z, axis=-1))
    return 0.5 - angle / (2 * np.pi)


def uniform(seed, n, d):
    x = np.random.default_rng(seed).normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("d", [2, 3, 8])
@pytest.mark.parametrize("n", [1, 6])
def test_closed_forms_against_random_slices(d, n):
    draws = 100_000
    w, x, z = (uniform(s, k, d) for s, k in ((n, n), (1, draws), (2, draws)))
    on_x, on_z = x @ w.T >= 0, z @ w.T >= 0
    for found, samples in (
        (
            slices(jnp.asarray(w, float), squared=True),
            (np.mean(on_x & on_z, axis=1) - share(x, z)) ** 2,
        ),
        (hemispheres(jnp.asarray(w, float), squared=True), (np.mean(on_x, axis=1) - 0.5) ** 2),
    ):
        error = np.std(samples) / math.sqrt(draws)
        assert abs(float(found) - np.mean(samples)) < 5 * error + 10 * eps()


@pytest.mark.parametrize("d", [1, 2, 3, 10, 300])
def test_means_over_independent_units(d):
    n, draws = 12, 3000
    w = jax.random.normal(key, (draws, n, d))
    constant = float(special.polygamma(1, d / 2)) / (8 * np.pi**2)
    for found, mean in ((slices, 3 / 16 - constant), (hemispheres, 1 / 4)):
        values = np.float64(jax.vmap(lambda w, f=found: f(w, squared=True))(w))
        error = np.std(values) / math.sqrt(draws)
        assert abs(np.mean(values) - mean / n) < 5 * error + 10 * eps()


@pytest.mark.parametrize("d", [2, 3, 7, 60])
def test_the_mean_square_of_slices_by_quadrature(d):
    density = lambda t: math.exp((d - 2) * math.log(math.sin(t))) if 0 < t < np.pi else 0.0
    total = integrate.quad(density, 0, np.pi, epsabs=0, epsrel=1e-12)[0]
    square = integrate.quad(lambda t: (0.5 - t / (2 * np.pi)) ** 2 * density(t), 0, np.pi)[0]
    np.testing.assert_allclose(wedges.mean_square(d), square / total, rtol=1e-9)


@pytest.mark.parametrize("left", [0, 2, 5])
def test_in_one_dimension(left):
    """Slices are half-lines or {0}: dsp is p - 1/2, 1/2 - p, or 0, with p the share on the right."""
    w = jnp.asarray([[-1.0]] * left + [[3.0]] * (5 - left))
    assert_close(slices(w), abs(left / 5 - 0.5) / np.sqrt(2), scale=1)
    assert_close(hemispheres(w), np.float64(abs(left / 5 - 0.5)), scale=1)
    found = worst(w, key=key, slices=50, kept=5, steps=3)
    assert_close(found.lower, np.float64(abs(left / 5 - 0.5)), scale=1)


def test_known_values():
    assert_close(hemispheres(jnp.ones((4, 3))), np.float64(0.5))
    assert_close(slices(jnp.ones((4, 3))) ** 2, 0.25 - wedges.mean_square(3))
    base = jax.random.normal(key, (6, 4))
    paired = jnp.concatenate([base, -base])
    assert abs(float(hemispheres(paired, squared=True))) < 10 * eps()
    # Pairs of opposite units: rounding may leave the square below 0; the root is 0 then.
    assert 0 <= float(hemispheres(paired)) < math.sqrt(10 * eps())
    assert float(slices(paired)) > 0.05


@given(keys, st.sampled_from([(5, 1), (9, 3), (20, 6)]))
def test_invariances(key, shape):
    w = jax.random.normal(key, shape)
    sizes = jnp.exp(3 * jax.random.normal(key, (shape[0], 1)))
    rotation = jnp.linalg.qr(jax.random.normal(key, (shape[1],) * 2))[0]
    order = jax.random.permutation(key, shape[0])
    for found in (slices, hemispheres):
        base = found(w, squared=True)
        for other in (sizes * w, w @ rotation, w[order], -w, 1e-30 * w, 1e30 * w):
            assert_close(found(other, squared=True), base, scale=1, factor=20)
        # Writing every unit twice changes nothing: the measure is the same.
        assert_close(found(jnp.concatenate([w, w]), squared=True), base, scale=1, factor=20)
        assert_close(found(w) ** 2, jnp.maximum(base, 0), scale=1)


def test_entries_of_the_gram_matrix_are_discrepancies():
    with x64(True):
        w = jax.random.normal(key, (40, 3), jnp.float64)
        x = jax.random.normal(jax.random.key(1), (6, 3), jnp.float64)
        gram = np.asarray(kg.diversity.extended_feature_gram(w, x)) / 40
        limit = np.asarray(kg.diversity.diversity_kernel()(x))
    w, x = np.asarray(w), np.asarray(x)
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    on = x @ w.T >= 0
    for i in range(6):
        for j in range(6):
            difference = np.mean(on[i] & on[j]) - share(units[i], units[j])
            np.testing.assert_allclose(
                gram[i, j] - limit[i, j], difference * (x[i] @ x[j]), atol=1e-12
            )


@pytest.mark.parametrize("d", slow_but([2, 3, 9], [3]))
def test_the_worst_slice_is_a_slice_with_that_discrepancy(d):
    w = jax.random.normal(key, (31, d)) + 0.3
    found = worst(w, key=jax.random.key(1), slices=500, kept=10, steps=50)
    x, z = np.float64(found.x), np.float64(found.z)
    np.testing.assert_allclose([np.linalg.norm(x), np.linalg.norm(z)], 1, rtol=1e-6)
    inside = (np.float64(w) @ x >= 0) & (np.float64(w) @ z >= 0)
    assert abs(float(found.lower) - abs(np.mean(inside) - share(x, z))) < 1e-5
    assert float(slices(w)) <= float(found.lower) <= 1
    before = worst(w, key=jax.random.key(1), slices=500, kept=10, steps=0)
    longer = worst(w, key=jax.random.key(1), slices=500, kept=10, steps=150)
    assert before.lower <= found.lower <= longer.lower
    assert before.lower < longer.lower


def test_the_worst_slice_on_the_circle_by_enumeration():
    """There slices are arcs of at most pi, with ends at units or of length pi."""
    w = jax.random.normal(key, (12, 2))
    angles = np.sort(np.mod(np.arctan2(*np.float64(w).T[::-1]), 2 * np.pi))
    best = 0.0
    for a in angles:
        for b in angles:
            length = (b - a) % (2 * np.pi)
            if length <= np.pi:
                closed = np.sum((angles - a) % (2 * np.pi) <= length + 1e-12)
                opened = closed - (2 if length > 0 else 1)
                best = max(
                    best, closed / 12 - length / (2 * np.pi), length / (2 * np.pi) - opened / 12
                )
        for sign in (-1, 1):
            half = np.sum((angles - a - sign * 1e-9) % (2 * np.pi) <= np.pi)
            best = max(best, abs(half / 12 - 0.5))
    # The supremum needs the limit of arcs whose length is pi too; ours stays below and comes near.
    found = float(worst(w, key=key).lower)
    assert found <= best + 1e-5
    assert found >= 0.97 * best


def test_clustered_units_are_found():
    w = 0.02 * jax.random.normal(key, (50, 5)) + jnp.eye(5)[:1]
    assert float(worst(w, key=key, slices=2000).lower) > 0.8


def test_transforms():
    w = jnp.stack([jax.random.normal(jax.random.fold_in(key, s), (7, 3)) for s in range(2)])
    search = lambda w: worst(w, key=key, slices=64, kept=4, steps=5)
    for function in (slices, hemispheres, lambda w: search(w).lower):
        batched = jax.jit(jax.vmap(function))(w)
        assert_close(batched[1], function(w[1]), scale=1)
        for bad in (w[0].at[2].set(0), w[0].at[2, 0].set(np.nan)):
            assert np.isnan(jax.jit(function)(bad))
    for function in (slices, hemispheres):
        assert np.isfinite(jax.grad(function)(w[0])).all()
        assert np.isfinite(jax.grad(function)(jnp.ones((4, 3)))).all()
        assert np.isfinite(jax.grad(function)(jnp.concatenate([w[0], -w[0]]))).all()


@pytest.mark.parametrize("function", [slices, hemispheres, lambda w: worst(w, key=key)])
def test_refuses_units(function):
    w = jax.random.normal(key, (4, 3))
    with pytest.raises(ValueError, match=r"`w` must have shape \(n, d\)"):
        function(w[0])
    with pytest.raises(TypeError, match="`w` must be a floating-point array"):
        function(jnp.ones((4, 3), int))
    with pytest.raises(ValueError, match="`w` must be finite"):
        function(w.at[0, 0].set(np.nan))
    with pytest.raises(ValueError, match="nonzero units, since 0 has no direction; row 2 is zero"):
        function(w.at[2].set(0))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"key": 0}, TypeError, "`key` must be a JAX random key"),
        ({"slices": 0}, ValueError, "`slices` must be an integer >= 1"),
        ({"kept": 0}, ValueError, "`kept` must be an integer >= 1"),
        ({"steps": -1}, ValueError, "`steps` must be an integer >= 0"),
        ({"slices": 8, "kept": 9}, ValueError, "`kept` must be at most `slices`, 8; got 9"),
    ],
)
def test_search_refuses(options, error, match):
    with pytest.raises(error, match=match):
        worst(jnp.ones((3, 2)), **{"key": key, **options})
