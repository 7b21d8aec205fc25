import functools
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
from helpers import assert_close, eps, keys, x64
from kernelgap.kernels.spectra import dense, separation

pytestmark = pytest.mark.slow

shallow = kg.kernels.ntk(kg.models.homogeneous_mlp((7,), parameterization="ntk"))
deep = kg.kernels.nngp(kg.models.homogeneous_mlp((7, 7), parameterization="ntk"))
kernels = st.sampled_from([shallow, deep])
extreme = kg.kernels.extreme_eigenvalues
N, D = 264, 12


def gaussian_kernel(x1, x2=None):
    x2 = x1 if x2 is None else x2
    squares = jnp.sum(jnp.square(x1[:, None] - x2[None]), axis=-1)
    return jnp.exp(-squares / (2 * x1.shape[1]))


def draw(key, family, n=N, dtype=None):
    if family == "gaussian":
        return jax.random.normal(key, (n, D), dtype or float)
    if family == "xor":
        return kg.datasets.xor_noise(key, n, 40, dtype=dtype).x
    scales = jnp.logspace(0, -2, D, dtype=dtype or float)[None]  # few directions count
    return jax.random.normal(key, (n, D), dtype or float) * scales


families = st.sampled_from(["gaussian", "xor", "decaying"])


def truth(kernel, x):
    """Eigenvalues by NumPy of the kernel in float64."""
    with x64(True):
        return np.linalg.eigvalsh(np.asarray(kernel(np.float64(x))))


def quiet(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return function(*args, **options)


@given(keys, families, kernels)
def test_dense_is_numpy_in_float64_within_the_stated_error(key, family, kernel):
    x = draw(key, family, 60)
    values, error = quiet(kg.kernels.spectrum, kernel, x)
    exact = truth(kernel, x)
    assert values.dtype == x.dtype
    assert np.max(np.abs(np.float64(values) - exact)) <= error
    assert error < 1e4 * eps() * exact[-1]
    assert_close(jnp.sum(values), jnp.sum(kernel.diag(x)), factor=1e3)


def test_dense_of_a_matrix_with_a_known_spectrum():
    exact = np.arange(1.0, 41.0)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0]
    gram = (turn * exact) @ turn.T
    gram = jnp.asarray((gram + gram.T) / 2, float)
    assert_close(kg.kernels.spectrum(gram).values, exact.astype(gram.dtype))


def test_the_solver_leaves_jax_where_its_workspace_leaves_32_bits():
    """1 + 6n + 2n^2 is 2^31 - 65536 + ... at n = 32,766 and above 2^31 at 32,767."""
    solver = dense.solver
    assert solver(32_766, "gpu") == "device"
    assert solver(32_767, "gpu") == "host"
    assert solver(100_000, "gpu") == "host"
    assert solver(10, "cpu") == "host"


def test_the_solver_of_the_device_agrees(monkeypatch):
    x = draw(jax.random.key(0), "gaussian", 30)
    host = kg.kernels.spectrum(shallow, x)
    monkeypatch.setattr(dense, "solver", lambda n, platform: "device")
    assert_close(kg.kernels.spectrum(shallow, x).values, host.values)


