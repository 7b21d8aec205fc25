"""What several test files share: strategies over few compiled shapes, and tolerances."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import kernelgap as kg

x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
"""`with x64(True):` switches double precision on, whatever the suite runs in."""

seeds = st.integers(0, 2**31 - 1)
keys = seeds.map(jax.random.key)

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
PARAMETERIZATIONS = ("standard", "ntk", "mean_field")

# Few shapes, so that a property compiles a handful of programs.
models = st.builds(
    kg.models.homogeneous_mlp,
    st.sampled_from([(), (6,), (5, 4)]),
    activation=st.sampled_from(sorted(ACTIVATIONS)).map(ACTIVATIONS.get),
    parameterization=st.sampled_from(PARAMETERIZATIONS),
    outputs=st.sampled_from([None, 3]),
    init_scale=st.sampled_from([1.0, 1.5]),
)
smooth_models = st.builds(
    kg.models.mlp,
    st.sampled_from([(), (6,), (5, 4)]),
    activation=st.sampled_from(sorted(SMOOTH)).map(SMOOTH.get),
    parameterization=st.sampled_from(PARAMETERIZATIONS),
    outputs=st.sampled_from([None, 3]),
    init_scale=st.sampled_from([1.0, 1.5]),
)


def eps() -> float:
    """Rounding unit of the default dtype."""
    return float(jnp.finfo(jnp.zeros(()).dtype).eps)


def labels_for(model: kg.models.Model, key: jax.Array, n: int) -> jax.Array:
    """Random labels of the kind the model needs."""
    if model.spec.outputs is None:
        return jnp.where(jax.random.bernoulli(key, 0.5, (n,)), 1.0, -1.0)
    return jax.random.randint(key, (n,), 0, model.spec.outputs)


def assert_close(actual, expected, *, factor: float = 100.0, scale=None) -> None:
    """Equal up to `factor` rounding units of the largest entry (or of `scale`)."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    size = np.max(np.abs(expected)) if scale is None else float(scale)
    bound = factor * float(np.finfo(actual.dtype).eps) * max(size, np.finfo(actual.dtype).tiny)
    np.testing.assert_array_less(np.abs(actual - expected), bound + np.finfo(float).tiny)
