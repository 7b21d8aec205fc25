"""Settings of the whole suite: strict JAX, shape-checked signatures, Hypothesis profiles."""

import ctypes
import gc
import importlib.util
import mmap
import os
import signal
from pathlib import Path

# Each pytest-xdist worker gets one thread for LAPACK: pools of several processes that spin on the
# same cores make a Cholesky factorisation a hundred times slower. Before NumPy is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _quick_flags() -> str:
    """Return XLA's flags for little optimization; one it does not know would end the process."""
    folder = Path(importlib.util.find_spec("jaxlib").origin).parent
    library = max(folder.glob("*.so"), key=lambda path: path.stat().st_size, default=None)
    flags = ["xla_backend_optimization_level=0", "xla_cpu_use_fusion_emitters=false"]
    if library is None:
        return ""
    with library.open("rb") as file:
        text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        known = [flag for flag in flags if text.find(flag.partition("=")[0].encode()) >= 0]
    return " ".join(f"--{flag}" for flag in known)


# The suite compiles far longer than it computes: half of its time was LLVM's optimizer. What users
# run, with all optimization, is tested by `XLA_FLAGS= pytest`, in double precision and at night.
os.environ.setdefault("XLA_FLAGS", _quick_flags())

# What is compiled here is not what a user's command should find.
os.environ["KERNELGAP_CACHE"] = "off"

# Shells start background jobs with Ctrl-C ignored, and child processes inherit it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax
import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# Shapes in annotations are checked at run time under pytest only.
install_import_hook("kernelgap", "shapecheck.shapes")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# A test that passes once passes again: what a user or CI runs has no luck in it, whatever the load.
# `nightly` and `exhaustive` draw anew, and print how a failure is drawn again; the latter needs
# `-o faulthandler_timeout=0`.
_common = {
    "deadline": None,
    "database": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("brief", max_examples=3, derandomize=True, **_common)
settings.register_profile("dev", max_examples=6, derandomize=True, **_common)
settings.register_profile("nightly", max_examples=100, **_common)
settings.register_profile("exhaustive", max_examples=5000, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

_MAPS = Path("/proc/self/maps")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Drop compiled programs before they are too many, after a law and after a file.

    Each takes some memory maps, and a Linux process that has 65,530 of them dies in the compiler;
    at 20,000 it holds 4 GB.
    """
    law = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    if not law and nextitem is not None and nextitem.path == item.path:
        return
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > 8_000:
        jax.clear_caches()
        gc.collect()
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc keeps it otherwise
            trim(0)
