"""What the studies of nets measure: theorems, identities, and the effects they are about."""

import jax
import numpy as np
import pytest

from kernelgap import bounds
from kernelgap.studies import noisy_gd, regularization, samples, teacher, width


def _rows(result, **wanted):
    return [r for r in result.rows if all(r[k] == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def taught():
    return teacher.run(
        teacher.TeacherConfig(
            sizes=(50, 600), seeds=4, n_test=3000, width=32, steps=120, learning_rate=0.05
        )
    )


def test_the_net_learns_the_teacher_better_than_its_kernels(taught):
    behind = {(p["learner"], p["n"]): p["excess"] for p in taught.summary["behind_net"]}
    for learner in ("ntk", "last"):
        assert behind[learner, 600]["low"] > 0  # paired over teachers
    for p in taught.summary["points"]:
        other = next(q for q in taught.summary["points"] if q["learner"] == p["learner"])
        assert p["n"] == 50 or p["error"]["value"] < other["error"]["value"]


def test_teacher_rows_carry_certificates_and_bounds(taught):
    for row in taught.rows:
        if row["learner"] == "net":
            assert np.isnan(row["duality_gap"])
            if row["train_error"] == 0:
                found = bounds.two_layer(row["margin"], n=row["n"], radius=20**0.5)
                assert row["bound"] == pytest.approx(float(found.value), rel=1e-5)
        else:
            assert row["train_error"] == 0
            assert row["duality_gap"] <= 1e-4
            # The larger the kernel's margin, the smaller its bounds; C is 1 in this scale.
            assert row["leave_one_out"] == pytest.approx(
                1 / row["margin"] ** 2 / row["n"], rel=1e-3
            )
        assert row["teacher_margin"] > 0
    # The kernel's margin can only fall when samples are added.
    for seed in range(4):
        small, large = (_rows(taught, learner="ntk", seed=seed, n=n)[0] for n in (50, 600))
        assert large["margin"] < small["margin"]


def test_unbounded_inputs_get_no_bounds():
    config = teacher.TeacherConfig(
        d=4, sizes=(10,), inputs="gaussian", seeds=2, n_test=50, width=4, steps=5
    )
    result = teacher.run(config)
    assert all(np.isnan(row["bound"]) for row in result.rows)
    assert "vacuous" not in result.table()
    result.plot()


@pytest.fixture(scope="module")
def lazy():
    return regularization.run(
        regularization.RegularizationConfig(
            d=10, n=64, width=128, seeds=3, n_test=2000, steps=2400, records=8, l2=5e-3
        )
    )


def test_regularisation_ends_the_lazy_regime(lazy):
    end = {p["learner"]: p for p in lazy.summary["curves"] if p["step"] == 2400}
    kept, left = end["unregularised"], end["regularised"]
    assert left["error"]["value"] < 0.03 < 0.2 < kept["error"]["value"]
    assert left["margin"]["low"] > 10 * kept["margin"]["high"]
    assert kept["activation_change"]["high"] < 0.05 < 0.2 < left["activation_change"]["low"]
    assert lazy.summary["ntk"]["error"]["value"] > 0.2


def test_both_nets_start_at_zero_from_the_same_weights(lazy):
    for seed in range(3):
        first = [_rows(lazy, learner=k, seed=seed, step=0)[0] for k in regularization.cells.LEARNERS[:2]]  # fmt: skip
        assert first[0]["norm"] == first[1]["norm"]
        for row in first:
            assert row["loss"] == pytest.approx(np.log(2), rel=1e-5)
            assert row["activation_change"] == 0


def test_a_vanishing_decay_changes_nothing():
    config = regularization.RegularizationConfig(
        d=4, n=16, width=8, seeds=2, n_test=50, steps=40, records=2, l2=1e-20
    )
    result = regularization.run(config)
    for with_decay in _rows(result, learner="regularised"):
        (without,) = _rows(
            result, learner="unregularised", seed=with_decay["seed"], step=with_decay["step"]
        )
        assert with_decay["norm"] == pytest.approx(without["norm"], rel=1e-5)
        assert with_decay["loss"] == pytest.approx(without["loss"], rel=1e-4)


@pytest.fixture(scope="module")
def noisy():
    return noisy_gd.run(
        noisy_gd.NoisyGDConfig(
            d=4, n=32, widths=(64,), learning_rate=0.1, steps=2000, records=20, seeds=3
        )
    )


def test_no_loss_is_below_the_certified_bound_and_best_iterates_never_rise(noisy):
    lower = {row["seed"]: row["lower"] for row in _rows(noisy, method="reference")}
    assert set(lower) == {0, 1, 2}
    for row in noisy.rows:
        assert row["loss"] >= row["best"] - 1e-6
        assert row["best"] >= lower[row["seed"]]
    for method in noisy_gd.cells.METHODS:
        for start in noisy_gd.cells.STARTS:
            for seed in range(3):
                best = [r["best"] for r in _rows(noisy, method=method, start=start, seed=seed)]
                assert len(best) == 21
                assert (np.diff(best) <= 0).all()
    assert noisy.summary["largest_level_gap"] < 0.02


def test_redraws_rescue_what_the_flow_cannot_leave(noisy):
    end = {(p["method"], p["start"]): p for p in noisy.summary["curves"] if p["step"] == 2000}
    assert end["gd", "random"]["best_excess"]["value"] < 0.02
    assert end["gd", "trapped"]["best_excess"]["value"] > 0.1
    assert end["perturbed", "trapped"]["best_excess"]["value"] < 0.05
    # With positive outputs f >= 0: each negative sample costs log 2 at least.
    train_keys = jax.random.split(jax.random.key(0), (3, 3))[0]
    share = np.mean(samples.xor(train_keys, 32, 4).y < 0, axis=1)
    stuck = _rows(noisy, method="gd", start="trapped")
    for row in stuck:
        if row["negative"] == 0:
            assert row["loss"] >= share[row["seed"]] * np.log(2)
    assert sum(row["negative"] == 0 for row in stuck) > len(stuck) / 2


def test_without_noise_all_methods_are_gradient_descent():
    config = noisy_gd.NoisyGDConfig(
        d=3, n=12, widths=(8,), steps=60, records=3, seeds=2, temperature=0.0, resample_rate=0.0
    )
    result = noisy_gd.run(config)
    plain = _rows(result, method="gd")
    for method in ("perturbed", "langevin"):
        for row, other in zip(_rows(result, method=method), plain, strict=True):
            np.testing.assert_equal(row | {"method": "gd"}, other)


def test_starts_lie_on_the_sphere_and_trapped_ones_are_balanced():
    model = noisy_gd.cells.two_layer_net(50)
    keys = jax.random.split(jax.random.key(0), 2)
    for start in noisy_gd.cells.STARTS:
        hidden, readout = noisy_gd.cells._start(model, keys, 7, start)
        norms = np.linalg.norm(hidden, axis=2)
        np.testing.assert_allclose(norms**2 + np.square(readout), 1 / 50, rtol=1e-5)
        if start == "trapped":
            np.testing.assert_allclose(readout, norms, rtol=1e-5)
        else:
            # Each of 8 coordinates of a uniform direction has the same mean square.
            share = 50 * np.square(readout).mean()
            assert abs(share - 1 / 8) < 6 * np.sqrt(2 / 64 / 100)
            assert 0.2 < np.mean(readout < 0) < 0.8


@pytest.fixture(scope="module")
def widths():
    config = width.WidthConfig(
        d=3, n=16, units=4, widths=(2, 8, 32, 64), seeds=3, n_test=500, steps=200, certified=2
    )
    return width.run(config)


def test_no_net_of_any_width_exceeds_the_certified_margin(widths):
    certified = _rows(widths, learner="any")
    assert [row["seed"] for row in certified] == [0, 1]
    for best in certified:
        assert 0 < best["margin"] <= best["upper"] <= 1.05 * best["margin"]
        for row in _rows(widths, learner="net", seed=best["seed"]):
            assert row["margin"] <= best["upper"] * (1 + 1e-5)


def test_the_margin_reaches_the_best_from_width_n_on(widths):
    running = [p["running"]["value"] for p in widths.summary["points"]]
    assert (np.diff(running) >= 0).all()
    shares = {p["width"]: p["of_best_found"]["value"] for p in widths.summary["shares"]}
    assert shares[2] < shares[64]
    assert min(shares[32], shares[64]) > 0.9
    for row in _rows(widths, learner="net"):
        if row["margin"] > 0:
            found = bounds.two_layer(row["margin"], n=16, radius=3**0.5)
            assert row["bound"] == pytest.approx(float(found.value), rel=1e-4)
        else:
            assert np.isnan(row["bound"])


def test_width_on_digits():
    config = width.WidthConfig(
        data="digits", n=20, widths=(8,), seeds=2, restarts=1, steps=60, certified=0
    )
    result = width.run(config)
    assert "any_width" not in result.summary
    assert all(row["error"] < 0.3 for row in result.rows)
    assert "digits 3 against 8" in result.plot().get_suptitle()
