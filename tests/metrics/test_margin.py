import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from scipy import optimize

import kernelgap as kg
from helpers import ACTIVATIONS, assert_close, keys, labels_for, models
from kernelgap.testing import assert_margin_invariant

key = jax.random.key(0)
NORMS = ("l2", "balanced", "mean_field", "layer_product")


def _defined(model, norm):
    two_layers = len(model.spec.widths) == 1
    return {"balanced": two_layers, "mean_field": two_layers and model.degree == 2}.get(norm, True)


def _problem(model, key, n=6):
    x = jax.random.normal(jax.random.fold_in(key, 1), (n, 3))
    return model.init(key, 3), x, labels_for(model, jax.random.fold_in(key, 2), n)


@given(models, keys, st.floats(0.3, 3), st.sampled_from(NORMS))
def test_scale_invariance(model, key, c, norm):
    if not _defined(model, norm):
        return
    params, x, y = _problem(model, key)
    # Cancellation in the outputs is relative to their size, not to that of the worst margin.
    size = jnp.max(jnp.abs(kg.metrics.output_margins(model.apply(params, x), y)))
    unit = kg.metrics.normalized_margin(model, params, x, y, norm=norm)
    raw = jnp.min(kg.metrics.output_margins(model.apply(params, x), y))
    assert_margin_invariant(
        lambda p: kg.metrics.normalized_margin(model, p, x, y, norm=norm),
        params,
        scales=(c,),
        scale=abs(float(unit / raw * size)) if raw != 0 else 1,
    )


@given(models, keys)
def test_formula_in_numpy(model, key):
    params, x, y = _problem(model, key)
    outputs = np.float64(model.apply(params, x))
    if outputs.ndim == 1:
        margins = np.float64(y) * outputs
    else:
        own = outputs[np.arange(6), np.asarray(y)]
        rivals = np.where(np.eye(3, dtype=bool)[np.asarray(y)], -np.inf, outputs).max(axis=1)
        margins = own - rivals
    norm = np.sqrt(sum(np.sum(np.float64(w) ** 2) for w in params))
    found = kg.metrics.normalized_margin(model, params, x, y)
    expected = margins.min() / norm**model.degree
    assert_close(found, expected, factor=500, scale=np.abs(margins).max() / norm**model.degree)


@given(models, keys, st.sampled_from(NORMS), st.floats(0.5, 20))
@example(kg.models.homogeneous_mlp((5, 4)), jax.random.key(281), "l2", 1.0)  # no unit is on
def test_smoothed_margin_brackets_the_margin(model, key, norm, c):
    if not _defined(model, norm):
        return
    params, x, y = _problem(model, key)
    params = jax.tree.map(lambda w: c ** (1 / model.degree) * w, params)
    hard = float(kg.metrics.normalized_margin(model, params, x, y, norm=norm))
    smooth = float(kg.metrics.normalized_margin(model, params, x, y, norm=norm, smooth=True))
    raw = float(jnp.min(kg.metrics.output_margins(model.apply(params, x), y)))
    if raw == 0:  # a sample without active unit, where the denominator is unknown
        assert smooth <= hard == 0
        return
    denominator = raw / hard
    terms = 6 if model.spec.outputs is None else 6 * 2
    slack = 1e-5 * max(1, abs(raw), abs(hard)) / denominator
    assert hard - np.log(terms) / denominator - slack <= smooth <= hard + slack


@given(keys, st.sampled_from(sorted(ACTIVATIONS)), st.sampled_from([None, 2]))
def test_balanced_is_the_best_rescaling_of_units(key, name, outputs):
    model = kg.models.homogeneous_mlp((4,), activation=ACTIVATIONS[name], outputs=outputs)
    params, x, y = _problem(model, key)
    hidden, readout = (np.float64(w) for w in params)
    power = model.spec.activation.power

    # min over c_j > 0 of sum_j c_j^2 ||u_j||^2 + ||w_j||^2 / c_j^(2 power), by a scalar search.
    total = 0.0
    for u, w in zip(hidden, readout.reshape(-1, 4).T, strict=True):
        a, b = np.sum(u**2), np.sum(w**2)
        found = optimize.minimize_scalar(
            lambda t, a=a, b=b: np.exp(2 * t) * a + b * np.exp(-2 * power * t),
            bounds=(-8, 8), method="bounded", options={"xatol": 1e-10},
        )  # fmt: skip
        total += found.fun
    l2, balanced = (
        kg.metrics.normalized_margin(model, params, x, y, norm=n) for n in ("l2", "balanced")
    )
    squared = sum(np.sum(w**2) for w in (hidden, readout))
    # As a product: where all units are off on a sample, both margins are 0.
    np.testing.assert_allclose(
        float(balanced), float(l2) * (squared / total) ** (model.degree / 2), rtol=1e-4
    )
    assert abs(balanced) >= abs(l2) * (1 - 1e-5)


def test_balanced_does_not_see_rescaled_units():
    model = kg.models.homogeneous_mlp((5,))
    params, x, y = _problem(model, key)
    c = jnp.array([0.1, 0.5, 1.0, 3.0, 10.0])
    rescaled = (c[:, None] * params[0], params[1] / c)
    a, b = (
        kg.metrics.normalized_margin(model, p, x, y, norm="balanced") for p in (params, rescaled)
    )
    assert_close(a, b)


