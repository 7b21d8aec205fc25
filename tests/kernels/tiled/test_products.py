import re
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, strategies as st

import kernelgap as kg
from helpers import assert_close, keys, seeds, x64
from kernelgap.kernels.functions import diagonal
from kernelgap.kernels.tiled import memory, products, summation

ntk = kg.kernels.ntk(kg.models.homogeneous_mlp((7,), parameterization="ntk"))
sizes, tiles = st.sampled_from([1, 7, 12]), st.sampled_from([1, 5, 12, 64])
columns = st.sampled_from([(), (3,)])


def gaussian(x1, x2=None):
    x2 = x1 if x2 is None else x2
    return jnp.exp(-jnp.sum((x1[:, None] - x2[None]) ** 2, axis=2))


def _inputs(key, n, d=3):
    return jax.random.normal(key, (n, d))


def _exact(kernel, x1, x2, v):
    """K v in double precision from the dense kernel, and the size of the terms in its sums.

    An entry is rounded as one of size sqrt(k(x, x) k(z, z)), also where x and z are opposite.
    """
    with x64(True):
        x1, x2 = np.float64(x1), x2 if x2 is None else np.float64(x2)
        gram, v = np.asarray(kernel(x1) if x2 is None else kernel(x1, x2)), np.float64(v)
        rows, columns = (np.sqrt(diagonal(kernel, x1 if x is None else x)) for x in (x1, x2))
    return gram @ v, np.max(rows) * np.max(columns @ np.abs(v))


def _close(found, kernel, x1, x2, v):
    expected, scale = _exact(kernel, x1, x2, v)
    assert found.dtype == x1.dtype
    assert found.shape == expected.shape
    assert_close(found, expected.astype(found.dtype), factor=30, scale=scale)


@given(keys, sizes, tiles, columns, st.sampled_from([ntk, gaussian]))
def test_is_the_product_with_the_gram_matrix(key, n, tile, k, kernel):
    x, v = _inputs(key, n), jax.random.normal(key, (n, *k))
    _close(kg.kernels.matmul(kernel, x, v, tile=tile), kernel, x, None, v)


@given(keys, sizes, sizes, tiles, columns, st.sampled_from([ntk, gaussian]))
@example(jax.random.key(512), 1, 1, 1, (), ntk)  # one input against its near opposite
def test_is_the_product_with_the_cross_gram_matrix(key, n1, n2, tile, k, kernel):
    x1, x2 = _inputs(key, n1), _inputs(jax.random.fold_in(key, 1), n2)
    v = jax.random.normal(key, (n2, *k))
    _close(kg.kernels.matmul(kernel, x1, v, x2=x2, tile=tile), kernel, x1, x2, v)


@given(keys, tiles, st.floats(-3, 3))
def test_linear_and_symmetric(key, tile, c):
    x, (u, v) = _inputs(key, 12), jax.random.normal(key, (2, 12))
    product = partial(kg.kernels.matmul, ntk, x, tile=tile)
    size = np.max(np.abs(ntk(x)) @ (np.abs(u) + 3 * np.abs(v)))
    assert_close(product(u + c * v), product(u) + c * product(v), factor=30, scale=size)
    both = product(jnp.stack([u, v], axis=1))
    assert_close(both, np.stack([product(u), product(v)], axis=1), factor=30, scale=size)
    weight = float(jnp.sum(jnp.abs(u)) + jnp.sum(jnp.abs(v)))
    assert_close(u @ product(v), v @ product(u), factor=30, scale=size * weight)


def test_the_diagonal_is_the_kernels_own():
    """A kernel with noise on the diagonal: k(x, x) = 1 of x2 = None, 0 anywhere else."""

    def noise(x1, x2=None):
        return jnp.eye(len(x1), dtype=x1.dtype) if x2 is None else jnp.zeros((len(x1), len(x2)))

    x, v = _inputs(jax.random.key(0), 12), jnp.arange(12.0)
    for tile in (1, 5, 12):
        np.testing.assert_array_equal(kg.kernels.matmul(noise, x, v, tile=tile), v)
        np.testing.assert_array_equal(kg.kernels.matmul(noise, x, v, x2=x, tile=tile), 0 * v)
        shift = jnp.zeros(())
        np.testing.assert_array_equal(products.accurate_matmul(
            jax.tree_util.Partial(noise), x, v, shift, tile, None), v)  # fmt: skip


