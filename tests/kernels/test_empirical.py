import warnings
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, strategies as st

import kernelgap as kg
from helpers import (
    ACTIVATIONS,
    PARAMETERIZATIONS,
    assert_close,
    keys,
    off_kinks,
    seeds,
    slow_but,
    x64,
)

key = jax.random.key(0)
empirical_ntk = kg.kernels.empirical_ntk
mlp = kg.models.homogeneous_mlp
DEEP = mlp((6, 5), activation=kg.models.leaky_relu(0.3), parameterization="ntk")
THREE = mlp((6, 5), parameterization="ntk", outputs=3)
MODELS = {"deep": DEEP, "three": THREE, "one": mlp((6,), outputs=1), "linear": mlp((), outputs=2)}
cases = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
few = pytest.mark.parametrize("model", [DEEP, THREE], ids=["deep", "three"])
routes = pytest.mark.parametrize(
    ("model", "generic"), [(DEEP, False), (THREE, True)], ids=["network", "function"]
)


def _inputs(seed, n, d=3):
    return jax.random.normal(jax.random.key(seed), (n, d))


@partial(jax.jit, static_argnums=0)
def _jacobian(apply, params, x):
    """(n, k, number of parameters), by jax.jacobian of the whole batch."""
    leaves = jax.tree.leaves(jax.jacobian(lambda p: apply(p, x).reshape(len(x), -1))(params))
    return jnp.concatenate([j.reshape(*j.shape[:2], -1) for j in leaves], axis=-1)


def _contracted(apply, params, x, z):
    """The kernel as (n1, n2, k, k)."""
    rows = np.asarray(_jacobian(apply, params, jnp.concatenate([x, z])))
    return np.einsum("iap,jbp->ijab", rows[: len(x)], rows[len(x) :])


def _flat(gram):
    """A Gram matrix (n1, n2, k, k) as a matrix (n1 k, n2 k)."""
    n1, n2, k, _ = gram.shape
    return np.transpose(gram, (0, 2, 1, 3)).reshape(n1 * k, n2 * k)


def _close64(actual, expected):
    assert actual.dtype == jnp.float64
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10 * scale)


GRID = [
    ((), "relu", "mean_field", 3),
    ((7,), "leaky_relu", "standard", None),
    ((7,), "two-sided^3", "ntk", 1),
    ((7,), "odd", "mean_field", 3),
    ((5, 4), "abs", "standard", 3),
    ((5, 4), "relu^2", "ntk", None),
    ((4, 3, 5), "leaky_relu", "mean_field", None),
    ((4, 3, 5), "relu^2", "standard", 1),
    ((4, 3, 5), "odd", "ntk", 3),
]


@pytest.mark.parametrize(("widths", "name", "parameterization", "outputs"), GRID)
def test_is_the_product_of_jacobians(widths, name, parameterization, outputs):
    with x64(True):
        model = mlp(
            widths,
            activation=ACTIVATIONS[name],
            parameterization=parameterization,
            outputs=outputs,
            init_scale=1.3,
        )
        params = model.init(jax.random.key(1), 3)
        x, z = _inputs(1, 6), _inputs(2, 4)
        kernel = empirical_ntk(model, params)
        expected = _contracted(model.apply, params, x, z)
        found = kernel(x, z)
        assert found.shape == ((6, 4) if outputs is None else (6, 4, outputs, outputs))
        _close64(found, expected[..., 0, 0] if outputs is None else expected)


@cases
@given(keys)
@example(key=jax.random.key(40293))  # all units of "three" are off on every input: the kernel is 0
def test_symmetric_positive_semidefinite_and_consistent(model, key):
    params = model.init(key, 3)
    x = jax.random.normal(jax.random.fold_in(key, 1), (7, 3))
    off_kinks(*kg.models.preactivations(model, params, x))
    for kernel in (empirical_ntk(model, params), empirical_ntk(model.apply, params, chunk=3)):
        if kernel.ndim is None and model is not THREE:
            continue  # the slower route once
        gram = kernel(x)
        assert_close(kernel(x, x), gram)
        assert_close(kernel.diag(x), gram[np.arange(7), np.arange(7)], scale=np.abs(gram).max())
        blocks = np.asarray(gram).reshape(7, 7, model.spec.outputs or 1, -1)
        np.testing.assert_array_equal(blocks, blocks.transpose(1, 0, 3, 2))
        values = np.linalg.eigvalsh(np.float64(_flat(blocks)))
        assert values[0] >= -100 * np.finfo(gram.dtype).eps * values[-1]


