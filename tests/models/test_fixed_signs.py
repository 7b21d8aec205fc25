import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
from helpers import assert_close, keys, off_kinks

key = jax.random.key(0)
fixed_sign_nets = st.builds(
    kg.models.fixed_sign_net,
    st.sampled_from([6, 7]),
    outputs=st.sampled_from([None, 3]),
    scale=st.sampled_from([None, 1.0]),
    init_scale=st.sampled_from([1.0, 1.5]),
)


def _drawn(model, key, n=9, d=3):
    return model.init(key, d), jax.random.normal(jax.random.fold_in(key, 1), (n, d))


@given(fixed_sign_nets, keys, st.floats(0.25, 4))
def test_homogeneous_of_degree_one_and_euler(model, key, c):
    params, x = _drawn(model, key)
    assert model.degree == 1
    outputs, derivative = jax.jvp(lambda p: model.apply(p, x), (params,), (params,))
    size = float(jnp.max(jnp.abs(outputs))) + 1
    assert_close(model.apply((c * params[0],), x), c * outputs, scale=c * size)
    assert_close(derivative, outputs, scale=size)


@given(fixed_sign_nets, keys)
def test_equals_its_formula_and_its_gradient_is_the_extended_feature_matrix(model, key):
    """f and grad_W sum_i r_i f(x_i) = s D r, D built entry by entry in NumPy."""
    params, x = _drawn(model, key)
    off_kinks(x @ params[0].T)
    w, inputs = np.float64(params[0]), np.float64(x)
    k = model.spec.outputs or 1
    signs = np.float64(model.spec.signs).reshape(len(w), k)
    r = np.random.default_rng(0).normal(size=(len(inputs), k))
    features = np.zeros((len(w) * 3, len(inputs), k))  # one D for each output
    outputs = np.zeros((len(inputs), k))
    for i, xi in enumerate(inputs):
        for j, wj in enumerate(w):
            if wj @ xi > 0:
                outputs[i] += model.spec.scale * signs[j] * (wj @ xi)
                features[3 * j : 3 * j + 3, i] = xi[:, None] * signs[j]
    given_r = jnp.asarray(r if model.spec.outputs else r[:, 0], x.dtype)
    found, gradient = jax.value_and_grad(lambda p: jnp.sum(given_r * model.apply(p, x)))(params)
    np.testing.assert_allclose(model.apply(params, x).reshape(outputs.shape), outputs, atol=1e-4)
    np.testing.assert_allclose(found, (r * outputs).sum(), atol=1e-3)
    expected = model.spec.scale * np.einsum("pia,ia->p", features, r).reshape(w.shape)
    np.testing.assert_allclose(gradient[0], expected, atol=1e-3)


@given(fixed_sign_nets, keys)
def test_empirical_ntk_is_the_gram_of_the_extended_features(model, key):
    params, x = _drawn(model, key)
    off_kinks(x @ params[0].T)
    found = kg.kernels.empirical_ntk(model, params)(x)
    on = (x @ params[0].T > 0).astype(x.dtype)
    weights = (
        jnp.einsum("ij,lj,ja,jb->ilab", on, on, *[jnp.asarray(model.spec.signs, x.dtype)] * 2)
        if model.spec.outputs
        else on @ on.T
    )
    products = x @ x.T
    products = products[..., None, None] if model.spec.outputs else products
    assert_close(found, model.spec.scale**2 * weights * products, factor=1000)


@pytest.mark.parametrize("outputs", [None, 3])
def test_a_wide_net_has_the_limit_kernel_for_each_output(outputs):
    model = kg.models.fixed_sign_net(4096, outputs=outputs)
    x = kg.datasets.sphere(key, 6, 5)
    found = kg.kernels.empirical_ntk(model, model.init(jax.random.key(1), 5), chunk=2)(x)
    limit = kg.diversity.diversity_kernel()(x)
    if outputs:
        limit = np.asarray(limit)[:, :, None, None] * np.eye(outputs)
    # Means of 4096 terms of size at most 1, and at most a variance of 1/4.
    np.testing.assert_allclose(found, limit, atol=6 / 2 / 4096**0.5)


def test_a_two_layer_net_with_this_readout_is_the_same_function():
    model = kg.models.fixed_sign_net(8, outputs=3, scale=1.0)
    params, x = _drawn(model, key)
    full = kg.models.homogeneous_mlp((8,), outputs=3)
    readout = jnp.asarray(model.spec.signs, x.dtype).T
    assert_close(model.apply(params, x), full.apply((*params, readout), x))
    (z,) = kg.models.preactivations(model, params, x)
    (expected,) = kg.models.preactivations(full, (*params, readout), x)
    np.testing.assert_array_equal(z, expected)
    turned = (-params[0],)
    np.testing.assert_array_equal(kg.lazy.activation_change(model, params, turned, x), [1.0])


def test_default_signs_alternate_and_those_of_outputs_are_orthogonal():
    assert kg.models.fixed_sign_net(5).spec.signs.tolist() == [1, -1, 1, -1, 1]
    for outputs, width in ((1, 2), (2, 4), (3, 4), (10, 16), (10, 48), (16, 32)):
        signs = np.int64(kg.models.fixed_sign_net(width, outputs=outputs).spec.signs)
        assert signs.shape == (width, outputs)
        np.testing.assert_array_equal(signs.T @ signs, width * np.eye(outputs))
        np.testing.assert_array_equal(signs.sum(axis=0), 0)
        assert (np.abs(signs) == 1).all()
    np.testing.assert_array_equal(
        kg.models.fixed_sign_net(6, outputs=1).spec.signs[:, 0],
        kg.models.fixed_sign_net(6).spec.signs,
    )


