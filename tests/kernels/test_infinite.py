import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import integrate

import kernelgap as kg
from helpers import ACTIVATIONS, PARAMETERIZATIONS, assert_close, keys, slow_but, x64
from kernelgap.testing import assert_kernel

key = jax.random.key(0)
KERNELS = {"ntk": kg.kernels.ntk, "nngp": kg.kernels.nngp}
widths = st.sampled_from([(), (6,), (5, 4), (4, 3, 2)])
activations = st.sampled_from(sorted(ACTIVATIONS)).map(ACTIVATIONS.get)
networks = st.builds(
    kg.models.homogeneous_mlp,
    widths,
    activation=activations,
    parameterization=st.sampled_from(PARAMETERIZATIONS),
    init_scale=st.sampled_from([1.0, 1.3]),
).filter(lambda m: m.spec.activation.power ** len(m.spec.widths) <= 9)  # or float32 overflows
which = st.sampled_from(sorted(KERNELS)).map(KERNELS.get)
shallow = kg.models.homogeneous_mlp((7,), parameterization="ntk")


def _inputs(key, n, d=3):
    return jax.random.normal(key, (n, d))


@given(networks, which, keys)
def test_laws_of_kernels(model, kernel, key):
    # Rounding of the cosine moves the angle by eps / sin(angle).
    assert_kernel(kernel(model), _inputs(key, 8), factor=1e4)


@given(networks, which, keys)
def test_diagonal_is_exact(model, kernel, key):
    x = _inputs(key, 6)
    kernel = kernel(model)
    gram = np.asarray(kernel(x))
    np.testing.assert_array_equal(gram, gram.T)
    assert_close(kernel.diag(x), np.diag(gram))
    # Equal inputs have the diagonal value, whether the kernel knows that they are equal or not.
    assert_close(np.diag(np.asarray(kernel(x, x))), np.diag(gram))


@given(networks, which, keys, st.floats(0.1, 10))
def test_homogeneous_in_each_input(model, kernel, key, c):
    """phi has degree p, so that scaling x by c scales a K-layer kernel by c^(p^(K-1))."""
    x, z = _inputs(key, 4), _inputs(jax.random.fold_in(key, 1), 3)
    kernel = kernel(model)
    degree = model.spec.activation.power ** len(model.spec.widths)
    assert_close(kernel(c * x, z), c**degree * kernel(x, z), factor=3e4)


@given(networks, which, keys)
def test_rotation_invariance(model, kernel, key):
    x, z = _inputs(key, 4), _inputs(jax.random.fold_in(key, 1), 3)
    rotation = jnp.linalg.qr(_inputs(jax.random.fold_in(key, 2), 3))[0]
    rotated = [jnp.matmul(a, rotation, precision="highest") for a in (x, z)]
    assert_close(kernel(model)(*rotated), kernel(model)(x, z), factor=3e4)


@pytest.mark.parametrize(
    ("name", "parameterization", "widths"),
    slow_but(
        itertools.product(
            ["relu", "leaky_relu", "abs", "odd"],
            PARAMETERIZATIONS[:3],
            [(), (7,), (6, 5), (5, 4, 3)],
        ),
        kept=[
            ("leaky_relu", "standard", (7,)),
            ("odd", "ntk", (6, 5)),
            ("abs", "mean_field", (6, 5)),
            ("relu", "ntk", ()),
        ],
    ),
)
def test_closed_form_is_neural_tangents(name, parameterization, widths):
    with x64(True):
        model = kg.models.homogeneous_mlp(
            widths,
            activation=ACTIVATIONS[name],
            parameterization=parameterization,
            init_scale=1.3,
        )
        x, z = _inputs(jax.random.key(1), 6, 4), _inputs(jax.random.key(2), 5, 4)
        for kernel in KERNELS.values():
            ours = kernel(model, engine="closed_form")
            theirs = kernel(model, engine="neural_tangents")
            a, b = ours(x, z), theirs(x, z)
            assert a.dtype == jnp.float64
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * float(jnp.max(b)))
            a, b = ours(x), theirs(x)
            off = ~np.eye(6, dtype=bool)
            np.testing.assert_allclose(a[off], b[off], rtol=1e-10, atol=1e-10 * float(jnp.max(b)))
            # On its diagonal neural_tangents loses the angle, 0, below sqrt(eps).
            np.testing.assert_allclose(ours.diag(x), theirs.diag(x), rtol=1e-7)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("parameterization", slow_but(PARAMETERIZATIONS, ["ntk"]))