@routes
def test_tiles_are_parts_of_the_whole(model, generic):
    params = model.init(key, 3)
    x, z = _inputs(1, 7), _inputs(2, 5)
    kernel = (
        empirical_ntk(model.apply, params, chunk=2) if generic else empirical_ntk(model, params)
    )
    whole = np.asarray(kernel(x, z))
    rows = [[kernel(x[i : i + 3], z[j : j + 2]) for j in (0, 2, 4)] for i in (0, 3, 6)]
    assert_close(np.concatenate([np.concatenate(row, axis=1) for row in rows]), whole)


@few
def test_the_chunk_does_not_matter(model):
    params = model.init(key, 3)
    x, z = _inputs(1, 7), _inputs(2, 4)
    kernel = empirical_ntk(model, params)
    for chunk in (3, 100, None):
        generic = empirical_ntk(model.apply, params, chunk=chunk)
        found = generic(x, z)
        assert found.shape == kernel(x, z).shape
        assert_close(found, kernel(x, z))
        if chunk == 3:
            for call in (lambda k: k(x), lambda k: k(x, z), lambda k: k.diag(x)):
                assert_close(call(generic), call(kernel))
                assert_close(jax.jit(call)(generic), call(kernel))


def test_layers_sum_to_the_whole():
    model, params = THREE, THREE.init(key, 3)
    x, z = _inputs(1, 6), _inputs(2, 4)
    depth = len(params)
    parts = [empirical_ntk(model, params, layers=(k,)) for k in range(depth)]
    whole = empirical_ntk(model, params)
    for call in (lambda k: k(x, z), lambda k: k.diag(x)):
        assert_close(sum(call(part) for part in parts), call(whole))
    for k, part in enumerate(parts):
        # The k-th layer's kernel is that of the function of this layer's weights alone.
        def apply(weights, x, k=k):
            return model.apply((*params[:k], weights, *params[k + 1 :]), x)

        assert_close(part(x, z), empirical_ntk(apply, params[k])(x, z))
        assert part == empirical_ntk(model, params, layers=(k - depth,))
    assert parts[0] == empirical_ntk(model, params, layers="first")
    assert parts[-1] == empirical_ntk(model, params, layers="last")
    pair = empirical_ntk(model, params, layers=(2, -3))
    assert pair == empirical_ntk(model, params, layers=[0, 2])
    assert_close(pair(x, z), parts[0](x, z) + parts[2](x, z))


@pytest.mark.parametrize("outputs", [None, 3])
def test_is_the_empirical_kernel_of_neural_tangents(outputs):
    nt = kg.kernels.neural_tangents.load()
    with x64(True), warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"):
        warnings.simplefilter("ignore")
        model = mlp((6, 5), activation="leaky_relu", parameterization="ntk", outputs=outputs)
        params = model.init(jax.random.key(1), 3)
        x, z = _inputs(1, 5), _inputs(2, 4)
        theirs = nt.empirical_ntk_fn(model.apply, trace_axes=())
        with jax.numpy_rank_promotion("allow"):
            expected = jax.jit(theirs)(x, z, params)
        _close64(empirical_ntk(model, params)(x, z), expected)


