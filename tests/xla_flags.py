"""Flags with which the suite compiles."""

import os
import subprocess
import sys

_LEVEL = "--xla_backend_optimization_level=0"
_EMITTERS = "--xla_cpu_use_fusion_emitters=false"  # of MLIR; newer versions of XLA have no others


def quick_flags() -> str:
    """Return the flags with which XLA optimizes little."""
    both = f"{_LEVEL} {_EMITTERS}"
    # A flag that XLA does not know ends the process.
    probe = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env=os.environ | {"XLA_FLAGS": both, "JAX_PLATFORMS": "cpu"},
        stderr=subprocess.DEVNULL,
    )
    return both if probe.returncode == 0 else _LEVEL
