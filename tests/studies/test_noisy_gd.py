import jax
import numpy as np
import pytest

from kernelgap.models import homogeneous_mlp
from kernelgap.studies import noisy_gd, over_seeds, seeds

pytestmark = pytest.mark.slow


def _rows(result, **wanted):
    return [r for r in result.rows if all(r[k] == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def noisy():
    return noisy_gd.STUDY.run(
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
    for method in noisy_gd.METHODS:
        for start in noisy_gd.STARTS:
            for seed in range(3):
                best = [r["best"] for r in _rows(noisy, method=method, start=start, seed=seed)]
                assert len(best) == 21
                assert (np.diff(best) <= 0).all()
    assert 0 <= noisy.select("largest_level_gap")[0].value < 0.02
    # Excesses are measured from the certified bound, not from the best loss found.
    mean = np.mean(list(lower.values()))
    for excess, loss in zip(noisy.select("loss_excess"), noisy.select("loss"), strict=True):
        assert excess.keys == loss.keys
        assert excess.value == pytest.approx(loss.value - mean, abs=1e-6)


def test_redraws_rescue_what_the_flow_cannot_leave(noisy):
    ends = noisy.select("best_excess", {"step": 2000})
    end = {(e.keys["method"], e.keys["start"]): e.value for e in ends}
    assert end["gd", "random"] < 0.02
    assert end["gd", "trapped"] > 0.1
    assert end["perturbed", "trapped"] < 0.05
    # With positive outputs f >= 0: each negative sample costs log 2 at least.
    train_keys = jax.random.split(jax.random.key(0), (3, 3))[0]
    share = np.mean(seeds.xor(train_keys, 32, 4).y < 0, axis=1)
    stuck = _rows(noisy, method="gd", start="trapped")
    for row in stuck:
        if row["negative"] == 0:
            assert row["loss"] >= share[row["seed"]] * np.log(2)
    assert sum(row["negative"] == 0 for row in stuck) > len(stuck) / 2


def test_without_noise_all_methods_are_gradient_descent():
    config = noisy_gd.NoisyGDConfig(
        d=3, n=12, widths=(8,), steps=60, records=3, seeds=2, temperature=0.0, resample_rate=0.0
    )
    result = noisy_gd.STUDY.run(config)
    plain = _rows(result, method="gd")
    for method in ("perturbed", "langevin"):
        for row, other in zip(_rows(result, method=method), plain, strict=True):
            np.testing.assert_equal(row | {"method": "gd"}, other)


def test_starts_lie_on_the_sphere_and_trapped_ones_are_balanced():
    model = homogeneous_mlp((2000,))
    keys = jax.random.split(jax.random.key(0), 2)
    for start in noisy_gd.STARTS:
        hidden, readout = over_seeds(
            noisy_gd.start_on_the_sphere, (keys,), static=(model, 7, start)
        )
        norms = np.linalg.norm(hidden, axis=2)
        np.testing.assert_allclose(norms**2 + np.square(readout), 1 / 2000, rtol=1e-5)
        if start == "trapped":
            np.testing.assert_allclose(readout, norms, rtol=1e-5)
        else:
            # Each of 8 coordinates of a uniform direction has the same mean square.
            share = 2000 * np.square(readout).mean()
            assert abs(share - 1 / 8) < 6 * np.sqrt(2 / 64 / 4000)
            assert abs(np.mean(readout < 0) - 0.5) < 6 * 0.5 / 4000**0.5