@few
@given(seeds)
def test_euler_and_the_gram_matrix_of_gradients_with_the_parameters(model, seed):
    """<Theta, grad f> = a f, so that [[K, a f], [a f', ||Theta||^2]] is a Gram matrix too."""
    with x64(True):
        params = model.init(jax.random.key(seed), 3)
        x = _inputs(seed + 1, 5)
        gram = np.asarray(empirical_ntk(model, params)(x))
        matrix = _flat(gram.reshape(5, 5, model.spec.outputs or 1, -1))
        outputs = model.degree * np.ravel(model.apply(params, x))
        norm = sum(float(jnp.sum(w**2)) for w in params)
        values = np.linalg.eigvalsh(np.block([[matrix, outputs[:, None]], [outputs, norm]]))
        assert values[0] > -1e-12 * values[-1]


@pytest.mark.parametrize("power", slow_but([1.0, 2.0], [2.0]))
def test_euler_of_each_layer(power):
    """f has degree a_k = p^(K-k) in W_k, so that <W_k, grad_k f> = a_k f. With more inputs than
    weights the gradients span the weights, and f' K_k^-1 f = ||W_k||^2 / a_k^2 exactly."""
    with x64(True):
        activation = kg.models.Activation(1.0, -0.5, power)
        model = mlp((4, 3), activation=activation, parameterization="mean_field")
        params = model.init(jax.random.key(0), 3)
        x = _inputs(1, 300)
        outputs = np.asarray(model.apply(params, x))
        for k, weights in enumerate(params):
            gram = np.asarray(empirical_ntk(model, params, layers=(k,))(x))
            values, vectors = np.linalg.eigh(gram)
            assert np.abs(values[: -weights.size]).max() < 1e-12 * values[-1]
            values, vectors = values[-weights.size :], vectors[:, -weights.size :]
            assert values[0] > 1e-8 * values[-1]
            found = power ** (2 - k) * np.sum((vectors.T @ outputs) ** 2 / values) ** 0.5
            np.testing.assert_allclose(found, np.linalg.norm(weights), rtol=1e-6)


@few
@given(keys, st.floats(0.5, 2))
def test_homogeneous_in_the_parameters(model, key, c):
    """Gradients of f(c Theta) = c^a f(Theta) have degree a - 1."""
    params = model.init(key, 3)
    x, z = _inputs(1, 4), _inputs(2, 3)
    off_kinks(*kg.models.preactivations(model, params, jnp.concatenate([x, z])))
    scaled = empirical_ntk(model, tuple(c * w for w in params))(x, z)
    expected = c ** (2 * model.degree - 2) * empirical_ntk(model, params)(x, z)
    assert_close(scaled, expected, factor=3e3)


@pytest.mark.parametrize("parameterization", slow_but(PARAMETERIZATIONS, ["mean_field"]))
@pytest.mark.parametrize("name", ["leaky_relu", "relu^2"])
def test_two_layers_are_the_infinite_kernel_in_the_mean(parameterization, name):
    """At any width; outputs are uncorrelated."""
    model = mlp((8,), activation=ACTIVATIONS[name], parameterization=parameterization, outputs=2)
    x = _inputs(1, 4)

    def finite(key):
        return empirical_ntk(model, model.init(key, 3))(x)

    found = np.float64(jax.jit(jax.vmap(finite))(jax.random.split(key, 10_000)))
    error = 6 * found.std(axis=0) / len(found) ** 0.5
    expected = np.einsum("ij,ab->ijab", kg.kernels.ntk(model)(x), np.eye(2))
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - expected), error + 1e-12)


@pytest.mark.parametrize("parameterization", slow_but(PARAMETERIZATIONS, ["standard"]))
def test_deep_nets_converge_to_the_infinite_kernel(parameterization):
    width, nets = 256, 32
    model = mlp((width, width), parameterization=parameterization)
    x = _inputs(1, 3)
    found = jax.lax.map(
        lambda key: empirical_ntk(model, model.init(key, 3))(x), jax.random.split(key, nets)
    )
    found = np.float64(found)
    error = 6 * found.std(axis=0) / nets**0.5 + 10 / width * np.abs(found).mean()
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - kg.kernels.ntk(model)(x)), error)


