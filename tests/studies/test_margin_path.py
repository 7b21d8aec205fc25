import numpy as np
import pytest

from kernelgap.studies import margin_path
from kernelgap.studies.margin_path import MarginPathConfig
from kernelgap.studies.seeds import line

pytestmark = pytest.mark.slow

TINY = {
    "parts": ("xor", "line"), "d": 4, "n": 24, "line_n": 6, "depths": (2, 3), "width": 24,
    "l2s": (1e-2, 1e-5, 1e-9), "steps": 300, "seeds": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    return margin_path.STUDY.run(MarginPathConfig(**TINY))


def column(rows, name):
    return np.array([row[name] for row in rows])


def nets(result):
    return [row for row in result.rows if row["part"] != "function"]


def test_rows(tiny):
    assert len(nets(tiny)) == 2 * 2 * 2 * 3
    assert len({tuple(row) for row in tiny.rows}) == 1
    two = [row for row in nets(tiny) if row["depth"] == 2]
    deep = [row for row in tiny.rows if row["depth"] == 3]
    assert np.isfinite(column(two, "upper")).all()
    assert np.isnan(column(deep, "upper")).all()
    assert (column(two, "loss_gap")[column(two, "l2") > 1e-8] >= 0).all()


def test_no_margin_exceeds_the_bound_and_weak_regularisation_comes_near_it(tiny):
    two = [row for row in nets(tiny) if row["depth"] == 2]
    assert (column(two, "margin") <= column(two, "upper")).all()
    assert (column(two, "lower") <= column(two, "upper")).all()
    for part in TINY["parts"]:
        ends = [[row for row in two if (row["part"], row["l2"]) == (part, l2)]
                for l2 in (1e-2, 1e-9)]  # fmt: skip
        shares = [column(rows, "margin") / column(rows, "lower") for rows in ends]
        assert (shares[1] > shares[0]).all()
        assert (shares[1] > 0.8).all()
    line = [row for row in two if row["part"] == "line"]
    assert (column(line, "upper") / column(line, "lower") < 1.01).all()


def test_paths_of_the_loss_decrease_and_norms_grow(tiny):
    for depth in (2, 3):
        for part in TINY["parts"]:
            for seed in range(2):
                rows = [row for row in tiny.rows
                        if (row["depth"], row["part"], row["seed"]) == (depth, part, seed)]  # fmt: skip
                assert (np.diff(column(rows, "log_loss")) < 0).all()
                assert (np.diff(column(rows, "norm")) > 0).all()


def test_shares_of_upper_bounds_are_at_most_one(tiny):
    shares = tiny.select("of_upper", {"depth": 2})
    assert len(shares) == 6
    assert all(e.low <= e.value <= e.high <= 1 for e in shares)


def test_table_says_what_is_certified(tiny):
    assert tiny.select("largest_upper_over_lower")[0].value < 1.01
    assert "largest upper over lower" in tiny.table()


def test_line_alternates_by_twos():
    x, y = line(6)
    np.testing.assert_array_equal(y, [1, 1, -1, -1, 1, 1])
    np.testing.assert_array_equal(x[:, 1], 1)
    assert (np.diff(x[:, 0]) > 0).all()


def test_functions_of_nets_tend_to_the_l1_svm_over_the_circle(tiny):
    (svm,) = tiny.select("svm_margin")
    upper = [e.value for e in tiny.select("upper", {"part": "line", "depth": 2})]
    # Nearly the largest margin of any width: a unit is at most .2 degrees from one of 1000.
    assert 0.999 * upper[0] < svm.value <= upper[0] * (1 + 1e-6)
    first, _, last = (e.value for e in tiny.select("svm_distance"))
    assert last < 0.05 < first
    # Its function attains that margin at the points, and so does the net's, its own margin.
    t, y = line(6).x[:, 0], line(6).y
    curve = {e.keys["t"]: e.value for e in tiny.select("svm_output")}
    at_points = y * np.interp(t, list(curve), list(curve.values()))
    assert at_points.min() == pytest.approx(svm.value, rel=1e-3)
    (margin,) = tiny.select("margin", {"part": "line", "depth": 2, "l2": 1e-9})
    curve = {e.keys["t"]: e.value for e in tiny.select("output", {"l2": 1e-9})}
    at_points = y * np.interp(t, list(curve), list(curve.values()))
    assert at_points.min() == pytest.approx(margin.value, rel=1e-2)
    assert "functions on the line" in [ax.get_title() for ax in tiny.plot().axes]


def test_digits_of_ten_classes():
    result = margin_path.STUDY.run(MarginPathConfig(
        parts=("digits",), digits_n=20, depths=(2, 4), width=16, l2s=(1e-3, 1e-6), steps=100,
        seeds=2))  # fmt: skip
    assert {(row["part"], row["depth"]) for row in result.rows} == {("digits", 2)}  # not 4
    last = [row for row in result.rows if row["l2"] == 1e-6]
    assert (column(last, "train_error") == 0).all()
    assert (column(last, "margin") > 0).all()
    assert "certified" not in result.table()


def test_run_refuses_more_digits_than_there_are():
    with pytest.raises(
        ValueError, match="`digits_n` must be at most 1797, the number of images; got 1798"
    ):
        margin_path.STUDY.run(MarginPathConfig(parts=("digits",), digits_n=1798))
