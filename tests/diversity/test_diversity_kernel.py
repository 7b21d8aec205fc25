import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, strategies as st

import kernelgap as kg
from helpers import assert_close, eps, keys, x64

kernel = kg.diversity.diversity_kernel()
zonal = kg.kernels.zonal_spectrum


def exact(x, z):
    """g in float64, the angle by atan2."""
    x, z = np.float64(x)[:, None], np.float64(z)[None]
    sizes = [np.linalg.norm(a, axis=-1, keepdims=True) for a in (x, z)]
    u, v = (a / np.where(size > 0, size, 1) for a, size in zip((x, z), sizes, strict=True))
    angle = 2 * np.arctan2(np.linalg.norm(u - v, axis=-1), np.linalg.norm(u + v, axis=-1))
    return (0.5 - angle / (2 * np.pi)) * np.sum(x * z, axis=-1)


@given(keys, st.sampled_from([1, 2, 7, 999]), st.sampled_from([1e-3, 1.0, 50.0]))
@example(jax.random.key(1185), 2, 50.0)  # an angle of 1.43e-3, which counts as 0
def test_formula(key, d, scale):
    x = scale * jax.random.normal(key, (6, d))
    z = jax.random.normal(jax.random.fold_in(key, 1), (4, d))
    found = kernel(x, z)
    sizes = np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(z, axis=1))
    # The largest angle that counts as 0: sin^2(angle / 2) is 4 eps there, from a cosine good to 4.
    angle = 2 * math.sqrt((4 + 2) * eps())
    assert np.all(np.abs(found - exact(x, z)) <= angle / (2 * np.pi) * sizes)
    gram = kernel(x)
    assert np.array_equal(gram, gram.T)
    assert np.array_equal(jnp.diag(gram), kernel.diag(x))
    assert_close(kernel.diag(x), np.sum(np.float64(x) ** 2, axis=1) / 2)


def test_documented_accuracy_at_wide_angles():
    angles = np.linspace(0.4, np.pi - 0.4, 200)
    z = jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1), float)
    x = jnp.eye(2)[:1]
    assert np.max(np.abs(kernel(x, z) - exact(x, z))) < 8 * eps()


def test_mean_over_random_units():
    n = 200_000
    x = jax.random.normal(jax.random.key(0), (5, 3))
    w = jax.random.normal(jax.random.key(1), (n, 3))
    found = kg.diversity.extended_feature_gram(w, x) / n
    share = np.asarray(kernel(x) / jnp.matmul(x, x.T))
    error = np.sqrt(share * (1 - share) / n) * np.abs(np.asarray(x @ x.T))
    assert np.all(np.abs(found - kernel(x)) < 5 * error + 1e-5)


def test_it_is_what_the_ntk_has_beyond_the_nngp():
    """In the ntk parameterization that is the part of the first layer, g / d."""
    x, z = (
        jax.random.normal(jax.random.key(0), (5, 4)),
        jax.random.normal(jax.random.key(1), (3, 4)),
    )
    model = kg.models.homogeneous_mlp((7,), parameterization="ntk")
    ntk, nngp = kg.kernels.ntk(model)(x, z), kg.kernels.nngp(model)(x, z)
    assert_close(ntk - nngp, kernel(x, z) / 4, scale=jnp.max(jnp.abs(ntk)))


def test_edges_have_finite_derivatives():
    base = jax.random.normal(jax.random.key(0), (3, 4))
    x = jnp.concatenate([base, base, -base, 3 * base[:1], jnp.zeros((2, 4))])
    for second in (None, x):
        value = kernel(x, second)
        assert np.isfinite(value).all()
        assert np.all(value[-2:] == 0)
        assert np.all(value[:, -2:] == 0)
        total = lambda x: jnp.sum(jnp.sin(kernel(x, None if second is None else x)))
        assert np.isfinite(jax.grad(total)(x)).all()
        assert np.isfinite(jax.hessian(total)(x[jnp.array([0, 3, 6, 9, 10])])).all()
    assert_close(jnp.diag(kernel(base, -base)), np.zeros(3), scale=1)


