"""Public functions times settings of JAX times kinds of data: right, or refused by name.

Each cell ends in the value that the same function has in float64, to rounding; in an error that
names an argument; or in a warning of ours beside the value. Never in a raw error or a wrong number.
"""

import inspect
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg
import matrix
from helpers import compilations, environment_of, x64
from matrix import ROWS, Data, Row, cast, exact
from test_errors import ROOMS

# Functions that take no arrays, that make their own data, or whose arrays are tested elsewhere.
WITHOUT = {
    "bounds.deep_margin_bound", "bounds.kernel_margin_bound", "bounds.leave_one_out", "lazy.logistic_loss_constants",
    "bounds.discrepancy_bound", "bounds.squared_loss_bound", "bounds.uniform_gram_bound",
    "bounds.lazy_bound", "lazy.squared_loss_constants", "bounds.two_layer_margin_bound", "bounds.xor_span_bound",
    "datasets.digits", "datasets.iid_inputs", "datasets.mnist", "datasets.moment",
    "datasets.planted_teacher", "datasets.planted_xor", "datasets.sphere", "datasets.teacher",
    "datasets.teacher_acceptance", "datasets.xor_noise", "kernels.zonal_spectrum",
    "models.fixed_sign_net", "models.homogeneous_mlp", "models.leaky_relu", "models.mlp",
    "models.relu_power", "proofs.verify", "proofs.write_eigenvalues", "proofs.write_loss",
    "proofs.write_margin", "proofs.write_svm",
}  # fmt: skip

# Cells that are wrong today; one that comes right must be taken out.
KNOWN: dict[str, set[str]] = {
    "lazy.laziness": {"tiny"},  # its kernels, of order 1e-40, are zero
}

SAME_SHAPE = ["plain", "equal rows", "opposite rows", "zero row", "tiny", "huge", "one class"]
OTHER_SHAPES = ["n = 1", "n = 2", "d = 1"]
SLOW = {  # in compilation, some for each call
    "margins.max_margin", "margins.most_violating_unit", "margins.regularization_path", "lazy.laziness_along",
    "diversity.max_slice_discrepancy", "optim.train",
}  # fmt: skip


def test_every_function_that_takes_arrays_has_a_row():
    functions = {
        f"{room}.{name}"
        for room in set(ROOMS) - {"saving", "studies", "testing"}
        for name in getattr(kg, room).__all__
        if inspect.isfunction(inspect.unwrap(getattr(getattr(kg, room), name)))
    }
    rows = {name.split(" ")[0] for name in ROWS} - {"models.apply"}
    assert functions == rows | WITHOUT
    assert not rows & WITHOUT


@contextmanager
def _setting(name: str, value: Any) -> Iterator[None]:
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