def test_two_layers_are_the_mean_of_finite_nets(name, parameterization):
    """For two layers the kernel is E <grad f(x), grad f(z)> at any width, exactly."""
    model = kg.models.homogeneous_mlp(
        (8,), activation=ACTIVATIONS[name], parameterization=parameterization, init_scale=0.8
    )
    x = _inputs(key, 4)

    def finite(key):
        params = model.init(key, 3)
        rows = [j.reshape(4, -1) for j in jax.jacobian(lambda p: model.apply(p, x))(params)]
        outputs = model.apply(params, x)
        return sum(r @ r.T for r in rows), jnp.outer(outputs, outputs)

    samples = jax.jit(jax.vmap(finite))(jax.random.split(key, 20_000))
    for found, kernel in zip(samples, (kg.kernels.ntk, kg.kernels.nngp), strict=True):
        found = np.float64(found)
        error = found.std(axis=0) / len(found) ** 0.5
        np.testing.assert_array_less(np.abs(found.mean(axis=0) - kernel(model)(x)), 6 * error)


@pytest.mark.parametrize("parameterization", slow_but(PARAMETERIZATIONS, ["standard"]))
def test_deep_kernels_are_the_limit_of_finite_nets(parameterization):
    width, nets = 256, 32
    model = kg.models.homogeneous_mlp((width, width), parameterization=parameterization)
    x = _inputs(key, 3)

    def finite(key):
        rows = jax.jacobian(lambda p: model.apply(p, x))(model.init(key, 3))
        return sum(r.reshape(3, -1) @ r.reshape(3, -1).T for r in rows)

    found = np.float64(jax.lax.map(finite, jax.random.split(key, nets)))
    error = 6 * found.std(axis=0) / nets**0.5 + 10 / width * np.abs(found).mean()
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - kg.kernels.ntk(model)(x)), error)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_gaussian_expectations_by_quadrature(name):
    """E[phi(u) phi(v)] is E[r^2p] times a mean over the direction of (u, v)."""
    phi = kg.models.homogeneous_mlp((1,), activation=ACTIVATIONS[name]).spec.activation
    with x64(True):
        for theta in (0.3, 1.2, 2.8):
            x = jnp.array([[1.0, 0.0], [math.cos(theta), math.sin(theta)]])
            model = kg.models.homogeneous_mlp((1,), activation=phi, parameterization="ntk")
            mean, _ = integrate.quad(
                lambda t: float(phi(np.cos(t)) * phi(np.cos(t - theta))) / (2 * math.pi),
                0, 2 * math.pi, limit=200, points=[theta, math.pi / 2, 3 * math.pi / 2,
                (theta + math.pi / 2) % (2 * math.pi), (theta + 3 * math.pi / 2) % (2 * math.pi)],
            )  # fmt: skip
            # Inputs of norm 1 in d = 2 dimensions have pre-activations of variance 1/2.
            power = int(phi.power)
            expected = 2**power * math.factorial(power) * mean * 0.5**power
            np.testing.assert_allclose(kg.kernels.nngp(model)(x)[0, 1], expected, rtol=1e-8)


