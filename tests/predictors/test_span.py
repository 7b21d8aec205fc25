import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import kernelgap as kg
from helpers import seeds, x64
from kernelgap.predictors import Iterative, MatrixFree

key = jax.random.key(0)
ntk = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
best_in_span = kg.predictors.best_in_span


@given(seeds)
def test_it_is_the_least_squares_fit(seed):
    with x64(True):
        split = jax.random.split(jax.random.key(seed))
        centers, _ = kg.datasets.xor_noise(split[0], 15, 6, noise="gaussian")
        x, y = kg.datasets.xor_noise(split[1], 400, 6, noise="gaussian")
        found = best_in_span(
            ntk, centers, x, y, solver=MatrixFree(tile=64)
        )  # 64 does not divide 400
        features = np.asarray(ntk(x, centers))
        fitted = features @ np.linalg.lstsq(features, np.asarray(y), rcond=None)[0]
        np.testing.assert_allclose(found.decision_function(x), fitted, atol=1e-5)


def test_single_precision_agrees_with_double_where_the_normal_equations_fail():
    """d = 20, n = d^2: the plain normal equations give NaN in float32 here."""
    split = jax.random.split(key, 3)
    centers = kg.datasets.xor_noise(split[0], 400, 20, dtype=jnp.float32).x
    x, y = kg.datasets.xor_noise(split[1], 3200, 20, dtype=jnp.float32)
    test = kg.datasets.xor_noise(split[2], 2000, 20, dtype=jnp.float32)
    single = best_in_span(ntk, centers, x, y, tol=3e-4).decision_function(test.x)
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
    assert float(best.kkt_residual) < 1e-3


def test_tile_size_does_not_matter():
    x, y = kg.datasets.xor_noise(key, 300, 6, noise="gaussian")
    a, b = (
        best_in_span(ntk, x[:20], x, y, solver=solver)
        for solver in (MatrixFree(tile=7), MatrixFree(tile=1000))
    )
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
        ({"solver": Iterative()}, "must be 'auto', Direct.* or MatrixFree.*; got Iterative"),
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


def _in_float64(centers, x, y, new):
    """Least squares in an orthonormal basis of the span, by NumPy."""
    with x64(True):
        c, x, new = (np.float64(a) for a in (centers, x, new))
        gram, block, outputs = np.asarray(ntk(c)), np.asarray(ntk(x, c)), np.asarray(ntk(new, c))
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-10 * max(values[-1], 1e-300)
    basis = vectors[:, kept] / np.sqrt(values[kept])
    return outputs @ basis @ np.linalg.lstsq(block @ basis, np.float64(y))[0]


@pytest.mark.parametrize("extra", ["repeated", "doubled", "zero", "tiny", "opposite", "none"])
def test_dependent_centres_span_what_the_others_do(extra):
    x = kg.datasets.xor_noise(key, 640, 8, dtype=jnp.float32).x
    y = jnp.sin(jnp.sum(x, axis=1))
    factor = {"repeated": 1, "doubled": 2, "zero": 0, "tiny": 1e-12, "opposite": -1, "none": 0}
    more = factor[extra] * x[: 0 if extra == "none" else 8]
    centers = jnp.concatenate([x[:32], more])
    found = best_in_span(ntk, centers, x, y)
    expected = _in_float64(centers, x, y, x[:50])
    assert float(found.kkt_residual) < 1e-3
    np.testing.assert_allclose(found.decision_function(x[:50]), expected, atol=2e-3)


def test_a_fit_that_float32_does_not_carry_is_not_returned_without_a_warning():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((640, 6)) + 30).astype(np.float32)
    y = np.sin(rng.standard_normal(640)).astype(np.float32)
    with pytest.warns(RuntimeWarning, match="relative distance .* centre the inputs"):
        found = best_in_span(ntk, x[:64], x, y)
    exact = _in_float64(x[:64], x, y, x)
    with x64(True):  # the coefficients as they are, without the rounding of predictions
        values = np.asarray(ntk(np.float64(x), np.float64(x[:64]))) @ np.float64(found.coef)
    distance = np.linalg.norm(values - exact) / np.linalg.norm(exact)
    assert 0.2 * distance < float(found.kkt_residual) < 5 * distance


@pytest.mark.parametrize(("of_x", "of_y"), [(1e-12, 1e-30), (1e15, 1e30)])
def test_homogeneous_at_any_scale(of_x, of_y):
    x, y = kg.datasets.xor_noise(key, 640, 8, dtype=jnp.float32)
    plain = best_in_span(ntk, x[:32], x, y)
    scaled = best_in_span(ntk, of_x * x[:32], of_x * x, of_y * y)
    np.testing.assert_allclose(
        scaled.decision_function(of_x * x) / of_y, plain.decision_function(x), atol=1e-3
    )


def test_repeated_centres_span_no_more_than_one_of_them():
    split = jax.random.split(key)
    centers = np.asarray(kg.datasets.xor_noise(split[0], 30, 6, noise="gaussian").x)
    x, y = kg.datasets.xor_noise(split[1], 500, 6, noise="gaussian")
    repeated = np.concatenate([centers, centers[::-1]])
    once, twice = (best_in_span(ntk, c, x, y) for c in (centers, repeated))
    np.testing.assert_allclose(
        once.decision_function(x), twice.decision_function(x), rtol=0, atol=1e-3
    )
    assert twice.coef.shape == (60,)
    assert int(twice.status) == 0


@pytest.mark.parametrize("tile", [64, 1000])
def test_the_host_and_one_program_agree(tile):
    split = jax.random.split(key)
    centers, _ = kg.datasets.xor_noise(split[0], 30, 6, noise="gaussian")
    x, y = kg.datasets.xor_noise(split[1], 500, 6, noise="gaussian")
    y, solver = 1e30 * y, MatrixFree(tile=tile)
    host = best_in_span(ntk, centers, x, y, solver=solver)
    program = jax.jit(lambda c: best_in_span(ntk, c, x, y, solver=solver))(centers)
    values = (np.asarray(f.decision_function(x)) / 1e30 for f in (host, program))
    np.testing.assert_allclose(*values, rtol=0, atol=1e-3)
    assert float(host.kkt_residual) < 1e-3
