"""Nets whose rows depend on each other, or whose outputs are no rows, are refused by name."""

import jax
import jax.numpy as jnp
import pytest

import kernelgap as kg

key = jax.random.key(0)
x, y = kg.datasets.xor_noise(key, 8, 3)
params = kg.models.homogeneous_mlp((5,)).init(key, 3)
moved = tuple(2 * w for w in params)


def hidden(p, x):
    return x @ p[0].T


def plain(p, x):
    return jax.nn.relu(hidden(p, x)) @ p[1]


def normalised(p, x):
    h = hidden(p, x)
    spread = jnp.sqrt(jnp.var(h, axis=0, keepdims=True) + 1e-5)
    return jax.nn.relu((h - jnp.mean(h, axis=0, keepdims=True)) / spread) @ p[1]


def dropped(p, x):
    h = jax.nn.relu(hidden(p, x))
    kept = jax.random.bernoulli(jax.random.key(3), 0.5, h.shape)
    return jnp.where(kept, 2 * h, 0) @ p[1]


def shared(p, x):
    return jax.nn.softmax(plain(p, x), axis=0)


def stateful(p, x):
    return plain(p, x), {"mean": 0.0}


def summed(p, x):
    return jnp.sum(plain(p, x))


def model(apply):
    return kg.models.Model(lambda key, d, dtype=None: params, apply, degree=2)


def kernel(apply):
    return kg.kernels.empirical_ntk(apply, params)


CALLS = {
    "kernel": lambda f: kernel(f)(x),
    "one example": lambda f: kernel(f)(x[:1]),
    "equal examples": lambda f: kernel(f)(jnp.ones((2, 3))),
    "diagonal": lambda f: kernel(f).diag(x),
    "gram": lambda f: kg.kernels.gram(kernel(f), x),
    "matmul": lambda f: kg.kernels.matmul(kernel(f), x, y),
    "predictor": lambda f: kg.predictors.kernel_ridge(kernel(f), x, y, l2=0.1),
    "linearisation": lambda f: kg.lazy.linearization_error(f, params, moved, x),
    "laziness": lambda f: kg.lazy.laziness(f, params, x, kernel=kg.kernels.empirical_ntk),
    "margin": lambda f: kg.metrics.normalized_margin(model(f), params, x, y),
    "path": lambda f: kg.margins.regularization_path(model(f), params, x, y, l2s=[0.1], steps=1),
    "residuals": lambda f: kg.margins.kkt_residuals(model(f), params, x, y),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nets_are_refused_by_name(call):
    for apply in (normalised, dropped, shared):
        with pytest.raises(ValueError, match="`model` must compute each row .* its own example"):
            call(apply)
    for apply in (stateful, summed):
        with pytest.raises(ValueError, match="`model` must return shape"):
            call(apply)


@pytest.mark.parametrize("name", ["kernel", "one example", "equal examples", "linearisation"])
def test_other_nets_pass(name):
    CALLS[name](plain)
    CALLS[name](lambda p, x: jnp.stack([plain(p, x), 1e6 * plain(p, x)], axis=1))


def test_compiled_calls_are_not_held_up():
    assert jax.jit(lambda x: kernel(plain)(x))(x).shape == (8, 8)
