"""Quickly compiled programs give the numbers of `jax.jit` everywhere, and public calls need few."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg
from helpers import compilations, eps
from kernelgap._numerics.quick import quick_jit, split_key

x = jnp.asarray(np.random.default_rng(0).standard_normal((7, 3)), jnp.float32)


@quick_jit
def smooth(x):
    return jnp.tanh(x @ x.T).sum(axis=1)


CALLS = {
    "alone": lambda f: f(x),
    "jit": lambda f: jax.jit(f)(x),
    "within jit, of a constant": lambda f: jax.jit(lambda t: t * f(x))(2.0),
    "vmap": lambda f: jax.vmap(f)(jnp.stack([x, 2 * x])),
    "vmap, of a constant": lambda f: jax.vmap(lambda t: t * f(x))(jnp.ones(2)),
    "forward mode": lambda f: jax.jacfwd(f)(x),
    "reverse mode": lambda f: jax.jacrev(f)(x),
    "large": lambda f: f(jnp.tile(x, (100, 1))),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_values_are_those_of_jit(call):
    expected = call(jax.jit(smooth.__wrapped__.__wrapped__))
    np.testing.assert_allclose(call(smooth), expected, rtol=50 * eps(), atol=50 * eps())


@pytest.mark.parametrize("shape", [(3,), (64, 10)])
def test_draws_are_the_same_to_the_last_bit(shape):
    full = {"xla_backend_optimization_level": 3}
    key = jax.random.key(3)

    def normal(key, shape, dtype=None):
        return jax.jit(
            lambda key: jax.random.normal(key, shape, dtype or float), compiler_options=full
        )(key)

    draw = quick_jit(lambda key: jax.random.normal(key, shape), level=1)
    np.testing.assert_array_equal(draw(key), normal(key, shape))
    weights = kg.models.homogeneous_mlp((5,), init_scale=1.3).init(key, 4)
    keys = jax.random.split(key)
    np.testing.assert_array_equal(
        weights[0], 1.3 * 4**-0.5 * normal(keys[0], (5, 4), weights[0].dtype)
    )
    for mine, theirs in zip(split_key(key, 3), jax.random.split(key, 3), strict=True):
        assert (jax.random.key_data(mine) == jax.random.key_data(theirs)).all()


key = jax.random.key(0)
kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((4,)))
inputs = jax.device_put(np.random.default_rng(1).standard_normal((23, 5)).astype(np.float32))
labels, centres = jnp.sign(inputs[:, 0]), inputs[:9]
FIRST_CALLS = {
    "xor_noise": (1, lambda: kg.datasets.xor_noise(key, 23, 5, flip=0.1)),
    "teacher": (3, lambda: kg.datasets.teacher(key, 23, 5)),
    "init": (1, lambda: kg.models.homogeneous_mlp((7, 6, 5)).init(key, 5)),
    "kernel": (1, lambda: kernel(inputs)),
    "kernel_ridge": (4, lambda: kg.predictors.kernel_ridge(kernel, inputs, labels, l2=1.0)),
    "kernel_logistic": (7, lambda: kg.predictors.kernel_logistic(kernel, inputs, labels, l2=1.0)),
    "best_in_span": (5, lambda: kg.predictors.best_in_span(kernel, centres, inputs, labels)),
}


@pytest.mark.parametrize(("most", "call"), FIRST_CALLS.values(), ids=FIRST_CALLS)
def test_first_calls_compile_few_programs(most, call):
    """Each takes 20 ms at least, whatever it does: dozens of them are a second."""
    smooth(x)  # and the options of the compiler, which are tried once in a process
    split_key(key)
    jax.clear_caches()
    before = len(compilations)
    call()
    assert len(compilations) - before <= most
