"""Each law holds for what obeys it, and fails for what does not."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given

import kernelgap as kg
from kernelgap import testing

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (8, 4))


def rbf(x1, x2=None):
    x2 = x1 if x2 is None else x2
    return jnp.exp(-0.5 * jnp.sum(jnp.square(x1[:, None] - x2[None]), axis=2))


def test_close_counts_rounding_units():
    one = np.float32(1)
    testing.assert_close(one + np.float32(50) * np.finfo(np.float32).eps, one)
    with pytest.raises(AssertionError, match="100 rounding units of 1"):
        testing.assert_close(one + np.float32(200) * np.finfo(np.float32).eps, one)
    with pytest.raises(AssertionError):
        testing.assert_close(np.float32(np.nan), one)


def test_homogeneous():
    model = kg.models.homogeneous_mlp((5,))
    params = model.init(KEY, 4)
    testing.assert_homogeneous(model.apply, params, X, degree=2)
    for wrong, degree in (
        (model.apply, 3),
        (lambda p, x: model.apply(p, x) + 0.01, 2),
        # Even of degree 2 under Euler's identity alone would not do: -f on half of the scales.
        (lambda p, x: jnp.tanh(model.apply(p, x)), 2),
    ):
        with pytest.raises(AssertionError, match="off by"):
            testing.assert_homogeneous(wrong, params, X, degree=degree)


@given(testing.kernels(), testing.datasets(shapes=((8, 4),)))
def test_kernels_and_data_of_the_strategies(kernel, data):
    testing.assert_kernel(kernel, data.x)
    assert set(np.asarray(data.y).tolist()) <= {-1.0, 1.0}


@given(testing.datasets(shapes=((40, 3),)))
def test_drawn_data_are_of_the_xor_distribution_or_random(data):
    x, y = np.asarray(data.x), np.asarray(data.y)
    if np.isin(np.abs(x), (0, 1)).all():
        axis = np.abs(x[:, 0]) - np.abs(x[:, 1])
        np.testing.assert_array_equal(y, axis if (x[:, :2] == 0).any() else x[:, 0] * x[:, 1])
        assert (np.abs(x[:, 2:]) == 1).all()


def test_plain_functions_are_kernels():
    testing.assert_kernel(rbf, X)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda a, b=None: -rbf(a, b), "eigenvalue"),
        (lambda a, b=None: rbf(a, b) + (0.01 if b is None else 0), "off by"),
        (lambda a, b=None: rbf(a, b) * (1 + a[:, :1] ** 2), "off by"),
        (lambda a, b=None: rbf(a, b) / len(a), "off by"),
        (lambda a, b=None: rbf(a, b)[:, :2], "must have shape"),
        (lambda a, b=None: rbf(a, b) * jnp.nan, "not finite"),
        (
            lambda a, b=None: rbf(a, b) + jnp.where(jnp.arange(len(a)) == 0, 0.1, 0.0)[:, None],
            "off by",
        ),
        (lambda a, b=None: rbf(a, b) + 0.1 * isinstance(a, jax.core.Tracer), "off by"),
    ],
)
def test_what_is_no_kernel(wrong, match):
    with pytest.raises(AssertionError, match=match):
        testing.assert_kernel(wrong, X)


def test_a_wrong_diagonal_is_seen():
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((1,)))

    class Wrong:
        def __call__(self, a, b=None):
            return kernel(a, b)

        def diag(self, x):
            return 1.1 * kernel.diag(x)

    with pytest.raises(AssertionError, match="off by"):
        testing.assert_kernel(Wrong(), X)
    with pytest.raises(ValueError, match="at least 3 rows; got 2"):
        testing.assert_kernel(kernel, X[:2])


def test_margins():
    x, y = kg.datasets.xor_noise(KEY, 12, 4)
    model = kg.models.homogeneous_mlp((4,))
    params = kg.datasets.planted_xor(4)
    testing.assert_margin_invariant(lambda p: kg.metrics.normalized_margin(model, p, x, y), params)
    with pytest.raises(AssertionError, match="off by"):
        testing.assert_margin_invariant(
            lambda p: kg.metrics.output_margins(model.apply(p, x), y).min(), params
        )


def build(width):
    return kg.models.homogeneous_mlp((width,), parameterization="ntk")


def test_infinite_width():
    kernel = kg.kernels.ntk(build(1))
    arguments = {"key": KEY, "width": 64, "bias": 0}
    testing.assert_infinite_width(build, kernel, X, **arguments)
    for wrong in (lambda x: 1.2 * kernel(x), kg.kernels.nngp(build(1))):
        with pytest.raises(AssertionError, match="limit"):
            testing.assert_infinite_width(build, wrong, X, **arguments)


def test_lazy_limit():
    y = jnp.where(X[:, 0] > 0, 1.0, -1.0)
    arguments = {"key": KEY, "widths": (16, 256), "steps": 20}
    testing.assert_lazy_limit(build, X, y, **arguments)
    with pytest.raises(AssertionError, match=r"lazy training has 0\.5"):
        testing.assert_lazy_limit(
            lambda m: kg.models.homogeneous_mlp((m,), parameterization="mean_field"),
            X, y, **arguments,
        )  # fmt: skip
    with pytest.raises(ValueError, match="factor of at least 4; got 16 and 20"):
        testing.assert_lazy_limit(build, X, y, key=KEY, widths=(16, 20))
    linear = lambda m: kg.models.homogeneous_mlp(())
    with pytest.raises(ValueError, match="did not change"):
        testing.assert_lazy_limit(linear, X, y, **arguments)


def test_strategies_need_hypothesis_and_laws_do_not():
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import kernelgap as kg\n"
        "kg.testing.assert_close\n"
        "try: kg.testing.keys\n"
        "except ImportError as error: assert \"pip install 'kernelgap[test]'\" in str(error), error\n"
        "else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'model'"):
        testing.model  # noqa: B018
    assert {"keys", "assert_kernel"} <= set(dir(testing))


def test_optax_is_what_trains():
    """The step of `assert_lazy_limit` is one that converges: its rate is below the limit."""
    kernel = kg.kernels.empirical_ntk(build(64), params := build(64).init(KEY, 4))(X)
    rate = 0.5 * len(X) / float(np.linalg.eigvalsh(np.float64(kernel))[-1])
    loss = lambda p, x, y: jnp.mean(jnp.square(build(64).apply(p, x) - y)) / 2
    losses = kg.optim.train(loss, params, (X, jnp.sign(X[:, 0])), optax.sgd(rate), steps=30).losses
    assert np.all(np.diff(losses) < 1e-6)


_SCRIPT = """
import jax, jax.numpy as jnp
from hypothesis import given, settings
import kernelgap as kg
LOAD
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *a, **k: compiled.append(name) if "backend_compile" in name else None)

@given(kg.testing.models(), kg.testing.datasets(), kg.testing.datasets(classes=3),
       kg.testing.activations(), kg.testing.kernels())
def draw(model, data, classes, activation, kernel):
    assert data.x.shape == (12, 4) and set(classes.y.tolist()) <= {0, 1, 2}

draw()
assert not compiled, compiled

@given(kg.testing.models(widths=[(3,)], largest_power=1, outputs=[None]), kg.testing.keys())
def train(model, key):
    model.apply(model.init(key, 3), jnp.ones((2, 3)))

train()
print(settings.default.deadline)
"""


@pytest.mark.parametrize(
    ("load", "deadline"),
    [
        ("", "None"),
        ("settings.register_profile('own', deadline=90_000); settings.load_profile('own')",
         "0:01:30"),
    ],
)  # fmt: skip
def test_strategies_draw_without_compiling_and_have_no_deadline(load, deadline, tmp_path):
    """In a new process, under the settings that a user has who sets none."""
    environment = {k: v for k, v in os.environ.items() if k != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT.replace("LOAD", load)],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.stdout.strip() == deadline, done.stderr
