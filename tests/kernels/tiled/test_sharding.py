"""Programs of 8 devices and of two processes, started anew: JAX counts its devices once."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import kernelgap as kg
from helpers import assert_close, environment_of
from kernelgap.kernels.tiled import products

ROOT = Path(__file__).parents[3]
SETUP = """
import re, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh
import kernelgap as kg
from kernelgap.kernels.tiled import memory, products

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((7,), parameterization="ntk"))
x, z, v = np.load(sys.argv[1]).values()

def scaled(scale, x1, x2=None):
    return scale * kernel(x1, x2)

def close(found, expected, factor=100):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    error = np.max(np.abs(found - expected)) / np.max(np.abs(expected))
    assert error < factor * np.finfo(found.dtype).eps, error
"""


def _start(code, devices, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment_of(devices),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip


def _finish(*processes, seconds=500):
    try:
        outputs = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-4000:]
    return outputs


@pytest.fixture
def inputs(tmp_path):
    rng = np.random.default_rng(0)
    dtype = jax.numpy.zeros(()).dtype
    x, z, v = (rng.normal(size=s).astype(dtype) for s in ((40, 3), (9, 3), (40, 2)))
    np.savez(tmp_path / "inputs.npz", x=x, z=z, v=v)
    return tmp_path / "inputs.npz"


EIGHT = (
    SETUP
    + """
sixteen = np.array(jax.devices())
assert len(sixteen) == 16
devices = sixteen[:8]
meshes = [Mesh(devices.reshape(4, 2), ("a", "b")), jax.make_mesh((8,), ("rows",), devices=devices)]
for mesh in meshes:
    close(kg.kernels.matmul(kernel, x, v[:, 0], tile=7, mesh=mesh), kernel(x) @ v[:, 0])
    close(kg.kernels.matmul(kernel, x, v, tile=7, mesh=mesh), kernel(x) @ v)
    close(kg.kernels.matmul(kernel, z, v, x2=x, tile=7, mesh=mesh), kernel(z, x) @ v)
    accurate = products.accurate_matmul(kernel, x, v[:, 0], jnp.full((), 0.1), 7, mesh)
    close(accurate, kernel(x) @ v[:, 0])

    split = kg.kernels.gram(kernel, x, tile=3, mesh=mesh)
    close(split, kernel(x))
    close(jnp.diag(jax.device_put(split, devices[0])), kernel.diag(x), factor=2)
    rows = {shard.device: shard for shard in split.addressable_shards}
    assert len(rows) == 8 and {s.data.shape for s in rows.values()} == {(5, 40)}
    assert {shard.index[0].start for shard in rows.values()} == set(range(0, 40, 5))
    close(kg.kernels.gram(kernel, x, z, tile=3, mesh=mesh), kernel(x, z))
    whole = kg.kernels.gram(kernel, z, x, tile=3, mesh=mesh)
    close(whole, kernel(z, x))
    assert all(shard.data.shape == (9, 40) for shard in whole.addressable_shards)
    file = kg.kernels.gram(kernel, x, out=sys.argv[1] + ".npy", tile=7, overwrite=True, mesh=mesh)
    close(np.array(file), kernel(x))
    # Inputs that are on the mesh already, split or whole.
    some = np.asarray(split)[:, :3]
    close(kg.kernels.matmul(kernel, split[:, :3], v, mesh=mesh), kernel(some) @ v)

    # A kernel with parameters that lie elsewhere.
    three = jax.tree_util.Partial(scaled, jax.device_put(jnp.full((), 3.0), devices[3]))
    close(kg.kernels.matmul(three, x, v, tile=7, mesh=mesh), 3 * kernel(x) @ v)
    close(kg.kernels.gram(three, x, tile=7, mesh=mesh), 3 * kernel(x))

mesh = meshes[0]

def total(x, z, v, mesh):
    one, two = (kg.kernels.matmul(kernel, x, v, x2=a, tile=7, mesh=mesh) for a in (None, x))
    return jnp.sum(jnp.tanh(one)) + jnp.sum(two**2) + jnp.sum(kg.kernels.gram(kernel, z, mesh=mesh) ** 2)

found, expected = (jax.jit(jax.grad(total, (0, 1, 2)), static_argnums=3)(x, z, v, m) for m in (mesh, None))
for a, b in zip(found, expected):
    close(a, b)

# Terms that cancel over devices, here one entry on each: plain sums of them lose the small one.
def ones(x1, x2=None):
    return jnp.ones((len(x1), len(x1 if x2 is None else x2)), x1.dtype)

nine = Mesh(sixteen[:9], ("rows",))
big = 2 / jnp.finfo(v.dtype).eps
for u in ((big, 1, -big), (big, -big, 1), (1, big, -big)):
    found = products.accurate_matmul(
        jax.tree_util.Partial(ones), jnp.ones((3, 1)), jnp.array(u), jnp.zeros(()), 1, nine)
    np.testing.assert_array_equal(found, 1)

# All devices of a CPU take from one memory.
needed = products._needed(jnp.asarray(x), jnp.asarray(v), 7)
memory.available_bytes = lambda device: 4 * needed
kg.kernels.matmul(kernel, x, v, tile=7)
for call in (lambda: kg.kernels.matmul(kernel, x, v, tile=7, mesh=mesh),
             lambda: kg.kernels.gram(kernel, np.tile(x, (4, 1)), mesh=mesh)):
    try:
        call()
    except MemoryError as error:
        assert "needs about" in str(error)
    else:
        raise AssertionError("more than there is")
