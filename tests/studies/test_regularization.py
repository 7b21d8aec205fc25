import numpy as np
import pytest

from kernelgap.studies import regularization

pytestmark = pytest.mark.slow


def _rows(result, **wanted):
    return [r for r in result.rows if all(r[k] == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def lazy():
    return regularization.STUDY.run(
        regularization.RegularizationConfig(
            d=10, n=64, width=128, seeds=3, n_test=2000, steps=2400, records=8, l2=5e-3
        )
    )


def test_regularisation_ends_the_lazy_regime(lazy):
    def ends(metric):
        places = ({"learner": k, "step": 2400} for k in ("unregularised", "regularised"))
        return (lazy.select(metric, place)[0] for place in places)

    kept, left = ends("error")
    assert left.value < 0.03 < 0.2 < kept.value
    kept, left = ends("margin")
    assert left.low > 10 * kept.high
    kept, left = ends("activation_change")
    assert kept.high < 0.05 < 0.15 < left.low
    assert lazy.select("error", {"learner": "ntk"})[0].value > 0.2


def test_both_nets_start_at_zero_from_the_same_weights(lazy):
    for seed in range(3):
        first = [_rows(lazy, learner=k, seed=seed, step=0)[0] for k in ("regularised", "unregularised")]  # fmt: skip
        assert first[0]["norm"] == first[1]["norm"]
        for row in first:
            assert row["loss"] == pytest.approx(np.log(2), rel=1e-5)
            assert row["activation_change"] == 0


def test_a_vanishing_decay_changes_nothing():
    config = regularization.RegularizationConfig(
        d=4, n=16, width=8, seeds=2, n_test=50, steps=40, records=2, l2=1e-20
    )
    result = regularization.STUDY.run(config)
    for with_decay in _rows(result, learner="regularised"):
        (without,) = _rows(
            result, learner="unregularised", seed=with_decay["seed"], step=with_decay["step"]
        )
        assert with_decay["norm"] == pytest.approx(without["norm"], rel=1e-5)
        assert with_decay["loss"] == pytest.approx(without["loss"], rel=1e-4)
