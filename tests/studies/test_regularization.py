import numpy as np
import pytest

from kernelgap.studies import regularization

pytestmark = pytest.mark.slow


def _rows(result, **wanted):
    return [r for r in result.rows if all(r[k] == v for k, v in wanted.items())]


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
    assert kept["activation_change"]["high"] < 0.05 < 0.15 < left["activation_change"]["low"]
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
