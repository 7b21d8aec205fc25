import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import kernelgap as kg
from helpers import ACTIVATIONS, PARAMETERIZATIONS, assert_close, keys, models
from kernelgap.testing import assert_homogeneous

key = jax.random.key(0)


@given(models, keys)
def test_homogeneous_of_its_degree(model, key):
    x = jax.random.normal(jax.random.fold_in(key, 1), (7, 3))
    # The rounding error of a scaled weight is amplified by the degree, up to 13 here.
    assert_homogeneous(model.apply, model.init(key, 3), x, degree=model.degree)


@pytest.mark.parametrize(
    ("widths", "activation", "degree"),
    [((), "relu", 1), ((3,), "relu", 2), ((3, 3, 3), "abs", 4), ((3, 3), kg.models.relu_power(2), 7),
     ((3,), kg.models.relu_power(1.5), 2.5), ((3, 3), "leaky_relu", 3)],
)  # fmt: skip
def test_degree(widths, activation, degree):
    for parameterization in PARAMETERIZATIONS:
        model = kg.models.homogeneous_mlp(
            widths, activation=activation, parameterization=parameterization
        )
        assert model.degree == degree


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activation_formula_and_finite_derivatives_at_zero(name):
    phi = ACTIVATIONS[name]
    if isinstance(phi, str):
        phi = kg.models.homogeneous_mlp((1,), activation=phi).spec.activation
    z = np.array([-2.0, -0.5, 0.0, 0.5, 3.0])
    expected = phi.positive * np.maximum(z, 0) ** phi.power
    expected += phi.negative * np.maximum(-z, 0) ** phi.power
    assert_close(phi(jnp.asarray(z)), expected)
    assert float(jax.grad(lambda t: phi(t))(0.0)) == 0
    assert np.isfinite(jax.grad(jax.grad(lambda t: phi(t)))(0.0))


def test_named_activations_are_the_usual_ones():
    z = jnp.linspace(-3, 3, 101)
    for name, usual in (("relu", jax.nn.relu), ("leaky_relu", jax.nn.leaky_relu), ("abs", jnp.abs)):
        phi = kg.models.homogeneous_mlp((1,), activation=name).spec.activation
        assert_close(phi(z), usual(z))


@pytest.mark.parametrize("outputs", [None, 1, 3])
@pytest.mark.parametrize("widths", [(), (4,), (4, 5)])
def test_shapes(widths, outputs):
    model = kg.models.homogeneous_mlp(widths, outputs=outputs)
    params = model.init(key, 6)
    x = jnp.ones((9, 6))
    assert model.apply(params, x).shape == ((9,) if outputs is None else (9, outputs))
    assert len(params) == len(widths) + 1
    assert all(w.dtype == x.dtype for w in params)
    assert jax.vmap(model.apply, in_axes=(None, 0))(params, x[None]).shape[0] == 1


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_initial_weights_have_the_documented_law(parameterization):
    d, width, c = 40, 500, 1.5
    model = kg.models.homogeneous_mlp(
        (width,), parameterization=parameterization, outputs=30, init_scale=c
    )
    hidden, readout = model.init(key, d)
    stds = {"standard": (d**-0.5, width**-0.5), "ntk": (1, 1), "mean_field": (d**-0.5, 1),
            "mup": ((d * width) ** -0.5, width**-0.5)}  # fmt: skip
    for weights, std in zip((hidden, readout), stds[parameterization], strict=True):
        # The standard deviation of n samples deviates by 1 / sqrt(2n), relatively; six of them.
        assert abs(float(weights.std()) / (c * std) - 1) < 6 / (2 * weights.size) ** 0.5
        assert abs(float(weights.mean())) < 6 * c * std / weights.size**0.5


@pytest.mark.parametrize("outputs", [None, 2])
def test_parameterizations_are_the_same_functions(outputs):
    """Weights rescaled by the forward factors give the same outputs."""
    d, widths = 3, (5, 4)
    x = jax.random.normal(key, (6, d))
    standard = kg.models.homogeneous_mlp(widths, outputs=outputs)
    for parameterization in PARAMETERIZATIONS:
        model = kg.models.homogeneous_mlp(
            widths, parameterization=parameterization, outputs=outputs
        )
        params = model.init(key, d)
        factors = {"standard": (1, 1, 1), "ntk": (d**-0.5, 5**-0.5, 4**-0.5),
                   "mean_field": (1, 1 / 5, 1 / 4),
                   "mup": (5**0.5, (4 / 5) ** 0.5, 4**-0.5)}[parameterization]  # fmt: skip
        effective = tuple(s * w for s, w in zip(factors, params, strict=True))
        assert_close(model.apply(params, x), standard.apply(effective, x))


@pytest.mark.parametrize("outputs", [None, 2])
def test_neurons_pack_and_unpack(outputs):
    model = kg.models.homogeneous_mlp((5,), outputs=outputs)
    params = model.init(key, 3)
    packed = model.neurons.pack(params)
    assert packed.shape == (5, 3 + (outputs or 1))
    jax.tree.map(np.testing.assert_array_equal, model.neurons.unpack(packed), params)
    assert kg.models.homogeneous_mlp((5, 5)).neurons is None


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("activation", ["relu", kg.models.relu_power(2)])
def test_neuron_radius_makes_the_output_a_mean_over_unit_neurons(parameterization, activation):
    model = kg.models.homogeneous_mlp(
        (6,), activation=activation, parameterization=parameterization
    )
    params = model.init(key, 3)
    x = jax.random.normal(key, (4, 3))
    theta = model.neurons.pack(params) / model.neurons.radius(params)
    phi = model.spec.activation
    mean = phi(x @ theta[:, 1:].T) @ theta[:, 0] / 6
    assert_close(mean, model.apply(params, x))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"widths": 5}, TypeError, "`widths` must be a sequence"),
        ({"widths": "55"}, TypeError, "`widths` must be a sequence"),
        ({"widths": (0,)}, ValueError, "`widths` must be an integer >= 1; got 0"),
        ({"widths": (1.5,)}, TypeError, "`widths` must be an integer"),
        ({"activation": "gelu"}, ValueError, "`activation` must be one of 'relu'"),
        ({"parameterization": "mu"}, ValueError, "`parameterization` must be one of"),
        ({"outputs": 0}, ValueError, "`outputs` must be an integer >= 1"),
        ({"init_scale": 0}, ValueError, "`init_scale` must be a finite number > 0"),
        ({"init_scale": float("nan")}, ValueError, "`init_scale`"),
    ],
)
def test_refuses(options, error, match):
    with pytest.raises(error, match=match):
        kg.models.homogeneous_mlp(**({"widths": (3,)} | options))


def test_activations_refuse():
    with pytest.raises(ValueError, match="`power` must be a finite number >= 1"):
        kg.models.relu_power(0.5)
    with pytest.raises(TypeError, match="`slope`"):
        kg.models.leaky_relu("steep")


def test_init_and_apply_refuse():
    model = kg.models.homogeneous_mlp((3,))
    with pytest.raises(TypeError, match="JAX random key"):
        model.init(0, 4)
    with pytest.raises(ValueError, match="`d` must be an integer >= 1"):
        model.init(key, 0)
    params = model.init(key, 4)
    with pytest.raises(ValueError, match=r"`x` must have shape \(n, d\) with d >= 1; got \(4,\)"):
        model.apply(params, jnp.ones(4))
    with pytest.raises(ValueError, match=r"inputs with d = 5; got \[\(3, 4\), \(3,\)\]"):
        model.apply(params, jnp.ones((2, 5)))
