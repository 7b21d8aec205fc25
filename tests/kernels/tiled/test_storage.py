import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
from helpers import assert_close, keys
from kernelgap.kernels.tiled import storage
from kernelgap.kernels.tiled.files import GramFile

ntk = kg.kernels.ntk(kg.models.homogeneous_mlp((7,), parameterization="ntk"))
sizes, tiles = st.sampled_from([1, 7, 12]), st.sampled_from([1, 5, 12, 64])
N, TILE = 11, 4  # three panels, the last of them shorter


def gaussian(x1, x2=None):
    x2 = x1 if x2 is None else x2
    return jnp.exp(-jnp.sum((x1[:, None] - x2[None]) ** 2, axis=2))


def noisy(x1, x2=None):
    """A kernel whose diagonal only x2 = None has."""
    return gaussian(x1) + jnp.eye(len(x1), dtype=x1.dtype) if x2 is None else gaussian(x1, x2)


kernels = st.sampled_from([ntk, noisy])


def _inputs(seed=0, n=N, d=3):
    return jax.random.normal(jax.random.key(seed), (n, d))


@given(keys, sizes, tiles, kernels)
def test_is_the_gram_matrix(key, n, tile, kernel):
    x = jax.random.normal(key, (n, 3))
    found, expected = kg.kernels.gram(kernel, x, tile=tile), kernel(x)
    assert found.dtype == x.dtype
    assert_close(found, expected)
    diagonal = kernel.diag(x) if kernel is ntk else np.full(n, 2.0)
    np.testing.assert_array_max_ulp(np.diag(found), np.asarray(diagonal, found.dtype), 4)


@given(keys, sizes, sizes, tiles, kernels)
def test_is_the_cross_gram_matrix(key, n1, n2, tile, kernel):
    x1, x2 = (
        jax.random.normal(k, (n, 3)) for k, n in zip(jax.random.split(key), (n1, n2), strict=True)
    )
    assert_close(kg.kernels.gram(kernel, x1, x2, tile=tile), kernel(x1, x2))


def test_jit_and_gradient():
    x = _inputs()
    assert_close(jax.jit(lambda x: kg.kernels.gram(ntk, x, tile=4))(x), ntk(x))
    found = jax.grad(lambda x: jnp.sum(jnp.tanh(kg.kernels.gram(ntk, x, tile=4))))(x)
    assert_close(found, jax.grad(lambda x: jnp.sum(jnp.tanh(ntk(x))))(x))


