"""Verified rounding against exact rational arithmetic; without its constants every law fails."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from helpers import seeds
from kernelgap._numerics import verified

U = Fraction(1, 2**53)
SEEDS = range(40)  # a missing constant does not show on every matrix


def exact(matrix):
    return [[Fraction(float(v)) for v in row] for row in matrix]


def is_positive_semidefinite(rows):
    """Whether a symmetric rational matrix is, by elimination without rounding."""
    rows = [row[:] for row in rows]
    while rows:
        pivot = rows[0][0]
        if pivot < 0 or (pivot == 0 and any(rows[0])):
            return False
        rows = [
            [
                b - (row[0] * a / pivot if pivot else 0)
                for a, b in zip(rows[0][1:], row[1:], strict=True)
            ]
            for row in rows[1:]
        ]
    return True


def shifted(matrix, sign, shift):
    """sign * matrix - shift I, exactly."""
    return [
        [sign * v - (Fraction(shift) if i == j else 0) for j, v in enumerate(row)]
        for i, row in enumerate(exact(matrix))
    ]


def singular(seed):
    """An integer matrix of rank n - 1 at most: lambda_min is 0 exactly, and found with rounding."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 7))
    factor = rng.integers(-9, 10, (n, n - 1)).astype(float)
    return factor @ factor.T


def sums(seed):
    """Many equal terms: each addition is rounded the same way."""
    rng = np.random.default_rng(seed)
    return np.full(int(rng.integers(3, 3000)), rng.random())


def running_sum(terms):
    return float(np.cumsum(terms)[-1])  # one after the other


def sum_is_below(seed):
    terms = sums(seed)
    total = sum(map(Fraction, terms))
    return total <= Fraction(verified.above(running_sum(terms), len(terms) - 1))


def sum_is_above(seed):
    terms = sums(seed)
    total = sum(map(Fraction, terms))
    return total >= Fraction(verified.below(running_sum(terms), len(terms) - 1))


def no_eigenvalue_is_below(seed):
    """Shifts at and just above the smallest eigenvalue, where factorisations may still end."""
    matrix = singular(seed)
    size = np.trace(matrix)
    guesses = [0.0, *(size * 2.0 ** -np.arange(44, 60))]
    bounds = [verified.cholesky_bound(matrix, guess) for guess in guesses]
    bounds.append(verified.smallest_eigenvalue_bound(matrix, 0.0))
    return max(bound for bound in bounds if bound is not None) <= 0


def no_eigenvalue_is_above(seed):
    """The identity minus a singular matrix: lambda_max is 1 exactly."""
    matrix = singular(seed)
    other = np.eye(len(matrix)) - matrix
    bounds = [verified.cholesky_bound(-other, -guess) for guess in 1 - 2.0 ** -np.arange(44, 54)]
    bounds.append(-verified.largest_eigenvalue_bound(other, 1.0))
    return min(-bound for bound in bounds if bound is not None) >= 1


def rayleigh_is_above(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 7))
    matrix = rng.normal(size=(n, n))
    matrix = matrix + matrix.T
    vector = rng.normal(size=n)
    v, a = [Fraction(t) for t in vector], exact(matrix)
    quotient = sum(v[i] * a[i][j] * v[j] for i in range(n) for j in range(n)) / sum(
        t * t for t in v
    )
    return quotient <= Fraction(verified.rayleigh_bound(matrix, vector))


def spectral_norm_is_above(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(int(rng.integers(1, 5)), int(rng.integers(1, 5))))
    bound, a = Fraction(verified.spectral_norm_bound(matrix)), exact(matrix)
    square = [[sum(x * y for x, y in zip(r, s, strict=True)) for s in a] for r in a]
    negative = [
        [(bound**2 if i == j else 0) - v for j, v in enumerate(r)] for i, r in enumerate(square)
    ]
    return is_positive_semidefinite(negative)


LAWS = [sum_is_below, sum_is_above, no_eigenvalue_is_below, no_eigenvalue_is_above,
        rayleigh_is_above, spectral_norm_is_above]  # fmt: skip


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_bounds_hold_in_exact_arithmetic(law):
    assert all(map(law, SEEDS))