@pytest.mark.parametrize("parameterization", ["standard", "ntk", "mean_field"])
def test_mean_field_margin_is_the_f1_margin(parameterization):
    """The same measure gives the same value, however the net is parametrised."""
    model = kg.models.homogeneous_mlp((5,), parameterization=parameterization)
    _, x, y = _problem(model, key)
    particles = jax.random.normal(key, (5, 4))  # theta_j of f = mean_j w_j relu(u_j . x)
    params = model.neurons.unpack(model.neurons.radius(model.init(key, 3)) * particles)
    outputs = jax.nn.relu(x @ particles[:, 1:].T) @ particles[:, 0] / 5
    expected = jnp.min(y * outputs) / jnp.mean(jnp.sum(particles**2, axis=1))
    found = kg.metrics.normalized_margin(model, params, x, y, norm="mean_field")
    assert_close(found, expected, scale=jnp.max(jnp.abs(outputs)))


def test_zero_parameters_give_nan():
    model = kg.models.homogeneous_mlp((2,))
    params, x, y = _problem(model, key)
    zero = jax.tree.map(jnp.zeros_like, params)
    assert np.isnan(kg.metrics.normalized_margin(model, zero, x, y))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("smooth", [False, True])
def test_transforms(norm, smooth):
    model = kg.models.homogeneous_mlp((5,))
    params, x, y = _problem(model, key)

    def margin(params):
        return kg.metrics.normalized_margin(model, params, x, y, norm=norm, smooth=smooth)

    gradient = jax.grad(margin)(params)
    # Degree 0: the gradient is orthogonal to the parameters (Euler).
    radial = sum(float(jnp.vdot(g, p)) for g, p in zip(gradient, params, strict=True))
    size = sum(
        float(jnp.linalg.norm(g) * jnp.linalg.norm(p))
        for g, p in zip(gradient, params, strict=True)
    )
    if not smooth:
        assert abs(radial) < 1e-4 * size
    assert all(np.isfinite(g).all() for g in gradient)
    batched = jax.jit(jax.vmap(margin))(jax.tree.map(lambda w: jnp.stack([w, 2 * w]), params))
    assert_close(batched[0], margin(params), scale=1)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"norm": "linf"}, "`norm` must be one of 'l2', 'balanced', 'mean_field', 'layer_product'"),
        ({"y": jnp.array([1.0, 2.0, 1.0])}, "labels -1 and \\+1 only; got \\[2.0\\]"),
        ({"y": jnp.ones(2)}, "`y` must have shape \\(3,\\)"),
        ({"x": jnp.array([[1.0, jnp.inf]] * 3)}, "`x` must be finite"),
        ({"x": jnp.ones(3)}, "`x` must have shape \\(n, d\\)"),
    ],
)
def test_refuses(change, match):
    model = kg.models.homogeneous_mlp((2,))
    arguments = {"x": jnp.ones((3, 2)), "y": jnp.array([1.0, -1.0, 1.0])} | change
    x, y = arguments.pop("x"), arguments.pop("y")
    with pytest.raises(ValueError, match=match):
        kg.metrics.normalized_margin(model, model.init(key, 2), x, y, **arguments)


def test_refuses_norms_the_model_does_not_have():
    x, y = jnp.ones((3, 2)), jnp.array([1.0, -1.0, 1.0])
    deep = kg.models.homogeneous_mlp((2, 2))
    with pytest.raises(ValueError, match="norm='balanced' is defined for two-layer models"):
        kg.metrics.normalized_margin(deep, deep.init(key, 2), x, y, norm="balanced")
    squared = kg.models.homogeneous_mlp((2,), activation=kg.models.relu_power(2))
    with pytest.raises(ValueError, match="models of degree 2; this one has degree 3"):
        kg.metrics.normalized_margin(squared, squared.init(key, 2), x, y, norm="mean_field")
    one = kg.models.homogeneous_mlp((2,), outputs=1)
    with pytest.raises(ValueError, match="k >= 2"):
        kg.metrics.normalized_margin(one, one.init(key, 2), x, jnp.zeros(3, int))


@pytest.mark.parametrize(
    ("outputs", "y", "expected"),
    [
        ([1.0, -1.0, 2.0, -3.0], [1.0, 1.0, 1.0, 1.0], 0.5),
        ([0.0, jnp.nan, jnp.inf, -1e-30], [1.0, 1.0, 1.0, -1.0], 0.5),  # ties and NaN are errors
        ([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]], [0, 0], 0.5),
        ([[1.0, 1.0, 0.5], [0.0, 1.0, jnp.nan]], [0, 1], 1.0),
        ([[1.0, 0.0, jnp.nan]], [0], 1.0),
    ],
)
def test_error_rate_by_hand(outputs, y, expected):
    outputs, y = jnp.asarray(outputs), jnp.asarray(y)
    assert kg.metrics.error_rate(outputs, y) == expected
    assert jax.jit(kg.metrics.error_rate)(outputs, y) == expected


@given(keys, st.sampled_from([None, 3]))
@example(jax.random.key(33), 3)  # float64: all units are dead for one row
def test_error_rate_counts_wrong_predictions(key, k):
    model = kg.models.homogeneous_mlp((4,), outputs=k)
    params, x, y = _problem(model, key)
    outputs, y = np.asarray(model.apply(params, x)), np.asarray(y)
    if k is None:
        right = np.sign(outputs) == y
    else:  # of classes that are ahead together, as where all units are dead, none is right
        chosen = np.take_along_axis(outputs, y[:, None], axis=1)
        right = np.sum(outputs >= chosen, axis=1) == 1
    assert_close(kg.metrics.error_rate(outputs, y), np.mean(~right), scale=1)
