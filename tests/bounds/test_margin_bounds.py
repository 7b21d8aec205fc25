import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

import kernelgap as kg

bounds = kg.bounds
MARGIN_BOUNDS = {
    "two_layer": bounds.two_layer_margin_bound,
    "deep": lambda margin, **options: bounds.deep_margin_bound(margin, depth=2, **options),
    "deep, paper": lambda margin, **options: bounds.deep_margin_bound(
        margin, depth=2, form="paper", **options
    ),
    "kernel": bounds.kernel_margin_bound,
    "kernel, trace": lambda margin, *, n, radius, **options: bounds.kernel_margin_bound(
        margin, n=n, radius=radius, trace=0.9 * n * radius**2, **options
    ),
}
names = st.sampled_from(sorted(MARGIN_BOUNDS))


def test_by_hand():
    log = np.log
    eps = np.sqrt(log(np.log2(4 * 2 / 0.25)) / 100) + np.sqrt(log(10) / 200)
    found = bounds.two_layer_margin_bound(0.25, n=100, radius=2.0, mean_square=2.25, delta=0.1)
    np.testing.assert_allclose(found.value, 6 / 0.25 * 1.5 / 10 + eps, rtol=1e-6)
    # depth 3: K^((K-1)/2) = 3.
    found = bounds.deep_margin_bound(0.25, depth=3, n=100, radius=2.0, delta=0.1, form="paper")
    np.testing.assert_allclose(found.value, 2 / (0.25 * 3 * 10) + eps, rtol=1e-6)
    largest = 2 / 3**1.5
    eps = np.sqrt(log(np.log2(2 * largest / 0.25)) / 100) + np.sqrt(log(20) / 200)
    complexity = largest * (1 + np.sqrt(6 * log(2))) / 10
    found = bounds.deep_margin_bound(0.25, depth=3, n=100, radius=2.0, delta=0.1)
    np.testing.assert_allclose(found.value, 4 / 0.25 * complexity + eps, rtol=1e-6)
    eps = np.sqrt(log(np.log2(2 * 2 / 0.25)) / 100) + np.sqrt(log(20) / 200)
    found = bounds.kernel_margin_bound(0.25, n=100, radius=2.0, delta=0.1)
    np.testing.assert_allclose(found.value, 4 * 2 / (0.25 * 10) + eps, rtol=1e-6)
    eps = 3 * np.sqrt(log(np.log2(2 * 2 / 0.25)) / 100) + 3 * np.sqrt(log(40) / 200)
    found = bounds.kernel_margin_bound(0.25, n=100, radius=2.0, trace=225.0, delta=0.1)
    np.testing.assert_allclose(found.value, 4 * 15 / (0.25 * 100) + eps, rtol=1e-6)
    np.testing.assert_allclose(bounds.leave_one_out(0.25, n=100, radius=2.0).value, 0.64)


@given(names, st.floats(0.01, 0.9), st.floats(0.5, 5), st.integers(10, 10**6))
def test_monotone(name, share, radius, n):
    bound = MARGIN_BOUNDS[name]
    gammas = share * radius / 2 * np.array([1.0, 0.9, 0.5, 0.1])
    assert (np.diff(bound(gammas, n=n, radius=radius).value) > 0).all()
    sizes = n * np.array([1, 2, 10])
    assert (np.diff(bound(gammas[0], n=sizes, radius=radius).value) < 0).all()
    deltas = np.array([0.5, 0.1, 1e-3, 1e-9])
    assert (np.diff(bound(gammas[0], n=n, radius=radius, delta=deltas).value) > 0).all()


@given(names, st.floats(0.01, 0.9), st.sampled_from([0.25, 2.0, 64.0]))
def test_scale_of_the_inputs_cancels(name, share, c):
    bound = MARGIN_BOUNDS[name]
    one = bound(share / 2, n=100, radius=1.0).value
    np.testing.assert_allclose(bound(c * share / 2, n=100, radius=c).value, one, rtol=1e-5)
    loo = [bounds.leave_one_out(s * share, n=100, radius=s).value for s in (1.0, c)]
    np.testing.assert_allclose(loo[1], loo[0], rtol=1e-5)