def _numbers(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def _call(row: Row, data: Data) -> tuple[Any, str]:
    """The numbers and "", or an error and what is wrong with it; our warnings are an outcome."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = _numbers(row.call(data))
        except Exception as error:
            return error, _misnamed(error)
    foreign = [w.message for w in caught if "encountered in" in str(w.message)]
    if foreign:
        return value, f"warned {foreign[0]!r}"
    return (value if not caught else caught[0].message), ""


def _misnamed(error: Exception) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    ours = frame is not None and "kernelgap" in frame.tb_frame.f_code.co_filename
    named = re.search(r"`\w+|separable by this kernel|outside of jit", str(error))
    if ours and named and isinstance(error, ValueError | TypeError | MemoryError):
        return ""
    return f"{type(error).__name__}: {error!s:.200}"


_references: dict[Any, Any] = {}


def _reference(name: str, kind: str, key: str, low: Data) -> Any:
    """What the same values give in float64, once for each."""
    if (name, kind, key) not in _references:
        used = {field: getattr(low, field) for field in ROWS[name].uses.split()}
        as_float = jax.tree.map(
            lambda a: np.asarray(a).astype(int if a.dtype == jnp.int32 else float), used
        )
        with x64(True):
            data = cast(low._replace(**as_float), jnp.float64)
            _references[name, kind, key] = _call(ROWS[name], data)[0]
    return _references[name, kind, key]


def _wrong(row: Row, value: list, reference: list, dtype: Any) -> str:
    info = jnp.finfo(dtype)
    for got, right in zip(value, reference, strict=True):
        got, right = got.astype(float), right.astype(float)
        if got.shape != right.shape:
            return f"shape {got.shape}, not {right.shape}"
        beyond = np.abs(right) > float(info.max) / 2
        fine = ~np.isfinite(got) & beyond
        fits = np.isfinite(right) & ~beyond
        largest = np.max(np.abs(right), where=fits, initial=0)
        tolerance = max(row.least, row.roundings * float(info.eps)) * largest + float(info.tiny)
        with np.errstate(invalid="ignore"):
            fine |= np.abs(got - right) <= tolerance
        fine |= (got == right) | (np.isnan(got) & np.isnan(right))
        if not fine.all():
            return f"{got[~fine][:2]}, not {right[~fine][:2]}"
    return ""


def _cell(name: str, kind: str, dtype: Any, mixed: Any = None) -> str:
    """What is wrong with a cell; nothing as a rule."""
    row, low = ROWS[name], cast(exact(kind), dtype, mixed=mixed)
    value, fault = _call(row, low)
    if fault:
        return fault
    if not isinstance(value, list):  # refused by name, or with a warning
        return f"refused: {value}" if kind == "plain" and dtype == jnp.float32 and not mixed else ""
    coarse = max((dtype, mixed or dtype), key=lambda dtype: float(jnp.finfo(dtype).eps))
    key = f"{jnp.dtype(dtype).name}{mixed and jnp.dtype(mixed).name}"
    reference = _reference(name, kind, key, low)
    if not isinstance(reference, list):
        return f"{value[0]}, where float64 has {reference!s:.100}"
    return _wrong(row, value, reference, coarse)


def _judge(name: str, cells: dict[str, str]) -> None:
    faults = {cell: fault for cell, fault in cells.items() if fault}
    known = KNOWN.get(name, set()) & set(cells)
    new = {cell: fault for cell, fault in faults.items() if cell not in known}
    if new:
        pytest.fail("\n".join(f"{name}, {cell}: {fault}" for cell, fault in new.items()))
    assert not known - set(faults), f"{name}: now right, take out of KNOWN: {known - set(faults)}"


def _rows(kept: Any = lambda name: True) -> list:
    return [pytest.param(name, marks=() if kept(name) else pytest.mark.slow) for name in ROWS]


@pytest.mark.parametrize("name", _rows(lambda name: name not in SLOW))
def test_kinds_of_data(name):
    cells = {kind: _cell(name, kind, jnp.float32) for kind in SAME_SHAPE}
    cells["mixed"] = _cell(name, "plain", jnp.float32, mixed=jnp.float16)
    cells["float16"] = _cell(name, "plain", jnp.float16)
    cells["bfloat16"] = _cell(name, "plain", jnp.bfloat16)
    _judge(name, cells)


@pytest.mark.parametrize("name", _rows(lambda name: name.startswith("kernels")))
def test_shapes(name):
    _judge(name, {kind: _cell(name, kind, jnp.float32) for kind in OTHER_SHAPES})


@pytest.mark.parametrize("name", _rows(lambda name: name not in SLOW))
def test_debug_nans(name):
    with _setting("jax_debug_nans", True):
        _judge(name, {"debug_nans": _cell(name, "plain", jnp.float32)})


@pytest.mark.slow
@pytest.mark.parametrize("name", _rows())
def test_settings_that_compile_anew(name):
    cells = {}
    with x64(True):
        cells["x64"] = _cell(name, "plain", jnp.float32)
    with _setting("jax_numpy_dtype_promotion", "standard"):
        cells["standard promotion"] = _cell(name, "plain", jnp.float32)
    with _setting("jax_disable_jit", True):
        cells["disable_jit"] = _cell(name, "plain", jnp.float32)
    with _setting("jax_check_tracer_leaks", True):
        cells["tracer leaks"] = _cell(name, "plain", jnp.float32)
    _judge(name, cells)


CALLS = {name: row.call for name, row in ROWS.items()} | {
    "margins.duality_gap (descent)": lambda d: kg.margins.duality_gap(
        matrix.NET, d.params, d.x, d.y, l2=0.1, steps=2
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_compiles_nothing(name, monkeypatch):
    """Models, losses and optimizers are made anew, and the numbers differ."""
    call, data = CALLS[name], cast(exact("plain"), jnp.float32)
    call(data)
    for constant, value in matrix.describe().items():
        monkeypatch.setattr(matrix, constant, value)
    data = data._replace(x=1.25 * data.x, params=jax.tree.map(lambda w: 0.75 * w, data.params))
    before = len(compilations)
    call(data)
    assert len(compilations) == before


def _spoiled(field: str, value: Any) -> Data:
    data = exact("plain")
    leaves, tree = jax.tree.flatten(getattr(data, field))
    leaves[0] = leaves[0].copy()
    leaves[0][(0,) * leaves[0].ndim] = value
    return data._replace(**{field: tree.unflatten(leaves)})


SPOILED = [
    ("x", np.nan), ("x", np.inf), ("y", 0), ("y", 2), ("y", np.nan), ("t", np.nan),
    ("labels", 3), ("labels", -1), ("f", np.nan), ("f3", np.nan), ("w", np.nan),
    ("params", np.nan), ("moved", np.nan), ("params3", np.nan), ("gram", np.nan),
    ("gram1", np.nan), ("l2", -1.0), ("l2", np.nan), ("losses", np.nan),
]  # fmt: skip


def _documented(name: str, field: str, value: Any) -> bool:
    """Whether the docstring says otherwise: a NaN loss counts as infinite, say."""
    return (name, field) in {
        ("lazy.divergence_step", "losses"), ("metrics.error_rate", "f"),
        ("metrics.error_rate (classes)", "f3"), ("lazy.activation_change", "params"),
        ("lazy.activation_change", "moved"), ("lazy.activation_change", "x"),
        ("lazy.check_run", "losses"), ("lazy.displacement", "params"),
        ("lazy.displacement", "moved"),
    }  # fmt: skip


@pytest.mark.parametrize("name", _rows(lambda name: name != "margins.regularization_path"))
def test_what_is_refused_eagerly_is_nan_later(name):
    row = ROWS[name]
    spoiled = [(f, v) for f, v in SPOILED if f in row.uses.split()]
    cells, refused = {}, {}
    for field, value in spoiled:
        if not _documented(name, field, value):
            outcome, fault = _call(row, cast(_spoiled(field, value), jnp.float32))
            if not fault and isinstance(outcome, list) and value != np.inf:
                fault = "" if any(np.isnan(v).any() for v in outcome) else f"not refused: {outcome}"
            cells[f"{field} = {value} eagerly"] = fault
            refused[field, value] = isinstance(outcome, Exception)
    members = [cast(exact("plain"), jnp.float32)]
    members += [cast(_spoiled(*what), jnp.float32) for what in spoiled]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    try:
        values = _numbers(jax.jit(jax.vmap(row.call))(together))
    except Exception as error:
        fault = _misnamed(error) or ("" if row.host else f"refused under jit: {error}")
        _judge(name, cells | {"jit": fault})
        return
    right, _ = _call(row, members[0])
    cells["jit"] = _wrong(row, [v[0] for v in values], right, jnp.float32)
    for k, (field, value) in enumerate(spoiled, start=1):
        if not _documented(name, field, value) and (refused[field, value] or value != np.inf):
            numbers = [v[k] for v in values if v.dtype.kind == "f"]
            hidden = [v for v in numbers if not np.isnan(v).any()]
            fine = len(hidden) < len(numbers) if row.partial else not hidden
            cells[f"{field} = {value} under jit"] = "" if fine else f"not NaN: {hidden[0]}"
    _judge(name, cells)


MESH = """
import sys
sys.path.insert(0, {folder!r})
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import matrix, test_matrix

mesh = jax.make_mesh((4,), ("rows",))  # of explicit axes where JAX has them
for name, row in matrix.ROWS.items():
    if name in test_matrix.SLOW:
        continue
    data = matrix.cast(matrix.exact("plain"), jnp.float32)
    right, _ = test_matrix._call(row, data)
    split = {{
        field: jax.device_put(value, NamedSharding(mesh, PartitionSpec("rows")))
        for field, value in data._asdict().items() if field in ("x", "y", "t", "labels", "f", "f3")
    }}
    value, fault = test_matrix._call(row, data._replace(**split))
    if not fault and isinstance(value, list):
        fault = test_matrix._wrong(row, value, right, jnp.float32)
    if fault:
        print(name, "mesh:", fault)
"""


@pytest.mark.slow
def test_explicit_mesh(tmp_path):
    script = tmp_path / "mesh.py"
    script.write_text(MESH.format(folder=str(Path(__file__).parent)))
    result = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        env=environment_of(4),
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert not result.stdout