def test_the_formula_of_the_paper():
    """A5 with r_w = 1, r_u = 1 / sqrt(d): the mean-field net times its width."""
    d, m = 5, 9
    model = kg.models.homogeneous_mlp((m,), parameterization="mean_field")
    x, z = np.asarray(_inputs(key, 4, d)), np.asarray(_inputs(jax.random.key(1), 3, d))
    inner, sizes = x @ z.T, np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(z, axis=1))
    theta = np.arccos(inner / sizes)
    expected = inner * (np.pi - theta) / (2 * np.pi)
    expected += sizes * (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / (2 * np.pi * d)
    assert_close(m * kg.kernels.ntk(model)(x, z), expected.astype(x.dtype))


@pytest.mark.parametrize(
    ("name", "widths"),
    slow_but(
        itertools.product(["relu", "leaky_relu", "abs"], [(3,), (3, 3), (3, 3, 3)]),
        kept=[("relu", (3, 3)), ("leaky_relu", (3,))],
    ),
)
def test_float32_error_away_from_coincident_points(name, widths):
    """1e-6 of sqrt(K(x, x) K(z, z)) from an angle of 0.4 per hidden layer."""
    model = kg.models.homogeneous_mlp(widths, activation=name, parameterization="ntk")
    for d in (3, 30):
        x, z = (_inputs(jax.random.key(s), 150, d).astype(jnp.float32) for s in (0, 1))
        for kernel in KERNELS.values():
            kernel = kernel(model)
            single = np.float64(kernel(x, z))
            with x64(True):
                wide = np.float64(x), np.float64(z)
                double = np.asarray(kernel(*wide))
                size = np.sqrt(np.outer(*(kernel.diag(a) for a in wide)))
            units = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in wide]
            apart = np.abs(units[0] @ units[1].T) < np.cos(0.4 * len(widths))
            assert np.max((np.abs(single - double) / size)[apart]) < 1e-6


@given(keys, st.floats(1e-5, 1e-1), st.sampled_from([(3,), (3, 3), (3, 3, 3)]))
def test_stated_bound_near_coincident_points(key, distance, widths):
    x = jax.random.normal(key, (6, 20), jnp.float32)
    z = x + distance * jax.random.normal(jax.random.fold_in(key, 1), (6, 20), jnp.float32)
    for kernel in KERNELS.values():
        kernel = kernel(kg.models.homogeneous_mlp(widths, parameterization="ntk"))
        single = np.float64(kernel(x, z))
        with x64(True):
            double = np.asarray(kernel(np.float64(x), np.float64(z)))
        assert np.max(np.abs(single - double) / np.abs(double)) < 5e-4 * len(widths)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("widths", [(), (3,), (3, 3)])
@pytest.mark.parametrize("kernel", [kg.kernels.ntk, kg.kernels.nngp])
def test_finite_values_and_derivatives_at_the_edges(name, widths, kernel):
    """Equal, opposite, orthogonal, zero and nearly equal inputs."""
    kernel = kernel(kg.models.homogeneous_mlp(widths, activation=ACTIVATIONS[name]))
    a = jnp.array([1.0, 2.0, -2.0])
    # Powers of powers of smaller numbers leave the range of any dtype.
    tiny = 1e-20 if kernel.spec.activation.power == 1 else 0.1
    edges = jnp.stack(
        [a, a, -a, 0 * a, tiny * a, a * (1 + 3e-7), jnp.array([2.0, -1.0, 0.0]), 3 * a]
    )

    def total(x, z=None):
        return jnp.sum(kernel(x, z))

    for arguments in ((edges,), (edges, edges)):
        assert np.isfinite(kernel(*arguments)).all()
        assert np.isfinite(jax.grad(total)(*arguments)).all()
        assert np.isfinite(jax.jvp(jax.grad(total), arguments, arguments)[1]).all()
    assert float(kernel(edges)[3, 3]) == 0


@jax.jit
def _entry(kernel, a, z):
    return kernel(a[None], z)[0, 0]


_slope, _curvature = (jax.jit(f(_entry, argnums=1)) for f in (jax.grad, jax.hessian))


@given(keys, st.sampled_from([(3,), (3, 3)]))
def test_gradient_is_the_difference_quotient(key, widths):
    with x64(True):
        kernel = kg.kernels.ntk(kg.models.homogeneous_mlp(widths))
        # Signs: orthogonal pairs are common, where |cosine| has its kink.
        x = jax.random.rademacher(key, (2, 4), jnp.float64)
        x = x.at[0, 0].set(0.3)
        step = 1e-6 * jax.random.normal(jax.random.fold_in(key, 1), (4,))
        gradient = _slope(kernel, x[0], x[1:])
        ahead, behind = (_entry(kernel, x[0] + s * step, x[1:]) for s in (1, -1))
        np.testing.assert_allclose(gradient @ step, (ahead - behind) / 2, rtol=1e-4, atol=1e-12)
        curvature = _curvature(kernel, x[0], x[1:])
        ahead, behind = (_slope(kernel, x[0] + s * step, x[1:]) for s in (1, -1))
        change = (ahead - behind) / 2
        np.testing.assert_allclose(curvature @ step, change, rtol=1e-3, atol=1e-11)


