import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import integrate, stats

import kernelgap as kg
from helpers import assert_close, keys, x64

key = jax.random.key(0)
iid_inputs, moment = kg.datasets.iid_inputs, kg.datasets.moment
LAWS = {
    "gaussian": {},
    "uniform": {},
    "sign": {},
    "student_t": {"df": 30.0},
    "low": {"distribution": "mixture", "kurtosis": 1.7},
    "high": {"distribution": "mixture", "kurtosis": 5.0},
}
laws = pytest.mark.parametrize(
    "options", [{"distribution": k} | v for k, v in LAWS.items()], ids=list(LAWS)
)


@laws
def test_samples_have_the_moments_of_their_law(options):
    """Within six standard errors, whose variance the moments of twice the order give."""
    n, d = 4000, 50
    x = np.float64(iid_inputs(key, n, d, **options))
    assert x.shape == (n, d)
    for order in (2, 4, 6):
        expected = moment(order, **options)
        variance = moment(2 * order, **options) - expected**2
        found = np.mean(x**order)
        assert abs(found - expected) <= 6 * (variance / x.size) ** 0.5 + 1e-6 * expected
    for order in (1, 3):  # symmetric
        assert abs(np.mean(x**order)) < 6 * (moment(2 * order, **options) / x.size) ** 0.5
    # Independent: no two coordinates are correlated, nor are their squares.
    for values in (x, x**2):
        correlation = np.corrcoef(values.T + 1e-3 * np.random.default_rng(0).normal(size=(d, n)))
        assert np.max(np.abs(correlation - np.eye(d))) < 6 / n**0.5


@pytest.mark.parametrize("df", [2.5, 5.0, 9.0])
def test_student_t_is_scaled_to_unit_variance(df):
    """Its quantiles are SciPy's, also where moments do not exist."""
    x = np.float64(iid_inputs(key, 400, 50, distribution="student_t", df=df)).ravel()
    scaled = stats.t(df, scale=((df - 2) / df) ** 0.5)
    assert stats.kstest(x, scaled.cdf).pvalue > 1e-4


@pytest.mark.parametrize("options", [{"kurtosis": 1.7}, {"kurtosis": 2.999}], ids=str)
def test_low_mixture_is_of_two_gaussians(options):
    x = np.float64(iid_inputs(key, 400, 50, distribution="mixture", **options)).ravel()
    mean = ((3 - options["kurtosis"]) / 2) ** 0.25
    one, other = (stats.norm(m, (1 - mean**2) ** 0.5) for m in (mean, -mean))
    assert stats.kstest(x, lambda t: (one.cdf(t) + other.cdf(t)) / 2).pvalue > 1e-4


def test_high_mixture_is_a_gaussian_or_zero():
    x = np.asarray(iid_inputs(key, 400, 50, distribution="mixture", kurtosis=12.0)).ravel()
    share = np.mean(x != 0)
    assert abs(share - 0.25) < 6 * (0.25 * 0.75 / x.size) ** 0.5
    assert stats.kstest(x[x != 0], stats.norm(scale=2).cdf).pvalue > 1e-4


@pytest.mark.parametrize("order", [2, 4, 6, 8, 10])
def test_moments_are_those_of_scipy(order):
    np.testing.assert_allclose(moment(order), stats.norm.moment(order))
    uniform = stats.uniform(-(3**0.5), 2 * 3**0.5)
    np.testing.assert_allclose(moment(order, distribution="uniform"), uniform.moment(order))
    assert moment(order, distribution="sign") == 1
    for df in (2.5, 5.0, 10.5, 40.0):
        scaled = stats.t(df, scale=((df - 2) / df) ** 0.5)
        found = moment(order, distribution="student_t", df=df)
        if df <= order:
            assert found == np.inf
        else:
            exact, _ = integrate.quad(lambda t: 2 * t**order * scaled.pdf(t), 0, np.inf, limit=500)
            np.testing.assert_allclose(found, exact, rtol=1e-5)


@given(st.floats(1, 30), st.sampled_from([2, 4, 6, 8]))
def test_mixture_has_the_chosen_fourth_moment(kurtosis, order):
    found = moment(order, distribution="mixture", kurtosis=kurtosis)
    m2 = max((3 - kurtosis) / 2, 0) ** 0.5
    share = min(3 / kurtosis, 1)
    if 1 - m2 > 1e-12:
        law = stats.norm(m2**0.5 / share**0.5, ((1 - m2) / share) ** 0.5)
        np.testing.assert_allclose(found, share * law.moment(order), rtol=1e-9)
    np.testing.assert_allclose(moment(2, distribution="mixture", kurtosis=kurtosis), 1, rtol=1e-12)
    np.testing.assert_allclose(
        moment(4, distribution="mixture", kurtosis=kurtosis), kurtosis, rtol=1e-12
    )