@given(keys, sizes, tiles, kernels, st.booleans())
def test_an_array_is_filled_in_place(key, n, tile, kernel, cross):
    x = jax.random.normal(key, (n, 3))
    x2 = x[: n // 2 + 1] if cross else None
    shape = (n, n if x2 is None else len(x2))
    out = np.full(shape, np.nan, x.dtype)
    assert kg.kernels.gram(kernel, x, x2, out=out, tile=tile) is out
    assert_close(out, kernel(x) if x2 is None else kernel(x, x2))
    if x2 is None:
        np.testing.assert_array_equal(out, out.T)


def test_a_memory_map_and_a_view_are_filled(tmp_path):
    x = _inputs()
    mapped = np.lib.format.open_memmap(tmp_path / "K.npy", "w+", x.dtype, (N, N))
    kg.kernels.gram(ntk, x, out=mapped, tile=TILE)
    mapped.flush()
    assert_close(np.load(tmp_path / "K.npy"), ntk(x))
    whole = np.zeros((2 * N, N), x.dtype)
    kg.kernels.gram(ntk, x, out=whole[::2], tile=TILE)
    assert_close(whole[::2], ntk(x))
    assert not whole[1::2].any()


@pytest.mark.parametrize("tile", [1, TILE, 64, None])
@pytest.mark.parametrize("kernel", [ntk, noisy])
def test_file(tmp_path, kernel, tile):
    x, z = _inputs(), _inputs(1, 6)
    found = kg.kernels.gram(kernel, x, out=str(tmp_path / "K.npy"), tile=tile)
    np.testing.assert_array_equal(found, found.T)
    assert_close(found, kg.kernels.gram(kernel, x, tile=tile))
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    np.testing.assert_array_equal(np.load(tmp_path / "K.npy"), found)
    cross = kg.kernels.gram(kernel, x, z, out=tmp_path / "C.npy", tile=tile)
    assert_close(cross, kernel(x, z))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["C.npy", "K.npy"]  # nothing left behind


def test_symmetric_to_the_bit_whatever_the_kernel_is(tmp_path):
    def crooked(x1, x2=None):
        """Rounding that depends on which input comes first."""
        block = gaussian(x1, x2)
        return block * (1 + 1e-5 * jnp.arange(block.shape[1], dtype=block.dtype)[None])

    found = kg.kernels.gram(crooked, _inputs(), out=tmp_path / "K.npy", tile=TILE)
    np.testing.assert_array_equal(found, found.T)
    assert_close(found, gaussian(_inputs()), factor=1e-4 / np.finfo(found.dtype).eps)


class Interrupted:
    """gaussian, but the first look at the third panel, which is shorter, ends the run."""

    def __call__(self, x1, x2=None):
        if len(x1) == N % TILE:
            raise KeyboardInterrupt
        return gaussian(x1, x2)


def test_an_interrupted_run_leaves_the_rows_of_an_array():
    out = np.zeros((N, N), _inputs().dtype)
    with pytest.raises(KeyboardInterrupt) as stop:
        kg.kernels.gram(Interrupted(), _inputs(), out=out, tile=TILE)
    assert stop.value.__notes__ == ["rows 0 to 8 of `out` are filled"]
    assert_close(out[:8, :8], gaussian(_inputs())[:8, :8])


@pytest.mark.parametrize("cross", [False, True])
def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path, monkeypatch, cross):
    x, z = _inputs(), _inputs(1, 6) if cross else None
    kg.kernels.gram(gaussian, x, z, out=tmp_path / "whole.npy", tile=TILE)
    out = tmp_path / "K.npy"
    with pytest.raises(KeyboardInterrupt) as stop:
        kg.kernels.gram(Interrupted(), x, z, out=out, tile=TILE)
    (note,) = stop.value.__notes__
    assert note == f"8 of 11 rows are safe in '{out}.part': call again with resume=True"
    assert not out.exists()
    assert json.loads((tmp_path / "K.npy.part.json").read_text())["done"] == 2 * TILE
    with pytest.raises(FileExistsError, match="is unfinished: pass resume=True to go on"):
        kg.kernels.gram(gaussian, x, z, out=out, tile=TILE)
    tops = []
    inner = GramFile.keep
    monkeypatch.setattr(GramFile, "keep", lambda *a: (tops.append(a[1]), inner(*a)))
    kg.kernels.gram(gaussian, x, z, out=out, tile=TILE, resume=True)
    assert tops == [N]  # only what was missing
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["K.npy", "whole.npy"]


KILLED = f"""
import os, signal, sys
import jax
from kernelgap.kernels import gram, ntk
from kernelgap.kernels.tiled import storage
from kernelgap.models import homogeneous_mlp
calls, inner = [], storage._in_memory

def counted(*arguments):
    calls.append(1)
    if len(calls) == 5 and len(sys.argv) > 2:  # within the third panel
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(*arguments)

storage._in_memory = counted
x = jax.random.normal(jax.random.key(0), ({N}, 3))
kernel = ntk(homogeneous_mlp((7,), parameterization="ntk"))
gram(kernel, x, out=sys.argv[1], tile={TILE}, resume=True)
"""


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    out = tmp_path / "K.npy"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(out), "kill"], timeout=500)
    assert killed.returncode == -signal.SIGKILL
    note = json.loads((tmp_path / "K.npy.part.json").read_text())
    assert note["done"] == 2 * TILE
    kg.kernels.gram(ntk, _inputs(), out=out, tile=TILE, resume=True)
    kg.kernels.gram(ntk, _inputs(), out=tmp_path / "whole.npy", tile=TILE)
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.fixture
def unfinished(tmp_path):
    """An unfinished file, and a call that would go on with it."""
    out = tmp_path / "K.npy"
    with pytest.raises(KeyboardInterrupt):
        kg.kernels.gram(Interrupted(), _inputs(), out=out, tile=TILE)
    return out