def check(found, exact, x, k):
    """Every statement that `ExtremeEigenvalues` makes, against all true eigenvalues."""
    values, lower, upper = (np.float64(a) for a in (found.values, found.lower, found.upper))
    slack = 4 * eps() * np.abs(exact).max()  # what is returned is rounded to the dtype of x
    assert np.all(lower <= exact + slack)
    assert np.all(exact <= upper + slack)
    with x64(True):
        gram = np.asarray(shallow(np.float64(x)))
    vectors = np.float64(found.vectors)
    for end in np.split(vectors, max(1, vectors.shape[1] // k), axis=1):
        np.testing.assert_allclose(end.T @ end, np.eye(end.shape[1]), atol=100 * eps())
    residual = np.linalg.norm(gram @ vectors - vectors * values, axis=0)
    assert np.all(np.abs(residual - np.float64(found.residuals)) <= found.error + slack)


@given(keys, families, st.sampled_from([1, 4]))
def test_both_ends_within_their_bounds(key, family, k):
    x = draw(key, family)
    found = quiet(extreme, shallow, x, k=k, which="both")
    exact = truth(shallow, x)
    exact = np.concatenate([exact[:k], exact[-k:]])
    assert found.converged.all()
    assert found.products <= 300
    check(found, exact, x, k)
    # The value is far closer than its residual of tol = 1e-2.
    assert np.all(np.abs(np.float64(found.values) - exact) <= 2e-3 * exact + found.error)


@given(keys, st.sampled_from(["smallest", "largest"]))
def test_small_problems_are_dense(key, which):
    x = draw(key, "gaussian", 50)
    found = extreme(shallow, x, k=5, which=which)
    exact = truth(shallow, x)
    exact = exact[:5] if which == "smallest" else exact[-5:]
    assert np.max(np.abs(np.float64(found.values) - exact)) <= found.error
    assert np.all(found.residuals <= found.error)
    check(found, exact, x, 5)


def test_the_matrix_is_never_formed():
    rows = []

    def kernel(x1, x2=None):
        rows.append((x1.shape[0], x1.shape[0] if x2 is None else x2.shape[0]))
        return shallow(x1, x2)

    x = draw(jax.random.key(3), "gaussian")
    found = extreme(kernel, x, rank=20)
    with_matrix = shallow(x)
    error = abs(float(found.values[0] - jnp.linalg.eigvalsh(with_matrix)[0]))
    assert error <= float(found.residuals[0]) + found.error
    # Traced once in `matmul`, whatever the number of products; else columns of the approximation.
    assert found.products > 10
    assert rows.count((N, N)) <= 2


def test_a_plain_function_is_a_kernel():
    x = draw(jax.random.key(4), "gaussian")
    found = quiet(extreme, gaussian_kernel, x, which="both")
    exact = truth(gaussian_kernel, x)
    assert found.lower[0] - 1e-6 <= exact[0] <= found.upper[0] + 1e-6
    assert found.lower[1] - 1e-4 <= exact[-1] <= found.upper[1] + 1e-4


def test_results_repeat():
    x = draw(jax.random.key(5), "xor")
    first, second = (extreme(shallow, x) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)


def near_duplicates(n, distance=1e-5):
    """Inputs whose rows 3 and 7 are `distance` apart at unit angle scale."""
    x = np.random.default_rng(0).normal(size=(n, D))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    step = np.linalg.qr(x[[3, 5]].T)[0][:, 1]
    x[7] = x[3] + distance * step
    return x


@pytest.mark.parametrize("n", [40, N])
@pytest.mark.parametrize("call", [extreme, kg.kernels.spectrum])
def test_single_precision_warns_of_the_pair_that_it_cannot_separate(call, n):
    x = near_duplicates(n)
    match = r"float32 does not resolve .* rows 3 and 7, at distance 1e-05 and angle 1e-05.* float64"
    with pytest.warns(RuntimeWarning, match=match):
        single = call(shallow, x.astype(np.float32))
    exact = truth(shallow, x)
    error = single.error
    assert abs(float(single.values[0]) - exact[0]) <= error
    with x64(True):  # no warning: warnings are errors
        double = call(shallow, x)
        assert double.values.dtype == np.float64
        assert 0 < exact[0] < 1e-5
        np.testing.assert_allclose(float(double.values[0]), exact[0], rtol=1e-3)


@pytest.mark.parametrize("distance", [3e-4, 1e-3, 3e-3])
def test_the_stated_error_covers_what_a_small_angle_costs(distance):
    """Here it is many times the rounding of the largest eigenvalue."""
    x = near_duplicates(8, distance)
    single = quiet(kg.kernels.spectrum, shallow, x.astype(np.float32))
    exact = truth(shallow, x)
    error = abs(float(single.values[0]) - exact[0])
    assert error <= single.error
    assert distance > 1e-3 or error > 16 * np.finfo(np.float32).eps * exact[-1]


@pytest.mark.parametrize("call", [extreme, kg.kernels.spectrum])
def test_equal_inputs_are_named_in_any_precision(call):
    x = near_duplicates(40, distance=0.0)
    x[7] *= 2  # the same direction: for a homogeneous network the same input
    with x64(True), pytest.warns(RuntimeWarning, match="rows 3 and 7, .*parallel.*drop one"):
        call(shallow, x)


@given(keys, families)
def test_no_warning_for_inputs_that_are_well_separated(key, family):
    x = draw(key, family, 40)
    if kg.kernels.nearest_pair(x, metric="angle").angle > 0.1:
        kg.kernels.spectrum(shallow, x)
        extreme(shallow, x)


def test_a_singular_matrix_without_inputs_warns():
    with pytest.warns(RuntimeWarning, match="does not resolve the smallest eigenvalue"):
        kg.kernels.spectrum(jnp.ones((3, 3)))


def test_not_converging_is_said():
    x = draw(jax.random.key(0), "gaussian")
    with pytest.warns(RuntimeWarning, match="1 of 1 eigenvalues did not converge in .* residual"):
        found = extreme(shallow, x, tol=1e-9 if eps() > 1e-10 else 1e-12, max_products=8, rank=4)
    assert not found.converged[0]
    assert found.products <= 9
    check(found._replace(lower=found.lower - np.inf), truth(shallow, x)[:1], x, 1)


@given(keys, st.sampled_from(["euclidean", "angle"]), st.sampled_from([1.0, 1e3]), st.booleans())
def test_nearest_pair_is_the_minimum_over_all_pairs(key, metric, offset, cluster):
    x = np.array(jax.random.normal(key, (30, 4), float), np.float64)
    if cluster:  # differences that a product cannot see
        x[10:20] = x[10] + 1e-6 * x[10:20]
    x = np.asarray(x + offset, dtype=np.asarray(jnp.zeros(())).dtype)
    found = kg.kernels.nearest_pair(x, metric=metric)
    rows = np.float64(x)
    if metric == "angle":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    i, j = np.triu_indices(30, 1)
    assert found.i < found.j
    # float64 differences of rows of this size carry 1e-16 of it.
    slack = 1e-15 * np.abs(rows).max()
    assert distances[found.i, found.j] <= distances[i, j].min() + slack
    np.testing.assert_allclose(
        found.distance, np.linalg.norm(np.float64(x[found.i]) - np.float64(x[found.j])), rtol=1e-12
    )
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    chord = np.linalg.norm(unit[found.i] - unit[found.j])
    np.testing.assert_allclose(found.angle, 2 * np.arcsin(chord / 2), rtol=1e-9, atol=1e-15)


def test_nearest_pair_of_opposite_zero_and_parallel_rows(monkeypatch):
    x = jnp.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 1e-6], [0.0, 2.0], [3.0, 0.1]])
    assert kg.kernels.nearest_pair(x, metric="angle")[:2] == (1, 4)
    pair = kg.kernels.nearest_pair(x)
    assert pair[:2] == (0, 1)
    assert np.isnan(pair.angle)
    assert pair.distance == 1
    # One row in a tile, as for many inputs.
    monkeypatch.setattr(separation, "_TILE", 5)
    assert kg.kernels.nearest_pair(x, metric="angle")[:2] == (1, 4)


