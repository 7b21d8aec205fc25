"""NTK, NNGP and empirical NTK of nets with smooth activations."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
from helpers import PARAMETERIZATIONS, SMOOTH, assert_close, keys, slow_but, x64

pytestmark = pytest.mark.slow

key = jax.random.key(0)
mlp, SmoothActivation = kg.models.mlp, kg.models.SmoothActivation
KERNELS = {"ntk": kg.kernels.ntk, "nngp": kg.kernels.nngp}
networks = st.builds(
    mlp,
    st.sampled_from([(), (6,), (5, 4)]),
    activation=st.sampled_from(sorted(SMOOTH)).map(SMOOTH.get),
    parameterization=st.sampled_from(PARAMETERIZATIONS),
    init_scale=st.sampled_from([1.0, 1.3]),
)
which = st.sampled_from(sorted(KERNELS)).map(KERNELS.get)


def _inputs(key, n, d=3):
    return jax.random.normal(key, (n, d))


@given(networks, which, keys)
def test_symmetric_positive_semidefinite_and_consistent(model, kernel, key):
    x = _inputs(key, 7)
    kernel = kernel(model)
    gram = np.asarray(kernel(x))
    size = gram.diagonal().max()
    np.testing.assert_allclose(gram, gram.T, rtol=0, atol=10 * np.finfo(gram.dtype).eps * size)
    values = np.linalg.eigvalsh(np.float64(gram))
    assert values[0] >= -100 * np.finfo(gram.dtype).eps * values[-1]
    assert_close(kernel.diag(x), np.diag(gram))
    assert_close(kernel(x, x), gram, factor=1000)
    assert_close(kernel(x[:2], x[2:]), gram[:2, 2:], scale=size)


@given(networks, which, keys)
def test_rotation_invariance(model, kernel, key):
    x, z = _inputs(key, 4), _inputs(jax.random.fold_in(key, 1), 3)
    rotation = jnp.linalg.qr(_inputs(jax.random.fold_in(key, 2), 3))[0]
    rotated = [jnp.matmul(a, rotation, precision="highest") for a in (x, z)]
    assert_close(kernel(model)(*rotated), kernel(model)(x, z), factor=1000)


@pytest.mark.parametrize("activation", ["gelu", "erf", SmoothActivation("erf", 0.3)], ids=str)
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS[:3])
@pytest.mark.parametrize("widths", [(), (7,), (5, 4, 3)])
def test_closed_form_is_neural_tangents(activation, parameterization, widths):
    with x64(True):
        model = mlp(
            widths,
            activation=activation,
            parameterization=parameterization,
            init_scale=1.0 if parameterization == "mean_field" else 1.3,
        )
        x, z = _inputs(jax.random.key(1), 6, 4), _inputs(jax.random.key(2), 5, 4)
        for kernel in KERNELS.values():
            ours, theirs = kernel(model), kernel(model, engine="neural_tangents")
            np.testing.assert_allclose(ours(x, z), theirs(x, z), rtol=1e-10)
            np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-10)
            np.testing.assert_allclose(ours.diag(x), theirs.diag(x), rtol=1e-10)


@pytest.mark.parametrize("name", sorted(SMOOTH))
@pytest.mark.parametrize("parameterization", slow_but(PARAMETERIZATIONS, PARAMETERIZATIONS[:3]))
def test_two_layers_are_the_mean_of_finite_nets(name, parameterization):
    """For two layers the kernels are expectations at any width, exactly."""
    model = mlp((8,), activation=SMOOTH[name], parameterization=parameterization, init_scale=0.8)
    x = _inputs(key, 4)

    def finite(key):
        params = model.init(key, 3)
        outputs = model.apply(params, x)
        return kg.kernels.empirical_ntk(model, params)(x), jnp.outer(outputs, outputs)

    samples = jax.jit(jax.vmap(finite))(jax.random.split(key, 20_000))
    for found, kernel in zip(samples, (kg.kernels.ntk, kg.kernels.nngp), strict=True):
        found = np.float64(found)
        error = found.std(axis=0) / len(found) ** 0.5
        np.testing.assert_array_less(np.abs(found.mean(axis=0) - kernel(model)(x)), 6 * error)


@pytest.mark.parametrize(
    ("name", "parameterization"),
    [("gelu", "ntk"), ("tanh", "standard"), ("erf", "ntk"), ("silu", "mean_field")],
)
def test_wide_nets_tend_to_the_kernels(name, parameterization):
    """Three layers: the spread falls as width^-1/2, the bias at least as 1 / width."""
    x, nets = _inputs(key, 3), 200
    spreads = []
    for width in (16, 64, 256):
        model = mlp((width, width), activation=SMOOTH[name], parameterization=parameterization)

        def finite(key, model=model):
            params = model.init(key, 3)
            outputs = model.apply(params, x)
            return kg.kernels.empirical_ntk(model, params)(x), jnp.outer(outputs, outputs)

        samples = jax.lax.map(finite, jax.random.split(key, nets), batch_size=25)
        ntks, products = (np.float64(s) for s in samples)
        for found, kernel in ((ntks, kg.kernels.ntk), (products, kg.kernels.nngp)):
            limit = np.asarray(kernel(model)(x))
            error = 6 * found.std(axis=0) / nets**0.5 + 4 / width * np.abs(limit).max()
            np.testing.assert_array_less(np.abs(found.mean(axis=0) - limit), error)
        limit = np.asarray(kg.kernels.ntk(model)(x))
        spreads.append(np.linalg.norm(ntks.std(axis=0)) / np.linalg.norm(limit))
    for before, after in pairwise(spreads):
        assert 1.4 < before / after < 2.8  # 2, of estimates from 200 nets


@given(keys, st.sampled_from(["gelu", "silu", "gated"]))
def test_large_inputs_make_a_gated_unit_a_relu(key, name):
    """gelu(t z) / t -> relu(z), with an error of order 1 / t^2 in the mean."""
    x = _inputs(key, 5)
    relu = kg.models.homogeneous_mlp((6, 5), parameterization="ntk")
    smooth = mlp((6, 5), activation=SMOOTH[name], parameterization="ntk")
    with x64(True):
        x = np.float64(x)
        expected = np.asarray(kg.kernels.nngp(relu)(x))
        errors = [
            np.max(np.abs(kg.kernels.nngp(smooth)(t * x) / t**2 - expected)) / expected.max()
            for t in (1e2, 1e3)
        ]
    assert errors[1] < 1e-3
    assert errors[1] < errors[0] / 5


def test_the_scale_of_a_sigmoid_is_that_of_its_inputs():
    x = _inputs(key, 5)
    for sigmoid in ("tanh", "erf"):
        here, there = (
            kg.kernels.nngp(mlp((6,), activation=SmoothActivation(sigmoid, s))) for s in (1.0, 0.3)
        )
        assert_close(there(0.3 * x), here(x))


@pytest.mark.parametrize("name", ["gelu", "tanh", "erf"])
def test_finite_values_and_derivatives_at_the_edges(name):
    """Equal, opposite, orthogonal, zero, tiny, huge and nearly equal inputs."""
    a = jnp.array([1.0, 2.0, -2.0])
    edges = jnp.stack([a, a, -a, 0 * a, 1e-20 * a, 1e3 * a, a * (1 + 3e-7), a[::-1]])
    kernel = kg.kernels.ntk(mlp((3, 3), activation=SMOOTH[name]))

    def total(x, z=None):
        return jnp.sum(kernel(x, z))

    for arguments in ((edges,), (edges, edges)):
        assert np.isfinite(kernel(*arguments)).all()
        gradient, second = jax.jit(lambda *a: jax.jvp(jax.grad(total), a, a))(*arguments)
        assert np.isfinite(gradient).all()
        assert np.isfinite(second).all()
    assert (kernel(edges)[3] == 0).all()


@jax.jit
def _along(kernel, x, z, step):
    """The derivative of kernel(x, z) along steps of x, and of z too where it is None."""
    return jax.jvp(lambda a: kernel(a, z), (x,), (step,))[1]


@given(keys, st.sampled_from(["gelu", "tanh"]))
def test_gradient_is_the_difference_quotient(key, name):
    with x64(True):
        kernel = kg.kernels.ntk(mlp((3, 3), activation=name))
        x = jax.random.normal(key, (3, 4), jnp.float64)
        x = x.at[2].set(x[0])  # equal inputs, each moving by itself
        step = 1e-5 * jax.random.normal(jax.random.fold_in(key, 1), (4,))
        for a, z in ((x[:1], x[1:]), (x, None)):
            change = _along(kernel, a, z, jnp.broadcast_to(step, a.shape))
            ahead, behind = (kernel(a + s * step[None], z) for s in (1, -1))
            np.testing.assert_allclose(change, (ahead - behind) / 2, rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("name", ["gelu", "tanh", "erf", "silu"])
def test_stated_bound_in_float32(name):
    """1e-6 (2 + v) of the diagonal, for near and for distant inputs."""
    phi = mlp((1,), activation=name).spec.activation
    for size in (0.1, 1.0, 10.0):
        kernel = kg.kernels.ntk(mlp((3, 3, 3), activation=name, parameterization="ntk"))
        x = size * jax.random.normal(key, (60, 20), jnp.float32)
        near = x + 1e-3 * size * jax.random.normal(jax.random.key(1), x.shape, jnp.float32)
        z = jnp.concatenate([near, -x[:5], x[:5]])
        single = np.float64(kernel(x, z))
        with x64(True):
            wide = np.float64(x), np.float64(z)
            double = np.asarray(kernel(*wide))
            diagonals = np.sqrt(np.outer(*(kernel.diag(a) for a in wide)))
        variance = float(jnp.max(jnp.sum(x**2, axis=1))) / 20 / phi.scale**2
        assert np.max(np.abs(single - double) / diagonals) < 1e-6 * (2 + variance)


GRID = [
    ((), "gelu", "mean_field", 3),
    ((7,), "tanh", "standard", None),
    ((7,), "gated", "ntk", 1),
    ((5, 4), "gelu", "ntk", None),
    ((5, 4), "erf", "mean_field", 3),
    ((4, 3, 5), "silu", "standard", 1),
    ((4, 3, 5), "steep", "ntk", 3),
]


@pytest.mark.parametrize(("widths", "name", "parameterization", "outputs"), GRID)
def test_empirical_kernel_is_the_product_of_jacobians(widths, name, parameterization, outputs):
    with x64(True):
        model = mlp(
            widths, activation=SMOOTH[name], parameterization=parameterization,
            outputs=outputs, init_scale=1.3,
        )  # fmt: skip
        params = model.init(jax.random.key(1), 3)
        x, z = _inputs(jax.random.key(2), 6), _inputs(jax.random.key(3), 4)

        @partial(jax.jit, static_argnums=0)
        def jacobian(apply, x):
            leaves = jax.jacobian(lambda p: apply(p, x).reshape(len(x), -1))(params)
            return jnp.concatenate([j.reshape(*j.shape[:2], -1) for j in leaves], axis=-1)

        expected = jnp.einsum("iap,jbp->ijab", jacobian(model.apply, x), jacobian(model.apply, z))
        expected = np.asarray(expected[..., 0, 0] if outputs is None else expected)
        scale = np.abs(expected).max()
        routes = [kg.kernels.empirical_ntk(f, params) for f in (model, model.apply)]
        assert routes[0].ndim == 2  # by layers
        assert routes[1].ndim is None  # by Jacobians
        for kernel in routes:
            assert kernel(x, z).dtype == jnp.float64
            np.testing.assert_allclose(kernel(x, z), expected, rtol=1e-10, atol=1e-10 * scale)
        np.testing.assert_allclose(routes[0](x), routes[1](x), rtol=1e-10, atol=1e-10 * scale)
        np.testing.assert_allclose(
            routes[0].diag(x), routes[1].diag(x), rtol=1e-10, atol=1e-10 * scale
        )


@pytest.mark.parametrize("name", ["gelu", "tanh"])
def test_spectrum_on_the_sphere(name):
    """Smooth kernels are taken from a circle; those of odd activations are odd."""
    with x64(True):
        kernel = kg.kernels.ntk(mlp((9,), activation=name, parameterization="ntk"))
        found = kg.kernels.zonal_spectrum(kernel, 4, degree=30, radius=1.0)
        total = float(kernel.diag(jnp.array([[1.0, 0, 0, 0]]))[0])
    np.testing.assert_allclose(np.sum(found.shares), total, rtol=1e-6)
    if name == "tanh":
        assert np.max(np.abs(found.values[::2])) < 1e-10


def test_engines_dtypes_and_identity():
    x = _inputs(key, 3)
    model = mlp((7,), activation="gelu", parameterization="ntk")
    kernel = kg.kernels.ntk(model)
    assert kernel == kg.kernels.ntk(model, engine="closed_form")
    assert kernel == kg.kernels.ntk(mlp((7,), activation="gelu", parameterization="ntk", outputs=3))
    assert kernel != kg.kernels.ntk(mlp((7,), activation="silu", parameterization="ntk"))
    for engine in ("closed_form", "neural_tangents"):
        found = kg.kernels.ntk(model, engine=engine)(x.astype(jnp.float32))
        assert found.dtype == jnp.float32
    both = kernel(x, None, ("nngp", "ntk"))
    assert_close(both[0], kg.kernels.nngp(model)(x))
    assert_close(jax.vmap(kernel)(x[None])[0], kernel(x))
    linear = kg.kernels.ntk(mlp((), activation="tanh"), engine="neural_tangents")
    assert_close(linear(x), kg.kernels.ntk(kg.models.homogeneous_mlp(()))(x))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"activation": "tanh"}, "'gelu' and 'erf'; got SmoothActivation.*engine='closed_form'"),
        ({"activation": "silu"}, "evaluates 'relu', 'leaky_relu', 'abs', 'gelu' and 'erf'"),
        ({"activation": SMOOTH["gated"]}, "'gelu' and 'erf'; got SmoothActivation"),
        ({"activation": "gelu", "parameterization": "mean_field", "init_scale": 2.0},
         "mean_field models for init_scale=1; got 2"),
        ({"activation": "gelu", "parameterization": "mup"}, "this one is 'mup'"),
    ],
)  # fmt: skip
def test_engine_refuses(options, match):
    model = mlp((3,), **options)
    for kernel in KERNELS.values():
        with pytest.raises(ValueError, match=match):
            kernel(model, engine="neural_tangents")
        assert kernel(model)(jnp.ones((2, 3))).shape == (2, 2)
