import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

import kernelgap as kg
from helpers import assert_close, keys, x64

key = jax.random.key(0)
independent, law_moment = kg.datasets.independent, kg.datasets.law_moment
LAWS = {
    "gaussian": {},
    "uniform": {},
    "sign": {},
    "student_t": {"freedom": 30.0},
    "low": {"law": "mixture", "fourth": 1.7},
    "high": {"law": "mixture", "fourth": 5.0},
}
laws = pytest.mark.parametrize("options", [{"law": k} | v for k, v in LAWS.items()], ids=list(LAWS))


@laws
def test_samples_have_the_moments_of_their_law(options):
    """Within six standard errors, whose variance the moments of twice the order give."""
    n, d = 4000, 50
    x = np.float64(independent(key, n, d, **options))
    assert x.shape == (n, d)
    for order in (2, 4, 6):
        expected = law_moment(order, **options)
        variance = law_moment(2 * order, **options) - expected**2
        found = np.mean(x**order)
        assert abs(found - expected) <= 6 * (variance / x.size) ** 0.5 + 1e-6 * expected
    for order in (1, 3):  # symmetric
        assert abs(np.mean(x**order)) < 6 * (law_moment(2 * order, **options) / x.size) ** 0.5
    # Independent: no two coordinates are correlated, nor are their squares.
    for values in (x, x**2):
        correlation = np.corrcoef(values.T + 1e-3 * np.random.default_rng(0).normal(size=(d, n)))
        assert np.max(np.abs(correlation - np.eye(d))) < 6 / n**0.5


@pytest.mark.parametrize("freedom", [2.5, 5.0, 9.0])
def test_student_t_is_scaled_to_unit_variance(freedom):
    """Its quantiles are SciPy's, also where moments do not exist."""
    x = np.float64(independent(key, 400, 50, law="student_t", freedom=freedom)).ravel()
    scaled = stats.t(freedom, scale=((freedom - 2) / freedom) ** 0.5)
    assert stats.kstest(x, scaled.cdf).pvalue > 1e-4


@pytest.mark.parametrize("options", [{"fourth": 1.7}, {"fourth": 2.999}], ids=str)
def test_low_mixture_is_of_two_gaussians(options):
    x = np.float64(independent(key, 400, 50, law="mixture", **options)).ravel()
    mean = ((3 - options["fourth"]) / 2) ** 0.25
    one, other = (stats.norm(m, (1 - mean**2) ** 0.5) for m in (mean, -mean))
    assert stats.kstest(x, lambda t: (one.cdf(t) + other.cdf(t)) / 2).pvalue > 1e-4


def test_high_mixture_is_a_gaussian_or_zero():
    x = np.asarray(independent(key, 400, 50, law="mixture", fourth=12.0)).ravel()
    share = np.mean(x != 0)
    assert abs(share - 0.25) < 6 * (0.25 * 0.75 / x.size) ** 0.5
    assert stats.kstest(x[x != 0], stats.norm(scale=2).cdf).pvalue > 1e-4


@pytest.mark.parametrize("order", [2, 4, 6, 8, 10])
def test_moments_are_those_of_scipy(order):
    np.testing.assert_allclose(law_moment(order), stats.norm.moment(order))
    uniform = stats.uniform(-(3**0.5), 2 * 3**0.5)
    np.testing.assert_allclose(law_moment(order, law="uniform"), uniform.moment(order))
    assert law_moment(order, law="sign") == 1
    for freedom in (2.5, 5.0, 10.5, 40.0):
        scaled = stats.t(freedom, scale=((freedom - 2) / freedom) ** 0.5)
        found = law_moment(order, law="student_t", freedom=freedom)
        if freedom <= order:
            assert found == np.inf
        else:
            exact, _ = integrate.quad(lambda t: 2 * t**order * scaled.pdf(t), 0, np.inf, limit=500)
            np.testing.assert_allclose(found, exact, rtol=1e-5)