def test_jit_and_vmap():
    x, vs = _inputs(jax.random.key(0), 12), jax.random.normal(jax.random.key(1), (4, 12))
    product = partial(kg.kernels.matmul, tile=5)
    expected = np.stack([product(ntk, x, v) for v in vs])
    assert_close(jax.jit(product)(ntk, x, vs[1]), expected[1])
    assert_close(jax.vmap(lambda v: product(ntk, x, v))(vs), expected)
    assert_close(jax.vmap(lambda v: product(ntk, x, v, x2=x))(vs), expected)
    scaled = jax.vmap(lambda c: product(ntk, c * x, vs[0]))(jnp.array([1.0, 2.0]))
    assert_close(scaled[1], product(ntk, 2 * x, vs[0]))


@pytest.mark.parametrize("tile", [3, 64])
def test_gradients_are_those_of_the_dense_product(tile):
    x, z, v = _inputs(jax.random.key(0), 7), _inputs(jax.random.key(1), 7), jnp.arange(7.0) - 3

    def dense(x, z, v):
        symmetric = jnp.matmul(ntk(x), v, precision="highest")
        return jnp.sum(jnp.tanh(symmetric)) + jnp.sum(jnp.matmul(ntk(x, z), v) ** 2)

    def tiled(x, z, v):
        symmetric = kg.kernels.matmul(ntk, x, v, tile=tile)
        return jnp.sum(jnp.tanh(symmetric)) + jnp.sum(
            kg.kernels.matmul(ntk, x, v, x2=z, tile=tile) ** 2
        )

    found, expected = (jax.grad(f, (0, 1, 2))(x, z, v) for f in (tiled, dense))
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b)


def test_gradient_with_respect_to_the_parameters_of_a_kernel():
    @jax.tree_util.register_pytree_node_class
    class Scaled:
        def __init__(self, scale):
            self.scale = scale

        def __call__(self, x1, x2=None):
            return gaussian(self.scale * x1, None if x2 is None else self.scale * x2)

        def tree_flatten(self):
            return (self.scale,), None

        @classmethod
        def tree_unflatten(cls, _, children):
            return cls(*children)

    x, v = _inputs(jax.random.key(0), 7), jnp.arange(7.0)
    found = jax.grad(lambda c: kg.kernels.matmul(Scaled(c), x, v, tile=3) @ v)(0.5)
    assert_close(found, jax.grad(lambda c: v @ gaussian(c * x) @ v)(0.5))


def test_backward_pass_keeps_no_gram_matrix():
    n = 2000
    x, v = jnp.zeros((n, 4)), jnp.zeros(n)

    def memory_of(product):
        gradient = jax.jit(jax.grad(lambda x, v: jnp.sum(product(x, v) ** 2), (0, 1)))
        return gradient.lower(x, v).compile().memory_analysis().temp_size_in_bytes

    whole = n * n * x.dtype.itemsize
    assert memory_of(lambda x, v: ntk(x) @ v) > whole  # so the number means something
    assert memory_of(lambda x, v: kg.kernels.matmul(ntk, x, v, tile=100)) < whole / 8
    assert memory_of(lambda x, v: kg.kernels.matmul(ntk, x, v, x2=x, tile=100)) < whole / 8


def _polynomial(x1, x2=None):
    """Of integer inputs its entries are exact in any precision."""
    inner = jnp.matmul(x1, (x1 if x2 is None else x2).T, precision="highest")
    return (inner / 4 + 1) ** 2


def test_accurate_product_where_terms_cancel():
    n = 300
    x = np.float32(kg.datasets.xor_noise(jax.random.key(0), n, 12, dtype=jnp.float32).x)
    kernel = jax.tree_util.Partial(_polynomial)
    gram = (x.astype(float) @ x.T / 4 + 1) ** 2
    # Large coefficients of a small result, as a solver has them: most of v is in the kernel's null
    # space (91 functions span it).
    values, vectors = np.linalg.eigh(gram)
    r = vectors.T @ np.random.default_rng(0).normal(size=n)
    null, rest = vectors @ (r * (values < 1e-8)), vectors @ (r * (values >= 1e-8))
    rest *= np.max(np.abs(gram) @ np.abs(null)) / np.max(np.abs(gram @ rest)) / 1e3
    v = np.float32(null + rest)
    exact = gram @ np.float64(v)
    assert 500 < np.max(np.abs(gram) @ np.abs(v)) / np.max(np.abs(exact)) < 2000

    def error(found):
        return np.sqrt(np.mean((np.float64(found) - exact) ** 2))

    x, v = jnp.asarray(x), jnp.asarray(v)
    for tile in (50, 300):
        plain = error(products.symmetric_matmul(kernel, x, v, tile, None))
        for shift in (0.0, gram.mean()):
            found = products.accurate_matmul(kernel, x, v, jnp.float32(shift), tile, None)
            assert found.dtype == jnp.float32
            assert error(found) < plain / 5


