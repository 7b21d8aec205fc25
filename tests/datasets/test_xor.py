import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

import kernelgap as kg
from helpers import keys

key = jax.random.key(0)
signals, noises = st.sampled_from(["axis", "cube"]), st.sampled_from(["sign", "gaussian"])


@given(keys, signals, noises, st.sampled_from([(1, 2), (64, 7)]))
def test_label_is_the_xor_of_the_signal(key, signal, noise, shape):
    x, y = kg.datasets.xor_noise(key, *shape, signal=signal, noise=noise)
    a, b = np.asarray(x[:, 0]), np.asarray(x[:, 1])
    assert x.shape == shape
    assert y.shape == shape[:1]
    if signal == "axis":
        np.testing.assert_array_equal(np.abs(a) + np.abs(b), 1)
        np.testing.assert_array_equal(y, np.abs(a) - np.abs(b))
    else:
        np.testing.assert_array_equal(np.abs(x[:, :2]), 1)
        np.testing.assert_array_equal(y, a * b)
    if noise == "sign":
        np.testing.assert_array_equal(np.abs(x[:, 2:]), 1)


@given(keys, signals, noises, st.sampled_from([2, 9]))
def test_planted_network_outputs_the_label(key, signal, noise, d):
    x, y = kg.datasets.xor_noise(key, 64, d, signal=signal, noise=noise)
    params = kg.datasets.planted_xor(d, signal=signal)
    outputs = kg.models.homogeneous_mlp((4,)).apply(params, x)
    np.testing.assert_allclose(y * outputs, 1, rtol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(params[0], axis=1), jnp.abs(params[1]), rtol=1e-6)


@pytest.mark.parametrize(("signal", "margin"), [("axis", 1 / 8), ("cube", 1 / (4 * 2**0.5))])
@pytest.mark.parametrize("norm", ["l2", "balanced", "mean_field"])
def test_planted_margin(signal, margin, norm):
    x, y = kg.datasets.xor_noise(key, 200, 12, signal=signal)
    model = kg.models.homogeneous_mlp((4,))
    params = kg.datasets.planted_xor(12, signal=signal)
    found = kg.metrics.normalized_margin(model, params, x, y, norm=norm)
    np.testing.assert_allclose(found, margin, rtol=1e-6)


@pytest.mark.parametrize("signal", ["axis", "cube"])
def test_four_signals_are_equally_likely(signal):
    n = 40_000
    x, _ = kg.datasets.xor_noise(key, n, 3, signal=signal)
    counts = np.unique(np.asarray(x[:, :2]), axis=0, return_counts=True)[1]
    assert len(counts) == 4
    assert stats.chisquare(counts).pvalue > 1e-6


@pytest.mark.parametrize("noise", ["sign", "gaussian"])
def test_noise_has_unit_variance_and_ignores_the_label(noise):
    n, d = 20_000, 12
    x, y = kg.datasets.xor_noise(key, n, d, noise=noise)
    data = np.concatenate([np.asarray(x[:, 2:]), np.asarray(y)[:, None]], axis=1)
    second = data.T @ data / n
    # Entries deviate by sqrt(2/n) at most; six standard deviations over 121 of them.
    np.testing.assert_allclose(second, np.eye(d - 1), atol=6 * (2 / n) ** 0.5)
    if noise == "gaussian":
        assert stats.kstest(data[:, :-1].ravel()[:10_000], "norm").pvalue > 1e-6


def test_flips_are_independent_of_the_sample_and_have_their_rate():
    n = 20_000
    clean = kg.datasets.xor_noise(key, n, 5)
    noisy = kg.datasets.xor_noise(key, n, 5, flip=0.2)
    np.testing.assert_array_equal(clean.x, noisy.x)
    flipped = int((clean.y != noisy.y).sum())
    assert stats.binomtest(flipped, n, 0.2).pvalue > 1e-6


