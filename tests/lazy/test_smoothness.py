"""Bounds on the change of the Jacobian, against the Jacobian itself in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import kernelgap as kg
from helpers import x64
from kernelgap.lazy.smoothness import _SLOPES

pytestmark = pytest.mark.slow

lazy = kg.lazy


def _net(activation, widths, outputs=None, parameterization="ntk", n=7, d=4):
    model = kg.models.mlp(
        widths, activation=activation, outputs=outputs, parameterization=parameterization
    )
    return model, model.init(jax.random.key(1), d), jax.random.normal(jax.random.key(0), (n, d))


def _worst(model, params, x, radius):
    """The largest ||J(Theta) - J(Theta_0)|| / ||Theta - Theta_0|| found by ascent on the sphere."""
    flat, unravel = ravel_pytree(params)
    jac = jax.jacrev(lambda f: model.apply(unravel(f), x).ravel())
    start = jac(flat)

    @jax.jit
    def step(v):
        u, s, vt = jnp.linalg.svd(jac(flat + v) - start, full_matrices=False)

        def inner(v):  # u' (J(Theta) - J_0) w: one product with the Jacobian
            return (
                u[:, 0]
                @ jax.jvp(lambda f: model.apply(unravel(f), x).ravel(), (flat + v,), (vt[0],))[1]
            )

        slope = jax.grad(inner)(v)
        return slope * radius / jnp.linalg.norm(slope), s[0] / radius

    v = jax.random.normal(jax.random.key(2), flat.shape)
    v, found = v * radius / jnp.linalg.norm(v), []
    for _ in range(5):
        v, ratio = step(v)
        found.append(float(ratio))
    return max(found)


@pytest.mark.parametrize(
    ("activation", "widths", "outputs", "parameterization", "tight"),
    [
        ("tanh", (20,), None, "ntk", 6),
        ("gelu", (20,), 2, "standard", 10),
        ("erf", (12, 8), None, "ntk", 40),
        ("silu", (5, 4, 4), 2, "standard", 1000),
    ],
)
def test_never_below_the_truth(activation, widths, outputs, parameterization, tight):
    with x64(True):
        model, params, x = _net(activation, widths, outputs, parameterization)
        lipschitz = lazy.tangent_lipschitz(model, params, x)
        worst = _worst(model, params, x, 0.7)
        assert worst <= lipschitz(0.7) <= tight * worst
        assert lipschitz(0.0) <= lipschitz(1.0) <= lipschitz(2.0)


def test_two_layers_in_closed_form():
    with x64(True):
        model, params, x = _net("tanh", (30,))
        spread, longest = np.linalg.norm(x, 2), np.max(np.linalg.norm(x, axis=1))
        s1, s2 = 4**-0.5, 30**-0.5
        for radius in (0.0, 1.7):
            p = s1 * s2 * spread
            top = np.max(np.abs(params[1])) + radius
            q = s1**2 * s2 * 4 / 27**0.5 * top * longest * spread
            expected = (q + np.sqrt(q**2 + 4 * p**2)) / 2
            found = lazy.tangent_lipschitz(model, params, x)(radius)
            np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("outputs", [None, 2])
def test_outputs_curve_less_than_claimed(outputs):
    """|f - f_lin| <= h R^2 / 2, at random points and along the sharpest directions at the start."""
    with x64(True):
        model, params, x = _net("gelu", (6, 5), outputs)
        flat, unravel = ravel_pytree(params)
        curvature = lazy.output_curvature(model, params, x)
        apply = lambda f, x: model.apply(unravel(f), x)
        first = jax.jit(jax.hessian(lambda f: apply(f, x[:1]).ravel()[0]))(flat)
        sharp = jnp.linalg.eigh(first)[1][:, jnp.array([0, -1])].T
        at_start = float(jnp.max(jnp.abs(jnp.linalg.eigvalsh(first))))
        assert at_start <= curvature(0.0)[0] <= 30 * at_start

        @jax.jit
        def remainder(v):
            before, along = jax.jvp(lambda f: apply(f, x), (flat,), (v,))
            return (apply(flat + v, x) - before - along).reshape(len(x), -1)

        random = jax.random.normal(jax.random.key(3), (2, flat.size))
        for radius in (0.1, 2.0):
            for way in [*sharp, *random]:
                v = radius * way / jnp.linalg.norm(way)
                off = remainder(v)
                assert (jnp.linalg.norm(off, axis=1) <= curvature(radius) * radius**2 / 2).all()


def test_falls_like_one_over_the_root_of_the_width():
    found = []
    for width in (256, 1024):
        model, params, x = _net("tanh", (width, width))
        found.append(lazy.tangent_lipschitz(model, params, x)(1.0))
    assert 1.4 < found[0] / found[1] < 2.6  # 2, but for the drift and logarithms


@pytest.mark.parametrize(("sigmoid", "gated"), sorted(_SLOPES))
def test_slopes_are_the_suprema(sigmoid, gated):
    with x64(True):
        z = jnp.linspace(-8, 8, 40001)
        slope, curvature = _SLOPES[sigmoid, gated]
        for scale in (1.0, 0.5):
            phi = kg.models.SmoothActivation(sigmoid, scale, gated)
            first = jax.vmap(jax.grad(phi))(z)
            second = jax.vmap(jax.grad(jax.grad(phi)))(z)
            powers = (0, 1) if gated else (1, 2)
            for values, bound, power in ((first, slope, powers[0]), (second, curvature, powers[1])):
                most = float(jnp.max(jnp.abs(values))) * scale**power
                assert bound * (1 - 1e-5) <= most <= bound * (1 + 1e-12)


def test_linear_models_have_constant_jacobians():
    model = kg.models.mlp((), activation="tanh")
    params, x = model.init(jax.random.key(0), 4), jnp.ones((3, 4))
    assert lazy.tangent_lipschitz(model, params, x)(5.0) == 0
    assert (lazy.output_curvature(model, params, x)(5.0) == 0).all()


tanh, weights, ones = _net("tanh", (5,))


@pytest.mark.parametrize("function", [lazy.tangent_lipschitz, lazy.output_curvature])
@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda f: f(tanh.apply, weights, ones), TypeError, "`model` must be a Model"),
        (
            lambda f: f(kg.models.mlp((5,), activation="relu"), weights, ones),
            ValueError,
            "`model` must have a smooth activation",
        ),
        (lambda f: f(tanh, weights, ones[0]), ValueError, "`x` must have shape"),
        (lambda f: f(tanh, weights[:1], ones), ValueError, "`params` must have the shapes"),
        (lambda f: f(tanh, weights, ones)(-1.0), ValueError, "`radius` must be"),
        (
            lambda f: jax.jit(lambda p: f(tanh, p, ones)(1.0))(weights),
            TypeError,
            "computed on the host",
        ),
    ],
)
def test_refuses(function, call, error, match):
    with pytest.raises(error, match=match):
        call(function)
