import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

import kernelgap as kg
from helpers import x64
from kernelgap.bounds import random_units, tail_kernel

sample, uniform = kg.bounds.sample_gram_bound, kg.bounds.uniform_gram_bound


def g(c):
    return c * (0.5 - np.arccos(np.clip(c, -1, 1)) / (2 * np.pi))


def sphere(rng, n, d):
    x = rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def limit_gram(x):
    norms = np.linalg.norm(x, axis=1)
    cosines = (x @ x.T) / np.outer(norms, norms)
    np.fill_diagonal(cosines, 1)
    return np.outer(norms, norms) * g(cosines)


def float32(x):
    """Rounded, as JAX has it, so that both sides see the same numbers."""
    return jnp.asarray(x, jnp.float32), np.float64(np.float32(x))


def test_small_cases_are_exact():
    for method in ("rows", "eigenvalue"):
        np.testing.assert_allclose(sample(jnp.ones((1, 3)), method=method).value, 1.5)
        axes = jnp.diag(jnp.array([2.0, 1.0, 3.0]))
        np.testing.assert_allclose(sample(axes, method=method).value, 0.5)
        # Two inputs: Gershgorin's interval ends at the eigenvalue, 1/2 - |g|.
        for angle in (0.1, 1.0, 2.0, 3.0):
            pair, exact = float32([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
            least = np.linalg.eigvalsh(limit_gram(exact))[0]
            found = sample(pair, method=method, degree=-1)
            np.testing.assert_allclose(found.value, least, rtol=1e-6)
            assert found.probability == 1
    assert sample(jnp.ones((3, 1))).vacuous  # parallel
    np.testing.assert_allclose(sample(jnp.array([[1.0], [-2.0]])).value, 0.5)  # g(-1) = 0
    np.testing.assert_allclose(uniform(1, 3).value, 0.5)


@pytest.mark.parametrize("d", [2, 3, 15, 100])
def test_tails_are_the_sum_of_the_high_degrees(d):
    cosines = np.linspace(-0.95, 0.95, 41)
    last = 600
    shares = kg.kernels.zonal_spectrum(kg.diversity.diversity_kernel(), d, degree=last).shares
    if d == 2:
        polynomials = [np.cos(t * np.arccos(cosines)) for t in range(last + 1)]
    else:
        a = d / 2 - 1
        polynomials = [
            special.eval_gegenbauer(t, a, cosines) / special.eval_gegenbauer(t, a, 1.0)
            for t in range(last + 1)
        ]
    missing = 0.5 - shares.sum()
    degrees = tail_kernel.DEGREES
    for tail in tail_kernel.tails(cosines, d, degrees):
        kept = range(tail.degree + 1, last + 1)
        expected = sum(shares[t] * polynomials[t] for t in kept)
        beyond = missing * np.max(np.abs(polynomials[-5:]), axis=0)
        assert np.all(np.abs(tail.values - expected) <= beyond + 1e-11)
        assert abs(tail.at_one - missing - sum(shares[t] for t in kept)) < 1e-11
    assert [t.degree for t in tail_kernel.tails(cosines, d, degrees)] == list(degrees)


def test_errors_of_tails_cover_errors_of_cosines():
    rng, off = np.random.default_rng(0), 1e-7
    near = 1 - np.geomspace(1e-15, 1e-2, 200)
    cosines = np.concatenate([rng.uniform(-1, 1, 500), near, -near])
    moved = np.clip(cosines + off * rng.choice([-1, 1], len(cosines)), -1, 1)
    pairs = zip(
        tail_kernel.tails(cosines, 5, (-1, 2, 12), off),
        tail_kernel.tails(moved, 5, (-1, 2, 12)),
        strict=True,
    )
    for tail, other in pairs:
        change = np.abs(tail.values - other.values)
        assert np.all(change <= tail.error + other.error)
        if tail.degree == -1:
            assert np.median(change / tail.error) > 0.05
    angles = np.abs(np.arccos(cosines) - np.arccos(moved))
    assert np.all(angles <= tail_kernel.angle_error(cosines, off))


@pytest.mark.parametrize("case", ["plain", "norms", "near", "opposite", "many"])
def test_order_of_the_bounds_on_given_inputs(case):
    rng = np.random.default_rng(3)
    x = sphere(rng, 90 if case == "many" else 25, 6)
    if case == "norms":
        x *= np.exp(rng.standard_normal((25, 1)))
    if case == "near":
        x[1] = x[0] + 1e-4 * rng.standard_normal(6)
    if case == "opposite":
        x[1] = -x[0]
    low, x = float32(x)
    least = np.linalg.eigvalsh(limit_gram(x))[0]
    exact = sample(low, method="eigenvalue")
    assert 0 < exact.value <= least * (1 + 1e-9)
    if case not in ("near", "opposite"):  # angles lose half the digits there
        np.testing.assert_allclose(exact.value, least, rtol=1e-8)
    above = exact.value
    for degree in (0, 2, 6, 12):  # what is left out only costs
        tail = sample(low, method="eigenvalue", degree=degree).value
        rows = sample(low, degree=degree).value
        assert rows <= tail <= above * (1 + 1e-9)
        above = tail
    best = sample(low)
    assert best.value == max(sample(low, degree=t).value for t in tail_kernel.DEGREES)
    if case == "plain":
        assert best.value > 0.2 * least
    # G is quadratic in the scale, which is a power of two here.
    np.testing.assert_allclose(sample(2.0**-40 * low).value, 4.0**-40 * best.value, rtol=1e-12)


def test_scales_at_which_squares_overflow():
    for factor, expected in ((1e-30, 0.5e-60), (1e30, 0.5e60)):
        np.testing.assert_allclose(sample(factor * jnp.eye(3)).value, expected, rtol=1e-6)
    with x64(True):
        assert sample(1e-200 * jnp.eye(2)).value == 0
        assert 0 < sample(1e200 * jnp.eye(2)).value < np.inf


def test_rows_in_blocks(monkeypatch):
    low, _ = float32(sphere(np.random.default_rng(0), 25, 6))
    whole = sample(low)
    monkeypatch.setattr(kg.bounds.gram_bounds, "_BLOCK", 60)
    np.testing.assert_allclose(sample(low).value, whole.value, rtol=1e-12)


@pytest.mark.parametrize(("d", "degree"), [(3, -1), (4, 2), (30, 4)])
def test_mean_over_cells_is_above_the_integral_and_close(d, degree):
    sums = tail_kernel.row_sums(d, degree)
    norm = special.beta(0.5, (d - 1) / 2)
    s = 5 / sums.at_one

    def integrand(angle):
        ((_, _, values, _),) = tail_kernel.tails(np.cos([angle]), d, (degree,))
        return np.exp(s * abs(values[0])) * np.sin(angle) ** (d - 2) / norm

    exact = integrate.quad(integrand, 0, np.pi, limit=400)[0]
    found = np.exp(special.logsumexp(sums.logs + s * sums.largest))
    assert exact * (1 - 1e-9) <= found <= exact * 1.01


@pytest.mark.parametrize(("n", "d", "degree"), [(40, 6, 4), (30, 20, 2), (12, 3, 6)])
def test_row_sums_are_covered(n, d, degree):
    rng, delta, draws = np.random.default_rng(1), 0.3, 200
    bound = tail_kernel.row_sums(d, degree).bound(n, delta)
    largest = []
    for _ in range(draws):
        x = sphere(rng, n, d)
        cosines = x @ x.T
        ((_, _, values, _),) = tail_kernel.tails(cosines, d, (degree,))
        np.fill_diagonal(values, 0)
        largest.append(np.abs(values).sum(axis=1).max())
    beyond = int(np.sum(np.array(largest) > bound))
    assert stats.binom.sf(beyond - 1, draws, delta) > 1e-4  # not significantly more than delta
    assert bound < 3 * np.median(largest)


def test_bound_for_uniform_inputs():
    rng = np.random.default_rng(2)
    found = uniform(60, 15, delta=0.2)
    least = [np.linalg.eigvalsh(limit_gram(sphere(rng, 60, 15)))[0] for _ in range(50)]
    assert 0.3 * np.mean(least) < found.value < np.min(least)
    assert found.probability == 0.8
    values = [uniform(n, 15).value for n in (10, 60, 300, 3000)]
    assert (np.diff(values) < 0).all()
    assert values[-1] > 0.015
    assert uniform(60, 15, delta=1e-9).value < found.value


def test_spectral_norm_of_uniform_inputs():
    rng = np.random.default_rng(0)
    for n, d in ((30, 5), (10, 40)):
        bound = random_units.spectral_norm_of_uniform(n, d, 0.3)
        norms = np.array([np.linalg.norm(sphere(rng, n, d), 2) ** 2 for _ in range(200)])
        assert np.mean(norms > bound) < 0.3
        assert bound < 2.5 * norms.mean()


@pytest.mark.parametrize("width", [100, 1000, 30_000])
@pytest.mark.parametrize("delta", [0.3, 1e-3])
def test_few_inputs_against_binomial_quantiles(width, delta):
    """A unit is on for an input with probability 1/2, and independently for orthogonal ones."""
    options = [{"method": "rows"}, {"method": "eigenvalue"}]
    bounds = [sample(jnp.eye(n), width=width, delta=delta, **o) for o in options for n in (1, 2)]
    for n, bound in zip((1, 2, 1, 2), bounds, strict=True):
        failing = 1 - stats.binom.sf(np.ceil(bound.value) - 1, width, 0.5) ** n
        assert failing <= delta
        assert bound.probability == 1 - delta
        quantile = stats.binom.ppf(delta, width, 0.5)
        if width >= 1000:
            assert bound.value > 0.8 * quantile
    assert uniform(1, 3, width=width, delta=delta).value <= bounds[0].value


def test_chernoff_by_hand():
    value = random_units.chernoff(0.2, 5.0, width=3000, n=40, delta=0.1)
    s = value / (3000 * 0.2)  # 1 - eps
    failing = 40 * np.exp(-(1 - s + s * np.log(s)) * 3000 * 0.2 / 5.0)
    np.testing.assert_allclose(failing, 0.1, rtol=1e-6)
    needed = 5.0 * np.log(400) / 0.2
    assert random_units.chernoff(0.2, 5.0, width=int(needed), n=40, delta=0.1) == 0
    assert random_units.chernoff(0.2, 5.0, width=int(needed) + 2, n=40, delta=0.1) > 0


def test_second_moments_by_hand():
    """For orthogonal inputs G = M = I / 2: 1/2 - theta / 4 - log(n / delta) / (m theta) at best."""
    for n, width in ((1, 500), (3, 5000)):
        found = sample(jnp.eye(n), method="eigenvalue", width=width, delta=0.1)
        lost = np.sqrt(np.log(n / 0.1) / width)
        np.testing.assert_allclose(0.5 - found.value / width, lost, rtol=5e-3)


def test_second_moment_of_one_unit():
    rng = np.random.default_rng(0)
    x = sphere(rng, 6, 3) * np.exp(0.3 * rng.standard_normal((6, 1)))
    norms = np.linalg.norm(x, axis=1)
    products = x @ x.T
    angles = np.arccos(np.clip(products / np.outer(norms, norms), -1, 1))
    np.fill_diagonal(angles, 0)
    on = (rng.standard_normal((60_000, 3)) @ x.T > 0).astype(float)
    z = on[:, :, None] * on[:, None, :] * products
    squares = z @ z
    error = squares.std(axis=0) / np.sqrt(len(on))
    found = random_units.second_moment(products, angles)
    assert np.all(np.abs(found - squares.mean(axis=0)) < 5 * error + 1e-9)


def test_bounds_on_finite_widths_hold_and_tend_to_the_limit():
    rng = np.random.default_rng(5)
    low, x = float32(sphere(rng, 12, 5))
    limit = sample(low, method="eigenvalue").value
    for width in (400, 20_000):
        rows = sample(low, width=width, delta=0.3)
        moments = sample(low, width=width, delta=0.3, method="eigenvalue")
        assert moments.value > 0
        assert rows.value < moments.value < width * limit
        least = []
        for _ in range(20):
            on = (rng.standard_normal((width, 5)) @ x.T > 0).astype(float)
            least.append(np.linalg.eigvalsh((on.T @ on) * (x @ x.T))[0])
        assert np.mean(np.array(least) < moments.value) <= 0.3
    many = sample(low, width=10**8, method="eigenvalue")
    np.testing.assert_allclose(many.value / 10**8, limit, rtol=5e-3)
    assert uniform(12, 5, width=10**9).value / 10**9 < uniform(12, 5).value
    np.testing.assert_allclose(
        uniform(12, 5, width=10**9).value / 10**9, uniform(12, 5, delta=0.0225).value, rtol=1e-2
    )


def test_where_nothing_is_proved():
    equal = jnp.ones((2, 3))
    zero = jnp.eye(3).at[0].set(0)
    for x in (equal, zero):
        for options in ({}, {"method": "eigenvalue"}, {"method": "eigenvalue", "width": 1000}):
            found = sample(x, **options)
            assert found.value == 0
            assert found.vacuous
    few = sample(jnp.eye(3), width=2)
    assert (few.value, few.vacuous) == (0, True)
    assert not sample(jnp.eye(3)).vacuous
    assert "value=0" in repr(few)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda x: sample(x, method="cells"), ValueError, "`method` must be one of"),
        (lambda x: sample(x[0]), ValueError, r"`x` must have shape \(n, d\)"),
        (lambda x: jax.jit(lambda x: sample(x).value)(x), TypeError, "call it outside of jit"),
        (lambda x: sample(x, degree=-2), ValueError, "`degree` must be an integer >= -1"),
        (lambda x: sample(x[:, :1], degree=2), ValueError, "`degree` must be -1 for inputs in one"),
        (lambda x: sample(x, width=0), ValueError, "`width` must be an integer >= 1"),
        (lambda x: sample(x, delta=1.0), ValueError, r"`delta` must be a probability in \(0, 1\)"),
        (lambda x: uniform(0, 5), ValueError, "`n` must be an integer >= 1"),
        (lambda x: uniform(5, 1), ValueError, "`d` must be an integer >= 2"),
        (lambda x: uniform(5, 5, delta=0.0), ValueError, "`delta` must be a finite number > 0"),
    ],
)
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call(jnp.eye(4))