def test_gradient_against_finite_differences():
    with x64(True):
        x, z = (jax.random.normal(jax.random.key(s), (4, 3), jnp.float64) for s in (0, 1))
        weights = jax.random.normal(jax.random.key(2), (4, 4), jnp.float64)
        change = jax.random.normal(jax.random.key(3), (4, 3), jnp.float64)
        for f in (
            lambda x: jnp.sum(weights * kernel(x, z)),
            lambda x: jnp.sum(weights * kernel(x)),
        ):
            slope = jnp.sum(jax.grad(f)(x) * change)
            step = 1e-5
            central = (f(x + step * change) - f(x - step * change)) / (2 * step)
            np.testing.assert_allclose(slope, central, rtol=1e-8)


def test_products_spectra_and_predictors_take_it():
    x, y = kg.datasets.xor_noise(jax.random.key(0), 60, 6, noise="gaussian")
    x = x + 0.1 * jax.random.normal(jax.random.key(1), x.shape)
    assert_close(kg.kernels.matmul(kernel, x, y, tile=16), kernel(x) @ y, factor=500)
    assert_close(kg.kernels.gram(kernel, x), kernel(x))
    assert float(kg.kernels.spectrum(kernel, x).values[0]) > 0
    fitted = kg.predictors.kernel_ridge(kernel, x, y, l2=1e-3)
    assert np.isfinite(fitted.decision_function(x[:3])).all()
    assert_close(jax.jit(lambda k, x: k(x))(kernel, x), kernel(x))
    assert kernel == kg.diversity.diversity_kernel()
    assert repr(kernel) == "Kernel(diversity, UniformUnits(power=1))"
    with pytest.raises(ValueError, match="`get` must be one of 'diversity'"):
        kernel(x, None, "ntk")
    with pytest.raises(ValueError, match="`x1` must be finite"):
        kernel(x.at[0, 0].set(np.nan))


@pytest.mark.parametrize("d", [2, 3, 4, 15, 16, 1500])
@pytest.mark.parametrize("radius", [1.0, 3.0])
def test_spectrum_in_closed_form_against_quadrature(d, radius):
    found = zonal(kernel, d, degree=50, radius=radius)
    profile = lambda c: (0.5 - np.arccos(c) / (2 * np.pi)) * c * radius**2
    direct = zonal(profile, d, degree=50)
    assert np.all(np.abs(found.values - direct.values) <= direct.errors + found.errors)
    assert np.all(found.values[3::2] == 0)
    assert np.all(found.errors <= 1e-12 * found.values)
    assert np.isclose(found.values[1], radius**2 / (4 * d), rtol=1e-15)
    assert found.multiplicities == direct.multiplicities


@pytest.mark.parametrize("d", [2, 3, 4, 15, 16, 1500])
def test_spectrum_in_closed_form_against_the_power_series(d):
    """c / 4 + c arcsin(c) / (2 pi), whose errors are relative: to 12 digits at 1e-98."""
    a = np.zeros(4000)
    a[1], a[2] = 0.25, 1 / (2 * np.pi)
    for k in range(3, 3999, 2):  # arcsin: ratios (k-2)^2 / ((k-1) k)
        a[k + 1] = a[k - 1] * (k - 2) ** 2 / ((k - 1) * k)
    series = zonal(a, d, degree=50, total=0.5)
    found = zonal(kernel, d, degree=50)
    assert np.all(np.abs(found.values - series.values) <= series.errors + 3 * found.errors)
    if d == 1500:
        even = np.r_[0, 1, 2:51:2]
        np.testing.assert_allclose(found.values[even], series.values[even], rtol=3e-12)