@given(keys, sizes, tiles)
def test_accurate_product_of_any_size(key, n, tile):
    x, v = _inputs(key, n), jax.random.normal(key, (n,))
    shift = jnp.full((), 0.3)
    found = products.accurate_matmul(ntk, x, v, shift, tile, None)
    _close(found, ntk, x, None, v)


_accurate_sum = jax.jit(summation.accurate_sum)


@given(seeds, st.sampled_from([1, 200, 600]))
def test_accurate_sum(seed, n):
    with x64(False):
        v = np.float32(10 ** np.random.default_rng(seed).uniform(-3, 3, n))
        v = np.concatenate([v, -v[::-1], v[: n // 2] / 1024])
        exact = np.sum(v, dtype=np.float64)
        found = sum(map(float, _accurate_sum(jnp.asarray(v))))
    assert abs(found - exact) <= 1e-6 * abs(exact) + 1e-10 * np.abs(v).sum()


def test_functions_of_any_form():
    x, v = _inputs(jax.random.key(0), 7), jnp.arange(7.0)

    def scaled(centre, x1, x2=None):
        return gaussian(x1 - centre, None if x2 is None else x2 - centre)

    @dataclass  # with ==, so not hashable
    class Bandwidth:
        width: float

        def __call__(self, x1, x2=None):
            return gaussian(x1 / self.width, None if x2 is None else x2 / self.width)

    changing = Bandwidth(1.0)
    functions = [
        lambda x1, x2=None: gaussian(x1, x2),
        partial(scaled, jnp.ones((1, 3), x.dtype)),  # not hashable either
        jax.tree_util.Partial(scaled, jnp.zeros((1, 3), x.dtype)),
        jax.jit(gaussian),
        changing,
    ]
    for function in functions:
        _close(kg.kernels.matmul(function, x, v, tile=3), gaussian, x, None, v)
        assert_close(diagonal(function, x), np.ones(7, x.dtype))
    changing.width = 2.0  # is seen
    assert_close(kg.kernels.matmul(changing, x, v, tile=3), changing(x) @ v)


def test_dtype_follows_the_inputs():
    x, v = np.ones((4, 3), np.float32), np.ones(4)
    assert kg.kernels.matmul(ntk, x, v).dtype == jnp.float32
    with x64(True):
        assert kg.kernels.matmul(ntk, np.float64(x), np.float32(v)).dtype == jnp.float64


def test_no_columns():
    x = _inputs(jax.random.key(0), 7)
    assert kg.kernels.matmul(ntk, x, jnp.zeros((7, 0)), tile=3).shape == (7, 0)


def test_equal_shapes_compile_once():
    traces = []

    def counted(x1, x2=None):
        traces.append(x1.shape)
        return gaussian(x1, x2)

    x = _inputs(jax.random.key(0), 12)
    kg.kernels.matmul(counted, x, jnp.ones(12), tile=5)
    first = len(traces)
    kg.kernels.matmul(counted, 2 * x, jnp.zeros(12), tile=5)
    assert len(traces) == first
    assert set(traces) == {(4, 3)}  # even tiles, none above the largest side


def test_each_tile_of_a_symmetric_product_is_evaluated_once():
    x, v = jnp.zeros((12, 3)), jnp.zeros(12)
    text = str(jax.make_jaxpr(lambda x: kg.kernels.matmul(ntk, x, v, tile=3))(x))
    assert re.findall(r"length=(\d+)", text) == ["10"]  # 4 * 5 / 2
    text = str(jax.make_jaxpr(lambda x: kg.kernels.matmul(ntk, x, v, x2=x, tile=3))(x))
    assert re.findall(r"length=(\d+)", text) == ["16"]


def test_refuses_what_cannot_fit(monkeypatch):
    def kernel(x1, x2=None):
        raise AssertionError("called")

    x, v = _inputs(jax.random.key(0), 40), jnp.ones(40)
    monkeypatch.setattr(memory, "available_bytes", lambda device: 2**10)
    with pytest.raises(MemoryError, match=r"product .* 0.00 GiB .* 0.00 GiB .* `tile` needs less"):
        kg.kernels.matmul(kernel, x, v)
    # Nothing is known about a program that is compiled now and run somewhere, some time.
    assert jax.jit(lambda v: kg.kernels.matmul(ntk, x, v))(v).shape == (40,)
    parameters = jax.jit(lambda c: kg.kernels.matmul(
        jax.tree_util.Partial(lambda c, x1, x2=None: c * gaussian(x1, x2), c), x, v))  # fmt: skip
    assert parameters(1.0).shape == (40,)


x7, v7 = jnp.ones((7, 3)), np.ones(7)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: kg.kernels.matmul(None, x7, v7), TypeError, "`kernel` must be a function"),
        (lambda: kg.kernels.matmul(ntk, jnp.ones(3), v7), ValueError, "`x1` must have shape"),
        (lambda: kg.kernels.matmul(ntk, x7, v7, x2=jnp.ones((7, 4))), ValueError,
         "`x2` must have shape \\(n, 3\\); got \\(7, 4\\)"),
        (lambda: kg.kernels.matmul(ntk, x7, v7, x2=jnp.ones((7, 3), jnp.float16)), TypeError,
         "same dtype; got float.*, float16"),
        (lambda: kg.kernels.matmul(ntk, x7, v7[:6]), ValueError, "`v` must have shape \\(7,\\)"),
        (lambda: kg.kernels.matmul(ntk, x7, v7, x2=x7[:6]), ValueError, "`v` must have shape \\(6,\\)"),
        (lambda: kg.kernels.matmul(ntk, x7, jnp.ones((7, 1, 1))), ValueError, "or \\(7, k\\)"),
        (lambda: kg.kernels.matmul(ntk, x7, jnp.ones(7, int)), TypeError, "`v` must be a floating"),
        (lambda: kg.kernels.matmul(ntk, x7, jnp.ones(7, complex)), TypeError, "floating"),
        (lambda: kg.kernels.matmul(ntk, jnp.ones((7, 3), int), v7), TypeError, "`x1` must be a fl"),
        (lambda: kg.kernels.matmul(ntk, x7.at[2, 1].set(jnp.nan), v7), ValueError,
         "`x1` must be finite.*\\(2, 1\\)"),
        (lambda: kg.kernels.matmul(ntk, x7, v7 * np.inf), ValueError, "`v` must be finite"),
        (lambda: kg.kernels.matmul(ntk, x7, v7, tile=0), ValueError, "`tile` must be an integer >= 1"),
        (lambda: kg.kernels.matmul(ntk, x7, v7, tile=2.0), TypeError, "`tile` must be an integer"),
        (lambda: kg.kernels.matmul(ntk, x7, v7, mesh=jax.devices()), TypeError,
         "`mesh` must be a jax.sharding.Mesh.*got list"),
        (lambda: kg.kernels.matmul(ntk, x7, v7, mesh=jax.sharding.Mesh(np.empty(0, object), ("a",))),
         ValueError, "`mesh` must hold at least one device"),
        (lambda: kg.kernels.matmul(lambda x1, x2=None: jnp.ones((3, 3)), x7, v7), ValueError,
         "`kernel` must return shape \\(7, 7\\) for 7 and 7 inputs; got \\(3, 3\\)"),
        (lambda: kg.kernels.matmul(lambda x1, x2=None: jnp.ones((7, 1)), x7, v7, x2=x7[:7]), ValueError,
         "`kernel` must return shape \\(7, 7\\)"),
        (lambda: kg.kernels.matmul(partial(ntk, get=("ntk",)), x7, v7), ValueError,
         "`kernel` must return shape \\(7, 7\\).*got tuple"),
        (lambda: kg.kernels.matmul(lambda x1, x2=None: jnp.ones((7, 7), jnp.float16), x7, v7),
         TypeError, "`kernel` must return the dtype of its inputs, float.*; got float16"),
    ],
)  # fmt: skip
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()
