import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
from kernelgap.kernels import convert

D = 7
X1 = jax.random.normal(jax.random.key(0), (5, D))
X2 = jax.random.normal(jax.random.key(1), (3, D))
KINDS = ("ntk", "nngp")


def _net(depth, activation="relu", **options):
    options = {"parameterization": "ntk"} | options
    return kg.models.mlp((64,) * (depth - 1), activation=activation, **options)


def _stax(depth, activation, first, others, parameterization="ntk"):
    """The kernels of neural_tangents, with W_std of the first layer and of the others."""
    stax = kg.kernels.neural_tangents.load().stax
    layers = [stax.Dense(64, W_std=first, parameterization=parameterization)]
    for layer in range(1, depth):
        layers += [activation(stax), stax.Dense(1 if layer == depth - 1 else 64, W_std=others,
                                                parameterization=parameterization)]  # fmt: skip
    kernel_fn = stax.serial(*layers)[2]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return kernel_fn(X1, X2, KINDS)


def _agree(model, theirs, convention):
    ours = kg.kernels.ntk(model)(X1, X2, KINDS)
    converted = convert(kg.kernels.ntk(model), convention)(X1, X2, KINDS)
    for kind, mine, wrapped, expected in zip(KINDS, ours, converted, theirs, strict=True):
        factor = convert(kg.kernels.ntk(model), convention).spec.factor(D, get=kind)
        np.testing.assert_allclose(factor * mine, expected, rtol=3e-5, atol=1e-5)
        np.testing.assert_allclose(wrapped, factor * mine, rtol=1e-6)


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_neural_tangents(activation, parameterization):
    c = 1.3
    layer = {"relu": lambda stax: stax.Relu(), "erf": lambda stax: stax.Erf()}[activation]
    model = _net(3, activation, init_scale=c, parameterization=parameterization)
    _agree(model, _stax(3, layer, c, c, parameterization), "neural_tangents")


@pytest.mark.parametrize("slope", [0.0, 0.3])
@given(depth=st.integers(2, 4), init_scale=st.sampled_from([0.5, 1.0, 2.0]))
def test_arora(slope, depth, init_scale):
    """Their layers in neural_tangents: W_std = sqrt(d), then sqrt(c_phi)."""
    c_phi = 2 / (1 + slope**2)
    theirs = _stax(depth, lambda stax: stax.LeakyRelu(slope), D**0.5, c_phi**0.5)
    model = _net(depth, kg.models.leaky_relu(slope), init_scale=init_scale)
    _agree(model, theirs, "arora")


def _ntk_relu(x, z, depth):
    """The recursion of EigenPro's function of that name."""
    norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(z, axis=1)
    nngp = x @ z.T
    ntk = nngp
    for _ in range(1, depth):
        u = np.clip(nngp / norms, -1, 1)
        kappa = 1 - np.arccos(u) / np.pi
        nngp = norms * (u * kappa + np.sqrt(1 - u**2) / np.pi)
        ntk = ntk * kappa + nngp
    return ntk, nngp


@given(depth=st.integers(1, 5))
def test_eigenpro(depth):
    theirs = _ntk_relu(np.asarray(X1, np.float64), np.asarray(X2, np.float64), depth)
    _agree(_net(depth, init_scale=0.7), theirs, "eigenpro")


@pytest.mark.parametrize("depth", [2, 3])
def test_arora_of_any_power(depth):
    """Forward passes of the same weights differ by the root of the factor of the NNGP."""
    phi = kg.models.Activation(1.0, 0.5, 2.0)
    moment = 0.5 * (1 + 0.25) * 3  # E g^4 = 3
    model = _net(depth, phi)
    params = model.init(jax.random.key(2), D)
    h = X1 @ params[0].T
    for weights in params[1:]:
        h = (1 / (moment * h.shape[1])) ** 0.5 * phi(h) @ weights.T
    ratio = (h / model.apply(params, X1)) ** 2
    for kind in KINDS:
        np.testing.assert_allclose(
            ratio, convert(kg.kernels.ntk(model), "arora").spec.factor(D, get=kind), rtol=1e-4
        )
    # Weights c times as large have outputs c^a and gradients c^(a - 1) times as large.
    large = _net(depth, phi, init_scale=1.5)
    for kind, exponent in zip(KINDS, (2 * model.degree - 2, 2 * model.degree), strict=True):
        shrunk = convert(kg.kernels.ntk(large), "arora").spec.factor(D, get=kind)
        assert shrunk * 1.5**exponent == pytest.approx(float(ratio[0]), rel=1e-4)


def test_a_converted_kernel_is_a_kernel():
    model = _net(3)
    kernel = convert(kg.kernels.nngp(model), "arora")
    assert kernel == convert(kg.kernels.nngp(model), "arora")
    assert "arora" in repr(kernel)
    np.testing.assert_allclose(kernel.diag(X1), jnp.sum(X1**2, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(jnp.diag(kernel(X1)), kernel.diag(X1))
    compiled = jax.jit(lambda k, x: k(x))(kernel, X1)
    np.testing.assert_allclose(compiled, kernel(X1), rtol=1e-6)
    values = [kg.kernels.zonal_spectrum(k, D, degree=2).values
              for k in (kernel, kg.kernels.nngp(model))]  # fmt: skip
    np.testing.assert_allclose(values[0], values[1] * 4 * D, rtol=1e-4)


def test_refuses():
    relu = _net(2)
    arora = convert(kg.kernels.ntk(relu), "arora").spec
    with pytest.raises(ValueError, match="`convention` must be one of"):
        convert(kg.kernels.ntk(relu), "lee")
    with pytest.raises(ValueError, match="`get` must be one of"):
        arora.factor(D, get="both")
    with pytest.raises(ValueError, match="`d` must be an integer >= 1"):
        arora.factor(0)
    for net, convention, message in [
        (_net(2, parameterization="standard"), "arora", "parameterization 'ntk' for"),
        (_net(2, parameterization="mean_field"), "neural_tangents", "'ntk' or 'standard'"),
        (_net(2, "erf"), "arora", "homogeneous activation"),
        (_net(2, "abs"), "eigenpro", "is for ReLU"),
    ]:
        with pytest.raises(ValueError, match=message):
            convert(kg.kernels.ntk(net), convention)
    with pytest.raises(TypeError, match=r"must be a Kernel of kernels\.ntk or kernels\.nngp"):
        convert(kg.diversity.diversity_kernel(), "arora")
    with pytest.raises(TypeError, match=r"must be a Kernel of"):
        convert(jnp.dot, "arora")