@pytest.mark.parametrize("outputs", [2, 3, 7, 10])
def test_default_signs_differ_as_soon_as_there_are_enough_units(outputs):
    least = {2: 3, 3: 3, 7: 5, 10: 9}[outputs]
    for width in (least, least + 1, 2 * least):
        signs = kg.models.fixed_sign_net(width, outputs=outputs).spec.signs
        assert len(np.unique(signs, axis=1).T) == outputs
    with pytest.raises(ValueError, match=f"at least {least} for {outputs} different outputs"):
        kg.models.fixed_sign_net(least - 1, outputs=outputs)


@given(keys, st.sampled_from([None, 2]))
def test_given_signs_are_used(key, outputs):
    signs = np.array([1, 1, -1, 1]) if outputs is None else np.array([[1, -1], [-1, -1]] * 2)
    model = kg.models.fixed_sign_net(4, signs=signs, outputs=outputs)
    turned = kg.models.fixed_sign_net(4, signs=-signs.astype(float), outputs=outputs)
    params, x = _drawn(model, key)
    np.testing.assert_array_equal(model.spec.signs, signs)
    np.testing.assert_array_equal(turned.apply(params, x), -model.apply(params, x))
    assert hash(model.spec) == hash(kg.models.fixed_sign_net(4, signs=signs, outputs=outputs).spec)


def test_initial_law_and_outputs_of_order_one():
    model = kg.models.fixed_sign_net(64, init_scale=1.5)
    x = kg.datasets.sphere(key, 1, 10)
    outputs = jax.vmap(lambda k: model.apply(model.init(k, 10), x)[0])(jax.random.split(key, 4000))
    # The sample variance of 4000 near-normal values has the relative variance 2 / 4000.
    variance = 1.5**2 * (1 - 1 / np.pi) / 2
    assert abs(float(outputs.var()) / variance - 1) < 6 * (2 / 4000) ** 0.5
    assert abs(float(outputs.mean())) < 6 * (variance / 4000) ** 0.5
    (w,) = model.init(key, 500)
    assert abs(float(w.std()) / 1.5 - 1) < 6 / (2 * w.size) ** 0.5


def test_dtype_transforms_and_margin():
    model = kg.models.fixed_sign_net(6)
    assert model.init(key, 3, jnp.float16)[0].dtype == jnp.float16
    params, x = _drawn(model, key)
    half = model.apply((params[0].astype(jnp.float16),), x.astype(jnp.float16))
    assert half.dtype == jnp.float16
    batched = jax.jit(jax.vmap(model.apply, in_axes=(None, 0)))(params, x[None])
    assert_close(batched[0], model.apply(params, x))
    y = jnp.where(model.apply(params, x) >= 0, 1.0, -1.0)
    for norm in ("l2", "layer_product"):
        margin = kg.metrics.normalized_margin(model, params, x, y, norm=norm)
        expected = jnp.min(jnp.abs(model.apply(params, x))) / jnp.linalg.norm(params[0])
        assert_close(margin, expected, factor=1000)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"width": 0}, ValueError, "`width` must be an integer >= 1; got 0"),
        ({"width": 2.0}, TypeError, "`width` must be an integer"),
        ({"outputs": 0}, ValueError, "`outputs` must be an integer >= 1"),
        ({"scale": 0}, ValueError, "`scale` must be a finite number > 0"),
        ({"scale": "root"}, TypeError, "`scale`"),
        ({"init_scale": -1.0}, ValueError, "`init_scale`"),
        ({"outputs": 4}, ValueError, "`width` must be at least 5 for 4 different outputs.*got 3"),
        ({"signs": [1, -1]}, ValueError, r"`signs` must have shape \(3,\); got \(2,\)"),
        ({"signs": [1, -1, 1], "outputs": 2}, ValueError, r"must have shape \(3, 2\)"),
        ({"signs": [1, 0, 2]}, ValueError, r"must be -1 and \+1 only; got \[0, 2\]"),
        ({"signs": [True, True, False]}, ValueError, r"must be -1 and \+1 only; got"),
    ],
)
def test_refuses(options, error, match):
    with pytest.raises(error, match=match):
        kg.models.fixed_sign_net(**({"width": 3} | options))


def test_init_apply_and_others_refuse():
    model = kg.models.fixed_sign_net(3)
    with pytest.raises(TypeError, match="JAX random key"):
        model.init(0, 4)
    with pytest.raises(ValueError, match="`d` must be an integer >= 1"):
        model.init(key, 0)
    params, x = _drawn(model, key, d=4)
    with pytest.raises(ValueError, match=r"`x` must have shape \(n, d\) with d >= 1; got \(4,\)"):
        model.apply(params, x[0])
    with pytest.raises(ValueError, match=r"inputs with d = 5; got \[\(3, 4\)\]"):
        model.apply(params, jnp.ones((2, 5)))
    with pytest.raises(ValueError, match="two-layer models; this one has 1 trained layer"):
        kg.metrics.normalized_margin(model, params, x, jnp.ones(9), norm="balanced")
    with pytest.raises(TypeError, match=r"scale\^2 \* width \* diversity.diversity_kernel"):
        kg.kernels.ntk(model)
    with pytest.raises(ValueError, match="must be a two-layer ReLU network"):
        kg.margins.duality_gap(model, params, x, jnp.ones(9), l2=0.1)
