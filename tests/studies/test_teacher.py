import numpy as np
import pytest

from kernelgap import bounds
from kernelgap.studies import teacher

pytestmark = pytest.mark.slow


def _rows(result, **wanted):
    return [r for r in result.rows if all(r[k] == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def taught():
    return teacher.STUDY.run(
        teacher.TeacherConfig(d=10, sizes=(25, 800), seeds=4, n_test=3000, width=32, steps=150)
    )


def test_the_net_learns_the_teacher_better_than_its_kernels(taught):
    for learner in ("ntk", "last"):
        (behind,) = taught.select("error_above_the_net", {"learner": learner, "n": 800})
        assert behind.low > 0  # paired over teachers
    for learner in ("net", "ntk", "last"):
        few, many = taught.select("error", {"learner": learner})
        assert many.value < few.value


def test_teacher_rows_carry_certificates_and_bounds(taught):
    for row in taught.rows:
        if row["learner"] == "net":
            assert np.isnan(row["duality_gap"])
            if row["train_error"] == 0:
                found = bounds.two_layer_margin_bound(row["margin"], n=row["n"], radius=10**0.5)
                assert row["bound"] == pytest.approx(float(found.value), rel=1e-5)
        else:
            assert row["train_error"] == 0
            assert row["duality_gap"] <= 1e-4
            square = {"ntk": 1, "last": 1 / 2}[row["learner"]]  # k(x, x), E[relu(u)^2] for the last
            expected = square / row["margin"] ** 2 / row["n"]
            assert row["leave_one_out"] == pytest.approx(expected, rel=1e-3)
            assert row["bound"] > 4 * (square / row["n"]) ** 0.5 / row["margin"]
        assert row["teacher_margin"] > 0
    # The kernel's margin can only fall when samples are added.
    for seed in range(4):
        small, large = (_rows(taught, learner="ntk", seed=seed, n=n)[0] for n in (25, 800))
        assert large["margin"] < small["margin"]


def test_unbounded_inputs_get_no_bounds():
    config = teacher.TeacherConfig(
        d=4, sizes=(10,), inputs="gaussian", seeds=2, n_test=50, width=4, steps=5
    )
    result = teacher.STUDY.run(config)
    assert all(np.isnan(row["bound"]) for row in result.rows)
    assert all(np.isnan(e.value) for e in result.select("bound"))
    result.plot()
