import jax
import numpy as np
import pytest
from scipy import stats

from kernelgap.studies import regularization, seeds

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


def test_the_papers_start_on_its_teacher():
    paper = regularization.STUDY.presets["paper"]
    small = {"d": 5, "n": 20, "width": 200, "seeds": 11, "n_test": 50, "steps": 400, "records": 1}
    result = regularization.STUDY.run(
        regularization.RegularizationConfig(**(paper | small | {"margin": 0.5, "l2": 1e-2}))
    )
    assert len(result.cells) == 6  # ten seeds and one, for two nets and the kernel
    assert "weights N(0, 1)" in result.plot().get_suptitle()
    squares = []
    for seed in range(11):
        first = [_rows(result, learner=k, seed=seed, step=0)[0] for k in ("regularised", "unregularised")]  # fmt: skip
        assert first[0]["norm"] == first[1]["norm"]
        squares.append(first[0]["norm"] ** 2)
    # The sum of all squares of 1200 weights and 11 seeds.
    assert stats.chi2(11 * 1200).sf(sum(squares)) == pytest.approx(0.5, abs=0.499)
    kept, left = (
        result.select("margin", {"learner": k, "step": 400})[0].value
        for k in ("unregularised", "regularised")
    )
    assert left > 2 * kept


def test_a_margin_that_no_input_reaches_is_refused():
    config = regularization.RegularizationConfig(data="teacher", d=3, margin=1e3)
    with pytest.raises(ValueError, match="`margin` must be reached by at least one input in a tho"):
        regularization.STUDY.run(config)


def test_teachers_of_a_study_have_the_margin_of_their_inputs():
    keys = jax.random.split(jax.random.key(0), (2, 3))
    form = {"units": 2, "inputs": "sphere", "margin": 0.7, "labels": "value"}
    x, y = seeds.teacher(*keys, 40, 4, **form)
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 2, rtol=1e-5)
    assert 0.69999 < np.abs(y).min() < 0.9
    np.testing.assert_array_equal(seeds.teacher(*keys, 40, 4, **(form | {"labels": "sign"})).x, x)
