import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg
from helpers import x64

bounds, lazy = kg.bounds, kg.lazy
GOOD = {"trace": 100.0, "n": 100}


def test_by_hand():
    """R is the first of 0.5, 1, 2, ... that is at least the distance."""
    for distance, radius, j in (
        (0.0, 0.5, 1),
        (0.5, 0.5, 1),
        (0.6, 1.0, 2),
        (2.0, 2.0, 3),
        (3, 4, 4),
    ):
        found = bounds.lazy_bound(
            distance,
            **GOOD,
            curvature=0.01,
            loss_lipschitz=2.0,
            train_loss=0.1,
            smallest_radius=0.5,
            delta=0.1,
        )
        expected = 0.1 + 4 * (radius * 0.1 + 0.005 * radius**2)
        expected += 3 * np.sqrt(np.log(2 * j * (j + 1) / 0.1) / 200)
        np.testing.assert_allclose(found.value, expected, rtol=1e-5)
        assert found.status == "derived"


def test_the_radius_is_never_below_the_distance():
    """Read from the radii at which a curvature is asked for."""
    distances = np.float32(np.random.default_rng(0).uniform(0, 64, 500))
    edges = np.nextafter(np.float32(2.0) ** np.arange(6, dtype=np.float32), np.float32(99))
    distances = np.concatenate([distances, edges])
    radii = []

    def curvature(radius):
        radii.append(radius)
        return 0.0

    bounds.lazy_bound(distances, **GOOD, curvature=curvature)
    radii = np.array(radii)
    assert (radii >= distances).all()
    np.testing.assert_array_equal(radii, 2.0 ** np.round(np.log2(radii)))
    assert (radii[distances > 1] < 2 * distances[distances > 1]).all()


def test_functions_of_the_radius():
    seen = []

    def curvature(radius):
        seen.append(radius)
        return np.array([0.0, 0.02])

    found = bounds.lazy_bound([0.7, 3.0], **GOOD, curvature=curvature)
    assert seen == [1.0, 4.0]
    np.testing.assert_array_equal(
        found.value, bounds.lazy_bound([0.7, 3.0], **GOOD, curvature=0.01).value
    )


def test_the_complexity_is_above_that_of_nets_near_the_start():
    """No net of the ball, found by ascent, correlates with random signs more than claimed."""
    with x64(True):
        n, radius = 12, 0.5
        model = kg.models.mlp((40,), activation="tanh", parameterization="ntk")
        params = model.init(jax.random.key(0), 4)
        x = jax.random.normal(jax.random.key(1), (n, 4))
        f0 = model.apply(params, x)

        def value(v, signs):
            moved = jax.tree.map(jnp.add, params, v)
            return signs @ (model.apply(moved, x) - f0) / n

        def best(key):
            signs = jax.random.rademacher(key, (n,), float)
            v = jax.tree.map(jnp.zeros_like, params)

            def step(v, _):  # the best point of the ball for the current gradient
                slope = jax.grad(value)(v, signs)
                size = kg.lazy.displacement(jax.tree.map(jnp.zeros_like, slope), slope)
                return jax.tree.map(lambda g: radius * g / size, slope), None

            return value(jax.lax.scan(step, v, length=30)[0], signs)

        found = jnp.mean(jax.jit(jax.vmap(best))(jax.random.split(jax.random.key(2), 400)))
        trace = jnp.trace(kg.kernels.empirical_ntk(model, params)(x))
        h = np.mean(lazy.output_curvature(model, params, x)(radius))
        claimed = radius * jnp.sqrt(trace) / n + h * radius**2 / 2
        assert 0.3 * claimed < found < claimed


def test_a_trained_net_on_fresh_data():
    """The gap of test and training ramp loss is below the bound, which says something here."""
    n, d = 3000, 4
    keys = jax.random.split(jax.random.key(0), 3)
    model = kg.models.homogeneous_mlp((), parameterization="ntk")
    params = model.init(keys[0], d)
    x, fresh = (jax.random.normal(k, (n, d)) for k in keys[1:])
    y, labels = jnp.sign(x[:, 0]), jnp.sign(fresh[:, 0])

    def ramp(params, x, y):
        return jnp.mean(jnp.clip(1 - y * model.apply(params, x), 0, 1))

    moved = params
    for _ in range(100):
        moved = jax.tree.map(lambda w, g: w - 0.3 * g, moved, jax.grad(ramp)(moved, x, y))
    far = kg.lazy.displacement(params, moved)
    bound = bounds.lazy_bound(far, trace=jnp.sum(x**2) / d, n=n, train_loss=ramp(moved, x, y))
    assert ramp(moved, fresh, labels) <= bound.value
    assert not bound.vacuous


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"distance": -1.0}, ValueError, "`distance` must hold finite numbers >= 0"),
        ({"trace": 0.0}, ValueError, "`trace` must hold finite numbers > 0"),
        ({"n": 0}, ValueError, "`n` must hold finite numbers >= 1"),
        ({"curvature": -1.0}, ValueError, "`curvature` must hold finite numbers >= 0"),
        ({"loss_lipschitz": np.nan}, ValueError, "`loss_lipschitz` must hold finite numbers >= 0"),
        ({"train_loss": 1.5}, ValueError, "`train_loss` must hold finite numbers >= 0 and <= 1"),
        ({"smallest_radius": 0.0}, ValueError, "`smallest_radius` must hold finite numbers > 0"),
        ({"delta": 1.0}, ValueError, "`delta` must hold finite numbers > 0 and < 1"),
        ({"distance": "far"}, TypeError, "`distance` must hold"),
    ],
)
def test_refuses(change, error, match):
    with pytest.raises(error, match=match):
        bounds.lazy_bound(**({"distance": 1.0} | GOOD | change))


def test_functions_need_concrete_distances():
    with pytest.raises(TypeError, match="`curvature` as a function needs distances known now"):
        jax.jit(lambda r: bounds.lazy_bound(r, **GOOD, curvature=lambda r: 0.1).value)(1.0)
    found = jax.jit(lambda r: bounds.lazy_bound(r, **GOOD, curvature=0.1).value)(1.0)
    np.testing.assert_allclose(
        found, bounds.lazy_bound(1.0, **GOOD, curvature=0.1).value, rtol=1e-6
    )
