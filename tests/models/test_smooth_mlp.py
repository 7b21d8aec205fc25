"""`models.mlp`, and how what needs homogeneity refuses its smooth nets."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, strategies as st
from scipy import special

import kernelgap as kg
from helpers import ACTIVATIONS, PARAMETERIZATIONS, SMOOTH, assert_close, keys, smooth_models, x64

key = jax.random.key(0)
mlp, SmoothActivation = kg.models.mlp, kg.models.SmoothActivation
USUAL = {
    "gelu": lambda z: z * special.ndtr(z),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "erf": special.erf,
    "steep": lambda z: np.tanh(z / 0.4),
    "gated": lambda z: z * special.ndtr(z * 2**0.5 / 0.7),
}


def _phi(name):
    return mlp((1,), activation=SMOOTH[name]).spec.activation


@pytest.mark.parametrize("name", sorted(SMOOTH))
def test_activations_to_relative_precision(name):
    """Also deep in the negative tail, where 1 + s(z) has no digits left."""
    z = np.linspace(-8, 8, 201)
    with x64(True):
        np.testing.assert_allclose(_phi(name)(jnp.asarray(z)), USUAL[name](z), rtol=1e-12)
    z = np.float32(z)
    found = np.asarray(_phi(name)(jnp.asarray(z)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, USUAL[name](np.float64(z)), rtol=5e-5, atol=1e-36)


def test_gelu_is_the_exact_one():
    z = jnp.linspace(-4, 4, 101)
    assert_close(_phi("gelu")(z), jax.nn.gelu(z, approximate=False))
    assert float(jnp.max(jnp.abs(_phi("gelu")(z) - jax.nn.gelu(z, approximate=True)))) > 1e-4


@pytest.mark.parametrize("name", sorted(SMOOTH))
def test_derivatives_are_difference_quotients(name):
    with x64(True):
        z, h = jnp.linspace(-5, 5, 41), 1e-5
        value = _phi(name)
        slope = jax.vmap(jax.grad(value))
        curvature = jax.vmap(jax.grad(jax.grad(value)))
        np.testing.assert_allclose(slope(z), (value(z + h) - value(z - h)) / (2 * h), atol=1e-8)
        np.testing.assert_allclose(curvature(z), (slope(z + h) - slope(z - h)) / (2 * h), atol=1e-7)


@given(smooth_models, keys)
def test_forward_pass_in_numpy(model, key):
    params = model.init(key, 3)
    x = jax.random.normal(jax.random.fold_in(key, 1), (7, 3))
    h, entering = np.float64(x), []
    for k, (w, layer) in enumerate(zip(params, model.spec.layers(3), strict=True)):
        if k:
            entering.append(h)
            phi = model.spec.activation
            s = np.tanh(h / phi.scale) if phi.sigmoid == "tanh" else special.erf(h / phi.scale)
            h = h * (1 + s) / 2 if phi.gated else s
        h = layer.scale * h @ np.float64(w).T
    assert_close(model.apply(params, x), h.astype(x.dtype))
    found = kg.models.preactivations(model, params, x)
    assert len(found) == len(entering)
    for ours, exact in zip(found, entering, strict=True):
        assert_close(ours, exact.astype(x.dtype))


@given(smooth_models, keys)
def test_parameters_are_those_of_homogeneous_mlp(model, key):
    """The activation has no part in them: studies change it at the same start."""
    widths, _, *rest = model.spec
    names = ("parameterization", "outputs", "init_scale")
    other = kg.models.homogeneous_mlp(widths, **dict(zip(names, rest, strict=True)))
    jax.tree.map(np.testing.assert_array_equal, model.init(key, 3), other.init(key, 3))
    assert model.degree is None
    assert model.neurons is None


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_homogeneous_activations_give_homogeneous_models(name, parameterization):
    options = {"activation": ACTIVATIONS[name], "parameterization": parameterization, "outputs": 2}
    model, other = mlp((5, 4), **options), kg.models.homogeneous_mlp((5, 4), **options)
    assert model.spec == other.spec
    assert model.degree == other.degree
    params, x = model.init(key, 3), jnp.ones((4, 3))
    np.testing.assert_array_equal(model.apply(params, x), other.apply(params, x))
    assert mlp((5,), activation=ACTIVATIONS[name]).neurons is not None


def test_equal_descriptions_are_equal():
    assert (
        mlp((3,), activation="gelu").spec
        == mlp((3,), activation=SmoothActivation("erf", 2**0.5, gated=True)).spec
    )
    one = mlp((3,), activation=SmoothActivation("tanh", np.float32(1)))
    assert hash(one.spec) == hash(mlp((3,), activation="tanh").spec)
    assert mlp((3,)).spec == mlp((3,), activation="gelu").spec


@given(st.sampled_from(sorted(SMOOTH)), keys)
def test_half_precision(name, key):
    model = mlp((5, 4), activation=SMOOTH[name])
    params = model.init(key, 3, jnp.float16)
    assert model.apply(params, jnp.ones((2, 3), jnp.float16)).dtype == jnp.float16


SMOOTH_NET = mlp((4,), activation="tanh")
PARAMS = SMOOTH_NET.init(key, 2)
X, Y = jnp.array([[1.0, 0.5], [-1.0, 2.0]]), jnp.array([1.0, -1.0])
NOT = "must be positively homogeneous.*homogeneous_mlp.*smooth activation.*tanh"


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: kg.metrics.normalized_margin(SMOOTH_NET, PARAMS, X, Y), ValueError, NOT),
        (lambda: kg.metrics.normalized_margin(SMOOTH_NET, PARAMS, X, Y, norm="balanced"), ValueError, NOT),
        (lambda: kg.metrics.normalized_margin(SMOOTH_NET, PARAMS, X, Y, norm="layer_product", smooth=True),
         ValueError, NOT),
        (lambda: kg.margins.regularization_path(SMOOTH_NET, PARAMS, X, Y, l2s=[1e-2]), ValueError, NOT),
        (lambda: kg.margins.kkt_residuals(SMOOTH_NET, PARAMS, X, Y), ValueError, NOT),
        (lambda: kg.margins.kkt_residuals(SMOOTH_NET, PARAMS, X, Y, multipliers="exponential"), ValueError, NOT),
        (lambda: kg.margins.kkt_residuals(SMOOTH_NET, PARAMS, X, Y, kinks=0.1), ValueError, NOT),
        (lambda: kg.margins.duality_gap(SMOOTH_NET, PARAMS, X, Y, l2=0.1), ValueError,
         "`model` must be a two-layer ReLU network.*tanh"),
        (lambda: kg.optim.noisy_gd(0.1, resample_rate=0.1, neurons=SMOOTH_NET.neurons, key=key), ValueError,
         "defined for homogeneous nets of two layers only.; got neurons=None"),
        (lambda: mlp((3,), activation="softplus"), ValueError, "`activation` must be one of 'gelu', 'silu'"),
        (lambda: mlp((3,), activation=jnp.tanh), TypeError, "`activation` .* or a models.SmoothActiv"),
        (lambda: mlp((3,), activation=SmoothActivation("relu")), ValueError,
         "`activation.sigmoid` must be one of 'erf', 'tanh'; got 'relu'"),
        (lambda: mlp((3,), activation=SmoothActivation("erf", 0.0)), ValueError,
         "`activation.scale` must be a finite number > 0; got 0"),
        (lambda: mlp((3,), activation=SmoothActivation("erf", "wide")), TypeError, "`activation.scale`"),
        (lambda: mlp(3), TypeError, "`widths` must be a sequence"),
        (lambda: mlp((0,)), ValueError, "`widths` must be an integer >= 1; got 0"),
        (lambda: mlp((3,), parameterization="mu"), ValueError, "`parameterization` must be one of"),
        (lambda: mlp((3,), outputs=0), ValueError, "`outputs` must be an integer >= 1"),
        (lambda: mlp((3,), init_scale=0.0), ValueError, "`init_scale` must be a finite number > 0"),
        (lambda: kg.models.homogeneous_mlp((3,), activation="gelu"), ValueError,
         "`activation` must be one of 'relu', 'leaky_relu', 'abs' or .*'gelu', for which there is models.mlp"),
        (lambda: kg.models.homogeneous_mlp((3,), activation=SmoothActivation("tanh")), ValueError,
         "'abs' or a models.Activation; got SmoothActivation.*models.mlp"),
        (lambda: kg.models.preactivations(SMOOTH_NET, PARAMS, X[0]), ValueError, "`x` must have shape"),
    ],
)  # fmt: skip
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_what_needs_no_homogeneity_takes_them():
    def loss(params, x, y):
        return jnp.mean((SMOOTH_NET.apply(params, x) - y) ** 2) / 2

    trained = kg.optim.train(loss, PARAMS, (X, Y), optax.sgd(0.1), steps=3)
    change = kg.lazy.activation_change(SMOOTH_NET, PARAMS, trained.params, X)
    assert change.shape == (1,)
    regularized = kg.objectives.regularized_logistic(SMOOTH_NET.apply, l2=1e-3)
    assert np.isfinite(regularized(PARAMS, X, Y))