def test_main_terms_agree_over_depths():
    """The explicit form is the paper's times 4 (sqrt(2 log 2) + 1 / sqrt(K)), as n grows."""
    depth, n, margin = np.arange(1, 8), 1e12, 1e-6
    explicit, paper = (
        bounds.deep_margin_bound(margin, depth=depth, n=n, radius=1.0, form=form).value
        for form in ("explicit", "paper")
    )
    expected = 4 * (np.sqrt(2 * np.log(2)) + depth**-0.5)
    np.testing.assert_allclose(explicit / paper, expected, rtol=1e-3)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_largest_output_of_a_unit_net(depth):
    """R = C K^(-K/2): reached by a chain of single units, and by no other net."""
    model = kg.models.homogeneous_mlp((4,) * (depth - 1))
    x = 3.0 * jnp.eye(2)[:1]
    chain = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), 2))
    chain = tuple(w.ravel().at[0].set(depth**-0.5).reshape(w.shape) for w in chain)
    most = float(kg.metrics.normalized_margin(model, chain, x, jnp.ones(1)))
    np.testing.assert_allclose(most, 3 * depth ** (-depth / 2), rtol=1e-5)
    bounds.deep_margin_bound(most, depth=depth, n=10, radius=3.0)  # not refused
    with pytest.raises(ValueError, match="cannot be above radius \\* depth"):
        bounds.deep_margin_bound(1.01 * most, depth=depth, n=10, radius=3.0)
    for key in jax.random.split(jax.random.key(1), 20):
        margin = kg.metrics.normalized_margin(model, model.init(key, 2), x, jnp.ones(1))
        assert margin <= most


def _rademacher(values):
    """Mean over signs of the largest |sum sigma_i phi_i| / n, for the unit ball of a kernel."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (2000, len(values)))
    return np.mean(np.linalg.norm(signs @ values, axis=1)) / len(values)


def test_complexities_hold_on_samples():
    """sqrt(tr K) / n is above the ball's Rademacher complexity, and close to it."""
    features = np.random.default_rng(1).normal(size=(50, 30))
    found, claimed = _rademacher(features), np.sqrt(np.sum(features**2)) / 50
    assert 0.95 * claimed < found <= claimed


def test_kernel_bounds_hold():
    """On labels that a linear rule gives, with a margin, the bounds are above the test errors."""
    d, n, samples = 40, 16, 30
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp(()))  # k(x, z) = <x, z>

    def draw(key, n, strength=1.5):
        x = jax.random.normal(key, (n, d))
        x = x.at[:, 0].set(strength * jnp.sign(x[:, 0]))
        x /= jnp.linalg.norm(x, axis=1, keepdims=True)
        return x, jnp.sign(x[:, 0])

    test = draw(jax.random.key(100), 4000)
    errors, claimed, margins = [], [], []
    for key in jax.random.split(jax.random.key(0), samples):
        x, y = draw(key, n)
        svm = kg.predictors.hard_margin_svm(kernel, x, y)
        margins.append(float(svm.margin))
        claimed.append(float(bounds.leave_one_out(svm.margin, n=n, radius=1.0).value))
        svm = kg.predictors.hard_margin_svm(kernel, x[1:], y[1:])
        errors.append(float(np.mean(~(svm.decision_function(test[0]) * test[1] > 0))))
    # Means over samples: the claim may be below the errors by chance only.
    paired = np.array(claimed) - np.array(errors)
    assert stats.ttest_1samp(paired, 0, alternative="less").pvalue > 1e-6
    assert np.mean(errors) > 0.02  # a test with something to bound
    assert np.mean(claimed) < 0.8  # and a bound that says something
    # The uniform bound holds for any classifier without training errors, such as the mean of y x.
    x, y = draw(jax.random.key(7), 4000, strength=8.0)
    mean = y @ x
    margin = jnp.min(y * (x @ mean)) / jnp.linalg.norm(mean)
    uniform = bounds.kernel_margin_bound(margin, n=4000, radius=1.0, delta=0.05)
    fresh, labels = draw(jax.random.key(8), 4000, strength=8.0)
    assert float(jnp.mean(labels * (fresh @ mean) <= 0)) <= float(uniform.value) < 0.2


