from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from jax.sharding import Mesh

import kernelgap as kg
from helpers import assert_close, keys, seeds
from kernelgap.predictors import Direct, Iterative, MatrixFree
from kernelgap.predictors.operators import GramMatrix, KernelOperator, prepare

ntk = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))


def _both(n, seed=0):
    x = jax.random.normal(jax.random.key(seed), (n, 4))
    return x, GramMatrix(ntk(x)), KernelOperator(ntk, x, tile=5)


@jax.jit  # as in the solvers
def _accurate(operator, v, shift):
    return operator.accurate(v, shift)


@given(st.sampled_from([1, 3, 4, 17]), seeds)
def test_held_and_evaluated_gram_matrices_agree(n, seed):
    """Sizes below four rows, and no multiples of four or of the tile."""
    x, held, evaluated = _both(n, seed)
    assert held.size == evaluated.size == n
    assert held.dtype == evaluated.dtype == x.dtype
    index = jnp.arange(n)[::-2]
    v = jax.random.normal(jax.random.key(seed + 1), (n, 2))
    shift = jnp.mean(held.gram)
    scale = np.max(np.abs(held.gram)) * n * 4
    assert_close(evaluated.diagonal(), held.diagonal(), scale=scale)
    assert_close(evaluated.columns(index), held.columns(index), scale=scale)
    assert_close(held.columns(index), held.gram[:, index])
    for product in (held.product, evaluated.product):
        assert_close(product(v), np.float64(held.gram) @ np.float64(v), scale=scale)
        assert_close(product(v[:, 0]), np.float64(held.gram) @ np.float64(v[:, 0]), scale=scale)
    for operator in (held, evaluated):
        exact = np.float64(held.gram) @ np.float64(v[:, 0])
        assert_close(_accurate(operator, v[:, 0], shift), exact, scale=scale)
        assert_close(_accurate(operator, v[:, 0], 0 * shift), exact, scale=scale)
        both = np.float64(held.gram) @ np.float64(v)
        assert_close(_accurate(operator, v, shift), both, scale=scale)


@given(keys, st.sampled_from([801, 3]))
def test_accurate_product(key, n):
    """Sums of cancelling terms keep an error far below that of summing one by one.

    Columns of very different sizes do so too.
    """
    a = jax.random.normal(key, (n, n), jnp.float32)
    v = jnp.sort(jax.random.normal(jax.random.fold_in(key, 1), (n,), jnp.float32))
    v = v - v.mean()
    q, v = a + a.T + 50.0, jnp.stack([v, 1e6 * v], axis=1)  # 50 cancels, after growing for long
    exact = np.float64(q) @ np.float64(v)
    size = np.abs(np.float64(q)) @ np.abs(np.float64(v))
    for shift in (jnp.mean(q), jnp.zeros((), jnp.float32)):
        error = np.abs(np.asarray(_accurate(GramMatrix(q), v, shift)) - exact)
        assert np.max(error / size) < np.finfo(np.float32).eps / (4 if n > 100 else 1)
        alone = np.asarray(_accurate(GramMatrix(q), v[:, 0], shift)) - exact[:, 0]
        assert np.max(np.abs(alone) / size[:, 0]) < np.finfo(np.float32).eps / (4 if n > 100 else 1)


@given(seeds, st.sampled_from([3, 24, 100]))
@example(1, 3)
@example(1, 24)
@example(82, 100)
def test_accurate_product_of_a_solution(seed, n):
    """The sum of the coefficients, times the mean, cancels against the rest of the product."""
    x, held, evaluated = _both(n, seed)
    q = np.float64(held.gram)
    v = jnp.asarray(np.linalg.solve(q, np.sign(x[:, 0])), x.dtype)
    exact = q @ np.float64(v)
    size = np.linalg.norm(exact) + np.linalg.norm(np.abs(q) @ np.abs(np.float64(v)))
    # Entries that are evaluated anew may be rounded otherwise.
    for operator, most in ((held, 0.75), (evaluated, 3)):
        found = np.float64(_accurate(operator, v, jnp.mean(operator.diagonal())))
        assert np.linalg.norm(found - exact) <= most * np.finfo(v.dtype).eps * size


def test_accurate_product_of_the_evaluated_matrix():
    """As accurate as that of the held matrix, up to the rounding of single entries."""
    x, _y = kg.datasets.xor_noise(jax.random.key(0), 801, 20, dtype=jnp.float32)
    v = jnp.sort(jax.random.normal(jax.random.key(1), (801,), jnp.float32))
    gram = ntk(x)
    exact = np.float64(gram) @ np.float64(v)
    size = np.abs(np.float64(gram)) @ np.abs(np.float64(v))
    found = KernelOperator(ntk, x, tile=300).accurate(v, jnp.mean(gram))
    error = np.abs(np.float64(found) - exact)
    assert np.max(error / size) < np.finfo(np.float32).eps / 2


def test_prepare_chooses_and_refuses():
    x = jnp.eye(3) + 1.0
    mesh = Mesh(np.array(jax.devices()[:1]), ("rows",))
    assert isinstance(prepare(ntk, x, "auto"), GramMatrix)
    assert isinstance(prepare(ntk, x, Direct()), GramMatrix)
    assert isinstance(prepare(ntk, x, MatrixFree(mesh=mesh)), KernelOperator)
    assert prepare(ntk, x, MatrixFree(tile=2)).tile == 2
    assert isinstance(prepare(ntk, x, MatrixFree(tile=3)), GramMatrix)  # a single tile
    nothing = jax.tree_util.Partial(lambda a, b=None: jnp.full((3, 3), jnp.nan))
    with pytest.raises(ValueError, match="`kernel` returned NaN or inf"):
        prepare(nothing, x, Direct())
    empty = jax.tree_util.Partial(lambda a, b=None: a @ (a if b is None else b).T * jnp.nan)
    with pytest.raises(ValueError, match="`kernel` returned NaN or inf"):
        prepare(empty, x, MatrixFree(tile=2))
    with pytest.raises(ValueError, match="`kernel` must return shape \\(3, 2\\)"):
        KernelOperator(nothing, x, 3).columns(jnp.arange(2))


def test_too_large_a_gram_matrix_is_refused(monkeypatch):
    monkeypatch.setattr("kernelgap.kernels.tiled.memory.available_bytes", lambda *_: 1000)
    x = jnp.ones((50, 2)) + jnp.arange(50.0)[:, None]
    with pytest.raises(MemoryError, match=r"the Gram matrix of 50 inputs.*MatrixFree"):
        prepare(ntk, x, Direct())
    assert isinstance(prepare(ntk, x, "auto"), KernelOperator)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Direct(max_iterations=0), ValueError, "`max_iterations` must be an integer >= 1"),
        (lambda: Iterative(max_iterations=1.5), TypeError, "`max_iterations` must be an integer"),
        (lambda: MatrixFree(tile=0), ValueError, "`tile` must be an integer >= 1"),
        (lambda: MatrixFree(block=0), ValueError, "`block` must be an integer >= 1"),
        (lambda: MatrixFree(mesh=3), TypeError, r"`mesh` must be a jax\.sharding\.Mesh"),
    ],
)
def test_solvers_refuse(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_solvers_are_static_and_equal_by_their_options():
    for solver in (Direct(), Iterative(max_iterations=3), MatrixFree(tile=7)):
        assert jax.tree.leaves(solver) == []
        assert jax.jit(lambda s: s)(solver) == solver
        assert len({solver, replace(solver), replace(solver, max_iterations=2)}) == 2
    assert Direct() != Iterative()