@pytest.mark.parametrize("law", LAWS[:-1], ids=lambda law: law.__name__)
def test_without_its_constant_every_law_fails(law, monkeypatch):
    monkeypatch.setattr(verified, "gamma", lambda k: 0.0)
    monkeypatch.setattr(math, "nextafter", lambda value, towards: value)
    assert not all(map(law, SEEDS))


@given(st.integers(1, 10**9))
def test_gamma_is_rounded_up_and_no_further(k):
    value = k * U / (1 - k * U)
    assert value < Fraction(verified.gamma(k)) <= value * (1 + 4 * U)
    assert Fraction(k * 2.0**-53) < value  # k u alone is too small


@pytest.mark.parametrize("k", [1, 2, 7, 200])
def test_gamma_bounds_k_roundings(k):
    assert (1 - U) ** -k <= 1 + Fraction(verified.gamma(k))
    assert (1 + U) ** k <= 1 + Fraction(verified.gamma(k))
    assert (1 - U) ** k >= 1 - Fraction(verified.gamma(k))
    assert (1 - U) ** -(k + 1) > 1 + Fraction(verified.gamma(k))  # one rounding less is too few


@given(seeds, st.integers(1, 12))
def test_enclosures_are_close(seed, d):
    """Within n eps of the trace, for any symmetric matrix; and true in rational arithmetic."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(d, 1 + d // 2))
    matrix = a @ a.T - rng.integers(0, 2) * np.eye(d)
    matrix = (matrix + matrix.T) / 2
    values = np.linalg.eigvalsh(matrix)
    low = verified.smallest_eigenvalue_bound(matrix, values[0])
    high = verified.largest_eigenvalue_bound(matrix)
    room = 1e-10 * np.abs(matrix).sum()
    assert values[0] - room <= low <= high <= values[-1] + room
    assert is_positive_semidefinite(shifted(matrix, 1, low))
    assert is_positive_semidefinite(shifted(matrix, -1, -high))
    assert verified.rayleigh_bound(matrix, np.linalg.eigh(matrix)[1][:, 0]) <= values[0] + room


@pytest.mark.parametrize("guess", [-1e9, 0.5, 5.0, 1e9])
def test_a_wrong_guess_costs_tightness_only(guess):
    matrix = np.diag([1.0, 2.0, 3.0])
    assert -1e10 < verified.smallest_eigenvalue_bound(matrix, guess) <= 1
    assert 3 <= verified.largest_eigenvalue_bound(matrix, guess) < 1e10


def test_what_is_false_is_not_proved():
    matrix = np.diag([1.0, 2.0, 3.0])
    assert verified.cholesky_bound(matrix, 1.01) is None
    assert 0.99 - 1e-12 < verified.cholesky_bound(matrix, 0.99) < 0.99
    for broken in (np.nan, np.inf):
        assert verified.largest_eigenvalue_bound(np.full((2, 2), broken)) == np.inf
        assert verified.smallest_eigenvalue_bound(np.full((2, 2), broken), 0.0) == -np.inf
    assert verified.smallest_eigenvalue_bound(np.zeros((2, 2)), 0.0) == 0


@pytest.mark.parametrize("shape", [(5, 9), (700, 600)])
@pytest.mark.parametrize("rank", [1, None])
def test_spectral_norms_are_above_and_close(shape, rank):
    rng = np.random.default_rng(0)
    a = rng.normal(size=shape)
    if rank:
        a = np.outer(a[:, 0], a[0])
    largest = np.linalg.norm(a, 2)
    assert largest <= verified.spectral_norm_bound(a) <= 1.06 * largest


@pytest.mark.parametrize("seed", range(5))
def test_spectral_norms_do_not_trust_the_singular_values(seed, monkeypatch):
    original = np.linalg.norm
    monkeypatch.setattr(np.linalg, "norm", lambda *a: 0.5 * original(*a))
    assert spectral_norm_is_above(seed)