def test_gradients_in_single_precision_match_double():
    kernel = kg.kernels.ntk(shallow)
    x, z = (kg.datasets.xor_noise(jax.random.key(s), 20, 6, dtype=jnp.float32).x for s in (0, 1))

    def gradient(x, z):
        return jax.grad(lambda a: jnp.sum(jnp.tanh(kernel(a, z))))(x)

    single = np.asarray(gradient(x, z))
    with x64(True):
        double = np.asarray(gradient(np.float64(x), np.float64(z)))
    np.testing.assert_allclose(single, double, atol=1e-4 * np.abs(double).max())


def test_kernel_is_a_pytree_and_a_cache_key():
    x = _inputs(key, 5)
    a, b = (kg.kernels.ntk(kg.models.homogeneous_mlp((7,))) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    assert a != kg.kernels.ntk(kg.models.homogeneous_mlp((8,)))
    traces = []

    @jax.jit
    def gram(kernel, x):
        traces.append(1)
        return kernel(x)

    assert_close(gram(a, x), a(x))
    gram(b, x)
    assert len(traces) == 1
    batched = jax.vmap(a)(jnp.stack([x, 2 * x]))
    assert_close(batched[1], a(2 * x))


def test_get_follows_neural_tangents_order():
    x, z = _inputs(key, 4), _inputs(key, 3)
    kernel = kg.kernels.ntk(shallow)
    both = kernel(x, z, ("nngp", "ntk"))
    assert_close(both[0], kg.kernels.nngp(shallow)(x, z))
    assert_close(both[1], kernel(x, z, "ntk"))
    assert isinstance(kernel(x, None, ("ntk",)), tuple)


def test_outputs_do_not_change_the_kernel():
    x = _inputs(key, 3)
    three = kg.models.homogeneous_mlp((7,), parameterization="ntk", outputs=3)
    np.testing.assert_array_equal(kg.kernels.ntk(three)(x), kg.kernels.ntk(shallow)(x))


def test_dtype_follows_the_inputs():
    x = _inputs(key, 3)
    for engine in ("closed_form", "neural_tangents"):
        kernel = kg.kernels.ntk(shallow, engine=engine)
        assert kernel(x.astype(jnp.float32)).dtype == jnp.float32
    with x64(True):
        assert kernel(np.ones((2, 3))).dtype == jnp.float64


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: kg.kernels.ntk(None), TypeError, "`model` must be a Model"),
        (lambda: kg.kernels.ntk(shallow, engine="fast"), ValueError, "`engine` must be one of"),
        (lambda: kg.kernels.ntk(kg.models.homogeneous_mlp((3,), activation=kg.models.relu_power(1.5))),
         ValueError, "no closed form for activations of power 1.5; supported powers"),
        (lambda: kg.kernels.ntk(kg.models.homogeneous_mlp((3,), activation=kg.models.relu_power(2)),
                                engine="neural_tangents"), ValueError, "activations of power 1"),
        (lambda: kg.kernels.ntk(shallow)(jnp.ones(3)), ValueError, "`x1` must have shape \\(n, d\\)"),
        (lambda: kg.kernels.ntk(shallow)(jnp.ones((0, 3))), ValueError, "n, d >= 1; got \\(0, 3\\)"),
        (lambda: kg.kernels.ntk(shallow)(jnp.ones((2, 3)), jnp.ones((2, 4))), ValueError,
         "`x2` must have shape \\(n, 3\\); got \\(2, 4\\)"),
        (lambda: kg.kernels.ntk(shallow)(jnp.ones((2, 3), int)), TypeError, "floating-point array"),
        (lambda: kg.kernels.ntk(shallow)(jnp.ones((2, 3), complex)), TypeError, "floating-point"),
        (lambda: kg.kernels.ntk(shallow)(jnp.full((2, 3), jnp.nan)), ValueError, "`x1` must be finite"),
        (lambda: kg.kernels.ntk(shallow)(jnp.ones((2, 3)), None, "cov"), ValueError, "`get` must be"),
        (lambda: kg.kernels.ntk(shallow).diag(jnp.ones(3)), ValueError, "`x` must have shape"),
    ],
)  # fmt: skip
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()
