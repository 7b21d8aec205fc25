import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import kernelgap as kg
from helpers import seeds, x64

key = jax.random.key(0)
ntk = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
best_in_span = kg.predictors.best_in_span


@given(seeds)
def test_it_is_the_least_squares_fit(seed):
    with x64(True):
        split = jax.random.split(jax.random.key(seed))
        centers, _ = kg.datasets.xor_noise(split[0], 15, 6, noise="gaussian")
        x, y = kg.datasets.xor_noise(split[1], 400, 6, noise="gaussian")
        found = best_in_span(ntk, centers, x, y, tile=64)  # 64 does not divide 400
        features = np.asarray(ntk(x, centers))
        fitted = features @ np.linalg.lstsq(features, np.asarray(y), rcond=None)[0]
        np.testing.assert_allclose(found.decision_function(x), fitted, atol=1e-5)


def test_single_precision_agrees_with_double_where_the_normal_equations_fail():
    """d = 20, n = d^2: the plain normal equations give NaN in float32 here."""
    split = jax.random.split(key, 3)
    centers = kg.datasets.xor_noise(split[0], 400, 20, dtype=jnp.float32).x
    x, y = kg.datasets.xor_noise(split[1], 3200, 20, dtype=jnp.float32)
    test = kg.datasets.xor_noise(split[2], 2000, 20, dtype=jnp.float32)
    single = best_in_span(ntk, centers, x, y).decision_function(test.x)
    with x64(True):
        wide = [np.float64(a) for a in (centers, x, y, test.x)]
        double = best_in_span(ntk, *wide[:3]).decision_function(wide[3])
    np.testing.assert_allclose(single, double, atol=0.02)
    assert float(jnp.mean(test.y * single > 0)) > 0.999


def test_it_beats_every_other_predictor_of_the_span_on_its_sample():
    split = jax.random.split(key)
    centers, labels = kg.datasets.xor_noise(split[0], 80, 10)
    x, y = kg.datasets.xor_noise(split[1], 1280, 10)
    best = best_in_span(ntk, centers, x, y)
    svm = kg.predictors.hard_margin_svm(ntk, centers, labels)

    def squared_error(predictor):
        outputs = predictor.decision_function(x)
        scale = (outputs @ y) / (outputs @ outputs)
        return float(jnp.mean((scale * outputs - y) ** 2))

    assert squared_error(best) < squared_error(svm)
    assert float(best.residual) < 1e-3


def test_tile_size_does_not_matter():
    x, y = kg.datasets.xor_noise(key, 300, 6, noise="gaussian")
    a, b = (best_in_span(ntk, x[:20], x, y, tile=tile) for tile in (7, 1000))
    np.testing.assert_allclose(a.decision_function(x), b.decision_function(x), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"x": jnp.ones((2, 2)), "y": jnp.ones(2)},
            "at least as many rows as `centers`; got 2 and 3",
        ),
        ({"x": jnp.ones((5, 3))}, "`x` must have shape \\(n, 2\\)"),
        ({"centers": jnp.ones(3)}, "`centers` must have shape"),
        ({"y": jnp.ones(4)}, "`y` must have shape \\(5,\\)"),
        ({"tile": 0}, "`tile` must be an integer >= 1"),
    ],
)
def test_refuses(change, match):
    arguments = {
        "centers": jnp.eye(3)[:, :2] + 1.0,
        "x": jnp.ones((5, 2)),
        "y": jnp.ones(5),
    } | change
    positional = [arguments.pop(name) for name in ("centers", "x", "y")]
    with pytest.raises(ValueError, match=match):
        best_in_span(ntk, *positional, **arguments)