def _convolution(params, x):
    h = jax.lax.conv(x, params["filters"], (1, 1), "SAME")
    return jnp.mean(jnp.tanh(h), axis=(2, 3)) @ params["readout"]["w"] + params["readout"]["b"]


def test_any_function_of_images():
    with x64(True):
        a, b, c, d = (jax.random.normal(k, s) for k, s in zip(
            jax.random.split(jax.random.key(0), 4), [(3, 2, 3, 3), (3, 2), (5, 2, 4, 4), (3, 2, 4, 4)],
            strict=True))  # fmt: skip
        params = {"filters": a, "readout": {"w": b, "b": jnp.ones((1, 2))}}
        kernel = empirical_ntk(_convolution, params, chunk=2)
        expected = _contracted(_convolution, params, c, d)
        _close64(kernel(c, d), expected)
        _close64(jax.jit(lambda k: k(c, d))(kernel), expected)
        _close64(kernel(c), _contracted(_convolution, params, c, c))
        _close64(kernel.diag(c), np.einsum("iiab->iab", _contracted(_convolution, params, c, c)))


def _twice(params, x):
    """Weights that are used twice, and as they are and transposed."""
    w, v = params
    return jnp.tanh(jnp.tanh(x @ w) @ w.T) @ v


def _one_at_a_time(params, x):
    """Products of matrices and vectors, within functions that are compiled."""
    w, v = params
    layer = jax.jit(lambda row: jnp.tanh(w @ row))
    return jax.vmap(lambda row: v.T @ layer(layer(row)))(x)


def _sequence(params, x):
    """A layer for each entry of a sequence: a sum of outer products."""
    w, v = params
    return jnp.mean(jnp.tanh(jnp.stack([x, 2 * x, x**2], axis=1) @ w), axis=1) @ v


def _in_a_loop(params, x):
    w, v = params
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, jnp.stack([w, 2 * w]))[0] @ v


def _unused(params, x):
    return jnp.einsum("ni,ij->jn", x, params[1]).T * 3


@pytest.mark.parametrize("apply", [_twice, _one_at_a_time, _sequence, _in_a_loop, _unused])
def test_layers_of_every_form(apply):
    with x64(True):
        params = [jax.random.normal(k, s) for k, s in zip(
            jax.random.split(key), [(5, 5), (5, 3)], strict=True)]  # fmt: skip
        x, z = _inputs(1, 4, 5), _inputs(2, 3, 5)
        kernel = empirical_ntk(apply, params)
        _close64(kernel(x, z), _contracted(apply, params, x, z))
        _close64(kernel.diag(x), np.einsum("iiab->iab", _contracted(apply, params, x, x)))


def _temporary(function, *arguments):
    """Bytes that a compiled function needs besides its arguments and results."""
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def test_memory():
    n, width, d = 300, 200, 150
    model = mlp((width, width))
    params, x = model.init(key, d, jnp.float32), np.float32(_inputs(1, n, d))
    size = sum(w.size for w in params)
    kernel = empirical_ntk(model, params)
    # A Jacobian would have 300 * 70 000 entries. Here: some Gram matrices, features and signals.
    arrays = 4 * (4 * n**2 + 8 * n * width)
    assert _temporary(lambda k, x: k(x), kernel, x) < arrays
    assert _temporary(lambda k, x: k.diag(x), kernel, x) < 4 * 8 * n * width
    # Nor is a Jacobian of dense layers in any other function formed.
    generic = empirical_ntk(jax.jit(model.apply), params)
    assert _temporary(lambda k, x: k(x), generic, x) < 2 * arrays

    def total(params, x):
        return jnp.sum(empirical_ntk(model.apply, params, chunk=5)(x))

    rows = 4 * (6 * 5 * size) + arrays
    assert _temporary(total, params, x) < rows
    assert _temporary(jax.grad(total), params, x) < 3 * rows


