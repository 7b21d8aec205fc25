import io
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, strategies as st

import kernelgap as kg
from helpers import models, returned, seeds, x64
from kernelgap._support import registry

KERNEL = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
DTYPES = ("bool", "int8", "uint32", "float16", "bfloat16", "float32", "complex64", "float8_e5m2")


def _problem(n=40, d=5):
    return kg.datasets.xor_noise(jax.random.key(0), n, d, noise="gaussian")


def _round_trip(tmp_path, value, **options):
    kg.save(tmp_path / "file.npz", value, overwrite=True)
    return kg.load(tmp_path / "file.npz", **options)


def _assert_same(one, two):
    """Equal to the last bit, of equal types and dtypes."""
    assert type(one) is type(two) or (isinstance(one, jax.Array) and isinstance(two, jax.Array))
    if isinstance(one, jax.Array) and jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
        assert one.dtype == two.dtype
        one, two = jax.random.key_data(one), jax.random.key_data(two)
    if isinstance(one, kg.models.Model):
        assert one.spec == two.spec
        assert one.degree == two.degree
    elif isinstance(one, kg.kernels.Kernel):
        assert one.spec == two.spec
        assert (one.evaluate, one.default, one.kinds) == (two.evaluate, two.default, two.kinds)
        _assert_same(one.params, two.params)
    elif isinstance(one, jax.Array | np.ndarray | np.generic):
        a, b = np.asarray(one), np.asarray(two)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()
    elif isinstance(one, tuple | list):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            _assert_same(a, b)
    elif isinstance(one, dict):
        assert list(one) == list(two)
        for name in one:
            _assert_same(one[name], two[name])
    else:
        assert one == two or (one != one and two != two)


@st.composite
def bits(draw):
    """Arrays of any bits: signed zeros, subnormals, NaNs with their payloads."""
    dtype = np.dtype(getattr(jnp, draw(st.sampled_from(DTYPES))))
    shape = draw(st.sampled_from([(), (0,), (3,), (2, 0, 2), (2, 3)]))
    count = int(np.prod(shape)) * dtype.itemsize
    raw = np.frombuffer(draw(st.binary(min_size=count, max_size=count)), np.uint8)
    array = (raw % 2).astype(bool) if dtype.kind == "b" else raw.view(dtype)
    return array.reshape(shape)


