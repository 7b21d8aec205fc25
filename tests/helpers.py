"""What several test files share: strategies over few compiled shapes, and tolerances."""

import copy
import inspect
import os
import pickle
from collections.abc import Collection, Iterable
from types import ModuleType
from typing import Any, get_origin

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, strategies as st

import kernelgap as kg
from kernelgap.testing import assert_close as assert_close

x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
"""`with x64(True):` switches double precision on, whatever the suite runs in."""

seeds = st.integers(0, 2**31 - 1)
keys = kg.testing.keys()

compilations: list[float] = []
"""The seconds of each compilation by XLA so far; its length counts them."""


@jax.monitoring.register_event_duration_secs_listener
def _count(event: str, seconds: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        compilations.append(seconds)


def environment_of(devices: int) -> dict[str, str]:
    """Return the environment of a child process that emulates some devices on the CPU."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def returned(*rooms: ModuleType) -> set[type]:
    """The NamedTuples of this library that public functions of the rooms say they return."""
    functions = [inspect.unwrap(getattr(room, name)) for room in rooms for name in room.__all__]
    kinds = {
        inspect.signature(function, eval_str=True).return_annotation
        for function in functions
        if inspect.isfunction(function)
    }
    classes = {get_origin(kind) or kind for kind in kinds}
    return {kind for kind in classes if hasattr(kind, "_fields") and "kernelgap" in kind.__module__}


ACTIVATIONS = {
    "relu": "relu",
    "leaky_relu": kg.models.leaky_relu(0.3),
    "abs": "abs",
    "odd": kg.models.Activation(1.0, -2.0, 1.0),
    "relu^2": kg.models.relu_power(2),
    "two-sided^3": kg.models.Activation(1.0, 0.5, 3.0),
}
SMOOTH = {
    "gelu": "gelu",
    "silu": "silu",
    "tanh": "tanh",
    "erf": "erf",
    "steep": kg.models.SmoothActivation("tanh", scale=0.4),
    "gated": kg.models.SmoothActivation("erf", scale=0.7, gated=True),
}
PARAMETERIZATIONS = ("standard", "ntk", "mean_field", "mup")

models = kg.testing.models()
smooth_models = st.builds(
    kg.models.mlp,
    st.sampled_from([(), (6,), (5, 4)]),
    activation=st.sampled_from(sorted(SMOOTH)).map(SMOOTH.get),
    parameterization=st.sampled_from(PARAMETERIZATIONS),
    outputs=st.sampled_from([None, 3]),
    init_scale=st.sampled_from([1.0, 1.5]),
)


def round_trips(value: Any) -> list[Any]:
    """What pickle, copy and deepcopy make of a value."""
    return [pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)]


def slow_but(cases: Iterable, kept: Collection) -> list:
    """The cases for `parametrize`: those in `kept` always, the others with the slow tests only."""
    marked = []
    for case in cases:
        values = case if isinstance(case, tuple) else (case,)
        marked.append(pytest.param(*values, marks=() if case in kept else pytest.mark.slow))
    return marked


def eps() -> float:
    """Rounding unit of the default dtype."""
    return float(jnp.finfo(jnp.zeros(()).dtype).eps)


def off_kinks(*preactivations: jax.Array) -> None:
    """Drop an example where rounding decides whether a unit is on, unless it is exactly at 0."""
    for z in preactivations:
        assume(not np.any((z != 0) & (np.abs(z) < 1e-5)))


def labels_for(model: kg.models.Model, key: jax.Array, n: int) -> jax.Array:
    """Random labels of the kind the model needs."""
    if model.spec.outputs is None:
        return jnp.where(jax.random.bernoulli(key, 0.5, (n,)), 1.0, -1.0)
    return jax.random.randint(key, (n,), 0, model.spec.outputs)


def write_mnist(folder, *, n_train: int, n_test: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """MNIST's four files with noise for images; returns images and labels, train then test.

    Every class occurs, and an image is brighter in the rows that its label names.
    """
    rng, written = np.random.default_rng(seed), []
    for part, n in (("train", n_train), ("t10k", n_test)):
        labels = rng.permutation(np.arange(n) % 10).astype(np.uint8)
        images = rng.integers(0, 100, (n, 28, 28), np.uint8)
        images[np.arange(n), 2 * labels] = 255
        for name, array in ((f"{part}-images-idx3", images), (f"{part}-labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{name}-ubyte").write_bytes(header + array.tobytes())
            written.append(array)
    return tuple(written)


def certificate_in_float64(gram, y, coef):
    """(margin, upper bound) recomputed from the coefficients alone."""
    gram, y, alpha = np.float64(gram), np.float64(y), np.float64(y) * np.float64(coef)
    assert (alpha >= 0).all()
    outputs = y * (gram @ (alpha * y))
    norm = np.sqrt(alpha @ outputs)
    return outputs.min() / norm, norm / alpha.sum()
