import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg
from kernelgap.kernels.tiled import memory, products, storage

GROUP = "0::/jobs/7/step\n"


def _ntk(hidden):
    return kg.kernels.ntk(kg.models.homogeneous_mlp((512,) * hidden, parameterization="ntk"))


def _fits(predicted, compiled):
    """Predicted is what the program takes, or up to four times that."""
    used = compiled.memory_analysis()
    held = used.temp_size_in_bytes + used.output_size_in_bytes
    # Compilers of older versions (seen: 0.5.0) fuse less where one tile is all: five tiles, not one.
    slack = 1 if jax.__version_info__ >= (0, 10) else 2
    assert held <= slack * predicted, (predicted, held)
    assert predicted <= 4 * (held + used.argument_size_in_bytes), (predicted, held)


@pytest.mark.parametrize(("n", "d", "tile"), [(3000, 10, 500), (1500, 100, 256), (700, 5, 4096)])
def test_prediction_holds_what_the_compiled_program_takes(n, d, tile):
    x, v = jnp.ones((n, d)), jnp.ones(n)
    kernel = _ntk(1 if d > 5 else 3)
    predicted = products._needed(x, v, tile)
    _fits(
        predicted, products.symmetric_matmul.__wrapped__.lower(kernel, x, v, tile, None).compile()
    )
    _fits(
        predicted, products._cross_matmul.__wrapped__.lower(kernel, x, x, v, tile, None).compile()
    )
    predicted = storage._needed(n, n, x, tile, None)
    for x2 in (None, x):
        _fits(predicted, storage._in_memory.__wrapped__.lower(kernel, x, x2, tile, None).compile())


def test_no_second_gram_matrix():
    n = 2000
    x = jnp.ones((n, 4))
    compiled = storage._in_memory.__wrapped__.lower(_ntk(1), x, None, 200, None).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < n * n * x.dtype.itemsize / 20


def test_the_smaller_of_machine_and_group_counts(monkeypatch):
    cpu = jax.devices("cpu")[0]
    for machine, group, expected in ((5, 3, 3), (5, None, 5), (None, 3, 3), (None, None, None)):
        monkeypatch.setattr(memory, "machine_bytes", lambda machine=machine: machine)
        monkeypatch.setattr(memory, "control_group_bytes", lambda group=group: group)
        assert memory.available_bytes(cpu) == expected


def test_accelerators_say_what_is_free():
    class Accelerator:
        platform = "gpu"

        def __init__(self, stats):
            self.memory_stats = lambda: stats

    assert memory.available_bytes(Accelerator({"bytes_limit": 9, "bytes_in_use": 4})) == 5
    assert memory.available_bytes(Accelerator({"bytes_limit": 9})) == 9
    assert memory.available_bytes(Accelerator({})) is None
    assert memory.available_bytes(Accelerator(None)) is None
    assert memory.default_tile("gpu") > memory.default_tile("cpu")


def test_this_machine_says_something():
    assert 2**20 < memory.available_bytes(jax.devices("cpu")[0]) < 2**50


def _write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_memory_of_the_machine(tmp_path, monkeypatch):
    meminfo = "MemTotal:       24683672 kB\nMemFree:  1 kB\nMemAvailable:   2048 kB\n"
    _write(tmp_path, {"proc/meminfo": meminfo})
    assert memory.machine_bytes(tmp_path) == 2048 * 1024
    # Elsewhere than on Linux, and on old kernels: all there is.
    pages = {"SC_PHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(memory.os, "sysconf", pages.__getitem__)
    assert memory.machine_bytes(tmp_path / "nowhere") == 40960
    for broken in ("MemTotal: 5 kB\n", "MemAvailable:\n", "MemAvailable: many kB\n"):
        _write(tmp_path, {"proc/meminfo": broken})
        assert memory.machine_bytes(tmp_path) == 40960
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.machine_bytes(tmp_path) is None


def _group(folder, names, limit, use, cached):
    return {
        f"sys/fs/cgroup/{folder}{name}": text
        for name, text in zip(names, (f"{limit}\n", f"{use}\n", cached), strict=True)
    }


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
V2 = ("memory.max", "memory.current", "memory.stat")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/self/cgroup": GROUP}, None),
        # The limit less what is used, of which cached files do not count.
        ({"proc/self/cgroup": GROUP,
          **_group("jobs/7/step/", V2, 1000, 400, "anon 5\ninactive_file 100\n")}, 700),
        ({"proc/self/cgroup": GROUP, **_group("jobs/7/step/", V2, "max", 400, "")}, None),
        # A limit of the batch job above holds for its steps.
        ({"proc/self/cgroup": GROUP, **_group("jobs/7/step/", V2, "max", 1, ""),
          **_group("jobs/7/", V2, 900, 100, ""), **_group("jobs/", V2, 5000, 0, "")}, 800),
        # In a container its own group is the root, whatever the path says.
        ({"proc/self/cgroup": GROUP, **_group("", V2, 50, 10, "")}, 40),
        ({"proc/self/cgroup": "0::/../outside\n", **_group("", V2, 50, 10, "")}, 40),
        ({"proc/self/cgroup": GROUP, **_group("", V2, 50, 60, "")}, 0),
        # Version 1, with other controllers beside it.
        ({"proc/self/cgroup": "9:cpu,cpuacct:/a\n4:memory:/slurm/job\n0::/\n",
          **_group("memory/slurm/job/", V1, 1000, 400, "inactive_file 9\ntotal_inactive_file 50\n"),
          **_group("memory/", V1, 2**63 - 4096, 0, "")}, 650),
        ({"proc/self/cgroup": "4:memory:/x\n", **_group("memory/", V1, "broken", 4, "")}, None),
    ],
)  # fmt: skip
def test_limits_of_control_groups(tmp_path, files, expected):
    _write(tmp_path, files)
    assert memory.control_group_bytes(tmp_path) == expected


def test_gram_refuses_what_cannot_fit(monkeypatch, tmp_path):
    def kernel(x1, x2=None):
        raise AssertionError("called")

    x = np.ones((40, 3))
    monkeypatch.setattr(memory, "available_bytes", lambda device: 2**10)
    with pytest.raises(MemoryError, match=r"shape \(40, 40\) needs about 0.00 GiB .*`out`, or use"):
        kg.kernels.gram(kernel, x)
    with pytest.raises(MemoryError, match=r"a tile of shape \(40, 40\) of this Gram matrix needs"):
        kg.kernels.gram(kernel, x, out=tmp_path / "K.npy")
    assert not list(tmp_path.iterdir())
    assert jax.jit(lambda x: kg.kernels.gram(_ntk(1), x))(x).shape == (40, 40)
    monkeypatch.setattr(memory, "available_bytes", lambda device: None)
    assert kg.kernels.gram(_ntk(1), x).shape == (40, 40)
