import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import integrate, special

import kernelgap as kg
from helpers import ACTIVATIONS, PARAMETERIZATIONS, x64

pytestmark = pytest.mark.slow

zonal = kg.kernels.zonal_spectrum
shallow = kg.models.homogeneous_mlp((7,), parameterization="ntk")
dimensions = st.sampled_from([2, 3, 5, 17])
models = st.builds(
    kg.models.homogeneous_mlp,
    st.sampled_from([(), (6,), (5, 4), (4, 3, 2)]),
    activation=st.sampled_from(sorted(ACTIVATIONS)).map(ACTIVATIONS.get),
    parameterization=st.sampled_from(PARAMETERIZATIONS),
    init_scale=st.sampled_from([1.0, 1.3]),
).filter(lambda m: m.spec.activation.power ** len(m.spec.widths) <= 9)


def first_layer(c):
    """(1/2 - theta / 2 pi) c, the NTK of the first layer of a two-layer ReLU net."""
    return (0.5 - np.arccos(c) / (2 * np.pi)) * c


def first_layer_taylor(terms):
    """Coefficients of c / 4 + c arcsin(c) / (2 pi)."""
    a = np.zeros(terms)
    a[1] = 0.25
    for j in range((terms - 1) // 2):
        a[2 * j + 2] = math.exp(math.lgamma(2 * j + 1) - 2 * math.lgamma(j + 1) - j * math.log(4))
        a[2 * j + 2] /= (2 * j + 1) * 2 * math.pi
    return a


def first_layer_exact(d, t):
    """The closed form lambda_t = [(t+d-2) a_{t+1}^2 + t a_{t-1}^2] / (2t+d-2)."""

    def a(s):
        if s == 0:
            return 0.5
        if s % 2 == 0:
            return 0.0
        p = (s - 1) // 2
        size = math.lgamma(d / 2) - math.lgamma(s + (d - 1) / 2) + math.lgamma(s)
        size += math.lgamma(s + (d - 1) / 2) - math.lgamma(p + 1) - math.lgamma(s - p + (d - 1) / 2)
        return math.exp(size - s * math.log(2)) / math.sqrt(math.pi)

    if t == 0:
        return a(1) ** 2
    below = t * a(t - 1) ** 2
    return ((t + d - 2) * a(t + 1) ** 2 + below) / (2 * t + d - 2)


def monomial_exact(k, degree, d):
    """E[c^k P_t(c)] by exact rational moments and the recurrence of P_t."""

    def moment(power):
        value = Fraction(1 - power % 2)
        for j in range(power // 2):
            value *= Fraction(2 * j + 1, d + 2 * j)
        return value

    below, now, found = {}, {0: Fraction(1)}, []
    for t in range(degree + 1):
        found.append(sum(a * moment(k + power) for power, a in now.items()))
        above = {}
        for power, a in now.items():
            factor = Fraction(1) if t == 0 else Fraction(2 * t + d - 2, t + d - 2)
            above[power + 1] = above.get(power + 1, 0) + factor * a
        for power, a in below.items():
            above[power] = above.get(power, 0) - Fraction(t, t + d - 2) * a
        below, now = now, above
    return found


@pytest.mark.parametrize("d", [2, 3, 4, 15, 1500])
def test_monomials_are_exact(d):
    for k in (0, 1, 6, 9):
        series = zonal([0.0] * k + [1.0], d, degree=10)
        exact = np.array([float(v) for v in monomial_exact(k, 10, d)])
        np.testing.assert_allclose(series.values, exact, rtol=1e-12, atol=0)
        direct = zonal(lambda c: c**k, d, degree=10)
        assert np.all(np.abs(direct.values - exact) <= direct.errors)
        assert np.max(direct.errors) < 1e-13


@given(st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=9), dimensions)
def test_shares_of_a_polynomial_sum_to_its_value_at_one(a, d):
    found = zonal(a, d, degree=len(a) - 1)
    assert abs(np.sum(found.shares) - sum(a)) <= 1e-11 * sum(map(abs, a)) + 1e-300
    assert zonal(a, d, degree=12).values[len(a) :].tolist() == [0.0] * (13 - len(a))


@pytest.mark.parametrize("d", [2, 3, 4, 9])
def test_multiplicities_are_dimensions_of_harmonics(d):
    """Homogeneous polynomials of degree t modulo |x|^2 times those of degree t - 2."""
    found = zonal([1.0], d, degree=12).multiplicities
    dims = [math.comb(t + d - 1, d - 1) for t in range(13)]
    assert list(found) == dims[:2] + [b - a for a, b in zip(dims, dims[2:], strict=False)]


@pytest.mark.parametrize("d", [2, 3, 15, 1500])
def test_the_kernel_of_the_first_layer(d):
    exact = np.array([first_layer_exact(d, t) for t in range(51)])
    series = zonal(first_layer_taylor(3000), d, degree=50, total=0.5)
    assert np.all(np.abs(series.values - exact) <= series.errors + 3e-11 * exact)
    assert np.all(series.values[3::2] == 0)
    direct = zonal(first_layer, d, degree=50)
    assert np.all(np.abs(direct.values - exact) <= direct.errors + 3e-11 * exact)
    assert np.max(direct.errors) < 1e-14
    np.testing.assert_allclose(direct.values[1], 1 / (4 * d), rtol=1e-12)
    if d == 1500:  # far below the rounding of quadrature, to eleven digits
        even = np.r_[0, 1, 2:51:2]
        assert np.all(series.errors[even] <= 2e-12 * exact[even])
        assert exact[50] < 1e-97


def test_reference_values_of_the_first_layer():
    values = zonal(first_layer, 15, degree=4).values
    np.testing.assert_allclose(
        values[[1, 0, 2, 4]], [1.667e-2, 1.097e-2, 1.328e-3, 9.126e-6], rtol=5e-4
    )


@given(models, dimensions, st.sampled_from(["ntk", "nngp"]), st.sampled_from([1.0, 2.5]))
def test_power_series_and_quadrature_agree_and_sum_to_the_kernel(model, d, get, radius):
    kernel = getattr(kg.kernels, get)(model)
    both = zonal(kernel, d, degree=12, radius=radius)
    with x64(True):
        point = radius * np.eye(d)[:1]
        diagonal = float(kernel.diag(point)[0])

        def profile(c):
            points = radius * (
                c[:, None] * np.eye(d)[:1] + np.sqrt(1 - c[:, None] ** 2) * np.eye(d)[1:2]
            )
            return np.asarray(kernel(point, points))[0]

        direct = zonal(profile, d, degree=12)
    # JAX's kernel takes angles below 6e-8 for 0 and is good to some 1e-14 elsewhere.
    assert np.all(
        np.abs(both.values - direct.values) <= both.errors + direct.errors + 1e-12 * diagonal
    )
    # All eigenvalues are nonnegative, so that shares sum to kappa(1) from below.
    assert np.all(both.values >= -both.errors)
    assert np.sum(both.shares) <= diagonal * (1 + 1e-9)
    if d == 2:
        assert np.sum(both.shares) >= 0.9 * diagonal * (1 - 1e-9)


@given(models, st.sampled_from(["ntk", "nngp"]))
def test_taylor_coefficients_sum_to_the_kernel(model, get):
    """At c = 0.6, where the tail after 200 terms is nothing; and none is negative."""
    d, c = 6, 0.6
    kernel = getattr(kg.kernels, get)(model)
    a = np.asarray(kg.kernels.spectra.profiles.taylor(model.spec, d, 1.0, get, 200))
    assert np.all(a >= 0)
    with x64(True):
        x = np.zeros((2, d))
        x[0, 0] = 1
        x[1, :2] = c, math.sqrt(1 - c**2)
        exact = float(kernel(x[:1], x[1:])[0, 0])
        scale = float(kernel.diag(x)[0])
    assert abs(np.polynomial.polynomial.polyval(c, a) - exact) <= 1e-12 * scale


def test_legendre_in_three_dimensions():
    kernel = kg.kernels.nngp(kg.models.homogeneous_mlp((5, 5), parameterization="ntk"))
    found = zonal(kernel, 3, degree=6)
    profile = lambda c: kg.kernels.spectra.profiles.values(
        kernel.spec, 3, 1.0, "nngp", np.array([c])
    )[0]
    for t in (0, 1, 2, 5, 6):
        exact = integrate.quad(lambda c: profile(c) * special.eval_legendre(t, c) / 2, -1, 1,
                               epsabs=1e-13, limit=200)[0]  # fmt: skip
        np.testing.assert_allclose(found.values[t], exact, atol=1e-11)


def test_fourier_in_two_dimensions():
    found = zonal(lambda c: np.exp(2 * c), 2, degree=20)
    np.testing.assert_allclose(found.values, special.iv(np.arange(21), 2.0), atol=1e-14)
    assert found.multiplicities == (1, *[2] * 20)


def test_gram_matrices_of_many_points_approach_the_population():
    n, d = 700, 4
    x = jax.random.normal(jax.random.key(0), (n, d), float)
    x = 2 * x / jnp.linalg.norm(x, axis=1, keepdims=True)
    kernel = kg.kernels.ntk(shallow)
    found = zonal(kernel, d, degree=2, radius=2.0)
    values = (
        np.asarray(
            kg.kernels.spectrum(
                kernel,
                x,
            ).values,
            float,
        )[::-1]
        / n
    )
    # Sampling moves a group of N eigenvalues by about sqrt(N / n) relative.
    start = 0
    for t in np.argsort(-found.values[:3]):
        count = found.multiplicities[t]
        group = values[start : start + count]
        assert np.all(np.abs(group / found.values[t] - 1) < 5 * math.sqrt(count / n)), t
        start += count


def test_depth_at_high_dimension_keeps_relative_accuracy():
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((5, 5, 5), parameterization="ntk"))
    found = zonal(kernel, 1500, degree=50, radius=math.sqrt(1500))
    assert np.all(found.errors < 1e-11 * found.values)
    assert np.all(found.values > 0)
    assert np.all(np.diff(found.values) < 0)
    np.testing.assert_allclose(found.shares[50], found.values[50] * found.multiplicities[50])


