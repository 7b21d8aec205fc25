"""Arrays as they come: of other libraries and dtypes, split over a mesh, with x64 on and off."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pandas as pd
import pytest
import scipy.sparse
from jax.experimental.sparse import BCOO

import kernelgap as kg
from helpers import environment_of, x64

x = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
y = np.sign(x[:, 0]).astype(np.float32)
classes = np.arange(12) % 4
outputs = np.random.default_rng(1).normal(size=(12, 4)).astype(np.float32)
kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((8,), parameterization="ntk"))
model = kg.models.homogeneous_mlp((8,))
params = model.init(jax.random.key(0), 4, jnp.float32)
loss = kg.objectives.regularized_logistic(model.apply, l2=1e-3)


class Foreign:
    """A tensor of another library."""

    def __init__(self, *protocols):
        for name in protocols:
            setattr(type(self), name, getattr(self, "_" + name.strip("_")))

    def _array(self, dtype=None, copy=None):
        return x

    def _jax_array(self):
        return jnp.asarray(x)

    def _dlpack(self, **options):
        return x.__dlpack__(**options)

    def _dlpack_device(self):
        return x.__dlpack_device__()


class WithArray(Foreign): ...


class WithJaxArray(Foreign): ...


class WithDLPack(Foreign): ...


class WithGradient:
    """As a tensor of torch that requires a gradient."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


nullable = pd.DataFrame(x.astype(float)).astype("Float64")
with_na = nullable.copy()
with_na.iloc[1, 1] = pd.NA
masked = np.ma.array(x, mask=x > 1)

ACCEPTED = {
    "big-endian": x.astype(">f4"),
    "big-endian double": x.astype(">f8"),
    "long double": x.astype(np.longdouble),
    "object": x.astype(object),
    "list": x.tolist(),
    "tuples": tuple(map(tuple, x.tolist())),
    "list of JAX arrays": [jnp.asarray(row) for row in x],
    "unmasked": np.ma.array(x, mask=False),
    "table": pd.DataFrame(x),
    "nullable table": nullable,
    "read-only": np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    "strided": np.repeat(np.asfortranarray(x), 2, axis=0)[::2],
    "matrix": np.matrix(x),
    "__array__": WithArray("__array__"),
    "__jax_array__": WithJaxArray("__jax_array__"),
    "__dlpack__": WithDLPack("__dlpack__", "__dlpack_device__"),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_arrays_that_are_converted(kind):
    np.testing.assert_array_equal(kg.datasets.even_moments(ACCEPTED[kind]),
                                  kg.datasets.even_moments(x))  # fmt: skip


REFUSED = {
    "masked": (masked, ValueError, f"no missing entries; {masked.mask.sum()} are masked or NA"),
    "list of masked": (list(masked), ValueError, "no missing entries"),
    "NA": (with_na, ValueError, "no missing entries; 1 are"),
    "ragged": ([[1.0, 2.0], [3.0]], TypeError, r"with rows of equal length; got \[\[1.0, 2.0\]"),
    "strings": (x.astype(str), TypeError, "got dtype <U32, with '.*Convert it to numbers$"),
    "bytes": (x.astype("S"), TypeError, r"got dtype \|S32, with b'"),
    "objects": (np.array([[1.0, None]]), TypeError, "got dtype object, with None"),
    "decimal labels": (np.array(["a", "b"]), TypeError, r"labels by numpy.unique\(x, return_inv"),
    "dates": (np.zeros((2, 2), "M8[s]"), TypeError, r"got dtype datetime64\[s\]"),
    "records": (np.zeros(3, [("a", "f4"), ("b", "f4")]), TypeError, "structured_to_unstructured"),
    "scipy sparse": (scipy.sparse.csr_array(x), TypeError, r"a sparse csr_array. Pass x.toarray"),
    "jax sparse": (
        BCOO((jnp.ones(1), jnp.zeros((1, 2), int)), shape=(12, 4)),
        TypeError,
        r"a sparse BCOO. Pass x.todense\(\)",
    ),
    "gradient": (WithGradient(), TypeError, "must be an array of numbers; got <.*WithGradient"),
    "None": (None, TypeError, "must be an array of numbers; got None"),
    "complex": (x + 0j, TypeError, "got dtype complex.* Pass x.real"),
    "whole numbers": (classes.reshape(4, 3), TypeError, r"got dtype int.*x.astype\(float\)"),
    "eight bits": (x.astype(ml_dtypes.float8_e4m3fn), TypeError, "got float8_e4m3fn. Convert it"),
    "long and huge": (x * np.longdouble("1e4000"), ValueError, "must be finite"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_arrays_that_are_refused(kind):
    value, error, message = REFUSED[kind]
    with pytest.raises(error, match=message) as caught:
        kg.datasets.even_moments(value)
    assert "`x`" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fractions_are_numbers():
    half = np.full((2, 3), Fraction(1, 2))
    np.testing.assert_array_equal(kernel(half), kernel(np.full((2, 3), 0.5)))


def test_values_that_float32_cannot_hold():
    with x64(False):
        for huge in (x.astype(float) * 1e300, (x.astype(float) * 1e300).tolist()):
            with pytest.raises(
                ValueError, match="fit into float32.*jax_enable_x64 is set; got .*e"
            ):
                kg.datasets.even_moments(huge)
        with pytest.raises(
            ValueError, match="`y` must fit into int32.*got 4294967296 of dtype int64"
        ):
            kg.metrics.output_margins(outputs, classes + 2**32)
        with pytest.raises(ValueError, match=r"`params` must fit into float32"):
            loss((np.full((8, 4), 1e300), np.ones(8, np.float32)), x, y)
    with x64(True):
        huge = jnp.full((12, 4), 1e100)
        assert kg.datasets.even_moments(huge, (2,)).dtype == np.float64
    with x64(False), pytest.raises(ValueError, match="`x` must fit into float32"):
        kg.datasets.even_moments(huge)


@pytest.mark.parametrize(
    "labels",
    [y.astype(np.int8), y.astype(">i8"), y.astype(object), pd.Series(y.astype(int), dtype="Int64"),
     y.astype(np.float16), pd.Series(y, dtype="category")],
    ids=str,
)  # fmt: skip
def test_signs_of_every_dtype(labels):
    expected = np.mean(np.logaddexp(0, -y.astype(float) * outputs[:, 0]))
    found = np.mean(kg.objectives.logistic_losses(outputs[:, 0], labels))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            y.astype(np.int8).astype(np.uint8),
            r"got \[255, .*uint8 has no -1: pass y.astype\('int8'\)",
        ),
        (y > 0, "For labels 0 and 1"),
        (y * np.nan, r"got \[nan"),
        (y[:, None], r"got \(12, 1\). Pass y.ravel\(\)"),
        (np.ma.array(y, mask=y > 0), "no missing entries"),
        (pd.Series([1, None] * 6, dtype="Int64"), "no missing entries; 6"),
        (np.where(y > 0, "a", "b"), r"labels by numpy.unique\(y, return_inverse"),
    ],
)
def test_signs_that_are_refused(labels, message):
    with pytest.raises((TypeError, ValueError), match=message):
        kg.objectives.logistic_losses(outputs[:, 0], labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (classes.astype(float), r"by y.astype\(int\)"),
        (classes[:, None], r"of shape \(12, 1\). Pass y.ravel\(\)"),
        (np.eye(4)[classes], r"Pass y.argmax\(axis=1\) of one-hot"),
        (classes.astype(str), "labels by numpy.unique"),
    ],
)
def test_classes_that_are_refused(labels, message):
    with pytest.raises((TypeError, ValueError), match=message):
        kg.metrics.output_margins(outputs, labels)


