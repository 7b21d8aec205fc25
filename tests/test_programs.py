"""Equal programs are compiled once, and different ones are never taken for each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import compilations
from kernelgap._numerics.programs import run

a, b = jnp.float32(1.0), jnp.float32(2.0)
options = {"scale": 2.0}


def scaled(factor):
    return lambda x, y: factor * x


def option(x, y):
    return options["scale"] * x


def table(values):
    entries = jnp.asarray(values, jnp.float32)
    return lambda x, y: x * entries


SAME = {
    "closures": lambda: scaled(3.0),
    "dictionaries": lambda: lambda x, y: {"sum": x + y, "pair": (x, y)},
    "loops": lambda: lambda x, y: jax.lax.scan(lambda c, t: (c * y, t + c), x, jnp.arange(3.0)),
    "derivatives": lambda: lambda x, y: jax.grad(lambda x: jax.nn.softplus(x * y))(x),
    "custom derivatives": lambda: lambda x, y: jax.nn.relu(jax.nn.silu(x)) * y,
    "random draws": lambda: lambda x, y: x * jax.random.normal(jax.random.key(0), (2,)),
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_equal_programs_are_compiled_once(make):
    run(make(), a, b)
    before = len(compilations)
    found = run(make(), b, a)
    assert len(compilations) == before
    expected = jax.jit(make())(b, a)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_closed_over_arrays_are_inputs():
    first = run(table([1.0, 2.0]), a, b)
    before = len(compilations)
    second = run(table([1.0, 3.0]), a, b)
    assert len(compilations) == before
    assert first.tolist() == [1.0, 2.0]
    assert second.tolist() == [1.0, 3.0]


DIFFERENT = {
    "constants": [scaled(3.0), scaled(float(np.nextafter(np.float32(3), np.float32(4))))],
    "inputs": [lambda x, y: x, lambda x, y: y],
    "outputs": [lambda x, y: (x, y), lambda x, y: (y, x), lambda x, y: (x, x)],
    "trees": [lambda x, y: {"x": x, "y": y}, lambda x, y: (x, y), lambda x, y: [x, y]],
    "names": [lambda x, y: {"x": x}, lambda x, y: {"y": x}],
    "weak types": [lambda x, y: jnp.float32(2), lambda x, y: jnp.asarray(2.0)],
    "signs of zero": [scaled(0.0), scaled(-0.0)],
    "loops": [lambda x, y, n=n: jax.lax.fori_loop(0, n, lambda _, c: c * y + 1, x) for n in (2, 3)],
    "draws": [
        lambda x, y, seed=seed: jax.random.normal(jax.random.key(seed), ()) for seed in (0, 1)
    ],
}


@pytest.mark.parametrize("functions", DIFFERENT.values(), ids=DIFFERENT)
def test_different_programs_are_told_apart(functions):
    for function in functions:
        found, expected = run(function, a, b), jax.jit(function)(a, b)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert ours.aval == theirs.aval
            assert ours.tobytes() == theirs.tobytes()


def test_what_a_function_reads_may_change():
    """As it may not for `jax.jit`, which knows the function and does not look again."""
    assert run(option, a, b) == 2
    options["scale"] = 5.0
    assert run(option, a, b) == 5


def test_callbacks_are_their_own():
    heard = []
    for name in ("first", "second"):

        def speak(x, y, name=name):
            jax.debug.callback(lambda value: heard.append((name, float(value))), x)
            return jax.pure_callback(lambda v: np.float32(len(name)) * v, x, y)

        assert run(speak, a, b) == 2 * len(name)
    jax.effects_barrier()
    assert heard == [("first", 1.0), ("second", 1.0)]


def test_it_is_a_part_of_larger_programs():
    def inner(x, y):
        return run(lambda x: x * y, x)  # y is closed over

    xs = jnp.arange(3.0)
    assert jax.vmap(inner)(xs, xs).tolist() == [0.0, 1.0, 4.0]
    assert jax.vmap(inner, in_axes=(None, 0))(a, xs).tolist() == [0.0, 1.0, 2.0]
    assert jax.jit(jax.grad(inner))(a, b) == 2
    assert jax.jit(lambda: run(lambda x: x * 3, b))() == 6
    with jax.disable_jit():
        assert run(lambda x: x * float(x), b) == 4
