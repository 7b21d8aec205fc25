"""The least squared error in the span of kernel functions on XOR, against the whole population."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, strategies as st

import kernelgap as kg
from helpers import seeds, x64
from kernelgap.bounds import xor_span

SIGNALS = {
    "axis": [(1, 0), (-1, 0), (0, 1), (0, -1)],
    "cube": [(1, 1), (-1, -1), (1, -1), (-1, 1)],
}


def population(d, signal):
    """All points of the distribution, equally likely, and their labels."""
    points = [s + v for s in SIGNALS[signal] for v in itertools.product((1, -1), repeat=d - 2)]
    x = np.array(points, float)
    return x, x[:, 0] * x[:, 1] if signal == "cube" else np.abs(x[:, 0]) - np.abs(x[:, 1])


def ntk(d):
    return kg.kernels.ntk(kg.models.homogeneous_mlp((1, 1), parameterization="ntk"))


def cubic(x1, x2=None):
    return (1 + x1 @ (x1 if x2 is None else x2).T / 4) ** 3


@given(seeds, st.sampled_from([(2, 3), (3, 4), (5, 9), (6, 20)]), st.sampled_from(list(SIGNALS)),
       st.sampled_from([ntk, lambda d: cubic]))  # fmt: skip
@example(0, (3, 9), "axis", ntk)  # all points: the error is 0
def test_no_beta_does_better_and_one_does_as_well(seed, shape, signal, kernel):
    """Least squares on all points of the population is an oracle that shares no formula."""
    d, n = shape
    rng = np.random.default_rng(seed)
    x, y = population(d, signal)
    with x64(True):
        centers, everything = (jnp.asarray(v) for v in (x[rng.integers(len(x), size=n)], x))
        values = np.asarray(kernel(d)(everything, centers))
        bound = kg.bounds.xor_span_bound(kernel(d), centers, signal=signal)
    best = np.linalg.lstsq(values, y, rcond=1e-13)[0]
    least = np.mean((values @ best - y) ** 2)
    assert bound.squared_error <= least + 1e-9
    assert np.mean((values @ bound.coef - y) ** 2) == pytest.approx(bound.attained, abs=1e-7)
    assert bound.attained >= least - 1e-9
    if bound.squared_error > 0:
        assert bound.squared_error == pytest.approx(least, abs=1e-6)
    for beta in rng.normal(size=(20, n)):
        f = values @ beta
        assert np.mean(y * f) ** 2 <= bound.r_squared * np.mean(f**2) * (1 + 1e-9) + 1e-9


def _drawn(rng, n):
    """Centres, and the exact minimum for `cubic`: 1 - m' M^-1 m by elimination with rationals."""
    x, y = population(6, "cube")
    centers = x[rng.choice(len(x), n, replace=False)]
    rows = [[(1 + Fraction(int(v), 4)) ** 3 for v in row] for row in x @ centers.T]
    second = [[sum(r[i] * r[j] for r in rows) / len(x) for j in range(n)] for i in range(n)]
    mean = [sum(int(s) * r[i] for s, r in zip(y, rows, strict=True)) / len(x) for i in range(n)]
    return centers, 1 - sum(a * b for a, b in zip(_solve(second, mean), mean, strict=True))


@pytest.mark.parametrize("allowed", [True, False])
def test_the_bound_is_below_the_exact_minimum_whatever_rounding_does(allowed, monkeypatch):
    """Moments are off by as much as the proof allows for; without its allowances, that shows."""
    rng, original = np.random.default_rng(0), xor_span._moments
    unit = xor_span.gamma(2 * (36 + 8))

    def rounded(values, labels):
        second, mean = original(values, labels)
        signs = rng.choice([-1, 1], second.shape)
        signs = np.triu(signs) + np.triu(signs, 1).swapaxes(1, 2)
        return second * (1 + unit * signs), mean * (1 + unit * rng.choice([-1, 1], mean.shape))

    monkeypatch.setattr(xor_span, "_moments", rounded)
    if not allowed:
        monkeypatch.setattr(xor_span, "gamma", lambda k: 0.0)
    below = []
    for n in (3, 8, 14, 14, 14, 14):
        centers, least = _drawn(rng, n)
        with x64(True):
            bound = kg.bounds.xor_span_bound(cubic, jnp.asarray(centers), signal="cube")
        assert bound.squared_error == pytest.approx(float(least), rel=1e-9)
        below.append(Fraction(bound.squared_error) <= least)
    assert all(below) == allowed


def _solve(matrix, right):
    a = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    for k in range(len(a)):
        a[k] = [v / a[k][k] for v in a[k]]
        for i in range(len(a)):
            if i != k:
                a[i] = [v - a[i][k] * w for v, w in zip(a[i], a[k], strict=True)]
    return [row[-1] for row in a]


def test_repeated_centres_and_scales():
    kernel = ntk(4)
    centers, _ = kg.datasets.xor_noise(jax.random.key(0), 6, 6)
    once = kg.bounds.xor_span_bound(kernel, centers)
    twice = kg.bounds.xor_span_bound(kernel, jnp.concatenate([centers, centers]))
    scaled = kg.bounds.xor_span_bound(1e-12 * kernel, centers)
    assert twice.squared_error == pytest.approx(once.squared_error, rel=1e-9)
    assert not np.any(twice.coef[6:])
    assert scaled.squared_error == pytest.approx(once.squared_error, rel=1e-5)
    np.testing.assert_allclose(1e-12 * scaled.coef, once.coef, rtol=1e-3)


def test_it_agrees_with_the_fit_on_a_sample_of_the_population():
    kernel = ntk(10)
    keys = jax.random.split(jax.random.key(1), 3)
    centers, _ = kg.datasets.xor_noise(keys[0], 40, 10)
    bound = kg.bounds.xor_span_bound(kernel, centers)
    x, y = kg.datasets.xor_noise(keys[1], 40_000, 10)
    fit = kg.predictors.best_in_span(kernel, centers, x, y)
    f = np.asarray(fit.decision_function(x), float)
    assert np.mean((f - np.asarray(y)) ** 2) == pytest.approx(bound.attained, abs=0.01)


@pytest.mark.parametrize(("kernel", "centers", "match"), [
    (cubic, [[1.0, 0.0, 0.5]], "must be points of xor_noise"),
    (cubic, [[1.0, 1.0, 1.0]], "must be points of xor_noise"),
    (cubic, [[1.0]], "d >= 2"),
    (lambda a, b=None: (a * jnp.arange(1.0, 5.0)[None]) @ (a if b is None else b).T,
     [[1.0, 0, 1, -1], [0, 1, -1, 1], [1, 0, 1, 1]], "number of signs that agree"),
])  # fmt: skip
def test_what_it_is_not_for_is_refused(kernel, centers, match):
    with pytest.raises(ValueError, match=match):
        kg.bounds.xor_span_bound(kernel, jnp.asarray(centers))
