"""The expectations of smooth activations by themselves, against integrals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from scipy import special, stats

import kernelgap as kg
from helpers import SMOOTH, x64
from kernelgap.kernels.sigmoidal import _kolmogorov, expectations as _expectations

pytestmark = pytest.mark.slow

names = pytest.mark.parametrize("name", sorted(SMOOTH))


def expectations(phi, a, b, c, same):
    """In units of 1."""
    return _expectations(phi, a, b, c, same, jnp.ones_like(a), jnp.ones_like(b))


def _phi(name):
    return kg.models.mlp((1,), activation=SMOOTH[name]).spec.activation


def _both(phi, z):
    """phi and its derivative, in NumPy's float64."""
    with x64(True):
        return tuple(np.asarray(a) for a in jax.jvp(phi, (jnp.asarray(z),), (jnp.ones_like(z),)))


def _found(phi, a, b, correlation, dtype):
    c = correlation * np.sqrt(a * b)
    return [float(v) for v in expectations(phi, *(jnp.asarray(t, dtype) for t in (a, b, c)), None)]


@names
def test_against_integrals_in_the_plane(name):
    """The trapezoidal rule, exact to rounding for these functions of a Gaussian pair."""
    phi = _phi(name)
    t = np.linspace(-9, 9, 901)
    weights = stats.norm.pdf(t) * (t[1] - t[0])
    for a, b, correlation in ((1.0, 1.0, 0.5), (0.3, 0.8, -0.8), (0.05, 1.3, 0.95)):
        u = np.sqrt(a) * t[:, None] + 0 * t
        v = np.sqrt(b) * (correlation * t[:, None] + np.sqrt(1 - correlation**2) * t)
        exact = [
            weights @ (left * right) @ weights
            for left, right in zip(_both(phi, u), _both(phi, v), strict=True)
        ]
        exact += [(weights @ _both(phi, np.sqrt(s) * t)[0] ** 2) for s in (a, b)]
        with x64(True):
            np.testing.assert_allclose(_found(phi, a, b, correlation, float), exact, rtol=2e-12)
        found = _found(phi, a, b, correlation, np.float32)
        np.testing.assert_allclose(found, exact, rtol=3e-6)


def _graded():
    """Nodes and weights of E over a standard Gaussian, for functions with a step at 0 of any width."""
    t, w = np.polynomial.legendre.leggauss(20)
    ends = np.concatenate([[0], np.geomspace(1e-9, 12, 100)])
    half = np.diff(ends)[:, None] / 2
    nodes = (ends[:-1, None] + half * (t + 1)).ravel()
    weights = (half * w).ravel() * stats.norm.pdf(nodes)
    return np.concatenate([-nodes, nodes]), np.concatenate([weights, weights])


@pytest.mark.parametrize("name", ["tanh", "silu", "gelu", "erf"])
def test_uniformly_in_the_variance(name):
    """Also where the activation is all but a step: parallel, opposite and unrelated pairs."""
    phi = _phi(name)
    nodes, weights = _graded()
    for variance in (1e-6, 1e-2, 30.0, 1e4, 1e6):
        here, there = (_both(phi, sign * variance**0.5 * nodes) for sign in (1, -1))
        for correlation, other in ((1.0, here), (-1.0, there), (0.0, None)):
            with x64(True):
                found = _found(phi, variance, variance, correlation, float)[:2]
            for k in (0, 1):
                if other is None:
                    exact = (weights @ here[k]) ** 2
                else:
                    exact = weights @ (here[k] * other[k])
                # Gated opposite pairs cancel; and a b - c^2 is rounded.
                bound = 1e-11 + 4 * np.finfo(float).eps * variance
                assert abs(found[k] - exact) <= bound * (weights @ here[k] ** 2)
                assert correlation == 0 or phi.gated or abs(found[k] / exact - 1) < 1e-10


def test_rule_integrates_the_kolmogorov_law():
    exact = {1: np.sqrt(np.pi / 2) * np.log(2), 2: np.pi**2 / 12}  # E[k], E[k^2]
    for count, bound in ((6, 1e-5), (12, 1e-10)):
        nodes, weights = _kolmogorov(count)
        assert (weights > 0).all()
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-14)
        for power, moment in exact.items():
            np.testing.assert_allclose(weights @ nodes**power, moment, rtol=bound)
    t = np.linspace(-4, 4, 33)
    mean = weights @ special.erf(t / (2**0.5 * nodes[:, None]))
    np.testing.assert_allclose(mean, np.tanh(t), rtol=1e-6)  # steeper in k than any expectation


@partial(jax.jit, static_argnums=0)
def _along_the_covariance(name, a, b, c):
    moments = lambda c: expectations(_phi(name), a, b, c, None)[:2]
    return jax.jvp(moments, (c,), (jnp.ones(()),))


@given(st.sampled_from(sorted(SMOOTH)), st.floats(-1, 1), st.floats(0.1, 5), st.floats(0.1, 5))
@example("gelu", 1.0, 2.0, 2.0)
@example("erf", -1.0, 3.0, 3.0)
@example("erf", 1.0, 0.3, 0.7)
def test_price_theorem(name, correlation, a, b):
    """d E[phi phi] / dc = E[phi' phi']: the two outputs hold each other, parallel pairs included."""
    with x64(True):
        (_, slope), (change, _) = _along_the_covariance(name, a, b, correlation * np.sqrt(a * b))
        np.testing.assert_allclose(change, slope, rtol=1e-9)


@names
def test_equal_pairs_are_said_to_be(name):
    """Marked pairs have E[phi^2], and gradients as if both moved together."""
    phi = _phi(name)
    with x64(True):
        v = jnp.array([0.0, 1e-12, 0.3, 2.0])

        def marked(v, k=0):
            return jnp.sum(expectations(phi, v, v, v, jnp.ones(4, bool))[k])

        def plain(v, k=0):
            return jnp.sum(expectations(phi, v, v, v, None)[k])

        found = expectations(phi, v, v, v, jnp.ones(4, bool))
        np.testing.assert_array_equal(found[0], found[2])
        np.testing.assert_array_equal(found[2], found[3])
        for k in (0, 1):
            # Forward mode: it compiles faster, and the next test holds the modes together.
            (here, slope), (there, other) = (
                jax.jvp(partial(f, k=k), (v,), (jnp.arange(1.0, 5.0),)) for f in (marked, plain)
            )
            np.testing.assert_allclose(here, there, rtol=1e-12)
            np.testing.assert_allclose(slope, other, rtol=1e-12)


@names
def test_reverse_and_forward_mode_agree(name):
    moments = [jnp.full((2, 3), m) for m in (1.0, 2.0, 0.5)]

    def total(*moments):
        return sum(jnp.sum(e) for e in expectations(_phi(name), *moments, None)[:2])

    backward = jax.grad(total, argnums=(0, 1, 2))(*moments)
    forward = jax.jacfwd(total, argnums=(0, 1, 2))(*moments)
    for a, b in zip(backward, forward, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
