"""Data that a kernel cannot separate: the rows are named, and under `jit` the answer is NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg

relu = kg.kernels.ntk(kg.models.homogeneous_mlp((8,), parameterization="ntk"))
even = kg.kernels.ntk(kg.models.homogeneous_mlp((8,), activation="abs", parameterization="ntk"))


def linear(a, b=None):
    return jnp.matmul(a, (a if b is None else b).T, precision="highest")


binary = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
repeated = np.array([[1, 2], [3, 1], [1, 2], [0, 1]], np.float32)
opposite = np.array([[1, 2], [3, 1], [-1, -2], [0, 1]], np.float32)
multiple = np.array([[1, 2], [3, 1], [2, 4], [0, 1]], np.float32)
tiny = repeated * np.array([[1e-25], [1], [1], [1]], np.float32)
mixed, alike = np.array([1.0, 1, -1, 1]), np.array([1.0, -1, 1, 1])

CASES = [
    (relu, binary, np.array([-1.0, 1, 1, -1]), "row 0 is zero, where every function"),
    (relu, tiny, alike, "row 0 is not zero, but its kernel value is. Multiply x"),
    (relu, repeated, mixed, "rows 0 and 2 are equal, and have different labels"),
    (even, opposite, mixed, "rows 0 and 2 are opposite.* even, and have different labels"),
    (linear, opposite, alike, "rows 0 and 2 are opposite.* odd, and have equal labels"),
    (relu, multiple, mixed, "rows 0 and 2 have values of a fixed ratio"),
]


@pytest.mark.parametrize(("kernel", "x", "y", "cause"), CASES, ids=[c[-1] for c in CASES])
def test_the_rows_are_named(kernel, x, y, cause):
    with pytest.raises(ValueError, match=cause):
        kg.predictors.hard_margin_svm(kernel, x, y)


@pytest.mark.parametrize(("x", "cause"), [(case[1], case[-1]) for case in CASES[:3]])
def test_the_rows_are_named_without_a_gram_matrix(x, cause):
    with pytest.raises(ValueError, match=cause):
        kg.predictors.hard_margin_svm(relu, x, mixed, solver=kg.predictors.MatrixFree(tile=1))


@pytest.mark.parametrize("scale", [0, 1e-25])
def test_a_kernel_that_vanishes_everywhere_has_no_logistic_fit(scale):
    cause = "is too small: .*float32 ends" if scale else "`x` must .*row 0"
    with pytest.raises(ValueError, match=cause):
        kg.predictors.kernel_logistic(relu, scale * binary, mixed, l2=0.1)


def test_a_zero_row_is_fitted_by_zero_elsewhere():
    fit = kg.predictors.kernel_logistic(relu, binary, mixed, l2=0.1)
    assert fit.decision_function(binary)[0] == 0
    assert fit.duality_gap < 1e-5


def test_under_jit_what_is_refused_is_nan_and_its_neighbours_are_right():
    fit = jax.jit(jax.vmap(lambda x, y: kg.predictors.hard_margin_svm(relu, x, y)))
    x = jnp.stack([jnp.asarray(a) for a in (repeated, repeated, repeated, binary, repeated)])
    y = jnp.asarray([alike, mixed, np.ones(4), mixed, [1, -1, 0, 1]], x.dtype)
    fits = fit(x, y)
    right = kg.predictors.hard_margin_svm(relu, repeated, alike)
    assert abs(fits.margin[0] - right.margin) < 1e-5 * right.margin
    for part in (fits.margin, fits.duality_gap, fits.kkt_residual, fits.coef):
        assert np.isfinite(part[0]).all()
        assert np.isnan(part[1:]).all()


def test_under_jit_a_class_that_is_missing_or_out_of_range_is_nan():
    fit = jax.jit(jax.vmap(lambda y: kg.predictors.hard_margin_svm(relu, repeated, y, classes=3)))
    margins = fit(jnp.array([[0, 1, 0, 2], [0, 1, 0, 1], [0, 1, 2, 3], [0, 1, 2, -1]])).margin
    assert (margins[0] > 0).all()
    assert np.isnan(margins[1:]).all()
