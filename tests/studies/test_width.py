import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import write_mnist
from kernelgap import bounds, models
from kernelgap.datasets import Dataset
from kernelgap.studies import width, width_nets

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


def test_descent_is_gradient_descent_and_averages_are_over_nets_that_separate(widths):
    """Against a loop in NumPy."""
    config = width.WidthConfig(
        training="descent", d=3, n=6, units=2, widths=(4,), seeds=11, n_test=20, restarts=1,
        steps=30, learning_rate=0.3, l2s=(1e-2,), certified=0, margin=0.2,
    )  # fmt: skip
    result = width.STUDY.run(config)
    assert len(result.cells) == 2  # ten seeds and one
    train, _, keys = width_nets._data(config, range(10, 11))
    x, y = np.float64(train.x[0]), np.float64(train.y[0])
    u, w = map(np.float64, models.homogeneous_mlp((4,)).init(jax.random.split(keys[0], 1)[0], 3))
    for _ in range(30):
        z = x @ u.T
        slopes = -y / (1 + np.exp(y * (np.maximum(z, 0) @ w))) / 6
        gradients = (
            (slopes[:, None] * (z > 0) * w).T @ x + 2e-2 * u,
            np.maximum(z, 0).T @ slopes + 2e-2 * w,
        )
        u, w = u - 0.3 * gradients[0], w - 0.3 * gradients[1]
    outputs = y * (np.maximum(x @ u.T, 0) @ w)
    assert result.rows[10]["margin"] == pytest.approx(
        outputs.min() / (np.sum(u**2) + np.sum(w**2)), rel=1e-3
    )
    rows = [row for row in result.rows if row["train_error"] == 0]
    assert result.select("separated")[0].value == pytest.approx(len(rows) / 11)
    if rows:
        (mean,) = result.select("margin_if_separated")
        assert mean.value == pytest.approx(np.mean([row["margin"] for row in rows]))
    assert all(row["train_error"] > 0 for row in result.rows if not row["margin"] > 0)


def test_batches_take_every_sample_once_in_an_epoch():
    """The steps of an epoch of a linear loss, f = w relu(u x) with a tiny rate, add up."""
    model = models.homogeneous_mlp((2,))
    x = jnp.eye(8) + 0.5
    train = Dataset(x, jnp.array([1.0, -1.0] * 4))
    params = model.init(jax.random.key(0), 8)
    moved = {}
    for batch, steps in ((8, 1), (2, 4)):
        rate = 1e-3 * batch / 8  # a sum of means over batches is 8 / batch times the mean
        fit = partial(width_nets._descent, model, params, train, jax.random.key(1))
        after = fit(1e-9, steps, rate, batch)
        moved[batch] = np.concatenate([np.ravel(b - a) for a, b in zip(params, after, strict=True)])
    np.testing.assert_allclose(moved[2], moved[8], atol=2e-3 * np.abs(moved[8]).max())


def test_width_on_mnist(tmp_path):
    write_mnist(tmp_path, n_train=60, n_test=30)
    paper = width.STUDY.presets["paper-mnist"]
    small = {"mnist": str(tmp_path), "n": 60, "batch": 20, "widths": (16, 64), "steps": 90,
             "learning_rate": 0.1}  # fmt: skip
    result = width.STUDY.run(width.WidthConfig(**(paper | small)))
    assert [row["width"] for row in result.rows] == [16, 64]
    assert all(row["error"] * 30 == pytest.approx(round(row["error"] * 30)) for row in result.rows)
    assert result.rows[1]["train_error"] == 0 < result.rows[1]["margin"]
    assert "MNIST, n = 60" in result.plot().get_suptitle()
    refused = {
        "`mnist`: .* is not a folder": {"mnist": "nowhere"},
        "`n` must be at most 60": {"n": 61},
    }
    for match, change in refused.items():
        with pytest.raises((ValueError, OSError), match=match):
            width.STUDY.run(dataclasses.replace(result.config, **change))
