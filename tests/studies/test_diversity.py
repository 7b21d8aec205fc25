import numpy as np
import pytest
from scipy import stats

import kernelgap as kg
from helpers import write_mnist
from kernelgap import cli
from kernelgap.studies import (
    diversity,
    diversity_errors as errors,
    diversity_parts as parts,
    over_seeds,
)
from kernelgap.studies.diversity_summary import choose

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
    return diversity.STUDY.run(diversity.DiversityConfig(**TINY))


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
    values = result.select("population")
    assert [e.keys["degree"] for e in values[:3]] == [1, 0, 2]
    counts = result.select("multiplicity")
    shares = sum(value.value * count.value for value, count in zip(values, counts, strict=True))
    (rest,) = result.select("higher_degrees_over_n", {"d": 3})
    assert rest.value == pytest.approx((0.5 - shares) / 200)
    expected = parts.population(3, 200)
    np.testing.assert_allclose(expected[:9], [1 / 12] * 3 + [1 / 16] + [expected[4]] * 5)
    assert expected[9] < expected[8]


def test_arrangements_lose_singular_values_with_discrepancy(result):
    s_min, discrepancy = (
        {e.keys["arrangement"]: e.value for e in result.select(metric)}
        for metric in ("s_min_squared", "discrepancy")
    )
    assert list(s_min) == ["random", "clustered 0.5", "clustered 0.05", "optimised"]
    order = [discrepancy[k] for k in ("optimised", "random", "clustered 0.5", "clustered 0.05")]
    assert order == sorted(order)
    assert s_min["clustered 0.05"] < s_min["random"]
    (across,), (within,) = (
        result.select(name) for name in ("rank_correlation", "rank_correlation_within_random")
    )
    assert -1 <= across.low <= across.value <= across.high <= 1
    # The rows are what the metrics say of the arrangements, and the summary what SciPy says.
    config = result.config
    x, w = parts.inputs(config)[1], parts.clustered(config, 0.5)[1]
    (row,) = _rows(result, part="discrepancy", case="clustered", spread=0.5, seed=1)
    smallest = kg.diversity.smallest_singular_value(w, x).value
    assert row["s_min"] == pytest.approx(float(smallest), rel=1e-3, abs=1e-3)
    assert row["discrepancy"] == pytest.approx(float(kg.diversity.slice_discrepancy(w)), rel=1e-4)
    rows = _rows(result, part="discrepancy", draw=0.0)
    rho = stats.spearmanr([-r["discrepancy"] for r in rows], [r["s_min"] for r in rows]).statistic
    assert across.value == pytest.approx(rho)
    drawn = [_rows(result, part="discrepancy", case="random", seed=s) for s in range(3)]
    rhos = [
        stats.spearmanr([-r["discrepancy"] for r in rows], [r["s_min"] for r in rows]).statistic
        for rows in drawn
    ]
    assert [len(rows) for rows in drawn] == [6, 6, 6]
    assert within.value == pytest.approx(np.mean(rhos))


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
    assert result.select("certified_records")[0].value > 0
    assert result.select("tightest_certificate")[0].value >= 1 - 1e-3
    for case in parts.TRAINING:
        losses = result.select("loss", {"case": case})
        assert [e.keys["step"] for e in losses] == [0, 50, 100, 150, 200]
        assert losses[-1].value < losses[0].value
    plain, penalised = (
        result.select("discrepancy_of_training", {"case": case})[-1].value
        for case in parts.TRAINING[1::2]
    )
    assert penalised < plain


