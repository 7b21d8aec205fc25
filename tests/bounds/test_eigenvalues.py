import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
from helpers import seeds, x64

enclosure = kg.bounds.eigenvalue_enclosure


@given(seeds, st.sampled_from([1e-13, 1e-8, 1e-2]))
def test_encloses_eigenvalues_known_exactly(seed, least):
    """Integer Hadamard bases: K = H diag H' / 8 has the eigenvalues of the diagonal, but for ulps."""
    h = np.array([[1.0]])
    for _ in range(5):
        h = np.block([[h, h], [h, -h]])
    values = np.sort(np.random.default_rng(seed).uniform(1, 10, 32))
    values[0] = least
    k = (h * values) @ h.T / 32
    with x64(True):
        found = enclosure(jnp.asarray(k), gram_error=1e-14 * 10, singular="keep")
    assert found.lower <= least <= found.smallest + found.error
    assert found.smallest - found.error <= least
    assert found.upper >= values[-1]
    # The bound is tight: some n eps of the trace.
    assert least - found.lower < 1e-11
    assert found.upper - values[-1] < 1e-11


def test_the_estimate_covers_float32():
    """A float32 Gram of float32 inputs, against the one in float64."""
    x, _ = kg.datasets.xor_noise(jax.random.key(0), 60, 12, dtype=jnp.float32)
    model = kg.models.homogeneous_mlp((64,), parameterization="ntk")
    found = enclosure(kg.kernels.ntk(model)(x))
    with x64(True):
        exact = np.linalg.eigvalsh(np.asarray(kg.kernels.ntk(model)(jnp.asarray(x, jnp.float64))))
    assert found.lower <= exact[0] <= found.smallest + found.error
    assert found.upper >= exact[-1]
    assert found.gram_error == pytest.approx(16 * 2.0**-23 * found.largest)


def test_several_outputs():
    model = kg.models.mlp((64,), activation="tanh", outputs=2)
    params = model.init(jax.random.key(0), 5)
    x = jax.random.normal(jax.random.key(1), (4, 5))
    gram = kg.kernels.empirical_ntk(model, params)(x)
    flat = np.asarray(gram).transpose(0, 2, 1, 3).reshape(8, 8)
    np.testing.assert_allclose(enclosure(gram).smallest, np.linalg.eigvalsh(flat)[0], rtol=1e-3)


def test_duplicates_are_named():
    x = jax.random.normal(jax.random.key(0), (8, 5)).at[6].set(0)
    x = x.at[6].set(x[2])
    model = kg.models.mlp((64,), activation="gelu")
    kernel = kg.kernels.empirical_ntk(model, model.init(jax.random.key(1), 5))
    with pytest.raises(ValueError, match="singular up to its error: lambda_min lies in .* Samples 2 "
                                         "and 6 have the same features"):  # fmt: skip
        enclosure(kernel(x))
    kept = enclosure(kernel(x), singular="keep")
    assert kept.lower <= 0
    certificate = kg.lazy.convergence_certificate(
        1.0,
        kg.lazy.squared_loss_constants(8),
        lambda_min=kept.lower,
        lambda_max=kept.upper,
        lipschitz=0.1,
    )
    assert not certificate.holds
    assert certificate.max_learning_rate == 0
    features = jax.random.normal(jax.random.key(0), (8, 5))
    with pytest.raises(ValueError, match="No two samples coincide; are there fewer parameters"):
        enclosure(features @ features.T)
    two = kg.models.mlp((64,), activation="gelu", outputs=2)
    kernel = kg.kernels.empirical_ntk(two, two.init(jax.random.key(1), 5))
    with pytest.raises(ValueError, match="Samples 2 and 6"):
        enclosure(kernel(x))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: enclosure(jnp.ones((2, 3))), ValueError, "`gram` must be a Gram matrix"),
        (lambda: enclosure(jnp.eye(2, dtype=int)), TypeError, "`gram` must be a floating"),
        (lambda: enclosure(jnp.eye(2) * jnp.nan), ValueError, "`gram` must be finite"),
        (lambda: enclosure(jnp.eye(2), gram_error=-1.0), ValueError, "`gram_error` must be"),
        (lambda: enclosure(jnp.eye(2), singular="drop"), ValueError, "`singular` must be one of"),
        (
            lambda: jax.jit(enclosure)(jnp.eye(2)),
            TypeError,
            "`eigenvalue_enclosure` runs on the host",
        ),
    ],
)
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()
