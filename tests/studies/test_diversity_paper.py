"""The experiments of paper B in the study `diversity`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg
from helpers import write_mnist
from kernelgap.studies import (
    diversity,
    diversity_orthant as orthant,
    diversity_paper as paper,
    diversity_parts as parts,
    diversity_sgd as sgd,
)

pytestmark = pytest.mark.slow

TINY = {
    "parts": ("spectrum", "discrepancy", "trained", "losses", "orthant", "images"),
    "activations": ("relu", "squared relu"), "ranks": 500, "dims": (15,), "gram_n": 200,
    "gram_seeds": 1, "seeds": 2, "d": 4, "n": 20, "units": 8, "draws": 1, "spreading": 20,
    "arrangements": ("random", "optimised"), "sgd_seeds": 2, "sgd_batch": 5, "trained_d": 5,
    "trained_units": (4, 8), "trained_steps": 40, "losses_d": 4, "losses_units": (6,),
    "losses_steps": 20, "losses_records": 2, "losses_samples": 30, "strengths": (0.1, 1.0),
    "readings": ("fresh", "sample"), "orthant_dims": (3,), "orthant_units": 500,
    "images_units": (16,), "images_readings": ("signs",), "images_strengths": (10.0,), "epochs": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist")
    write_mnist(folder, n_train=150, n_test=60)
    return diversity.STUDY.run(diversity.DiversityConfig(**TINY, mnist=str(folder)))


def test_every_part_reaches_tables_and_figure(result):
    assert {row["part"] for row in result.rows} == set(TINY["parts"])
    assert len(result.plot().axes) == 7  # losses have two
    for text in ("squared discrepancy after SGD", "errors on MNIST", "positive orthant"):
        assert text in result.table()
    assert len([r for r in result.rows if r["part"] == "losses"]) == 2 * 2 * 3 * 2
    # The paper's numbers stand only beside its own sizes; those of MNIST say what they are.
    assert not [e for e in result.estimates if e.keys.get("reading") == paper.PAPER]


@pytest.mark.parametrize("name", ["fresh", "large", "sample", "gaussian", "signs"])
def test_nets_are_those_of_plain_sgd(name):
    """Step by step, net by net, with a momentum of .9 and the penalty of eq. 28 pair by pair."""
    d, width, batch, rate, steps = 3, 4, 5, 0.1, 3
    reading, key = sgd.READINGS[name], jax.random.key(7)
    strengths = jnp.asarray([0.0, 2.0])
    settings = {"d": d, "width": width, "reading": reading, "samples": 9, "batch": batch}
    looks = sgd._student(key, strengths, **settings, schedule=(steps, 1, rate, 0.9))
    teacher_key, start_key, sample_key, test_key, batch_key = jax.random.split(key, 5)

    def units(key, m):
        return (
            jax.random.normal(key, (m, d)) if name == "gaussian" else kg.datasets.sphere(key, m, d)
        )

    def signs(key, m):
        if name == "signs":
            return jax.random.rademacher(jax.random.fold_in(key, 1), (m,), float)
        return jnp.where(jnp.arange(m) % 2 == 0, 1.0, -1.0)

    def outputs(w, v, x):
        return jnp.maximum(x @ w.T, 0) @ v

    teacher = units(teacher_key, d), signs(teacher_key, d)
    v = signs(start_key, width)
    sample = kg.datasets.sphere(sample_key, 9, d)
    test = kg.datasets.sphere(test_key, sgd.TEST, d)

    def loss(w, x):
        return jnp.mean((outputs(w, v, x) - outputs(*teacher, x)) ** 2) / 2

    def penalty(w):
        u = w / jnp.linalg.norm(w, axis=1, keepdims=True)
        off = [(i, j) for i in range(width) for j in range(width) if i != j]
        angles = jnp.stack([jnp.arccos(u[i] @ u[j]) for i, j in off])
        return jnp.mean((0.5 - angles / (2 * jnp.pi)) ** 2)

    for k, strength in enumerate(strengths):
        w, velocity = units(start_key, width), 0.0
        for step in range(steps):
            draw = jax.random.fold_in(batch_key, step)
            if reading.fresh:
                x = kg.datasets.sphere(draw, 20 if name == "large" else batch, d)
            else:
                x = sample[jax.random.randint(draw, (batch,), 0, 9)]
            gradient = jax.grad(lambda w, x=x, s=strength: loss(w, x) + s * penalty(w))(w)
            velocity = 0.9 * velocity + gradient
            w = w - rate * velocity
        np.testing.assert_allclose(looks.loss[0, k], loss(w, sample), rtol=1e-3)
        np.testing.assert_allclose(looks.error[0, k], loss(w, test), rtol=1e-3)
        expected = kg.diversity.slice_discrepancy(w)
        np.testing.assert_allclose(looks.discrepancy[0, k], expected, rtol=1e-3)


def test_the_orthant_by_counting():
    """Both Gram matrices, unit by unit, and their limit."""
    x = np.abs(np.random.default_rng(0).normal(size=(6, 3)))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    key = jax.random.key(1)
    common, counts = orthant._common_units(key, 20_000, x)
    first, second = orthant._both_cases(common, counts)
    w = np.concatenate(
        [jax.random.normal(jax.random.fold_in(key, start), (10_000, 3)) for start in (0, 10_000)]
    )
    both = np.any(w > 0, axis=1) & np.any(w < 0, axis=1)
    for share, chosen in ((first, w), (second, w[both])):
        active = chosen @ np.float32(x).T > 0
        expected = np.mean(active[:, :, None] & active[:, None, :], axis=0)
        np.testing.assert_allclose(share, expected, atol=1e-12)
    # In the limit: shares of an octant each; five standard deviations of 20,000 units.
    angles = np.arccos(np.clip(x @ x.T, -1, 1))
    exact = orthant._both_cases(0.5 - angles / (2 * np.pi), np.array([1, 1 / 8, 1 / 8]))
    for share, limit in zip((first, second), exact, strict=True):
        np.testing.assert_allclose(share, limit, atol=5 * 0.5 / 12_000**0.5)


def test_orthant_rows_are_smallest_eigenvalues(result):
    rows = [r for r in result.rows if r["part"] == "orthant"]
    assert [r["case"] for r in rows] == [*orthant.CASES] * 2
    assert all(0 < r["population"] < 0.2 for r in rows)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 5003), 1)
    x = np.abs(np.float64(jax.random.normal(jax.random.split(key)[0], (200, 3))))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    c = np.clip(x @ x.T, -1, 1)
    least = np.linalg.eigvalsh((0.5 - np.arccos(c) / (2 * np.pi)) * c)[0]
    assert rows[2]["population"] == pytest.approx(least, rel=1e-3)


def test_the_squared_relu_has_the_step_of_degree_three():
    """Both kernels with a trace of 1/2; the ReLU's has no eigenvalue of degree 3, the other of 4."""
    relu, squared = (parts.degrees(15, name) for name in ("relu", "squared relu"))
    for spectrum in (relu, squared):
        assert float(np.sum(spectrum.shares)) == pytest.approx(0.5, abs=1e-2)
    assert relu.values[3] == squared.values[4] == 0 < min(relu.values[4], squared.values[3])
    x = kg.datasets.sphere(jax.random.key(0), 40, 15)
    assert np.sum(parts._eigenvalues(x, "squared relu")) == pytest.approx(20, rel=1e-4)
    # Full degrees end at 1, 16, 135 and 800 functions: the steps of the paper's Figure 2.
    expected = parts.population(15, 820, "squared relu")
    steps = np.flatnonzero(np.abs(np.diff(expected)) > 1e-3 * expected[:-1]) + 1
    assert steps.tolist() == [1, 16, 135, 800]