def test_same_key_same_data_other_key_other_data():
    a, b, c = (kg.datasets.xor_noise(jax.random.key(s), 50, 8) for s in (0, 0, 1))
    np.testing.assert_array_equal(a.x, b.x)
    assert (a.x != c.x).any()


def test_dtype_and_transforms():
    assert kg.datasets.xor_noise(key, 4, 3, dtype=jnp.bfloat16).x.dtype == jnp.bfloat16
    assert kg.datasets.xor_noise(key, 4, 3).x.dtype == jnp.zeros(()).dtype
    batched = jax.jit(jax.vmap(lambda k: kg.datasets.xor_noise(k, 10, 4)))(jax.random.split(key, 3))
    np.testing.assert_array_equal(
        batched.x[1], kg.datasets.xor_noise(jax.random.split(key, 3)[1], 10, 4).x
    )


def test_digits():
    x, y = kg.datasets.digits((3, 8))
    assert x.shape == (357, 64)
    assert (int((y == 1).sum()), int((y == -1).sum())) == (183, 174)
    assert float(x.min()) == 0
    assert float(x.max()) == 1
    swapped = kg.datasets.digits((8, 3))
    np.testing.assert_array_equal(swapped.y, -y)


def test_digits_of_several_classes():
    x, y = kg.datasets.digits((8, 3, 5))
    assert y.dtype == jnp.zeros(0, int).dtype
    for k, digit in enumerate((8, 3, 5)):  # labels are places in the order given
        alone = kg.datasets.digits((digit, (digit + 1) % 10))
        np.testing.assert_array_equal(x[y == k], alone.x[alone.y == 1])
    assert kg.datasets.digits().x.shape == (1797, 64)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((0, 10, 5), {}, TypeError, "must be a JAX random key.*got int 0"),
        ((jnp.zeros(3), 10, 5), {}, TypeError, "must be a JAX random key"),
        ((jax.random.split(key, 2), 10, 5), {}, ValueError, "single one; got an array of keys"),
        ((key, 0, 5), {}, ValueError, "`n` must be an integer >= 1; got 0"),
        ((key, 2.5, 5), {}, TypeError, "`n` must be an integer >= 1; got 2.5"),
        ((key, True, 5), {}, TypeError, "`n` must be an integer"),
        ((key, 10, 1), {}, ValueError, "`d` must be an integer >= 2; got 1"),
        ((key, 10, 5), {"signal": "xor"}, ValueError, "`signal` must be one of 'axis', 'cube'"),
        ((key, 10, 5), {"noise": "none"}, ValueError, "`noise` must be one of"),
        ((key, 10, 5), {"flip": 0.6}, ValueError, "`flip` must be a finite number >= 0 and <= 0.5"),
        ((key, 10, 5), {"flip": -0.1}, ValueError, "`flip`"),
        ((key, 10, 5), {"flip": "a"}, TypeError, "`flip`"),
        ((key, 10, 5), {"dtype": int}, TypeError, "`dtype` must be a floating dtype"),
    ],
)
def test_xor_noise_refuses(arguments, options, error, match):
    with pytest.raises(error, match=match):
        kg.datasets.xor_noise(*arguments, **options)


def test_old_style_keys_are_accepted():
    assert kg.datasets.xor_noise(jax.random.PRNGKey(0), 5, 3).x.shape == (5, 3)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: kg.datasets.planted_xor(1), ValueError, "`d` must be an integer >= 2"),
        (lambda: kg.datasets.planted_xor(5, signal="x"), ValueError, "`signal`"),
        (lambda: kg.datasets.digits((3, 3)), ValueError, "two or more different digits"),
        (lambda: kg.datasets.digits((3,)), ValueError, "two or more different digits"),
        (lambda: kg.datasets.digits((3, 10)), ValueError, "`classes` must be digits 0..9; got 10"),
        (lambda: kg.datasets.digits(("3", 8)), TypeError, "`classes` must be an integer"),
    ],
)
def test_others_refuse(call, error, match):
    with pytest.raises(error, match=match):
        call()