simple = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | bits()
    | bits().map(jnp.asarray) | st.floats().map(np.float64) | seeds.map(jax.random.key)
)  # fmt: skip
trees = st.recursive(
    simple,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(trees)
def test_every_tree_comes_back_to_the_last_bit(tmp_path_factory, tree):
    _assert_same(tree, _round_trip(tmp_path_factory.mktemp("tree"), tree))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_to_the_last_bit(tmp_path, dtype):
    values = np.random.default_rng(0).normal(size=20).astype(np.dtype(getattr(jnp, dtype)))
    tree = [values, jnp.asarray(values), values[0]]
    _assert_same(tree, _round_trip(tmp_path, tree))


@given(models, seeds)
def test_nets_of_any_kind(tmp_path_factory, model, seed):
    params = model.init(jax.random.key(seed), 3)
    again, weights = _round_trip(tmp_path_factory.mktemp("net"), (model, params))
    _assert_same((model, params), (again, weights))
    x = jax.random.normal(jax.random.key(seed), (4, 3))
    np.testing.assert_array_equal(again.apply(weights, x), model.apply(params, x))
    _assert_same(again.init(jax.random.key(seed), 3), params)


@pytest.mark.parametrize("model", [
    kg.models.mlp((4,), activation=kg.models.SmoothActivation("tanh", 0.5, True)),
    kg.models.fixed_sign_net(4, outputs=2, scale=0.3),
    kg.models.fixed_sign_net(3, signs=[1, -1, -1], init_scale=2.0),
])  # fmt: skip
def test_smooth_nets_and_nets_of_fixed_signs(tmp_path, model):
    params = model.init(jax.random.key(0), 3)
    again, weights = _round_trip(tmp_path, (model, params))
    _assert_same((model, params), (again, weights))


def _kernels():
    net = kg.models.homogeneous_mlp((4, 3), outputs=2, activation="abs")
    params = net.init(jax.random.key(0), 5)
    deep = kg.models.homogeneous_mlp((2, 2), activation=kg.models.relu_power(2))
    return [
        KERNEL, kg.kernels.nngp(deep), kg.kernels.empirical_ntk(net, params),
        kg.kernels.empirical_ntk(net, params, layers=(0, 2)),
        kg.kernels.ntk(kg.models.homogeneous_mlp((7,)), engine="neural_tangents"),
        kg.diversity.diversity_kernel(), kg.diversity.diversity_kernel(3),
        kg.kernels.convert(KERNEL, "arora"),
        kg.kernels.ntk(kg.models.mlp((3,), activation="tanh")),
    ]  # fmt: skip


@pytest.mark.parametrize("kernel", _kernels(), ids=lambda k: str(k)[:40])
def test_kernels_of_any_kind(tmp_path, kernel):
    again = _round_trip(tmp_path, kernel)
    _assert_same(kernel, again)
    x = jax.random.normal(jax.random.key(1), (3, 5))
    np.testing.assert_array_equal(again(x), kernel(x))
    if kernel.params is None:
        assert again == kernel


def _results():
    x, y = _problem()
    net = kg.models.homogeneous_mlp((4,))
    params = net.init(jax.random.key(1), 5)
    loss = kg.objectives.regularized_logistic(net.apply, l2=1e-3)
    noisy = optax.chain(
        optax.adam(1e-2), kg.optim.noisy_gd(0.1, temperature=1e-3, key=jax.random.key(2))
    )
    return {
        "svm": kg.predictors.hard_margin_svm(KERNEL, x, y),
        "classes": kg.predictors.kernel_ridge(KERNEL, x, jnp.arange(40) % 3, classes=3, l2=0.1),
        "trained": kg.optim.train(loss, params, (x, y), noisy, steps=3, record=lambda p: p),
        "certificate": kg.margins.MarginCertificate(
            0.1, 0.2, 2.0, params, np.full(40, 1 / 40), "converged"
        ),
        "bound": kg.margins.UpperBound(
            0.5, np.full(40, 1 / 40),
            kg.margins.ViolationBound(1.0, 0.9, np.eye(5)[0], False, "max_iterations"),
            "max_iterations",
        ),
        "loss": kg.margins.DualityGap(0.4, -np.inf, np.inf, "converged"),
        "path": kg.margins.RegularizationPath(
            *4 * [jnp.ones(2)], {"l2": jnp.ones(2)}, *2 * [jnp.ones(2)], params, None
        ),
        "kkt": kg.margins.KKTResiduals(*3 * [jnp.ones(())], jnp.ones(40), jnp.ones((), bool)),
        "unit": kg.margins.Unit(jnp.eye(5)[0], jnp.ones(()), jnp.ones(())),
        "data": kg.datasets.Dataset(x, y),
        "spectrum": kg.kernels.spectrum(KERNEL, x),
        "zonal": kg.kernels.zonal_spectrum(KERNEL, 5, degree=3),
        "pair": kg.kernels.nearest_pair(x),
        "rademacher": kg.bounds.Bound(jnp.asarray(0.5), "derived", "ours"),
        "gram": kg.bounds.uniform_gram_bound(5, 3),
    }  # fmt: skip


@pytest.fixture(scope="module")
def results():
    return _results()


def test_results_of_the_library(tmp_path, results):
    again = _round_trip(tmp_path, results)
    _assert_same(results, again)
    x, _ = _problem()
    for name in ("svm", "classes"):
        np.testing.assert_array_equal(again[name].predict(x), results[name].predict(x))
        assert again[name].kernel == KERNEL


def test_training_goes_on_from_what_was_saved(tmp_path, results):
    x, y = _problem()
    net = kg.models.homogeneous_mlp((4,))
    loss = kg.objectives.regularized_logistic(net.apply, l2=1e-3)
    optimizer = optax.chain(
        optax.adam(1e-2), kg.optim.noisy_gd(0.1, temperature=1e-3, key=jax.random.key(2))
    )
    first = results["trained"]
    ends = [
        kg.optim.train(loss, t.params, (x, y), optimizer, steps=2, opt_state=t.opt_state).params
        for t in (first, _round_trip(tmp_path, first))
    ]
    _assert_same(*ends)


def test_the_file_is_deterministic_and_plain_numpy_reads_it(tmp_path, results):
    kg.save(tmp_path / "one.npz", results["svm"])
    kg.save(tmp_path / "two.npz", results["svm"])
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.npz") as file:
        assert {member.date_time[0] for member in file.infolist()} == {1980}
    with np.load(tmp_path / "one.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["coef"], results["svm"].coef)
        document = json.loads(file["kernelgap.json"])
    assert document["format"] == 1
    assert document["kernelgap"] == kg.__version__
    clashing = {"a.b": np.ones(1), "a": {"b": np.zeros(1)}, "a/b": np.ones(2)}
    _assert_same(clashing, _round_trip(tmp_path, clashing))


def test_kernels_that_are_functions_are_given_again(tmp_path):
    x, y = _problem()

    def mine(a, b=None):
        return KERNEL(a, b)

    ridge = kg.predictors.kernel_ridge(mine, x, y, l2=0.1)
    again = _round_trip(tmp_path, ridge, kernel=mine)
    np.testing.assert_array_equal(again.decision_function(x), ridge.decision_function(x))
    path = tmp_path / "file.npz"
    with pytest.raises(ValueError, match=r"function '.*mine', which .*load\(path, kernel=\.\.\.\)"):
        kg.load(path)
    with pytest.raises(ValueError, match=r"`kernel` is not the function .*mine'"):
        kg.load(path, kernel=lambda a, b=None: 1.1 * KERNEL(a, b))
    with pytest.raises(TypeError, match="`kernel` must be a function"):
        kg.load(path, kernel=3)
    kg.save(path, KERNEL, overwrite=True)
    with pytest.raises(ValueError, match="describes its kernel itself"):
        kg.load(path, kernel=mine)


def test_float64_of_jax_needs_x64(tmp_path):
    with x64(True):
        value = jnp.full(3, 0.1)
        _assert_same(value, _round_trip(tmp_path, value))
    with x64(False):
        with pytest.raises(ValueError, match="JAX would round .* float64: enable jax_enable_x64"):
            kg.load(tmp_path / "file.npz")
        _assert_same(np.full(3, 0.1), _round_trip(tmp_path, np.full(3, 0.1)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda x: x, "`obj` must be made of arrays, .* got function"),
        ({"a": [1, object()]}, "got object at 'a.1'"),
        ({1: 2}, "dicts with strings as keys; got 1"),
        (np.array([None]), "must hold arrays of numbers or booleans; 'value' has dtype object"),
        (np.array(["a"]), "has dtype <U1"),
        (
            kg.kernels.empirical_ntk(lambda p, x: x @ p, jnp.ones(2)),
            "holds a Kernel with functions of your own",
        ),
    ],
)
def test_what_cannot_be_saved_is_named(tmp_path, value, message):
    with pytest.raises(TypeError, match=message):
        kg.save(tmp_path / "file.npz", value)
    assert not list(tmp_path.iterdir())


def test_models_that_are_not_their_description_are_refused(tmp_path):
    model = kg.models.homogeneous_mlp((4,))
    other = replace(model, apply=lambda p, x: x[:, 0])
    with pytest.raises(TypeError, match="holds a Model with functions of your own"):
        kg.save(tmp_path / "file.npz", other)
    with pytest.raises(TypeError, match="must not be traced"):
        jax.jit(lambda x: kg.save(tmp_path / "file.npz", x))(1.0)


def test_names_are_checked_and_files_kept(tmp_path):
    for path, error, message in (
        (3, TypeError, "`path` must be the name of a file; got int"),
        (tmp_path / "file.json", ValueError, r"must end in \.npz"),
        (tmp_path / "no" / "file.npz", FileNotFoundError, "folder .* does not exist"),
    ):
        with pytest.raises(error, match=message):
            kg.save(path, 1)
    with pytest.raises(FileNotFoundError):
        kg.load(tmp_path / "file.npz")
    kg.save(tmp_path / "file.npz", 1)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        kg.save(tmp_path / "file.npz", 2)
    assert kg.load(str(tmp_path / "file.npz")) == 1
    kg.save(tmp_path / "file.npz", 2, overwrite=True)
    assert kg.load(tmp_path / "file.npz") == 2


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    kg.save(tmp_path / "file.npz", 1)

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(KeyboardInterrupt):
        kg.save(tmp_path / "file.npz", np.ones(3), overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["file.npz"]
    assert kg.load(tmp_path / "file.npz") == 1


@given(st.none() | st.integers(0, 7), st.integers(0, 9_999))
@example(0, 5)  # a bit of the directory's offset: members would start before the file
def test_no_file_that_was_cut_or_changed_is_read_as_another(tmp_path_factory, bit, position):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    value = {"a": np.arange(5.0), "b": (1, jnp.ones(2, jnp.int8))}
    kg.save(path, value, overwrite=True)
    whole = path.read_bytes()
    where = len(whole) - 1 - position % len(whole)
    end = b"" if bit is None else bytes([whole[where] ^ (1 << bit)]) + whole[where + 1 :]
    path.write_bytes(whole[:where] + end)
    try:
        found = kg.load(path)
    except ValueError:
        return
    _assert_same(found, value)  # a bit that says nothing, as of a date


def _rewritten(path, change=None, arrays=None):
    """The file with its document changed, and other arrays in it."""
    with zipfile.ZipFile(path) as file:
        document = json.loads(file.read("kernelgap.json"))
        members = {n: file.read(n) for n in file.namelist() if n != "kernelgap.json"}
    if change is not None:
        document = change(document) or document
    for name, array in (arrays or {}).items():
        buffer = io.BytesIO()
        if array is not None:
            np.save(buffer, array, allow_pickle=True)
        members[f"{name}.npy"] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("kernelgap.json", json.dumps(document))
        for name, content in members.items():
            file.writestr(name, content)


def _fields(document):
    return document["content"]["fields"]


@pytest.mark.parametrize(
    ("change", "arrays", "message"),
    [
        (lambda d: d.update(format=2, kernelgap="9.1"), {}, "kernelgap '9.1' wrote it in format 2"),
        (lambda d: d.update(format=True), {}, "does not name a format"),
        (lambda d: d.pop("content") and None, {}, "does not name a format"),
        (lambda d: [1], {}, "does not name a format"),
        (lambda d: d["content"].update({"class": "Oracle"}), {}, "'Oracle', which this version"),
        (lambda d: d["content"].update({"class": "optax.adam"}), {}, "'optax.adam', which this"),
        (lambda d: _fields(d).pop("duality_gap") and None, {}, "has the fields .* this version has"),
        (lambda d: _fields(d).update(duality_gap={"set": []}), {}, "no value has the form"),
        (lambda d: _fields(d)["duality_gap"].update(array="margin"), {}, "missing, or is used twice"),
        (lambda d: _fields(d)["x"].update({"as": "torch"}), {}, "the unknown kind 'torch'"),
        (lambda d: _fields(d)["kernel"]["fields"].update(kind="rbf"), {}, "does not know"),
        (lambda d: _fields(d)["kernel"]["fields"].update(get="rbf"), {}, "`get` must be one of 'ntk', 'nngp'; got 'rbf'"),
        (lambda d: _fields(d)["kernel"]["fields"].update(spec=3), {}, "no model is described by 3"),
        (
            lambda d: _fields(d)["kernel"]["fields"]["spec"]["fields"].update(init_scale=-1),
            {}, "`init_scale` must be",
        ),
        (None, {"extra": np.ones(2)}, "arrays .'extra'. belong to nothing"),
        (None, {"coef": np.ones(39, np.float32)}, r"shape \[40\]; got <f4 and \[39\]"),
        (None, {"coef": np.ones(40, np.float16)}, "must have dtype <f4"),
        (None, {"coef": np.array([None])}, "Object arrays cannot be loaded"),
        (None, {"coef": None}, "'coef.npy' is damaged"),
        (
            lambda d: _fields(d)["coef"].update(shape=[39]),
            {"coef": np.ones(39, np.float32)}, r"`coef` has shape \(39,\), which does not fit \(n\)",
        ),
        (
            lambda d: _fields(d)["margin"].update(shape=[2]),
            {"margin": np.ones(2, np.float32)}, "KernelPredictor is inconsistent: `.*` has shape",
        ),
        (lambda d: _fields(d).update(margin="wide"), {"margin": np.ones(2)}, "does not hold numbers"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path, results, change, arrays, message):
    path = tmp_path / "file.npz"
    kg.save(path, jax.tree.map(lambda a: a.astype(jnp.float32) if a.dtype == float else a,
                               results["svm"]))  # fmt: skip
    _rewritten(path)
    kg.load(path)
    _rewritten(path, change, arrays)
    with pytest.raises(ValueError, match=message):
        kg.load(path)


def test_other_archives_are_refused(tmp_path):
    path = tmp_path / "file.npz"
    np.savez(path, a=np.ones(2))
    with pytest.raises(ValueError, match="holds no 'kernelgap.json'. numpy.load may read it"):
        kg.load(path)
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match="did not write it, or it is truncated"):
        kg.load(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("kernelgap.json", "{")
    with pytest.raises(ValueError, match=r"'kernelgap.json' is damaged"):
        kg.load(path)
    kg.save(path, 1, overwrite=True)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("note.txt", "hello")
    with pytest.raises(ValueError, match="'note.txt', which kernelgap.save does not write"):
        kg.load(path)
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as members:
        members.writestr("kernelgap.json", json.dumps({"format": 1, "content": None}))
        buffer = io.BytesIO()
        np.save(buffer, np.ones(2))
        members.writestr("a.npy", buffer.getvalue() + b"more")
    with pytest.raises(ValueError, match="continues after its last entry"):
        kg.load(path)


def test_results_that_do_not_fit_together_are_refused(tmp_path, results):
    certificate = results["certificate"]
    for wrong in (
        certificate._replace(params=(certificate.params[0], certificate.params[1][:-1])),
        certificate._replace(params=3.0),
        results["bound"]._replace(weights=np.ones((2, 2))),
        results["data"]._replace(y=jnp.ones(39)),
    ):
        kg.save(tmp_path / "file.npz", wrong, overwrite=True)
        with pytest.raises(ValueError, match=f"its {type(wrong).__name__} is inconsistent"):
            kg.load(tmp_path / "file.npz")


@pytest.mark.parametrize("fields", [
    {"parts": {"tuple": []}}, {"parts": {"dict": {}}}, {"parts": 3}, {"operation": "power"},
    {"factor": "two"}, {"factor": -1.0},
])  # fmt: skip
def test_combinations_that_are_not_ours_are_refused(tmp_path, fields):
    path = tmp_path / "file.npz"
    kg.save(path, 2.0 * KERNEL)
    assert kg.load(path) == 2.0 * KERNEL
    _rewritten(path, lambda d: _fields(d).update(fields))
    with pytest.raises(ValueError, match="cannot be read"):
        kg.load(path)


def test_only_states_of_optax_are_read(tmp_path):
    path = tmp_path / "file.npz"
    for name in ("adam", "chain", "GradientTransformation_", "__name__"):
        kg.save(path, optax.EmptyState(), overwrite=True)
        _rewritten(path, lambda d, name=name: d["content"].update({"class": f"optax.{name}"}))
        with pytest.raises(ValueError, match=f"'optax.{name}', which this version"):
            kg.load(path)


def test_a_file_is_read_by_a_process_that_imported_nothing(tmp_path, results):
    """The modules that register its classes are imported when they are met, and not all of them."""
    kg.save(tmp_path / "file.npz", results)
    kg.save(tmp_path / "net.npz", kg.models.homogeneous_mlp((4,)))
    code = (
        "import sys, kernelgap as kg; kg.load(sys.argv[1] + '/net.npz');"
        "assert 'kernelgap.margins' not in sys.modules and 'optax' not in sys.modules;"
        "value = kg.load(sys.argv[1] + '/file.npz'); kg.save(sys.argv[1] + '/again.npz', value)"
    )
    x64 = {"JAX_ENABLE_X64": str(int(jax.config.jax_enable_x64))}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=os.environ | x64)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "file.npz").read_bytes()


def test_every_public_result_is_saveable():
    modules = (kg.bounds, kg.datasets, kg.diversity, kg.kernels, kg.lazy, kg.margins, kg.metrics,
               kg.models, kg.optim, kg.predictors)  # fmt: skip
    public = [(name, getattr(module, name)) for module in modules for name in module.__all__]
    results = {name for name, value in public if hasattr(value, "_fields")}
    results |= {kind.__name__ for kind in returned(*modules)}
    assert len(results) > 20
    assert {name for name in results if not registry.is_registered(name)} == {"Neurons"}


def test_classes_have_names_of_their_own():
    class Dataset(NamedTuple):
        x: int

    with pytest.raises(ValueError, match="kernelgap.datasets.dataset define a saveable Dataset"):
        registry.saveable()(Dataset)
    with pytest.raises(ValueError, match="kernelgap.datasets.dataset define a saveable Dataset"):
        registry.register(Dataset, Dataset._asdict, Dataset, kind="other")


def test_predictors_share_a_kernel_that_is_given_again(tmp_path):
    x, y = _problem()

    def mine(a, b=None):
        return KERNEL(a, b)

    pair = [kg.predictors.kernel_ridge(mine, x, y, l2=l2) for l2 in (0.1, 0.2)]
    for ridge, again in zip(pair, _round_trip(tmp_path, pair, kernel=mine), strict=True):
        np.testing.assert_array_equal(again.predict(x), ridge.predict(x))
