import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg

loss_bound, discrepancy_bound = kg.bounds.squared_loss_bound, kg.bounds.discrepancy_bound


def test_lemma_14_by_hand():
    arguments = {"n": 400, "norm_sum": 3.0, "largest_target": 2.0, "delta": 0.1}
    root = np.sqrt(np.log(10) / 800)
    found = loss_bound(0.5, **arguments)
    np.testing.assert_allclose(found.value, 0.5 + 2 * 5 * 3 / 20 + (4 + 9) * root, rtol=1e-6)
    assert found.status == "paper"
    assert float(found.ceiling) == 12.5
    found = loss_bound(0.5, form="explicit", **arguments)
    expected = 0.5 + 2**1.5 * 5 * 3 / 20 + 12.5 * root
    np.testing.assert_allclose(found.value, expected, rtol=1e-6)
    assert found.status == "derived"
    # The product of C_W and the largest norm counts, and losses scale with its square.
    scaled = loss_bound(0.5, radius=1.5, **arguments | {"norm_sum": 2.0})
    np.testing.assert_allclose(scaled.value, loss_bound(0.5, **arguments).value, rtol=1e-6)
    larger = loss_bound(2.0, **arguments | {"norm_sum": 6.0, "largest_target": 4.0})
    np.testing.assert_allclose(larger.value, 4 * loss_bound(0.5, **arguments).value, rtol=1e-6)


def test_losses_that_no_net_exceeds_make_the_bound_vacuous():
    found = loss_bound(0.0, n=jnp.array([10, 100_000]), norm_sum=1.0, largest_target=1.0)
    assert found.vacuous.tolist() == [True, False]
    assert repr(found).startswith("Bound(1 of 2 vacuous, the least 0.0")
    one = loss_bound(0.0, n=100_000, norm_sum=10.0, largest_target=10.0)
    assert 1 < float(one.value) < 200  # the largest loss
    assert not one.vacuous
    assert repr(one).startswith(f"Bound(loss <= {float(one.value):.3g}; paper: lemma 14")
    few = loss_bound(0.0, n=2, norm_sum=10.0, largest_target=10.0)
    assert ">= 200; paper" in repr(few)


def test_complexities_on_enumerated_signs():
    """E max(A, B) against sqrt(n), the paper's, and E max(A, B)^2 against 2 n, which is proved."""
    rng = np.random.default_rng(0)
    signs = np.array(list(itertools.product([1, -1], repeat=6)))
    angles = np.linspace(0, 2 * np.pi, 2000)
    units = np.stack([np.cos(angles), np.sin(angles)])
    for case in range(20):
        x = rng.standard_normal((6, 2)) * np.exp(case / 5 * rng.standard_normal((6, 1)))
        largest = np.max(np.abs(signs @ np.maximum(x @ units, 0)), axis=1)
        total = np.sum(x**2)
        assert np.mean(largest) <= np.sqrt(total)
        assert np.mean(largest**2) <= 2 * total
        assert np.mean(largest) > 0.5 * np.sqrt(total)


def test_the_bound_holds_for_the_worst_of_many_nets():
    """Nets of one unit of either sign, each rescaled to fit the sample best within C_W."""
    rng, n, d, most = np.random.default_rng(1), 30, 3, 1.5
    units = rng.standard_normal((d, 400))
    units /= np.linalg.norm(units, axis=0)

    def draw(n):
        x = rng.standard_normal((n, d))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return np.maximum(x @ units, 0), np.sign(x[:, 0])

    features, y = draw(20_000)
    gaps, bound = [], float(loss_bound(0.0, n=n, norm_sum=most, largest_target=1.0).value)
    for _ in range(200):
        few, labels = draw(n)
        fit = np.clip(few.T @ labels / np.sum(few**2, axis=0), -most, most)
        train = np.mean((few * fit - labels[:, None]) ** 2, axis=0) / 2
        test = np.mean((features * fit - y[:, None]) ** 2, axis=0) / 2
        gaps.append(np.max(test - train))
    assert np.mean(np.array(gaps) > bound) <= 0.05
    assert np.max(gaps) > 0.05 * bound


@pytest.mark.parametrize("d", [2, 3, 10, 300])
def test_the_probability_is_negative(d):
    for n in (2, 3, 10, 1000):
        for worst in (None, 0.1):
            found = discrepancy_bound(n, d, width=10**6, discrepancy=1e-6, max_discrepancy=worst)
            assert found.probability < 0
            assert found.vacuous
    assert discrepancy_bound(1, d, width=10, discrepancy=0.1).probability < 0.07


def test_lemma_5_and_theorem_1_by_hand():
    n, d, m = 7, 5, 100
    # 5 eigenvalues 1/20, then 1/(2 pi)-like ones of degree 0 and 14 of degree 2.
    spectrum = kg.kernels.zonal_spectrum(kg.diversity.diversity_kernel(), d, degree=2)
    every = sorted(np.repeat(spectrum.values, spectrum.multiplicities), reverse=True)
    gamma = every[n - 1]
    assert every[0] == every[4] == 1 / 20
    assert gamma < every[5] < 1 / 20
    l2, worst, delta = 0.01, 0.04, 0.1
    chance = 1 - n * np.exp(-n * gamma / 8) - 2 * n**2 * np.exp(-4 * np.log(d) ** 2) - delta
    found = discrepancy_bound(n, d, width=m, discrepancy=l2, delta=delta)
    rest = m**1 * n**0.75 * l2**0.5 + m * n**0.5 + m * n * l2
    np.testing.assert_allclose(found.value, m * n * gamma - rest / np.sqrt(d), rtol=1e-12)
    np.testing.assert_allclose(found.probability, chance, rtol=1e-12)
    found = discrepancy_bound(
        n, d, width=m, discrepancy=l2, max_discrepancy=worst, delta=delta, constant=2.0
    )
    log = np.log(1 / delta)
    inside = np.sqrt(worst * l2) * n * (4 / n * log) ** 0.25
    inside += n * worst * np.sqrt(4 / (3 * n) * log) + n * l2
    rho = np.log(d) / np.sqrt(d) * inside + worst
    np.testing.assert_allclose(found.value, n * m * gamma / 2 - 2 * m * rho, rtol=1e-12)
    np.testing.assert_allclose(found.probability, chance, rtol=1e-12)
    assert discrepancy_bound(10**6, 3, width=1, discrepancy=0.0).value < 0  # far down the spectrum


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: loss_bound(-1.0, n=5, norm_sum=1.0, largest_target=1.0), ValueError, "`train_loss` must"),
        (lambda: loss_bound(1.0, n=5, norm_sum=0.0, largest_target=1.0), ValueError, "`norm_sum` must"),
        (
            lambda: loss_bound(1.0, n=5, norm_sum=1.0, largest_target=1.0, form="long"),
            ValueError, "`form` must be one of",
        ),
        (lambda: discrepancy_bound(0, 5, width=5, discrepancy=0.1), ValueError, "`n` must be"),
        (lambda: discrepancy_bound(5, 5, width=5, discrepancy=-0.1), ValueError, "`discrepancy` must"),
        (
            lambda: discrepancy_bound(5, 5, width=5, discrepancy=0.1, delta=1.5),
            ValueError, "`delta` must be a probability",
        ),
    ],
)  # fmt: skip
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()