def _resume(out, kernel=gaussian, x=None, x2=None, tile=TILE):
    return kg.kernels.gram(
        kernel, _inputs() if x is None else x, x2, out=out, tile=tile, resume=True
    )


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"kernel": lambda x1, x2=None: gaussian(1.01 * x1, x2 if x2 is None else 1.01 * x2)}, "values"),
        ({"kernel": ntk}, "inputs"),
        ({"x": _inputs().at[10, 0].add(1e-3)}, "inputs"),
        ({"x2": _inputs()}, "symmetric"),
        ({"x": _inputs(n=10)}, "shape"),
        ({"tile": 3}, "tile"),
    ],
)  # fmt: skip
def test_refuses_to_go_on_with_other_arguments(unfinished, arguments, what):
    before = unfinished.with_name("K.npy.part").read_bytes()
    with pytest.raises(ValueError, match=f"belongs to another run: it has .*'{what}'"):
        _resume(unfinished, **arguments)
    assert unfinished.with_name("K.npy.part").read_bytes() == before
    _resume(unfinished)


def test_kernels_that_differ_in_their_description_or_parameters_are_others(tmp_path):
    def scaled(c):
        return jax.tree_util.Partial(lambda c, x1, x2=None: gaussian(x1, x2) * c, c)

    for one, other in ((ntk, kg.kernels.nngp(kg.models.homogeneous_mlp((7,), parameterization="ntk"))),
                       (scaled(1.0), scaled(1.0 + 1e-6))):  # fmt: skip
        out = tmp_path / "K.npy"
        GramFile(out, storage.describe(one, _inputs(), None, TILE), resume=False, overwrite=True)
        with pytest.raises(ValueError, match="'inputs'"):
            kg.kernels.gram(other, _inputs(), out=out, tile=TILE, resume=True)


def test_refuses_a_part_of_the_wrong_shape_or_dtype(unfinished):
    np.save(str(unfinished) + ".part.npy", np.zeros((3, 3)))
    os.replace(str(unfinished) + ".part.npy", str(unfinished) + ".part")
    with pytest.raises(
        ValueError, match="K.npy.part' must have shape \\(11, 11\\) and dtype float"
    ):
        _resume(unfinished)


def test_overwrite(unfinished):
    x = _inputs()
    kg.kernels.gram(ntk, x, out=unfinished, tile=TILE, overwrite=True)  # drops the unfinished one
    assert_close(np.load(unfinished), ntk(x))
    for resume in (False, True):
        with pytest.raises(FileExistsError, match="K.npy' exists; pass overwrite=True to replace"):
            kg.kernels.gram(gaussian, x, out=unfinished, tile=TILE, resume=resume)
    old = unfinished.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        kg.kernels.gram(Interrupted(), x, out=unfinished, tile=TILE, overwrite=True)
    assert unfinished.read_bytes() == old  # until the new one is there
    kg.kernels.gram(gaussian, x, out=unfinished, tile=TILE, overwrite=True, resume=True)
    assert_close(np.load(unfinished), gaussian(x))


def test_what_a_kill_left_half_is_void(tmp_path):
    """Killed between making a file and its note, or between finishing a file and its note's end."""
    x, out = _inputs(), tmp_path / "K.npy"
    for orphan in ("K.npy.part", "K.npy.part.json"):
        (tmp_path / orphan).write_text("{}")
        kg.kernels.gram(ntk, x, out=out, tile=TILE, overwrite=True)
        assert_close(np.load(out), ntk(x))
        assert [p.name for p in tmp_path.iterdir()] == ["K.npy"]


