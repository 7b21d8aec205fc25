import numpy as np
import pytest

from kernelgap import bounds, kernels
from kernelgap.datasets import Dataset
from kernelgap.studies import learners, teacher

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
        assert behind.value > 0  # of four teachers; the regression tells more
    for learner in ("net", "ntk", "last"):
        for metric in ("error", "squared_error"):
            few, many = taught.select(metric, {"learner": learner})
            assert many.value < few.value
    ours, *others = (
        taught.select("squared_error", {"learner": k, "n": 800})[0] for k in ("net", "ntk", "last")
    )
    assert ours.high < min(other.low for other in others)


def test_regression_interpolates_with_the_least_norm():
    """Of random features, as the width grows: the last-layer kernel, by NumPy's pseudoinverse."""
    rng = np.random.default_rng(0)
    x, test = rng.standard_normal((30, 4)), rng.standard_normal((200, 4))
    f = lambda x: np.maximum(x[:, 0], 0) - np.maximum(x[:, 1], 0)
    units = rng.standard_normal((4, 20_000))
    features, of_test = (np.maximum(z @ units, 0) for z in (x, test))
    outputs = of_test @ (np.linalg.pinv(features) @ f(x))
    expected = np.mean((outputs - f(test)) ** 2) / np.var(f(test))
    sets = (Dataset(np.float32(z), np.float32(f(z))) for z in (x, test))
    found = learners.kernel_regression(kernels.nngp(learners.KERNEL_NET), *sets)
    assert found == pytest.approx(expected, rel=0.1)


def test_teacher_rows_carry_certificates_and_bounds(taught):
    for row in taught.rows:
        if row["task"] == "regression":
            assert np.isfinite(row["squared_error"])
            assert np.isnan([row["error"], row["margin"], row["bound"]]).all()
        elif row["learner"] == "net":
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
            assert row["teacher_margin"] > 0.0999 / 12  # .1 over the squared norm of its weights
    # The kernel's margin can only fall when samples are added.
    for seed in range(4):
        where = {"task": "classification", "learner": "ntk"}
        small, large = (_rows(taught, **where, seed=seed, n=n)[0] for n in (25, 800))
        assert large["margin"] < small["margin"]


def test_unbounded_inputs_get_no_bounds():
    config = teacher.TeacherConfig(
        d=4, sizes=(10,), inputs="gaussian", seeds=2, n_test=50, width=4, steps=5
    )
    result = teacher.STUDY.run(config)
    assert all(np.isnan(row["bound"]) for row in result.rows)
    assert all(np.isnan(e.value) for e in result.select("bound"))
    assert len(result.plot().axes) == 5


def test_regression_alone():
    config = teacher.TeacherConfig(
        d=4, sizes=(10,), tasks=("regression",), seeds=11, n_test=50, width=4, steps=5,
        weights="normal",
    )  # fmt: skip
    result = teacher.STUDY.run(config)
    assert len(result.cells) == 6  # ten seeds and one, of three learners
    assert {e.metric for e in result.estimates} == {"squared_error"}
    assert len(result.plot().axes) == 1