def test_other_kernels_are_taken_from_a_circle():
    def evaluate(spec, params, x1, x2, get):
        x2 = x1 if x2 is None else x2
        return jnp.exp(jnp.matmul(x1, x2.T, precision="highest"))

    kernel = kg.kernels.Kernel(evaluate, evaluate, None, "ntk")
    found = zonal(kernel, 3, degree=4, radius=2**0.5)
    # E[exp(2c) P_t(c)] in three dimensions is the modified spherical Bessel function.
    exact = special.spherical_in(np.arange(5), 2.0)
    assert np.all(np.abs(found.values - exact) <= found.errors)
    assert np.max(found.errors) < 1e-4

    def lopsided(spec, params, x1, x2, get):
        scale = jnp.arange(1.0, 1.0 + x1.shape[1], dtype=x1.dtype)[None]
        return evaluate(spec, params, x1 * scale, x2, get)

    with pytest.raises(ValueError, match="`kernel` must be rotation invariant"):
        zonal(kg.kernels.Kernel(lopsided, lopsided, None, "ntk"), 3, degree=4)


def test_a_kink_shows_in_the_errors():
    exact = zonal([0.0, 0.0, 1.0], 3, degree=2).values
    kink = zonal(lambda c: np.abs(c - 0.3), 3, degree=4)
    assert 1e-9 < np.max(kink.errors) < 1e-2
    assert exact[2] > 0


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: zonal([1.0], 1, degree=2), ValueError, "`d` must be an integer >= 2"),
        (lambda: zonal([1.0], 2.5, degree=2), TypeError, "`d` must be an integer >= 2"),
        (lambda: zonal([1.0], 3, degree=-1), ValueError, "`degree` must be an integer >= 0"),
        (lambda: zonal([1.0], 3, degree=1, radius=0), ValueError, "`radius` must be a finite number"),
        (lambda: zonal([1.0], 3, degree=1, total=-1), ValueError, "`total` must be a finite number"),
        (lambda: zonal(np.cos, 3, degree=1, total=1.0), ValueError, "`total` goes with Taylor"),
        (lambda: zonal([-1.0], 3, degree=1, total=1.0), ValueError, "nonnegative coefficients only"),
        (lambda: zonal([1.0, 1.0], 3, degree=1, total=1.0), ValueError, r"`total` must be kappa\(1\)"),
        (lambda: zonal("ntk", 3, degree=1), TypeError, "`kernel` must be a Kernel, a profile"),
        (lambda: zonal([1.0, [2.0]], 3, degree=1), TypeError, "`kernel` must be a Kernel, a profile"),
        (lambda: zonal([1j], 3, degree=1), TypeError, "`kernel` must be a Kernel, a profile"),
        (lambda: zonal([], 3, degree=1), ValueError, r"of shape \(terms,\); got shape \(0,\)"),
        (lambda: zonal([np.nan], 3, degree=1), ValueError, "must be finite"),
        (lambda: zonal(lambda c: 1.0, 3, degree=1), ValueError, "must map cosines of shape"),
        (lambda: zonal(lambda c: c > 0, 3, degree=1), ValueError, "must map cosines of shape"),
        (lambda: zonal(lambda c: c + np.inf, 3, degree=1), ValueError, "returned NaN or inf for cosines"),
    ],
)  # fmt: skip
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()