def test_scalars_lists_and_a_mixture_of_dtypes_as_parameters():
    def apply(params, x):
        scale, (w, shift) = params
        return scale * jnp.tanh(x @ w.astype(x.dtype) + shift)

    x = np.float32(_inputs(1, 4))
    w = jnp.asarray([1.0, -0.5, 0.25], jnp.bfloat16)
    kernel = empirical_ntk(apply, [jnp.float32(2.0), (w, jnp.float32(0.5))])
    gram = kernel(x)
    assert gram.dtype == jnp.float32
    value = np.tanh(x @ np.float32(w) + 0.5)
    slope = 2 * (1 - value**2)
    expected = np.outer(value, value) + np.outer(slope, slope) * (1 + x @ x.T)
    np.testing.assert_allclose(gram, expected, rtol=0.05, atol=0.05)  # bfloat16


def test_a_model_of_ones_own():
    model = replace(DEEP, spec=None)
    params = DEEP.init(key, 3)
    x = _inputs(1, 4)
    assert_close(empirical_ntk(model, params)(x), empirical_ntk(DEEP, params)(x))


@routes
def test_transformations(model, generic):
    function = model.apply if generic else model
    x, z = _inputs(1, 5), _inputs(2, 3)
    draws = [model.init(k, 3) for k in jax.random.split(key, 2)]
    stacked = jax.tree.map(lambda *w: jnp.stack(w), *draws)
    make = partial(empirical_ntk, function, chunk=2 if generic else None)
    traces = []

    @jax.jit
    def gram(kernel, x, z):
        traces.append(1)
        return kernel(x, z)

    for params in draws:
        assert_close(gram(make(params), x, z), make(params)(x, z))
    assert len(traces) == 1
    batched = jax.vmap(lambda params: make(params)(x, z))(stacked)
    assert_close(batched[1], make(draws[1])(x, z))
    assert_close(jax.vmap(make(draws[0]))(jnp.stack([x, z[:1] + x]))[1], make(draws[0])(z[:1] + x))

    def total(params, x):
        return jnp.sum(jnp.sin(make(params)(x, z)))

    def by_jacobian(params, x):
        left, right = _jacobian(model.apply, params, x), _jacobian(model.apply, params, z)
        return jnp.sum(jnp.sin(jnp.einsum("iap,jbp->ijab", left, right)))

    for found, expected in zip(
        jax.tree.leaves(jax.jit(jax.grad(total, (0, 1)))(draws[0], x)),
        jax.tree.leaves(jax.jit(jax.grad(by_jacobian, (0, 1)))(draws[0], x)),
        strict=True,
    ):
        assert_close(found, expected, factor=1e3, scale=1 + np.abs(expected).max())


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_finite_at_zero_inputs_and_equal_inputs(name):
    model = mlp((4, 3), activation=ACTIVATIONS[name])
    params = model.init(key, 3)
    x = jnp.array([[0.0, 0.0, 0.0], [1.0, 2.0, -1.0], [1.0, 2.0, -1.0]])

    def gram(params, x):
        return empirical_ntk(model, params)(x)

    values = np.asarray(gram(params, x))
    assert np.isfinite(values).all()
    # The derivative at 0 counts as 0, and phi(0) = 0.
    np.testing.assert_array_equal(values[0], 0)
    np.testing.assert_array_equal(values[1:, 1], values[1:, 2])
    slopes = jax.jit(jax.grad(lambda p, x: jnp.sum(gram(p, x)), (0, 1)))(params, x)
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))


def test_equal_kernels_hold_the_same_arrays():
    params, others = (DEEP.init(k, 3) for k in jax.random.split(key))
    kernel = empirical_ntk(DEEP, params)
    assert kernel == empirical_ntk(DEEP, params)
    assert hash(kernel) == hash(empirical_ntk(DEEP, params))
    assert kernel != empirical_ntk(DEEP, others)
    assert kernel != empirical_ntk(DEEP, params, layers="last")
    assert kernel != kg.kernels.ntk(DEEP)
    assert kernel != "ntk"


def test_get_and_dtypes():
    x = _inputs(1, 3)
    kernel = empirical_ntk(DEEP, DEEP.init(key, 3))
    assert_close(kernel(x, None, "ntk"), kernel(x))
    assert isinstance(kernel(x, x, ("ntk",)), tuple)
    half = empirical_ntk(DEEP, DEEP.init(key, 3, jnp.float16))
    assert half(x.astype(jnp.float16)).dtype == jnp.float16