def test_training_starts_at_the_arrangement_and_its_loss(result):
    config = result.config
    w, x = parts.clustered(config, config.spread)[0], parts.inputs(config)[0]
    y = parts.targets(config, parts.inputs(config))[0]
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
    parts.refuse_violations(loss, np.array([[np.inf, 0.5], [0.2, 0.3]], np.float32))
    tiny = np.array([1e-11], np.float32)  # residuals of some rounding units
    parts.refuse_violations(tiny, tiny / 2)
    small = np.array([5.34614e-10], np.float32)  # of a run: residuals of 280 units, off by 6
    parts.refuse_violations(small, np.array([5.13386e-10], np.float32))
    with pytest.raises(RuntimeError, match="violated in 1 of 1"):
        parts.refuse_violations(100 * small, 50 * small)
    with pytest.raises(RuntimeError, match="violated in 1 of 1"):
        parts.refuse_violations(tiny.astype(np.float64), tiny.astype(np.float64) / 2)
    for wrong in (0.09, np.nan):
        with pytest.raises(RuntimeError, match=r"violated in 1 of 4 records: 0.1 > .* at \(1, 1\)"):
            parts.refuse_violations(loss, np.array([[np.inf, 0.6], [0.2, wrong]], np.float32))


def test_a_wrong_scale_would_be_seen(result):
    """The certificate of the net without its factor 1/sqrt(m) is too small, and refused."""
    rows = _rows(result, part="training", case="random")
    loss, certificate = (np.array([r[name] for r in rows]) for name in ("loss", "certificate"))
    parts.refuse_violations(loss, certificate)
    with pytest.raises(RuntimeError, match="is violated"):
        parts.refuse_violations(loss, certificate / TINY["units"])


def test_errors_are_those_at_the_least_validation_error(result):
    rows = _rows(result, part="error")
    assert len(rows) == 5 * 3
    assert {r["step"] for r in rows} <= {10, 20, 30, 40}
    assert all(0 < r["error"] < 20 for r in rows)
    points = {e.keys["case"]: e.value for e in result.select("error")}
    assert list(points) == ["none", "l2", "diversity"]
    for case, value in points.items():
        own = [r for r in rows if r["case"] == case]
        best = [
            min((r for r in own if r["seed"] == s), key=lambda r: r["validation"])["error"]
            for s in range(3)
        ]
        assert value == pytest.approx(np.mean(best))
    for case in ("l2", "diversity"):
        place = {"data": "teacher", "start": "random", "width": 16, "case": case}
        (change,), (relative,) = (result.select(k, place) for k in ("change", "relative_change"))
        assert change.value == pytest.approx(points[case] - points["none"])
        assert relative.value == pytest.approx(points[case] / points["none"] - 1)
    # A penalty lowers the discrepancy; a strong decay is never chosen.
    strong = _rows(result, part="error", width=16, strength=1.0)
    none = _rows(result, part="error", width=16, case="none")
    assert np.mean([r["discrepancy"] for r in strong]) < np.mean([r["discrepancy"] for r in none])
    assert result.select("strength", {"case": "l2"})[0].value < 1


def test_one_net_is_the_one_that_training_gives(result):
    """One row, done again step by step without the study."""
    import jax
    import optax

    config = result.config
    key = jax.random.fold_in(jax.random.key(0), 1000)
    data_keys, start_keys = jax.random.split(key, (2, 3))
    found = errors.draw_problem(config, "teacher", data_keys)
    model = kg.models.fixed_sign_net(16)
    loss = kg.diversity.add_diversity_penalty(
        kg.objectives.regularized_squared(model.apply), strength=0.1
    )
    x, y = (a[2] for a in found.train)
    params = (parts.random_units(start_keys[2], 16, 5),)
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
    (best,) = choose(rows, ("seed",))
    assert best["error"] == 2.0


