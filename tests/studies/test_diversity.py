import numpy as np
import pytest
from scipy import stats

import kernelgap as kg
from helpers import write_mnist
from kernelgap import cli
from kernelgap.studies import diversity, statistics
from kernelgap.studies.diversity import arrangements, cells, errors, summary

pytestmark = pytest.mark.slow

TINY = {
    "seeds": 3, "dims": (3,), "gram_n": 200, "gram_seeds": 1, "d": 4, "n": 20, "units": 16,
    "clusters": 2, "spreads": (0.5, 0.05), "draws": 6, "spreading": 100, "steps": 200, "records": 4,
    "data": ("teacher",), "starts": ("random",), "widths": (16,), "penalties": (0.1, 1.0),
    "l2s": (1e-4, 3.0), "teacher_d": 5, "n_train": 40, "n_validation": 30, "n_test": 100,
    "adam_steps": 40, "stops": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def result():
    return diversity.run(diversity.DiversityConfig(**TINY))


def _rows(result, **wanted):
    return [r for r in result.rows if all(r[k] == v for k, v in wanted.items())]


def test_spectra_agree_with_the_population(result):
    """Each Gram eigenvalue of a well-filled degree lies near that degree's eigenvalue."""
    rows = _rows(result, part="spectrum", d=3)
    assert rows[0]["rank"] == 1
    assert rows[-1]["rank"] == 200
    assert {3, 4, 5, 9, 10} <= {r["rank"] for r in rows}  # the ends of the first degrees
    values = [r["eigenvalue"] for r in rows]
    assert values == sorted(values, reverse=True)
    # d = 3: lambda_1 = 1/12 three times, lambda_0 = 1/16; deviations are of order 1/sqrt(200).
    for r in rows[:4]:
        assert r["population"] == pytest.approx(1 / 12 if r["rank"] <= 3 else 1 / 16, rel=1e-6)
        assert r["eigenvalue"] == pytest.approx(r["population"], rel=6 / 200**0.5)
    (found,) = result.summary["spectrum"]["dims"]
    assert [p["degree"] for p in found["degrees"][:3]] == [1, 0, 2]
    shares = sum(p["share"] for p in found["degrees"])
    assert found["rest"] == pytest.approx((0.5 - shares) / 200)
    expected = cells.population(3, 200)
    np.testing.assert_allclose(expected[:9], [1 / 12] * 3 + [1 / 16] + [expected[4]] * 5)
    assert expected[9] < expected[8]


def test_arrangements_lose_singular_values_with_discrepancy(result):
    found = result.summary["discrepancy"]
    by_case = {(p["case"], p["spread"]): p for p in found["arrangements"]}
    means = {
        k: (p["s_min_squared"]["value"], p["discrepancy"]["value"]) for k, p in by_case.items()
    }
    random, tight = means["random", None], means["clustered", 0.05]
    assert means["optimised", None][1] < random[1] < means["clustered", 0.5][1] < tight[1]
    assert tight[0] < random[0]
    assert found["across"]["low"] <= found["across"]["value"] <= found["across"]["high"]
    # The rows are what the metrics say of the arrangements, and the summary what SciPy says.
    config = result.config
    x, w = cells._inputs(config)[1], cells._clustered(config, 0.5)[1]
    (row,) = _rows(result, part="discrepancy", case="clustered", spread=0.5, seed=1)
    smallest = kg.metrics.smallest_singular_value(w, x).value
    assert row["s_min"] == pytest.approx(float(smallest), rel=1e-3, abs=1e-3)
    assert row["discrepancy"] == pytest.approx(float(kg.metrics.slice_discrepancy(w)), rel=1e-4)
    rows = _rows(result, part="discrepancy", draw=0.0)
    rho = stats.spearmanr([-r["discrepancy"] for r in rows], [r["s_min"] for r in rows]).statistic
    assert found["across"]["value"] == pytest.approx(rho)
    drawn = [_rows(result, part="discrepancy", case="random", seed=s) for s in range(3)]
    rhos = [
        stats.spearmanr([-r["discrepancy"] for r in rows], [r["s_min"] for r in rows]).statistic
        for rows in drawn
    ]
    assert [len(rows) for rows in drawn] == [6, 6, 6]
    assert found["within_random"]["value"] == pytest.approx(np.mean(rhos))


def test_training_is_certified_at_every_record(result):
    rows = _rows(result, part="training")
    assert len(rows) == 4 * 3 * 5
    for r in rows:
        assert r["loss"] <= r["certificate"] * (1 + 1e-3)
        if np.isfinite(r["certificate"]):
            # L <= (n/2) ||grad||^2 / (s_min^2 / m); s_min enters by its lower end.
            assert r["certificate"] >= 10 * r["gradient"] ** 2 * 16 / r["s_min"] ** 2 * (1 - 1e-5)
        if r["s_min"] > 0.3:
            assert r["certificate"] <= 11 * r["gradient"] ** 2 * 16 / r["s_min"] ** 2
    found = result.summary["training"]
    assert found["certified"] > 0
    assert found["tightest"] >= 1 - 1e-3
    for case, curves in found["cases"].items():
        assert curves["step"] == [0, 50, 100, 150, 200]
        losses = [p["value"] for p in curves["loss"]]
        assert losses[-1] < losses[0]
        assert case in cells.TRAINING
    plain, penalised = (
        found["cases"][case]["discrepancy"][-1]["value"] for case in cells.TRAINING[1::2]
    )
    assert penalised < plain


def test_training_starts_at_the_arrangement_and_its_loss(result):
    config = result.config
    w, x = cells._clustered(config, config.spread)[0], cells._inputs(config)[0]
    y = cells._targets(cells._keys(config, 3)[0], x, units=6)
    assert float(y.std()) == pytest.approx(1, rel=1e-5)
    outputs = np.maximum(np.float64(x) @ np.float64(w).T, 0) @ np.tile([1, -1], 8) / 4
    y = np.float64(y)
    (row,) = _rows(result, part="training", case="clustered", seed=0, step=0.0)
    assert row["loss"] == pytest.approx(float(np.mean((outputs - y) ** 2)) / 2, rel=1e-4)
    # With a penalty too it is the data term that is looked at.
    (other,) = _rows(result, part="training", case="clustered, penalised", seed=0, step=0.0)
    for name in ("loss", "gradient", "s_min", "certificate", "discrepancy"):
        assert other[name] == pytest.approx(row[name], rel=1e-4)


def test_a_violated_certificate_stops_the_run():
    loss = np.array([[1.0, 0.5], [0.2, 0.1]], np.float32)
    cells.refuse_violations(loss, np.array([[np.inf, 0.5], [0.2, 0.3]], np.float32))
    tiny = np.array([1e-11], np.float32)  # residuals of some rounding units
    cells.refuse_violations(tiny, tiny / 2)
    with pytest.raises(RuntimeError, match="violated in 1 of 1"):
        cells.refuse_violations(tiny.astype(np.float64), tiny.astype(np.float64) / 2)
    for wrong in (0.09, np.nan):
        with pytest.raises(RuntimeError, match=r"violated in 1 of 4 records: 0.1 > .* at \(1, 1\)"):
            cells.refuse_violations(loss, np.array([[np.inf, 0.6], [0.2, wrong]], np.float32))


def test_a_wrong_scale_would_be_seen(monkeypatch):
    """The certificate of the net without its factor 1/sqrt(m) is too small, and refused."""
    right = kg.metrics.pl_bound
    monkeypatch.setattr(kg.metrics, "pl_bound", lambda g, s, *, n, scale: right(g, s, n=n))
    config = diversity.DiversityConfig(parts=("training",), **(TINY | {"steps": 150, "records": 3}))
    cells._train.clear_cache()
    try:
        with pytest.raises(RuntimeError, match="is violated"):
            cells.run_cell(config, ("training", "random"))
    finally:
        cells._train.clear_cache()


def test_errors_are_those_at_the_least_validation_error(result):
    rows = _rows(result, part="error")
    assert len(rows) == 5 * 3
    assert {r["step"] for r in rows} <= {10, 20, 30, 40}
    assert all(0 < r["error"] < 20 for r in rows)
    points = result.summary["error"]["points"]
    for p in points:
        own = [r for r in rows if (r["width"], r["case"]) == (p["width"], p["case"])]
        best = [
            min((r for r in own if r["seed"] == s), key=lambda r: r["validation"])["error"]
            for s in range(3)
        ]
        assert p["error"]["value"] == pytest.approx(np.mean(best))
    for p in result.summary["error"]["paired"]:
        with_, without = (
            next(q for q in points if (q["width"], q["case"]) == (p["width"], case))["error"][
                "value"
            ]
            for case in (p["case"], "none")
        )
        assert p["difference"]["value"] == pytest.approx(with_ - without)
        assert p["relative"]["value"] == pytest.approx(with_ / without - 1)
    # A penalty lowers the discrepancy; a strong decay is never chosen.
    strong = _rows(result, part="error", width=16, strength=1.0)
    none = _rows(result, part="error", width=16, case="none")
    assert np.mean([r["discrepancy"] for r in strong]) < np.mean([r["discrepancy"] for r in none])
    assert all(p["strength"]["value"] < 1 for p in points if p["case"] == "l2")


def test_one_net_is_the_one_that_training_gives(result):
    """One row, done again step by step without the study."""
    import jax
    import optax

    config = result.config
    key = jax.random.fold_in(jax.random.key(0), 1000)
    data_keys, start_keys = jax.random.split(key, (2, 3))
    found = errors.problem(config, "teacher", data_keys)
    model = kg.models.fixed_sign_net(16)
    loss = kg.objectives.with_diversity(
        kg.objectives.regularized_squared(model.apply), strength=0.1
    )
    x, y = (a[2] for a in found.train)
    params = (arrangements.random(start_keys[2], 16, 5),)
    (row,) = _rows(result, part="error", width=16, strength=0.1, seed=2)
    looks = kg.optim.train(
        loss, params, (x, y), optax.adam(0.01), steps=40, record=lambda p: p[0], record_every=10
    ).records
    found_errors = []
    for part in (found.validation, found.test):
        x, y = (np.float64(a[2]) for a in part)
        outputs = np.maximum(np.einsum("nd,swd->snw", x, np.float64(looks)), 0)
        f = outputs @ np.tile([1, -1], 8) / 4
        found_errors.append(np.mean((f - y) ** 2, axis=1) / np.var(y))
    stop = int(np.argmin(found_errors[0]))
    assert row["step"] == 10 * (stop + 1)
    assert row["validation"] == pytest.approx(found_errors[0][stop], rel=0.02)
    assert row["error"] == pytest.approx(found_errors[1][stop], rel=0.02)


def test_chosen_takes_the_first_of_equals_and_no_nan():
    rows = [
        {"seed": 0, "validation": v, "error": e}
        for v, e in ((np.nan, 9.0), (0.2, 1.0), (0.1, 2.0), (0.1, 3.0))
    ]
    (best,) = summary._chosen(rows, ("seed",))
    assert best["error"] == 2.0


def test_arrangements():
    import jax

    key = jax.random.key(0)
    for w in (
        arrangements.random(key, 12, 5),
        arrangements.clustered(key, 12, 5, clusters=3, spread=0.01),
        arrangements.spread_out(arrangements.random(key, 12, 5), steps=5),
    ):
        np.testing.assert_allclose(np.linalg.norm(w, axis=1), 5**0.5, rtol=1e-5)
    w = np.asarray(arrangements.clustered(key, 12, 5, clusters=3, spread=0.01)) / 5**0.5
    together = (w @ w.T) > 0.99
    np.testing.assert_array_equal(together, np.arange(12)[:, None] % 3 == np.arange(12) % 3)
    start = arrangements.random(key, 12, 5)
    before, after = (
        float(kg.objectives.diversity_penalty(w))
        for w in (start, arrangements.spread_out(start, steps=300))
    )
    # No less than uniform units have; most of what random ones lack is gained.
    least = 1 / 16 + float(stats.norm.pdf(0) * 0 + 0.4903577561) / (8 * np.pi**2)
    assert least < after < least + (before - least) / 2


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist")
    write_mnist(folder, n_train=150, n_test=60)
    return str(folder)


def test_mnist_and_digits_by_ten_outputs(mnist):
    config = diversity.DiversityConfig(
        **(TINY | {"parts": ("error",), "data": ("digits",), "mnist": mnist, "seeds": 2,
                   "n_train": 80, "penalties": (0.1,), "l2s": (1e-4,), "adam_steps": 200, "widths": (64,)})
    )  # fmt: skip
    result = diversity.run(config)
    assert {(r["data"], r["width"]) for r in result.rows} == {("digits", 64), ("mnist", 64)}
    # The brightest rows tell the class: a net that learns them is far below chance, .9.
    assert np.mean([r["error"] for r in result.rows]) < 0.5
    assert all(round(r["error"] * 60, 4) % 1 == 0 for r in _rows(result, data="mnist"))
    assert len(result.plot().axes) == 3
    assert "mnist random 64 units" in result.table()


def test_problems_have_unit_inputs_and_do_not_share_samples(mnist):
    import jax

    config = diversity.DiversityConfig(**(TINY | {"mnist": mnist, "noise": 0.5, "n_test": 2000}))
    keys = jax.random.split(jax.random.key(1), 2)
    for data, d, n_test in (("teacher", 5, 2000), ("digits", 64, 1727), ("mnist", 784, 60)):
        found = errors.problem(config, data, keys)
        assert found.shared == (data == "mnist")
        for part, n in zip(found[:3], (40, 30, n_test), strict=True):
            axes = () if found.shared and n == 60 else (2,)
            assert part.x.shape == (*axes, n, d)
            np.testing.assert_allclose(np.linalg.norm(part.x, axis=-1), 1, rtol=1e-5)
        x = np.concatenate([np.asarray(part.x[0]) for part in found[:2]])
        assert len(np.unique(x, axis=0)) == 70
    found = errors.problem(config, "teacher", keys)
    clean = errors.problem(diversity.DiversityConfig(**(TINY | {"n_test": 2000})), "teacher", keys)
    np.testing.assert_array_equal(found.test.y, clean.test.y)
    noise = np.concatenate([(a.y - b.y).ravel() for a, b in zip(found[:2], clean[:2], strict=True)])
    assert stats.kstest(noise / 0.5, stats.norm.cdf).pvalue > 1e-6
    np.testing.assert_allclose(np.std(found.test.y, axis=1), 1, atol=0.15)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"n_train": 1770, "data": ("digits",)}, ValueError, "must stay below the 1797 images"),
        ({"mnist": "nowhere"}, NotADirectoryError, "`mnist`: .* is not a folder"),
        ({"n_train": 130, "mnist": "+"}, ValueError, "must be at most 150, the training images"),
    ],
)
def test_what_data_lack_is_said_before_any_work(mnist, change, error, match):
    change = change | ({"mnist": mnist} if change.get("mnist") == "+" else {})
    config = diversity.DiversityConfig(**(TINY | change))
    with pytest.raises(error, match=match):
        diversity.STUDY.cells(config)