@given(st.floats(1, 30), st.sampled_from([2, 4, 6, 8]))
def test_mixture_has_the_chosen_fourth_moment(fourth, order):
    found = law_moment(order, law="mixture", fourth=fourth)
    m2 = max((3 - fourth) / 2, 0) ** 0.5
    share = min(3 / fourth, 1)
    if 1 - m2 > 1e-12:
        law = stats.norm(m2**0.5 / share**0.5, ((1 - m2) / share) ** 0.5)
        np.testing.assert_allclose(found, share * law.moment(order), rtol=1e-9)
    np.testing.assert_allclose(law_moment(2, law="mixture", fourth=fourth), 1, rtol=1e-12)
    np.testing.assert_allclose(law_moment(4, law="mixture", fourth=fourth), fourth, rtol=1e-12)


def test_mixture_joins_sign_and_gaussian():
    for order in (2, 4, 6, 8):
        for law, fourth in (("sign", 1.0), ("gaussian", 3.0)):
            joined = law_moment(order, law="mixture", fourth=fourth)
            np.testing.assert_allclose(joined, law_moment(order, law=law))
    assert set(np.unique(independent(key, 50, 3, law="mixture", fourth=1.0))) == {-1, 1}


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
        assert independent(key, 3, 2, dtype=dtype, **options).dtype == dtype
    with x64(True):
        assert independent(key, 3, 2, **options).dtype == jnp.float64
    a, b = (independent(jax.random.key(s), 20, 5, **options) for s in (0, 1))
    assert (a != b).any()
    np.testing.assert_array_equal(a, independent(jax.random.key(0), 20, 5, **options))


def test_parameters_may_be_traced():
    def draw(fourth):
        return independent(key, 20, 5, law="mixture", fourth=fourth)

    together = jax.vmap(draw)(jnp.array([1.5, 3.0, 6.0, 0.5]))
    for row, fourth in zip(together[:3], (1.5, 3.0, 6.0), strict=True):
        assert_close(row, draw(fourth))
    assert jnp.isnan(together[3]).all()
    assert jnp.isnan(
        jax.jit(lambda v: independent(key, 2, 3, law="student_t", freedom=v))(1.5)
    ).all()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: independent(0, 3, 2), TypeError, "JAX random key"),
        (lambda: independent(key, 0, 2), ValueError, "`n` must be an integer >= 1"),
        (lambda: independent(key, 3, 2.0), TypeError, "`d` must be an integer"),
        (lambda: independent(key, 3, 2, law="laplace"), ValueError, "`law` must be one of 'gaussian'"),
        (lambda: independent(key, 3, 2, law="student_t"), ValueError, "law='student_t' needs `freedom`"),
        (lambda: independent(key, 3, 2, law="mixture"), ValueError, "law='mixture' needs `fourth`"),
        (lambda: independent(key, 3, 2, law="sign", fourth=2.0), ValueError,
         "`fourth` is for law='mixture'; got 2.0 for law='sign'"),
        (lambda: independent(key, 3, 2, freedom=5.0), ValueError, "`freedom` is for law='student_t'"),
        (lambda: independent(key, 3, 2, law="student_t", freedom=2.0), ValueError, "`freedom` .* > 2"),
        (lambda: independent(key, 3, 2, law="mixture", fourth=0.9), ValueError, "`fourth` .* >= 1"),
        (lambda: independent(key, 3, 2, law="mixture", fourth="3"), TypeError, "`fourth` must be"),
        (lambda: independent(key, 3, 2, dtype=int), TypeError, "`dtype` must be a floating"),
        (lambda: law_moment(3), ValueError, "`order` must be even; got 3"),
        (lambda: law_moment(0), ValueError, "`order` must be an integer >= 2"),
        (lambda: law_moment(4.0), TypeError, "`order` must be an integer"),
        (lambda: law_moment(4, law="mixture"), ValueError, "needs `fourth`"),
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
