"""Kernels at every scale of their inputs, and in half precision, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
from helpers import eps, slow_but, x64

KERNELS = {
    "linear": kg.kernels.ntk(kg.models.homogeneous_mlp(())),
    "relu": kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk")),
    "deep": kg.kernels.nngp(kg.models.homogeneous_mlp((1, 1), parameterization="ntk")),
    "relu^2": kg.kernels.ntk(kg.models.homogeneous_mlp((1, 1), activation=kg.models.relu_power(2))),
    "leaky": kg.kernels.ntk(kg.models.homogeneous_mlp((1,), activation=kg.models.leaky_relu(0.3))),
    "gelu": kg.kernels.ntk(kg.models.mlp((1, 1), activation="gelu", parameterization="ntk")),
    "erf": kg.kernels.ntk(kg.models.mlp((1, 1), activation="erf", parameterization="ntk")),
    "tanh": kg.kernels.nngp(kg.models.mlp((1,), activation="tanh", parameterization="ntk")),
    "diversity": kg.diversity.diversity_kernel(),
    "neural_tangents": kg.kernels.ntk(
        kg.models.homogeneous_mlp((1,), parameterization="ntk"), engine="neural_tangents"
    ),
}
names = pytest.mark.parametrize(
    "name", slow_but(sorted(KERNELS), ["relu", "relu^2", "gelu", "erf", "diversity"])
)
BASE = np.random.default_rng(0).standard_normal((5, 4))
BASE[3], BASE[4] = 0, -2 * BASE[0]  # a zero row, and opposite ones


def _in_float64(kernel, x, z):
    with x64(True):
        x, z = (jnp.asarray(a, jnp.float64) for a in (x, z))
        size = np.outer(*(np.sqrt(np.asarray(kernel.diag(a))) for a in (x, z)))
        return np.asarray(kernel(x, z)), size


@names
@given(st.sampled_from([-30, -22, -9, 0, 8, 17, 30]), st.sampled_from([-30, -12, 0, 9, 18]))
def test_representable_values_are_right(name, first, second):
    """Each kernel is evaluated at one pair of shapes; only powers of ten change."""
    kernel = KERNELS[name]
    x, z = (np.float32(BASE * 10.0**power) for power in (first, second))
    exact, size = _in_float64(kernel, x, z)
    largest = float(np.finfo(np.float32).max)
    if size.max() > 0.9 * largest or size.max() < np.finfo(np.float32).tiny:
        return  # what happens there is the next test's subject
    found = kernel(jnp.asarray(x), jnp.asarray(z))
    # Opposite rows are at the kink of the angle, where float32 has sqrt(eps).
    np.testing.assert_allclose(found, exact, rtol=0, atol=2e-3 * size.max())
    generic = np.ix_([0, 1, 2], [1, 2])
    close = np.abs(np.float64(found) - exact)[generic] <= 1e-5 * size[generic] + 1e-37
    assert close[~np.isclose(exact[generic], size[generic], rtol=1e-3)].all()


@names
def test_rows_of_all_scales_side_by_side(name):
    kernel = KERNELS[name]
    x = np.float32(BASE * 10.0 ** np.array([[0.0], [-25.0], [4.0], [0.0], [-3.0]]))
    exact, size = _in_float64(kernel, x, x)
    found = np.float64(kernel(jnp.asarray(x)))
    assert (np.abs(found - exact) <= 2e-3 * size + 1e-36).all()


@pytest.mark.parametrize("name", ["relu", "relu^2", "gelu", "neural_tangents"])
def test_what_the_dtype_does_not_hold_is_refused(name):
    kernel, x = KERNELS[name], jnp.asarray(BASE[:2], jnp.float32)
    for scale, trouble in ((1e30, "large"), (1e-30, "small")):
        for call in (kernel, kernel.diag, lambda x, k=kernel: k(x, x)):
            with pytest.raises(ValueError, match=f"is too {trouble}: .* float32 ends. Divide"):
                call(scale * x)
    assert np.isfinite(kernel(1e30 * x, 1e-30 * x)).all()  # as long as it holds them
    assert not np.isfinite(jax.jit(kernel)(1e30 * x)).any()


@names
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_rounded_once(name, dtype):
    kernel = KERNELS[name]
    for scale in (1e-3, 1.0, 50.0):
        x = jnp.asarray(scale * BASE, dtype)
        wide = np.asarray(kernel(x.astype(jnp.float32)))
        if np.abs(wide).max() > 0.99 * float(jnp.finfo(dtype).max):
            with pytest.raises(ValueError, match="too large: .* convert them to float32"):
                kernel(x)
        elif wide.max() > float(jnp.finfo(dtype).smallest_subnormal):
            found = kernel(x)
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, wide.astype(dtype))
            np.testing.assert_array_equal(kernel.diag(x), np.diag(found))


def test_half_precision_products_and_spectra():
    x = jnp.asarray(np.random.default_rng(1).standard_normal((40, 5)), jnp.float16)
    v, kernel = jnp.ones(40, jnp.float16), KERNELS["relu"]
    wide = np.asarray(kernel(x.astype(jnp.float32)), np.float64)
    product = kg.kernels.matmul(kernel, x, v, tile=16)
    assert product.dtype == jnp.float16
    np.testing.assert_allclose(product, wide.sum(axis=1), rtol=1e-3)
    exact = np.linalg.eigvalsh(wide)
    values, error = kg.kernels.spectrum(kernel, x)
    np.testing.assert_allclose(values, exact, atol=error)
    assert error < 1e-3 * exact[-1]
    ends = kg.kernels.extreme_eigenvalues(kernel, x, which="both")
    np.testing.assert_allclose(ends.values, exact[[0, -1]], rtol=1e-3)


@pytest.mark.parametrize("name", slow_but(["gelu", "erf", "tanh"], ["gelu"]))
def test_equal_inputs_have_equal_values_wherever_they_meet(name):
    """At large scales smooth activations have kinks, where rounding of the angle would show."""
    kernel = KERNELS[name]
    x = np.float32(np.random.default_rng(2).standard_normal((20, 50)))
    for scale in (1.0, 100.0, 1e5):
        rows = jnp.asarray(scale * x)
        found = np.asarray(kernel(rows, rows))
        np.testing.assert_allclose(np.diag(found), kernel.diag(rows), rtol=20 * eps())


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e20, 1e30])
def test_the_nearest_pair_at_any_scale(scale):
    x = jnp.asarray(np.random.default_rng(3).standard_normal((30, 4)), jnp.float32)
    for metric in ("euclidean", "angle"):
        plain = kg.kernels.nearest_pair(x, metric=metric)
        scaled = kg.kernels.nearest_pair(scale * x, metric=metric)
        assert (scaled.i, scaled.j) == (plain.i, plain.j)
        np.testing.assert_allclose(scaled.distance, scale * plain.distance, rtol=1e-5)
        np.testing.assert_allclose(scaled.angle, plain.angle, rtol=1e-5)