def test_shares_sum_to_the_diagonal_and_go_on_far():
    found = zonal(kernel, 3, degree=3000)
    # N(3, t) lambda_t falls like t^-3/2 and more: what is missing after t is below its last share.
    assert 0 < 0.5 - np.sum(found.shares) < 3000 * found.shares[3000]
    assert np.sum(zonal(kernel, 2, degree=4000).shares) < 0.5
    assert zonal(kernel, 5, degree=0).values.shape == (1,)
    large = zonal(kernel, 100_000, degree=50)
    assert np.isfinite(large.shares).all()
    np.testing.assert_allclose(large.shares[1], 0.25, rtol=1e-12)


@pytest.mark.parametrize(("n", "d"), [(900, 3), (1200, 8)])
def test_gram_spectra_approach_the_population(n, d):
    with x64(True):
        x = jax.random.normal(jax.random.key(0), (n, d), jnp.float64)
        x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
        values = np.asarray(kg.kernels.spectrum(kernel, x).values)[::-1] / n
    population = zonal(kernel, d, degree=2)
    start = 0
    for t in np.argsort(-population.values[:3]):
        count = population.multiplicities[t]
        group = values[start : start + count]
        # Sampling moves single eigenvalues by sqrt(count / n) relative and their mean by less.
        assert np.all(np.abs(group / population.values[t] - 1) < 5 * math.sqrt(count / n)), t
        assert abs(np.mean(group) / population.values[t] - 1) < 5 / math.sqrt(n) + 2 * count / n
        start += count
    assert abs(np.sum(values) - 0.5) < 1e-12


POWERS = {  # J_{p-1}(theta) / (2 pi) and E||z||^(2p-2)
    2: (lambda t: np.sin(t) + (np.pi - t) * np.cos(t), lambda d: d),
    3: (lambda t: 3 * np.sin(t) * np.cos(t) + (np.pi - t) * (1 + 2 * np.cos(t) ** 2),
        lambda d: d * (d + 2)),
}  # fmt: skip


@pytest.mark.parametrize("power", [2, 3, 4])
def test_mean_over_random_units_of_a_power(power):
    n, power_kernel = 200_000, kg.diversity.diversity_kernel(power)
    x = jax.random.normal(jax.random.key(0), (4, 3))
    w = kg.datasets.sphere(jax.random.key(1), n, 3)
    found = kg.diversity.extended_feature_gram(w, x, power=power) / n
    values = power_kernel(x)
    sizes = np.sqrt(np.outer(jnp.diag(values), jnp.diag(values)))
    assert np.all(np.abs(found - values) < 0.03 * sizes)
    assert np.array_equal(jnp.diag(values), power_kernel.diag(x))
    assert np.array_equal(values, values.T)
    assert_close(power_kernel(2.0 * x, x), 2.0**power * values, factor=500)
    assert power_kernel == kg.diversity.diversity_kernel(power)
    assert power_kernel != kernel


@pytest.mark.parametrize("power", [2, 3])
@pytest.mark.parametrize("d", [2, 3, 15])
def test_spectrum_of_a_power_against_quadrature(power, d):
    j, moment = POWERS[power]
    profile = lambda c: power**2 * c * j(np.arccos(c)) / (2 * np.pi * moment(d)) * 9.0**power
    direct = zonal(profile, d, degree=30)
    found = zonal(kg.diversity.diversity_kernel(power), d, degree=30, radius=3.0)
    assert np.all(np.abs(found.values - direct.values) <= direct.errors + found.errors)
    vanishing = [t for t in range(4, 31) if t % 2 == power % 2 and t > power + 1]
    assert np.all(found.values[vanishing] == 0)
    others = np.setdiff1d(np.arange(31), vanishing)
    assert np.all(found.values[others] > 0)
    assert 0 < 1 - found.shares.sum() / profile(1.0) < 1e-2


def test_powers_that_are_refused():
    with pytest.raises(ValueError, match="`power` must be at most 4; got 5"):
        kg.diversity.diversity_kernel(5)
    with pytest.raises(TypeError, match="`power` must be an integer >= 1"):
        kg.diversity.diversity_kernel(1.5)