def test_mnist_on_the_command_line(mnist, tmp_path, capsys):
    short = ["--seeds", "2", "--n-train", "20", "--n-validation", "10", "--adam-steps", "4",
             "--stops", "2", "--widths", "16", "--penalties", "0.1", "--l2s", "0.1", "--starts",
             "random", "--data", "digits", "--parts", "error", "--no-progress"]  # fmt: skip
    out = str(tmp_path / "out")
    assert cli.main(["run", "diversity", "--out", out, "--mnist", mnist, *short]) == 0
    assert "mnist random 16 units" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "diversity", "--out", out, "--mnist", out, *short, "--overwrite"])
    assert stop.value.code == 2
    assert "--mnist: " in (message := capsys.readouterr().err)
    assert "must hold train-images-idx3-ubyte or" in message


def test_parts_alone_have_figures_and_tables():
    for part, panels in (("spectrum", 1), ("discrepancy", 1), ("training", 5)):
        config = diversity.DiversityConfig(**(TINY | {"parts": (part,)}))
        result = diversity.run(config)
        assert set(result.summary) == {part}
        assert len(result.plot().axes) == (4 if part == "training" else panels)
        assert result.table()


def test_rank_correlation_and_bootstrap():
    rng = np.random.default_rng(0)
    for a, b in (
        (rng.normal(size=30), rng.normal(size=30)),
        (rng.integers(4, size=30), rng.integers(4, size=30)),
        (np.arange(5), -(np.arange(5) ** 3)),
    ):
        expected = stats.spearmanr(a, b).statistic
        assert statistics.rank_correlation(a, b) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(statistics.rank_correlation(np.ones(5), np.arange(5)))
    values = rng.normal(3, 1, 400)
    found = statistics.bootstrap(values, np.mean, rng)
    expected = statistics.mean_interval(values)
    np.testing.assert_allclose(found, expected, atol=0.02)
    # Rows are drawn whole: the difference of equal columns has no spread.
    pair = np.stack([values, values + 1], axis=1)
    found = statistics.bootstrap(pair, lambda some: np.mean(some[:, 1] - some[:, 0]), rng)
    np.testing.assert_allclose(found, 1)
