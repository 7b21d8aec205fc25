"""Sums, products and multiples of kernels: kernels again, wherever a kernel is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg
from helpers import assert_close, eps, round_trips
from kernelgap._numerics import outputs as forms

model = kg.models.homogeneous_mlp((8,), parameterization="ntk")
net = kg.models.homogeneous_mlp((4,))
x = jax.random.normal(jax.random.key(0), (7, 3))
z = jax.random.normal(jax.random.key(1), (5, 3))
params = net.init(jax.random.key(2), 3)
ntk, diversity = kg.kernels.ntk(model), kg.diversity.diversity_kernel()
empirical = kg.kernels.empirical_ntk(net, params)
two = kg.models.homogeneous_mlp((4,), outputs=2)
outputs = kg.kernels.empirical_ntk(two, two.init(jax.random.key(3), 3))
function = kg.kernels.empirical_ntk(net.apply, params)

BUILD = {  # the combination, and its values from those of the parts
    "sum": (lambda: ntk + empirical, lambda k: k(ntk) + k(empirical)),
    "product": (lambda: empirical * ntk, lambda k: k(empirical) * k(ntk)),
    "multiple": (lambda: 2.5 * ntk, lambda k: 2.5 * k(ntk)),
    "nested": (
        lambda: (ntk * 0.5 + diversity) * (ntk + function),
        lambda k: (0.5 * k(ntk) + k(diversity)) * (k(ntk) + k(function)),
    ),
    "matrices": (lambda: outputs + 2 * outputs, lambda k: 3 * k(outputs)),
}


@pytest.mark.parametrize("name", BUILD)
def test_values_are_those_of_the_parts(name):
    build, of = BUILD[name]
    kernel = build()
    for value, expected in (
        (kernel(x), of(lambda k: k(x))),
        (kernel(x, z), of(lambda k: k(x, z))),
        (kernel.diag(x), of(lambda k: k.diag(x))),
        (jax.jit(lambda k, x: k(x))(kernel, x), of(lambda k: k(x))),
    ):
        assert_close(value, expected)


@pytest.mark.parametrize("name", BUILD)
def test_it_is_a_kernel(name):
    """Symmetric and positive semidefinite, its diagonal that of the matrix."""
    kernel = BUILD[name][0]()
    if name != "matrices":
        kg.testing.assert_kernel(kernel, x)
    gram = np.asarray(kernel(x), float)
    rows = gram if gram.ndim == 2 else gram.transpose(0, 2, 1, 3).reshape(14, 14)
    assert np.linalg.eigvalsh(rows)[0] > -100 * eps() * np.max(rows)
    assert_close(kernel.diag(x), gram[np.arange(7), np.arange(7)])


@pytest.mark.parametrize("name", BUILD)
def test_equal_by_description(name):
    build, _ = BUILD[name]
    assert build() == build()
    assert hash(build()) == hash(build())
    others = {"sum": ntk * empirical, "multiple": 2.0 * ntk}
    assert build() != others.get(name, ntk + empirical)
    for other in round_trips(build()):
        np.testing.assert_array_equal(other(x), build()(x))
    traced = []
    count = jax.jit(lambda kernel, x: traced.append(1) or kernel(x))
    count(build(), x)
    count(build(), x)
    assert len(traced) == 1


def test_a_number_is_static_and_an_array_is_a_parameter():
    assert jax.tree.leaves(2.0 * ntk) == []
    for factor in (2, np.float64(2), np.float32(2)):
        assert factor * ntk == ntk * factor == 2.0 * ntk
    assert sum([ntk, diversity]) == ntk + diversity
    traced = []
    total = jax.jit(lambda c, x: traced.append(1) or jnp.sum((c * ntk)(x)))
    assert_close(total(3.0, x), 3 * total(1.0, x))
    assert len(traced) == 1
    assert_close(jax.grad(total)(2.0, x), jnp.sum(ntk(x)))
    assert np.isnan(total(-1.0, x))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("factor", [3.0, jnp.float32(3.0)], ids=["number", "array"])
def test_half_precision_is_rounded_once(dtype, factor):
    kernel = factor * (ntk + diversity)
    low = x.astype(dtype)
    values = kernel(low)
    assert values.dtype == dtype
    np.testing.assert_array_equal(values, kernel(low.astype(jnp.float32)).astype(dtype))


def test_values_beyond_the_range_are_refused():
    with pytest.raises(ValueError, match="`x1` is too large: values of the kernel exceed"):
        (ntk * ntk)(1e12 * x)
    with pytest.raises(ValueError, match="`x1` is too small: values of the kernel are below"):
        (2.0 * ntk * diversity)(1e-12 * x)
    np.testing.assert_allclose((ntk + ntk)(1e-12 * x), 2e-24 * ntk(x), rtol=1e-5)


def test_get_goes_to_both_parts():
    nngp = kg.kernels.nngp(model)
    both = (ntk + 2.0 * ntk)(x, get=("ntk", "nngp"))
    assert_close(both[0], 3 * ntk(x))
    assert_close(both[1], 3 * nngp(x))
    assert_close((ntk + nngp)(x), ntk(x) + nngp(x))  # each as what it is
    assert (ntk + empirical).kinds == ("ntk",)
    with pytest.raises(ValueError, match="`get` must be one of 'mixed'"):
        (ntk + nngp)(x, get="ntk")


def test_wherever_a_kernel_is_taken(tmp_path):
    kernel = 0.5 * ntk + diversity * empirical
    gram = kernel(x)
    y = jnp.array([1.0, -1, 1, -1, -1, 1, 1])
    assert_close(kg.kernels.matmul(kernel, x, y, tile=3), gram @ y, factor=100)
    assert_close(kg.kernels.gram(kernel, x, tile=3), gram)
    np.testing.assert_allclose(
        kg.kernels.gram(kernel, x, out=tmp_path / "K.npy", tile=3), gram, rtol=1e-5, atol=1e-6
    )
    values = kg.kernels.spectrum(kernel, x).values
    assert_close(values, np.linalg.eigvalsh(gram), factor=100, scale=values[-1])
    largest = kg.kernels.extreme_eigenvalues(kernel, x, which="largest").values
    assert_close(largest, values[-1:], factor=100)
    for solver in (kg.predictors.Direct(), kg.predictors.MatrixFree()):
        fit = kg.predictors.hard_margin_svm(kernel, x, y, solver=solver)
        assert float(fit.duality_gap) < 1e-4
        assert_close(fit.decision_function(z), kernel(z, x) @ fit.coef, factor=1000)
    kg.save(tmp_path / "fit.npz", fit)
    np.testing.assert_array_equal(kg.load(tmp_path / "fit.npz").kernel(x), gram)
    zonal = kg.kernels.zonal_spectrum(2.0 * diversity, 3, degree=1).values
    np.testing.assert_allclose(zonal, 2 * kg.kernels.zonal_spectrum(diversity, 3, degree=1).values,
                               rtol=1e-3)  # fmt: skip


def test_the_batch_is_probed_once_in_an_eager_call(monkeypatch):
    """Also where the kernel is a part of another; predictors hold the matrix, or do not."""
    probes = []
    probe = forms._refuse_batch_dependence

    def counted(apply, params, x):
        if not isinstance(x, jax.core.Tracer):
            probes.append(x.shape)
        probe(apply, params, x)

    monkeypatch.setattr(forms, "_refuse_batch_dependence", counted)
    y = jnp.array([1.0, -1, 1, -1, -1, 1, 1])
    for kernel in (function, ntk + function):
        for call in (
            lambda k: k(x),
            lambda k: kg.kernels.matmul(k, x, y),
            lambda k: kg.kernels.gram(k, x),
            lambda k: kg.kernels.extreme_eigenvalues(k, x, which="largest"),
            lambda k: kg.predictors.kernel_ridge(k, x, y, l2=0.1),
            lambda k: kg.predictors.kernel_ridge(
                k, x, y, l2=0.1, solver=kg.predictors.MatrixFree()
            ),
            lambda k: kg.predictors.best_in_span(k, z, x, y),
        ):
            probes.clear()
            call(kernel)
            assert len(probes) == 1


def test_refuses():
    for call, error, match in (
        (lambda: ntk + 1.0, TypeError, "unsupported operand"),
        (lambda: ntk + (lambda a, b=None: a), TypeError, "unsupported operand"),
        (lambda: ntk * "2", TypeError, "can't multiply|unsupported operand"),
        (lambda: 0.0 * ntk, ValueError, "`factor` must be a finite number > 0; got 0"),
        (lambda: ntk * float("inf"), ValueError, "`factor` must be a finite number > 0"),
        (lambda: ntk * jnp.ones(2), TypeError, "`factor` must be a finite number > 0"),
        (lambda: (ntk + outputs)(x), ValueError, "combines two kernels, whose values must have"),
    ):
        with pytest.raises(error, match=match):
            call()