def test_kernels_does_not_import_scipy_until_asked():
    import subprocess

    code = (
        "import sys, kernelgap as kg; assert 'scipy.sparse.linalg' not in sys.modules;"
        "assert 'extreme_eigenvalues' in dir(kg.kernels); kg.kernels.extreme_eigenvalues;"
        "assert 'scipy.sparse.linalg' in sys.modules; assert callable(kg.kernels.spectrum)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="'kernelgap.kernels' has no attribute 'other'"):
        _ = kg.kernels.other


points = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), float)


def _nan_kernel(x1, x2=None):
    return jnp.full((x1.shape[0], x1.shape[0] if x2 is None else x2.shape[0]), jnp.nan, x1.dtype)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: kg.kernels.spectrum("ntk", points), TypeError, "`kernel` must be a function"),
        (lambda: kg.kernels.spectrum(shallow), TypeError, "`x` is missing"),
        (lambda: kg.kernels.spectrum(shallow, points[0]), ValueError, r"`x` must have shape \(n, d\)"),
        (lambda: kg.kernels.spectrum(shallow, jnp.ones((2, 2), int)), TypeError, "floating-point"),
        (lambda: kg.kernels.spectrum(points), ValueError, r"must have shape \(n, n\); got \(6, 3\)"),
        (lambda: kg.kernels.spectrum(jnp.triu(jnp.ones((3, 3)))), ValueError, "must be symmetric"),
        (lambda: kg.kernels.spectrum(jnp.full((3, 3), jnp.nan)), ValueError, "must be finite"),
        (lambda: kg.kernels.spectrum(_nan_kernel, points), ValueError, "`kernel` returned NaN or inf"),
        (lambda: kg.kernels.spectrum(lambda a, b=None: a, points), ValueError,
         r"must return shape \(6, 6\) for 6 inputs; got \(6, 3\)"),
        (lambda: jax.jit(functools.partial(kg.kernels.spectrum, shallow))(points), TypeError,
         "`spectrum` runs on the host"),
        (lambda: jax.jit(kg.kernels.spectrum)(jnp.eye(3)), TypeError, "`spectrum` runs on the host"),
        (lambda: extreme(None, points), TypeError, "`kernel` must be a function"),
        (lambda: extreme(shallow, points, k=0), ValueError, "`k` must be an integer >= 1"),
        (lambda: extreme(shallow, points, k=1.5), TypeError, "`k` must be an integer >= 1"),
        (lambda: extreme(shallow, points, k=6), ValueError, "`k` must be at most 5 for n = 6"),
        (lambda: extreme(shallow, points, k=4, which="both"), ValueError, "`k` must be at most 3"),
        (lambda: extreme(shallow, points, which="SA"), ValueError, "`which` must be one of"),
        (lambda: extreme(shallow, points, tol=0), ValueError, "`tol` must be a finite number > 0"),
        (lambda: extreme(shallow, points, tol="s"), TypeError, "`tol` must be a finite number > 0"),
        (lambda: extreme(shallow, points, max_products=0), ValueError, "`max_products` must be"),
        (lambda: extreme(shallow, points, rank=0), ValueError, "`rank` must be an integer >= 1"),
        (lambda: extreme(shallow, points[0]), ValueError, r"`x` must have shape \(n, d\)"),
        (lambda: extreme(shallow, jnp.ones((4, 2), complex)), TypeError, "floating-point"),
        (lambda: extreme(shallow, points * jnp.inf), ValueError, "`x` must be finite"),
        (lambda: extreme(_nan_kernel, points), ValueError, "`kernel` returned NaN or inf"),
        (lambda: extreme(_nan_kernel, jnp.tile(points, (50, 1))), ValueError, "returned NaN or inf"),
        (lambda: jax.jit(functools.partial(extreme, shallow))(points), TypeError, "runs on the host"),
        (lambda: kg.kernels.nearest_pair(points[:1]), ValueError, "must have n >= 2 rows"),
        (lambda: kg.kernels.nearest_pair(points, metric="l1"), ValueError, "`metric` must be one of"),
        (lambda: kg.kernels.nearest_pair(0 * points, metric="angle"), ValueError, "not zero"),
        (lambda: jax.jit(kg.kernels.nearest_pair)(points), TypeError, "runs on the host"),
    ],
)  # fmt: skip
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()
