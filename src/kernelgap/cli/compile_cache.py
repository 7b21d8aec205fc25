"""Compiled programs kept between runs of the command, in JAX's own persistent cache."""

import contextlib
import hashlib
import importlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

_FOLDER = "jax_compilation_cache_dir"


def cache_folder() -> Path | None:
    """Return the folder for programs of this JAX on this kind of CPU, or None if there is none.

    `$KERNELGAP_CACHE`, else `$XDG_CACHE_HOME/kernelgap`, else `~/.cache/kernelgap`; with
    `KERNELGAP_CACHE=off`, or where JAX has a cache of its own already, None. A program made for
    one CPU can crash on another, and homes are shared by machines: each kind has its own.
    """
    given = os.environ.get("KERNELGAP_CACHE", "")
    if given == "off" or getattr(jax.config, _FOLDER):
        return None
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "kernelgap")
    machine = hashlib.sha256(_cpu().encode()).hexdigest()[:12]
    return Path(given or home, f"jax-{jax.__version__}-{machine}")


@contextlib.contextmanager
def kept_programs() -> Iterator[None]:
    """Read and write compiled programs in `cache_folder()`, unless another process does."""
    with contextlib.ExitStack() as stack:
        folder = cache_folder()
        if folder is not None and _locked(folder, stack):
            for name, value in {
                _FOLDER: str(folder),
                "jax_persistent_cache_min_compile_time_secs": 0.0,
                "jax_persistent_cache_min_entry_size_bytes": -1,
            }.items():
                stack.callback(jax.config.update, name, getattr(jax.config, name))
                jax.config.update(name, value)
            stack.callback(compilation_cache.reset_cache)
            compilation_cache.reset_cache()  # JAX reads its settings at the first compilation only
        yield


def _locked(folder: Path, stack: contextlib.ExitStack) -> bool:
    """Lock the folder until the stack closes; False where that is not possible."""
    try:
        fcntl = importlib.import_module("fcntl")  # not on Windows
        folder.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context((folder / "lock").open("w"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"
