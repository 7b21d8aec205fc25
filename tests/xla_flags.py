"""Flags with which the suite compiles."""

import importlib.util
import mmap
from pathlib import Path


def quick_flags() -> str:
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