def test_mixture_joins_sign_and_gaussian():
    for order in (2, 4, 6, 8):
        for law, kurtosis in (("sign", 1.0), ("gaussian", 3.0)):
            joined = moment(order, distribution="mixture", kurtosis=kurtosis)
            np.testing.assert_allclose(joined, moment(order, distribution=law))
    assert set(np.unique(iid_inputs(key, 50, 3, distribution="mixture", kurtosis=1.0))) == {-1, 1}


@given(keys)
def test_even_moments_in_numpy(key):
    x = jax.random.normal(key, (7, 3))
    expected = [np.mean(np.float64(x) ** k) for k in (2, 4, 6)]
    assert_close(kg.datasets.even_moments(x), np.asarray(expected, x.dtype))
    assert_close(kg.datasets.even_moments(x, [6, 2]), np.asarray(expected, x.dtype)[[2, 0]])
    assert_close(jax.jit(kg.datasets.even_moments)(x), np.asarray(expected, x.dtype))


@laws
def test_dtype_and_keys(options):
    for dtype in (jnp.float16, jnp.float32):
        assert iid_inputs(key, 3, 2, dtype=dtype, **options).dtype == dtype
    with x64(True):
        assert iid_inputs(key, 3, 2, **options).dtype == jnp.float64
    a, b = (iid_inputs(jax.random.key(s), 20, 5, **options) for s in (0, 1))
    assert (a != b).any()
    np.testing.assert_array_equal(a, iid_inputs(jax.random.key(0), 20, 5, **options))


def test_parameters_may_be_traced():
    def draw(kurtosis):
        return iid_inputs(key, 20, 5, distribution="mixture", kurtosis=kurtosis)

    together = jax.vmap(draw)(jnp.array([1.5, 3.0, 6.0, 0.5]))
    for row, kurtosis in zip(together[:3], (1.5, 3.0, 6.0), strict=True):
        assert_close(row, draw(kurtosis))
    assert jnp.isnan(together[3]).all()
    assert jnp.isnan(
        jax.jit(lambda v: iid_inputs(key, 2, 3, distribution="student_t", df=v))(1.5)
    ).all()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: iid_inputs(0, 3, 2), TypeError, "JAX random key"),
        (lambda: iid_inputs(key, 0, 2), ValueError, "`n` must be an integer >= 1"),
        (lambda: iid_inputs(key, 3, 2.0), TypeError, "`d` must be an integer"),
        (lambda: iid_inputs(key, 3, 2, distribution="laplace"), ValueError, "`distribution` must be one of 'gaussian'"),
        (lambda: iid_inputs(key, 3, 2, distribution="student_t"), ValueError, "distribution='student_t' needs `df`"),
        (lambda: iid_inputs(key, 3, 2, distribution="mixture"), ValueError, "distribution='mixture' needs `kurtosis`"),
        (lambda: iid_inputs(key, 3, 2, distribution="sign", kurtosis=2.0), ValueError,
         "`kurtosis` is only for distribution='mixture'; got 2.0 for distribution='sign'"),
        (lambda: iid_inputs(key, 3, 2, df=5.0), ValueError, "`df` is only for distribution='student_t'"),
        (lambda: iid_inputs(key, 3, 2, distribution="student_t", df=2.0), ValueError, "`df` .* > 2"),
        (lambda: iid_inputs(key, 3, 2, distribution="mixture", kurtosis=0.9), ValueError, "`kurtosis` .* >= 1"),
        (lambda: iid_inputs(key, 3, 2, distribution="mixture", kurtosis="3"), TypeError, "`kurtosis` must be"),
        (lambda: iid_inputs(key, 3, 2, dtype=int), TypeError, "`dtype` must be a floating"),
        (lambda: moment(3), ValueError, "`order` must be even; got 3"),
        (lambda: moment(0), ValueError, "`order` must be an integer >= 2"),
        (lambda: moment(4.0), TypeError, "`order` must be an integer"),
        (lambda: moment(4, distribution="mixture"), ValueError, "needs `kurtosis`"),
        (lambda: kg.datasets.even_moments(jnp.ones(3)), ValueError, "`x` must have shape"),
        (lambda: kg.datasets.even_moments(jnp.ones((2, 3)), 4), TypeError, "`orders` must be a sequence"),
        (lambda: kg.datasets.even_moments(jnp.ones((2, 3)), ()), TypeError, "`orders` must be a sequence"),
        (lambda: kg.datasets.even_moments(jnp.ones((2, 3)), (2, 3)), ValueError, "even; got 3"),
        (lambda: kg.datasets.even_moments(jnp.ones((2, 3), int)), TypeError, "floating-point"),
    ],
)  # fmt: skip
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()