def test_ranks_beyond_the_gram_matrix_have_the_population_only(result):
    rows = [r for r in result.rows if r["part"] == "spectrum" and r["case"] == "relu"]
    assert max(r["rank"] for r in rows) == 500
    for row in rows:
        assert np.isnan(row["eigenvalue"]) == (row["rank"] > 200)
        assert row["population"] > 0


def test_the_best_strength_is_that_of_the_least_mean():
    rows = [
        {"reading": "fresh", "width": 9.0, "strength": s, "test_loss": value, "seed": seed}
        for s, values in ((0.0, (2.0, 4.0)), (0.1, (1.0, 4.0)), (1.0, (3.0, 1.0)))
        for seed, value in enumerate(values)
    ]
    estimates = paper._with_and_without(rows, {"test_loss": (0, np.inf)}, "test_loss", 0)
    values = {e.name: e.value for e in estimates}
    assert values["test_loss reading=fresh width=9 penalty=none"] == 3
    assert values["test_loss reading=fresh width=9 penalty=best"] == 2
    assert values["best_strength reading=fresh width=9"] == 1
    assert values["change_of_test_loss reading=fresh width=9"] == -1
    assert values["relative_change_of_test_loss reading=fresh width=9"] == pytest.approx(-1 / 3)


def test_the_papers_numbers_are_consistent():
    """Its Table 1 gives the changes of the test loss that its text reports, Figure 3 its slope."""
    changes = {m: round(row[3][0] / row[1][0] - 1, 2) for m, row in paper._TABLE_1.items()}
    assert changes == {100: -0.28, 150: -0.39, 200: 0.32, 300: -0.73}
    points = np.log([*paper._FIGURE_3.items()])
    assert np.polyfit(*points.T, 1)[0] == pytest.approx(-0.89, abs=0.01)
    spectrum = kg.kernels.zonal_spectrum(kg.diversity.diversity_kernel(), 1500, degree=2)
    for degree, level in paper._LEVELS.items():
        assert 14 < spectrum.values[degree] / level < 15.5


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"parts": ("images",)}, "`mnist` must be the folder of the MNIST files"),
        ({"arrangements": ("optimised",)}, "`arrangements` must include random"),
        ({"losses_records": 7}, "`losses_records` must divide `losses_steps`"),
    ],
)
def test_what_a_part_lacks_is_said_at_once(change, match):
    with pytest.raises(ValueError, match=match):
        diversity.DiversityConfig(**change)