def test_a_state_of_another_dtype():
    optimizer = optax.adam(1e-2)
    with x64(True):
        start = kg.optim.train(loss, params, (x, y), optimizer, steps=2)
        doubled = jax.tree.map(lambda w: w.astype(np.float64), start.params)
        with pytest.raises(TypeError, match=r"`opt_state\[0\].*must be float64; got float32. Pass"):
            kg.optim.train(
                loss, doubled, (x.astype(float), y), optimizer, steps=2, opt_state=start.opt_state
            )
        kg.optim.train(loss, start.params, (x, y), optimizer, steps=2, opt_state=start.opt_state)


def test_double_precision_of_a_time_when_it_was_on():
    with x64(True):
        double = [jnp.asarray(a, float) for a in (x, y)]
        start = jax.tree.map(lambda w: jnp.asarray(w, float), params)
        predictor = kg.predictors.kernel_ridge(kernel, *double, l2=1e-2)
        expected = kg.optim.train(loss, start, tuple(double), optax.adam(1e-2), steps=2).losses
        assert expected.dtype == np.float64
    with x64(False):
        found = kg.optim.train(loss, start, tuple(double), optax.adam(1e-2), steps=2).losses
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        with pytest.raises(TypeError, match="centres, float64; got float32. Set jax_enable_x64"):
            predictor.predict(double[0])


def test_float32_stays_so_with_x64_on():
    w = params[0]
    with x64(True):
        worst = kg.diversity.max_slice_discrepancy(
            w, key=jax.random.key(0), slices=64, kept=8, steps=3
        )
        smallest = kg.diversity.smallest_singular_value(w, x)
    for found in (*worst, *smallest[:3]):
        assert found.dtype == np.float32


def test_two_dtypes_in_one_call():
    with x64(True):
        double = x.astype(float)
        with pytest.raises(
            TypeError, match=r"`centers` and `x` must have the same.*float32, float64"
        ):
            kg.predictors.best_in_span(kernel, x[:5], double, y)
        with pytest.raises(TypeError, match=r"dtype of the centres, float32; got float64. Convert"):
            kg.predictors.kernel_ridge(kernel, x, y, l2=1e-2).decision_function(double)
        for call in (
            lambda: kg.kernels.gram(kernel, x, double),
            lambda: kg.diversity.smallest_singular_value(params[0], double),
        ):
            with pytest.raises(TypeError, match=r"same dtype; got float32, float64. Convert one"):
                call()
    with x64(True), jax.numpy_dtype_promotion("standard"):
        moved = tuple(np.asarray(w, float) * 1.5 for w in params)
        found = kg.lazy.linearization_error(model, params, moved, double)
        start = tuple(np.asarray(w, float) for w in params)
        assert found == kg.lazy.linearization_error(model, start, moved, double)
        mixed = params[0], params[1].astype(np.float64)
        path = kg.margins.regularization_path(model, mixed, x, y, l2s=[1e-1], steps=2)
        assert [w.dtype for w in path.params] == [np.float64, np.float64]  # promoted together


MESH = Path(__file__).with_name("on_a_mesh.py")


def test_arrays_on_a_mesh():
    done = subprocess.run(
        [sys.executable, MESH], env=environment_of(4), capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
