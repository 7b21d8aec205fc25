import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kernelgap as kg
from helpers import assert_close
from kernelgap.studies import lr_transfer
from kernelgap.studies.estimates import select
from kernelgap.studies.lr_transfer_summary import optimum, summarize

Config = lr_transfer.LRTransferConfig


def _rows(config, best):
    """Log losses that are parabolas in the log of the rate, with the optimum best(width, seed)."""
    place = {"optimizer": "sgd", "parameterization": "standard", "depth": 3}
    grid = 2.0 ** (np.arange(-8, 9) / 2)
    return [
        place
        | {"width": width, "seed": seed, "grid": "fine", "learning_rate": 0.1 * rate}
        | {"loss": np.exp(np.log2(0.1 * rate / best(width, seed)) ** 2 - 40), "start": 1.0}
        for width in config.widths
        for seed in range(config.seeds)
        for rate in grid
    ]


def test_the_slope_of_a_known_optimum():
    config = Config(widths=(64, 128, 512), seeds=4)
    factors = (1.0, 1.3, 0.8, 1.1)
    estimates = summarize(config, _rows(config, lambda m, s: factors[s] * 0.2 * (m / 64) ** -0.7))
    (slope,) = select(estimates, "slope")
    np.testing.assert_allclose(
        slope[2:], -0.7, rtol=1e-9
    )  # of each seed, so that the interval is 0
    (wide,) = select(estimates, "optimum", {"width": 512})
    mean = np.prod(factors) ** 0.25
    assert wide.value == pytest.approx(mean * 0.2 * 8**-0.7)
    assert select(estimates, "optima_at_end_of_grid")[0].value == 0


def test_an_optimum_at_the_end_of_the_grid_is_counted_and_its_seed_has_no_slope():
    config = Config(widths=(64, 128), seeds=3)

    def best(width, seed):
        return 1e-4 if (width, seed) == (128, 1) else 0.2 * (width / 64) ** (-1.0 + seed)

    estimates = summarize(config, _rows(config, best))
    assert select(estimates, "optima_at_end_of_grid")[0].value == 1
    assert select(estimates, "slope")[0].value == pytest.approx(0.0)  # the mean of -1 and 1


def test_the_optimum_does_not_leave_the_neighbourhood_of_the_best_rate():
    rates = 2.0 ** np.arange(5)
    for logs in ([3, 1, 0, 0, 5], [1, 1, 0, 1, 1], [9, 9, 0, 1e-9, 9]):
        assert 2**1.5 <= optimum(rates, np.array(logs, float)) <= 2**2.5
    assert np.isnan(optimum(rates, np.arange(5.0)))
    assert np.isnan(optimum(rates, -np.arange(5.0)))


def test_losses_are_those_of_optim_train():
    model = kg.models.mlp((8,), activation="relu", parameterization="mup")
    x = jax.random.normal(jax.random.key(1), (6, 3))
    y, params = x[:, 0], model.init(jax.random.key(0), 3)
    rates = jnp.array([0.05, 0.1])
    found = lr_transfer._train(
        model, "adam", "squared", 4, 6, 0.0, rates, jax.random.key(2), params, x, y
    )
    for losses, rate in zip(found, (0.05, 0.1), strict=True):
        rule = optax.chain(optax.adam(rate, eps=1e-12), kg.optim.scale_by_fan_in(model, 3))
        loss = kg.objectives.regularized_squared(model.apply)
        assert_close(losses, kg.optim.train(loss, params, (x, y), rule, steps=4).losses, factor=100)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch": 200}, "`batch` must be at most `n`; got 200 and 128"),
        ({"last": 60}, "`last` must be at most `steps`; got 60 and 50"),
        ({"depths": (1, 2)}, "`depths` must be an integer >= 2; got 1"),
        ({"data": "digits", "n": 358}, "`n` must be at most the 357 images"),
    ],
)
def test_refuses(options, match):
    with pytest.raises(ValueError, match=match):
        lr_transfer.STUDY.run(Config(**options))


def test_noisy_descent_without_noise_is_sgd_and_rates_share_their_draws():
    model = kg.models.mlp((8,), activation="relu", parameterization="mup")
    x = jax.random.normal(jax.random.key(1), (6, 3))
    params, rates = model.init(jax.random.key(0), 3), jnp.array([0.05, 0.1, 0.2])

    def losses(optimizer, temperature, rates):
        static = (model, optimizer, "squared", 4, 3, temperature)
        return lr_transfer._train(*static, rates, jax.random.key(2), params, x, x[:, 0])

    assert_close(losses("noisy_gd", 0.0, rates), losses("sgd", 0.0, rates), factor=100)
    noisy = losses("noisy_gd", 1e-3, rates)
    assert_close(noisy[1:2], losses("noisy_gd", 1e-3, rates[1:2]), factor=100)
    assert np.all(np.abs(noisy - losses("sgd", 0.0, rates))[:, 1:] > 1e-5)