def test_predictors_take_it():
    x, y = kg.datasets.xor_noise(key, 20, 6)
    model = mlp((64,), parameterization="ntk")
    kernel = empirical_ntk(model, model.init(key, 6, x.dtype))
    found = kg.predictors.hard_margin_svm(kernel, x, y)
    assert float(found.margin) > 0


PARAMS = DEEP.init(key, 3)
ONES = jnp.ones((2, 3))
WEIGHTS = jnp.ones(3)


def _linear(w, x):
    return x @ w


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: empirical_ntk(None, PARAMS), TypeError, "`model` must be a homogeneous_mlp or a fun"),
        (lambda: empirical_ntk(jax.tree_util.Partial, 1), TypeError, "`params` must hold floating"),
        (lambda: empirical_ntk(type("F", (), {"__call__": _linear, "__hash__": None})(), WEIGHTS),
         TypeError, "`model` must be hashable.*F is not"),
        (lambda: empirical_ntk(DEEP, PARAMS, chunk=3), ValueError, "`chunk` is for functions"),
        (lambda: empirical_ntk(_linear, WEIGHTS, layers="last"), ValueError, "`layers` is for a homo"),
        (lambda: empirical_ntk(_linear, WEIGHTS, chunk=0), ValueError, "`chunk` must be an integer >= 1"),
        (lambda: empirical_ntk(_linear, WEIGHTS, chunk=2.0), TypeError, "`chunk` must be an integer"),
        (lambda: empirical_ntk(DEEP, PARAMS, layers="middle"), ValueError, "`layers` must be one of"),
        (lambda: empirical_ntk(DEEP, PARAMS, layers=0), TypeError, "`layers` must be 'first', 'last' or"),
        (lambda: empirical_ntk(DEEP, PARAMS, layers=(0.0,)), TypeError, "`layers` must be an integer"),
        (lambda: empirical_ntk(DEEP, PARAMS, layers=()), ValueError, "from -3 to 2, at least one"),
        (lambda: empirical_ntk(DEEP, PARAMS, layers=(0, 3)), ValueError, "from -3 to 2.*got \\(0, 3\\)"),
        (lambda: empirical_ntk(DEEP, PARAMS, layers=(-4,)), ValueError, "`layers` must be .*>= -3; got -4"),
        (lambda: empirical_ntk(DEEP, PARAMS, layers=(0, -3)), ValueError, "must be distinct.*\\[0, 0\\]"),
        (lambda: empirical_ntk(DEEP, PARAMS[:2]), ValueError, "must be the tuple of 3 weight arrays"),
        (lambda: empirical_ntk(DEEP, {"w": WEIGHTS}), ValueError, "must be the tuple of 3 .*{'w': \\*}"),
        (lambda: empirical_ntk(DEEP, None), ValueError, "must be the tuple of 3 weight arrays"),
        (lambda: empirical_ntk(DEEP, PARAMS[::-1]), ValueError, "`params` must have the shapes"),
        (lambda: empirical_ntk(DEEP, (jnp.ones(()), *PARAMS[1:])), ValueError, "`params` must have the sh"),
        (lambda: empirical_ntk(DEEP, (jnp.ones((6, 0)), *PARAMS[1:])), ValueError, "`params` must have"),
        (lambda: empirical_ntk(DEEP, (*PARAMS[:2], PARAMS[2].astype(jnp.float16))), TypeError,
         "`params` must have one dtype; got float16, float"),
        (lambda: empirical_ntk(DEEP, (*PARAMS[:2], jnp.arange(5))), TypeError, "`params\\[2\\]` has dtype int"),
        (lambda: empirical_ntk(DEEP, (*PARAMS[:2], jnp.nan * PARAMS[2])), ValueError,
         "`params\\[2\\]` must be finite"),
        (lambda: empirical_ntk(_linear, {"w": WEIGHTS, "step": 3}), TypeError, "`params\\['step'\\]` has"),
        (lambda: empirical_ntk(_linear, WEIGHTS.astype(complex)), TypeError, "has dtype complex"),
        (lambda: empirical_ntk(_linear, {"w": "relu"}), TypeError, "must be an array of numbers"),
        (lambda: empirical_ntk(_linear, (jax.random.key(0),)), TypeError, "has dtype key"),
        (lambda: empirical_ntk(_linear, {}), ValueError, "must hold at least one array; got {}"),
        (lambda: empirical_ntk(_linear, jnp.inf * WEIGHTS), ValueError, "`params` must be finite"),
        (lambda: empirical_ntk(DEEP, PARAMS)(jnp.ones((2, 4))), ValueError, "`x1` must have shape \\(n, 3\\)"),
        (lambda: empirical_ntk(DEEP, PARAMS)(ONES, jnp.ones((2, 4))), ValueError, "`x2` must have shape"),
        (lambda: empirical_ntk(DEEP, PARAMS).diag(jnp.ones((2, 4))), ValueError, "`x` must have shape"),
        (lambda: empirical_ntk(DEEP, PARAMS)(jnp.ones(3)), ValueError, "must have shape \\(n, d\\)"),
        (lambda: empirical_ntk(DEEP, PARAMS)(jnp.ones((0, 3))), ValueError, "n, d >= 1; got \\(0, 3\\)"),
        (lambda: empirical_ntk(DEEP, PARAMS)(jnp.ones((2, 3), int)), TypeError, "floating-point array"),
        (lambda: empirical_ntk(DEEP, PARAMS)(jnp.ones((2, 3), complex)), TypeError, "floating-point"),
        (lambda: empirical_ntk(DEEP, PARAMS)(ONES.astype(jnp.float16)), TypeError,
         "`x1` must have the dtype of the parameters, float.*; got float16"),
        (lambda: empirical_ntk(DEEP, PARAMS)(ONES, ONES.astype(jnp.float16)), TypeError, "`x2` must have the"),
        (lambda: empirical_ntk(DEEP, PARAMS)(jnp.nan * ONES), ValueError, "`x1` must be finite"),
        (lambda: empirical_ntk(DEEP, PARAMS)(ONES, None, "nngp"), ValueError, "`get` must be one of 'ntk'; got"),
        (lambda: empirical_ntk(_linear, WEIGHTS)(jnp.ones(())), ValueError, "shape \\(n, ...\\) with n >= 1"),
        (lambda: empirical_ntk(_linear, WEIGHTS)(jnp.ones((0, 3))), ValueError, "no empty axis; got \\(0, 3\\)"),
        (lambda: empirical_ntk(_linear, WEIGHTS)(ONES, jnp.ones((2, 3, 1))), ValueError,
         "`x2` must have shape \\(n, 3\\); got \\(2, 3, 1\\)"),
        (lambda: empirical_ntk(_linear, WEIGHTS)(jnp.ones((2, 3), int)), TypeError, "floating-point array"),
        (lambda: empirical_ntk(_linear, WEIGHTS)(jnp.nan * ONES), ValueError, "`x1` must be finite"),
        (lambda: empirical_ntk(lambda w, x: x.sum() * w, WEIGHTS)(ONES), ValueError,
         "`model` must return shape \\(2,\\) or \\(2, k\\) for 2 examples; got \\(3,\\)"),
        (lambda: empirical_ntk(lambda w, x: (x @ w,), WEIGHTS)(ONES), ValueError, "examples; got tuple"),
        (lambda: empirical_ntk(lambda w, x: x[:, :, None] * w[0], WEIGHTS)(ONES), ValueError, "\\(2, 3, 1\\)"),
        (lambda: empirical_ntk(lambda w, x: x @ w > 0, WEIGHTS).diag(ONES), TypeError,
         "`model` must return floating-point outputs; got dtype bool"),
    ],
)  # fmt: skip
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()