def test_arrangements():
    import jax

    key = jax.random.key(0)
    for w in (
        parts.random_units(key, 12, 5),
        parts.clustered_units(key, 12, 5, clusters=3, spread=0.01),
        over_seeds(parts.spread_out, (parts.random_units(key, 12, 5)[None],), static=(5,))[0],
    ):
        np.testing.assert_allclose(np.linalg.norm(w, axis=1), 5**0.5, rtol=1e-5)
    w = np.asarray(parts.clustered_units(key, 12, 5, clusters=3, spread=0.01)) / 5**0.5
    together = (w @ w.T) > 0.99
    np.testing.assert_array_equal(together, np.arange(12)[:, None] % 3 == np.arange(12) % 3)
    start = parts.random_units(key, 12, 5)
    before, after = (
        float(kg.diversity.diversity_penalty(w))
        for w in (start, over_seeds(parts.spread_out, (start[None],), static=(300,))[0])
    )
    # No less than uniform units have; most of what random ones lack is gained.
    least = 1 / 16 + 0.4903577561 / (8 * np.pi**2)
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
    result = diversity.STUDY.run(config)
    assert {(r["data"], r["width"]) for r in result.rows} == {("digits", 64), ("mnist", 64)}
    # The brightest rows tell the class: a net that learns them is far below chance, .9.
    assert np.mean([r["error"] for r in result.rows]) < 0.5
    assert all(round(r["error"] * 60, 4) % 1 == 0 for r in _rows(result, data="mnist"))
    assert len(result.plot().axes) == 3
    assert {e.keys["data"] for e in result.select("error")} == {"digits", "mnist"}
    assert "mnist" in result.table()


def test_problems_have_unit_inputs_and_do_not_share_samples(mnist):
    import jax

    config = diversity.DiversityConfig(**(TINY | {"mnist": mnist, "noise": 0.5, "n_test": 2000}))
    keys = jax.random.split(jax.random.key(1), 2)
    for data, d, n_test in (("teacher", 5, 2000), ("digits", 64, 1727), ("mnist", 784, 60)):
        found = errors.draw_problem(config, data, keys)
        assert found.shared == (data == "mnist")
        for part, n in zip(found[:3], (40, 30, n_test), strict=True):
            axes = () if found.shared and n == 60 else (2,)
            assert part.x.shape == (*axes, n, d)
            np.testing.assert_allclose(np.linalg.norm(part.x, axis=-1), 1, rtol=1e-5)
        x = np.concatenate([np.asarray(part.x[0]) for part in found[:2]])
        assert len(np.unique(x, axis=0)) == 70
    found = errors.draw_problem(config, "teacher", keys)
    clean = errors.draw_problem(
        diversity.DiversityConfig(**(TINY | {"n_test": 2000})), "teacher", keys
    )
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
    with pytest.raises(error, match=match) as refusal:
        diversity.STUDY.run(config)
    assert set(change) & set(refusal.value.options)


def test_mnist_on_the_command_line(mnist, tmp_path, capsys):
    short = ["--seeds", "2", "--n-train", "20", "--n-validation", "10", "--adam-steps", "4",
             "--stops", "2", "--widths", "16", "--penalties", "0.1", "--l2s", "0.1", "--starts",
             "random", "--data", "digits", "--parts", "error", "--no-progress"]  # fmt: skip
    out = str(tmp_path / "out")
    assert cli.main(["run", "diversity", "--out", out, "--mnist", mnist, *short]) == 0
    assert "mnist" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "diversity", "--out", out, "--mnist", out, *short, "--overwrite"])
    assert stop.value.code == 2
    assert "--mnist: " in (message := capsys.readouterr().err)
    assert "must hold train-images-idx3-ubyte or" in message


def test_parts_alone_have_figures_and_tables(result):
    for part, panels in (("spectrum", 1), ("discrepancy", 1), ("training", 4)):
        config = diversity.DiversityConfig(**(TINY | {"parts": (part,)}))
        cells = {k: v for k, v in result.cells.items() if k[0] == part}
        rows = [row for cell in cells.values() for row in cell.rows]
        estimates = diversity.STUDY.summarize(config, rows)
        alone = result._replace(config=config, cells=cells, estimates=estimates)
        assert len(alone.plot().axes) == panels
        assert alone.table()
        assert {e.name for e in estimates} < {e.name for e in result.estimates}