def test_vacuous_is_never_shown_as_a_probability():
    useful = bounds.kernel_margin_bound(0.5, n=10**5, radius=1.0)
    assert not useful.vacuous
    assert repr(useful).startswith(f"Bound(error <= {float(useful.value):.3g}; derived: ")
    useless = bounds.kernel_margin_bound(0.5, n=10, radius=1.0)
    assert useless.vacuous
    assert "vacuous" in repr(useless)
    assert "error" not in repr(useless)
    rate = bounds.deep_margin_bound(0.1, depth=2, n=10**6, radius=1.0, form="paper")
    assert float(rate.value) < 1
    assert rate.vacuous
    assert repr(rate).startswith("Bound(a rate 0.0")
    several = bounds.kernel_margin_bound([[0.5, 1e-4]], n=10**5, radius=1.0)
    np.testing.assert_array_equal(several.vacuous, [[False, True]])
    assert "1 of 2 vacuous, the least 0.0" in repr(several)
    assert "a rate of shape (1,)" in repr(
        bounds.deep_margin_bound([0.1], depth=2, n=9, radius=1, form="paper")
    )
    assert "2 of 2 vacuous;" in repr(bounds.kernel_margin_bound([1e-4, 0.0], n=10, radius=1.0))


@pytest.mark.parametrize("name", sorted(MARGIN_BOUNDS))
def test_without_a_margin_there_is_no_bound(name):
    found = MARGIN_BOUNDS[name](np.array([0.0, -0.3, 0.1]), n=1000, radius=1.0)
    np.testing.assert_array_equal(np.isinf(found.value), [True, True, False])
    assert found.vacuous[:2].all()


def test_broadcast_and_transforms():
    value = bounds.deep_margin_bound(
        np.array([0.1, 0.2]), depth=2, n=np.array([[10], [100], [1000]]), radius=1
    )
    assert value.value.shape == (3, 2)

    def bound(margin):
        return bounds.kernel_margin_bound(margin, n=100, radius=1.0, trace=90.0).value

    margins = jnp.array([0.1, 0.5, -1.0])
    np.testing.assert_allclose(jax.jit(jax.vmap(bound))(margins), bound(margins), rtol=1e-6)
    gradients = jax.vmap(jax.grad(bound))(margins)
    assert np.isfinite(gradients).all()
    assert (gradients[:2] < 0).all()


GOOD = {"margin": 0.1, "n": 10, "radius": 1.0, "delta": 0.1}


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"margin": np.nan}, ValueError, "`margin` must hold finite numbers; got \\[nan\\]"),
        ({"margin": "big"}, TypeError, "`margin` must hold finite numbers; got 'big'"),
        ({"margin": [True]}, TypeError, "`margin` must hold finite numbers; got dtype bool"),
        ({"margin": 1.1}, ValueError, "`margin` cannot be above radius; got 1.1 times that"),
        ({"n": 0}, ValueError, "`n` must hold finite numbers >= 1; got \\[0.0\\]"),
        ({"radius": 0.0}, ValueError, "`radius` must hold finite numbers > 0; got \\[0.0\\]"),
        ({"delta": 1.0}, ValueError, "`delta` must hold finite numbers > 0 and < 1; got \\[1.0\\]"),
        ({"delta": [0.5, 0.0]}, ValueError, "`delta` must hold finite numbers > 0 and < 1"),
        ({"trace": 0.0}, ValueError, "`trace` must hold finite numbers > 0"),
        ({"trace": 11.0}, ValueError, "`trace` belongs to inputs of at most the norm `radius`"),
    ],
)
def test_kernel_refuses(change, error, match):
    with pytest.raises(error, match=match):
        bounds.kernel_margin_bound(**(GOOD | change))


def test_nets_refuse():
    with pytest.raises(ValueError, match="`margin` cannot be above radius / 2; got 1.2 times"):
        bounds.two_layer_margin_bound(0.6, n=10, radius=1.0)
    with pytest.raises(ValueError, match="`mean_square` belongs to inputs"):
        bounds.two_layer_margin_bound(0.1, n=10, radius=1.0, mean_square=1.1)
    with pytest.raises(ValueError, match="`depth` must hold finite numbers >= 1; got \\[0.0\\]"):
        bounds.deep_margin_bound(0.1, n=10, radius=1.0, depth=0)
    with pytest.raises(ValueError, match="`form` must be one of 'explicit', 'paper'"):
        bounds.deep_margin_bound(0.1, n=10, radius=1.0, depth=2, form="tight")
    with pytest.raises(ValueError, match="`margin` cannot be above radius"):
        bounds.leave_one_out(2.0, n=10, radius=1.0)


def test_numbers_of_samples_beyond_int32():
    assert (
        bounds.kernel_margin_bound(0.1, n=10**10, radius=1.0).value
        < bounds.kernel_margin_bound(0.1, n=10**9, radius=1.0).value
    )
