import numpy as np
import pytest

from kernelgap import bounds
from kernelgap.studies import width

pytestmark = pytest.mark.slow


def _rows(result, **wanted):
    return [r for r in result.rows if all(r[k] == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def widths():
    config = width.WidthConfig(
        d=3, n=16, units=4, widths=(2, 8, 32, 64), seeds=3, n_test=500, steps=200, certified=1
    )
    return width.STUDY.run(config)


def test_no_net_of_any_width_exceeds_the_certified_margin(widths):
    certified = _rows(widths, learner="any")
    assert [row["seed"] for row in certified] == [0]
    for best in certified:
        assert 0 < best["margin"] <= best["upper"] <= 1.05 * best["margin"]
        for row in _rows(widths, learner="net", seed=best["seed"]):
            assert row["margin"] <= best["upper"] * (1 + 1e-5)


def test_the_margin_reaches_the_best_from_width_n_on(widths):
    running = [e.value for e in widths.select("running")]
    assert len(running) == 4
    assert (np.diff(running) >= 0).all()
    shares = {e.keys["width"]: e.value for e in widths.select("of_best_found")}
    assert shares[2] < shares[64]
    assert "certified, 1 seeds" in widths.table()
    assert "best of any width" in str(widths.plot().axes[0].get_legend_handles_labels())
    assert min(shares[32], shares[64]) > 0.9
    for row in _rows(widths, learner="net"):
        if row["margin"] > 0:
            found = bounds.two_layer_margin_bound(row["margin"], n=16, radius=3**0.5)
            assert row["bound"] == pytest.approx(float(found.value), rel=1e-4)
        else:
            assert np.isnan(row["bound"])


def test_width_on_digits():
    config = width.WidthConfig(
        data="digits", n=20, widths=(8,), seeds=2, restarts=1, steps=60, certified=0
    )
    result = width.STUDY.run(config)
    assert result.select("best_margin_of_any_width") == []
    assert all(row["error"] < 0.3 for row in result.rows)
    assert "digits 3 against 8" in result.plot().get_suptitle()