memory.available_bytes = lambda device: None

# Each device gets its share of the tiles: of 36 in a triangle, of 6 x 3.
text = str(jax.make_jaxpr(lambda x: kg.kernels.matmul(kernel, x, v, tile=5, mesh=mesh))(x))
assert re.findall(r"length=(\\d+)", text) == ["5"], text
text = str(jax.make_jaxpr(lambda x: kg.kernels.matmul(kernel, x, v, tile=100, mesh=mesh))(x))
assert re.findall(r"length=(\\d+)", text) == ["5"], "a large tile leaves devices idle"
text = str(jax.make_jaxpr(lambda x: kg.kernels.gram(kernel, x, tile=5, mesh=mesh))(x))
assert re.findall(r"length=(\\d+)", text) == ["8"], text
"""
)


def test_eight_devices(inputs):
    _finish(_start(EIGHT, 16, inputs))


TWO = (
    SETUP.replace(
        "import kernelgap",
        """
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[3]), initialization_timeout=300)
import kernelgap""",
        1,
    )
    + """
me, expected = int(sys.argv[3]), np.load(sys.argv[4])
assert len(jax.devices()) == 4 and len(jax.local_devices()) == 2
mesh = jax.make_mesh((4,), ("rows",))
close(kg.kernels.matmul(kernel, x, v, tile=7, mesh=mesh), expected["symmetric"])
close(kg.kernels.matmul(kernel, z, v, x2=x, tile=7, mesh=mesh), expected["cross"])
three = jax.tree_util.Partial(scaled, jnp.full((), 3.0))
close(kg.kernels.matmul(three, x, v, tile=7, mesh=mesh), 3 * expected["symmetric"])
shift = jnp.full((), 0.1)
placed = [jax.device_put(a, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
          for a in (x, v[:, 0], shift)]
close(products.accurate_matmul(kernel, *placed, 7, mesh), expected["symmetric"][:, 0])
split = kg.kernels.gram(kernel, x, tile=7, mesh=mesh)
assert split.shape == (40, 40) and not split.is_fully_addressable
for shard in split.addressable_shards:
    assert shard.data.shape == (10, 40)
    assert shard.index[0].start // 20 == me
    close(shard.data, expected["gram"][shard.index])
close(kg.kernels.gram(kernel, z, x, mesh=mesh), expected["uneven"])
try:
    kg.kernels.gram(kernel, x, out=sys.argv[1] + ".npy", mesh=mesh)
except ValueError as error:
    assert "`out` is written by one process; got a mesh over several" in str(error)
else:
    raise AssertionError("a file over several processes")
one = Mesh(np.array([d for d in jax.devices() if d.process_index == 0]), ("rows",))
if me == 1:
    try:
        kg.kernels.matmul(kernel, x, v, mesh=one)
    except ValueError as error:
        assert "it holds none of process 1" in str(error)
    else:
        raise AssertionError("a mesh of another process")
else:
    close(kg.kernels.matmul(kernel, x, v, mesh=one), expected["symmetric"])
jax.distributed.shutdown()
"""
)


def _kernel():
    return kg.kernels.ntk(kg.models.homogeneous_mlp((7,), parameterization="ntk"))


def test_two_processes(inputs, tmp_path):
    kernel, (x, z, v) = _kernel(), np.load(inputs).values()
    np.savez(
        tmp_path / "expected.npz",
        symmetric=kg.kernels.matmul(kernel, x, v),
        cross=kg.kernels.matmul(kernel, z, v, x2=x),
        gram=kg.kernels.gram(kernel, x),
        uneven=kg.kernels.gram(kernel, z, x),
    )
    with socket.socket() as held:  # gRPC can share this port; no other program is given it
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("localhost", 0))
        port = held.getsockname()[1]
        _finish(*(_start(TWO, 2, inputs, port, i, tmp_path / "expected.npz") for i in (0, 1)))


def test_the_script_of_the_page_runs_as_printed(tmp_path):
    page = (ROOT / "docs" / "cluster.md").read_text("utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (output,) = _finish(_start(script, 8, cwd=tmp_path))
    assert "process 0 of 1, 8 of 8 devices" in output
    x, y = kg.datasets.xor_noise(jax.random.key(0), 4000, 20)
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
    expected = kg.kernels.gram(kernel, x)
    assert_close(np.load(tmp_path / "rows-0.npy"), expected)
    norm = float(re.search(r"\|K y\| = ([\d.]+)", output)[1])
    np.testing.assert_allclose(
        norm, np.linalg.norm(np.float64(expected) @ np.float64(y)), rtol=1e-4
    )
    assert output.count("rows ") == 8


def test_a_mesh_of_one_device():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("rows",))
    x, v = np.ones((7, 3)) * np.arange(1, 8)[:, None], np.arange(7.0)
    kernel = _kernel()
    assert_close(kg.kernels.matmul(kernel, x, v, mesh=mesh), kg.kernels.matmul(kernel, x, v))
    assert_close(kg.kernels.gram(kernel, x, mesh=mesh), kg.kernels.gram(kernel, x))
    accurate = products.accurate_matmul(
        kernel, jax.numpy.asarray(x), jax.numpy.asarray(v), jax.numpy.zeros(()), 3, mesh
    )
    assert_close(accurate, kg.kernels.matmul(kernel, x, v))
