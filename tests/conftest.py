"""Settings of the whole suite: strict JAX, shape-checked signatures, Hypothesis profiles."""

import ctypes
import gc
import os
import signal
from pathlib import Path

from xla_flags import quick_flags

# Each pytest-xdist worker gets one thread for LAPACK: pools of several processes that spin on the
# same cores make a Cholesky factorisation a hundred times slower. Before NumPy is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The suite compiles far longer than it computes: half of its time was LLVM's optimizer. What users
# run, with all optimization, is tested by `XLA_FLAGS= pytest`, in double precision and at night.
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = quick_flags()

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
