"""The functions J_p by themselves, against formulas in high precision."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import integrate

from helpers import x64
from kernelgap.kernels.arccosine import arccosines

POWERS = (0, 1, 2, 3)


def _by_quadrature(p, theta):
    """2 pi E[max(u, 0)^p max(v, 0)^p] for unit Gaussians at angle theta, in polar coordinates.

    In the plane u = r cos(a), v = r cos(a - theta): the radius gives 2^p p!, the angle is left.
    """
    found, _ = integrate.quad(
        lambda a: (np.cos(a) * np.cos(a - theta)) ** p, theta - np.pi / 2, np.pi / 2,
        epsabs=0, epsrel=1e-12,
    )  # fmt: skip
    return 2**p * {0: 1, 1: 1, 2: 2, 3: 6}[p] * found


@pytest.mark.parametrize("p", POWERS)
def test_against_quadrature_to_relative_precision(p):
    """Also as theta nears pi, where J_p is of order (pi - theta)^(2p+1)."""
    angles = np.array([0.02, 0.3, 1.0, np.pi / 2, 2.0, 2.6, 3.0, 3.1])
    exact = np.array([_by_quadrature(p, t) for t in angles])
    with x64(True):
        found = np.asarray(arccosines(p, jnp.cos(jnp.asarray(angles)))[0])
        # Rounding of the cosine moves pi - theta by eps / sin(theta).
        bound = 1e-14 + (2 * p + 1) * 1e-15 / np.sin(angles) / (np.pi - angles)
        np.testing.assert_array_less(np.abs(found / exact - 1), bound)
    cosines = jnp.cos(jnp.asarray(angles, jnp.float32))
    exact = np.array([_by_quadrature(p, t) for t in np.arccos(np.float64(cosines))])
    found = np.asarray(arccosines(p, cosines)[0])
    assert found.dtype == np.float32
    np.testing.assert_array_less(np.abs(found / exact - 1), 5e-7)


@given(st.sampled_from(POWERS), st.floats(-1, 1))
def test_second_output_is_the_first_at_the_opposite(p, cosine):
    here, there = (arccosines(p, jnp.asarray(c)) for c in (cosine, -cosine))
    np.testing.assert_allclose(here[1], there[0], rtol=1e-6)  # at 0 by two formulas


@pytest.mark.parametrize("p", POWERS)
def test_ends(p):
    """J_p(0) = pi (2p - 1)!!, J_p(pi) = 0."""
    value, opposite = arccosines(p, jnp.asarray(1.0))
    np.testing.assert_allclose(value, np.pi * (1, 1, 3, 15)[p], rtol=1e-6)
    assert float(opposite) == 0


@partial(jax.jit, static_argnums=0)
def _value(p, c):
    return arccosines(p, c)[0]


_slope = jax.jit(jax.grad(_value, 1), static_argnums=0)
_curvature = jax.jit(jax.grad(_slope, 1), static_argnums=0)


@given(st.sampled_from(POWERS), st.floats(-0.99, 0.99))
def test_derivatives_are_those_of_the_formula(p, cosine):
    """dJ_p / dc = p^2 J_{p-1} and dJ_0 / dc = 1 / sin(theta), to second order."""
    with x64(True):
        c, h = np.float64(cosine), 1e-6
        change = (_value(p, c + h) - _value(p, c - h)) / (2 * h)
        np.testing.assert_allclose(_slope(p, c), change, rtol=1e-5, atol=1e-8)
        change = (_slope(p, c + h) - _slope(p, c - h)) / (2 * h)
        np.testing.assert_allclose(_curvature(p, c), change, rtol=1e-4, atol=1e-7)