def test_a_full_disk_is_seen_before_any_work(tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(OSError, match="takes 0.00 GiB and 0.00 GiB are free"):
        kg.kernels.gram(ntk, _inputs(), out=tmp_path / "K.npy")
    assert not list(tmp_path.iterdir())


RESIDENT = """
import pathlib, sys
import numpy as np
import kernelgap as kg

def peak():  # getrusage would count the process that started this one
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((7,), parameterization="ntk"))
x = np.random.default_rng(0).normal(size=(6000, 5)).astype(np.float32)
folder = sys.argv[1]
kg.kernels.gram(kernel, x[:1000], out=folder + "/small.npy", tile=250)  # compiles
before = peak()
kg.kernels.gram(kernel, x, out=folder + "/large.npy", tile=250)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_resident_memory_of_writing_a_file_is_bounded(tmp_path):
    done = subprocess.run([sys.executable, "-c", RESIDENT, str(tmp_path)], capture_output=True,
                          text=True, timeout=500)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 36e6  # a quarter of the matrix
    assert (tmp_path / "large.npy").stat().st_size > 6000**2 * 4


def _call(out=None, kernel=ntk, **options):
    x = options.pop("x", jnp.ones((7, 3)))
    return kg.kernels.gram(kernel, x, options.pop("x2", None), out=out, **options)


read_only = np.zeros((7, 7), jnp.ones(()).dtype)
read_only.flags.writeable = False


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: _call(kernel=3), TypeError, "`kernel` must be a function.*got int"),
        (lambda: _call(x=jnp.ones(3)), ValueError, "`x1` must have shape \\(n, d\\)"),
        (lambda: _call(x2=jnp.ones((7, 4))), ValueError, "`x2` must have shape \\(n, 3\\)"),
        (lambda: _call(x2=jnp.ones((7, 3), jnp.float16)), TypeError, "`x1` and `x2` must have the same"),
        (lambda: _call(x=jnp.ones((7, 3), int)), TypeError, "`x1` must be a floating-point array"),
        (lambda: _call(x=jnp.ones((7, 3), complex)), TypeError, "`x1` must be a floating-point array"),
        (lambda: _call(x=jnp.full((7, 3), jnp.inf)), ValueError, "`x1` must be finite"),
        (lambda: _call(x2=jnp.full((7, 3), jnp.nan)), ValueError, "`x2` must be finite"),
        (lambda: _call(tile=0), ValueError, "`tile` must be an integer >= 1; got 0"),
        (lambda: _call(tile=True), TypeError, "`tile` must be an integer >= 1"),
        (lambda: _call(mesh="rows"), TypeError, "`mesh` must be a jax.sharding.Mesh.*got str"),
        (lambda: _call(mesh=jax.sharding.Mesh(np.empty(0, object), ("a",))), ValueError, "empty mesh"),
        (lambda: _call(resume=True), ValueError, "need a file as `out`; got out=None"),
        (lambda: _call(overwrite=True), ValueError, "need a file as `out`; got out=None"),
        (lambda: _call(kernel=lambda x1, x2=None: x1), ValueError, "`kernel` must return shape"),
        (lambda: _call(kernel=lambda x1, x2=None: jnp.ones((7, 7), jnp.float16)), TypeError,
         "`kernel` must return the dtype of its inputs"),
        (lambda: _call(np.zeros((7, 6), read_only.dtype)), ValueError,
         "`out` must have shape \\(7, 7\\) and dtype float.*; got \\(7, 6\\), float"),
        (lambda: _call(np.zeros((7, 7), np.float16)), ValueError, "got \\(7, 7\\), float16"),
        (lambda: _call(read_only), ValueError, "`out` must be writable; got a read-only array"),
        (lambda: _call(np.zeros((7, 7), read_only.dtype), resume=True), ValueError,
         "`resume` and `overwrite` need a file as `out`; got an array"),
        (lambda: _call(3), TypeError, "`out` must be the name of a .npy file or a NumPy array; got int"),
        (lambda: _call("K.csv"), ValueError, "`out` must be the name of a .npy file; got 'K.csv'"),
        (lambda: _call(Path("nowhere/K.npy")), FileNotFoundError, "the folder 'nowhere' of `out`"),
        (lambda: jax.jit(lambda x: _call("K.npy", x=x))(jnp.ones((7, 3))), TypeError,
         "`out` is filled now, not under jit"),
    ],
)  # fmt: skip
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()
