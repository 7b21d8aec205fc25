"""How much memory a run will take, known before it starts, and whether the device has it."""

import os
from pathlib import Path

import jax

from kernelgap.typing import Device

_WORKSPACE = 8  # tiles that the evaluation of one tile may hold at a time


def default_tile(platform: str) -> int:
    """Side of a tile: some megabytes, so that what is done to it stays in the caches of a CPU."""
    return 1024 if platform == "cpu" else 8192


def require(
    needed: int, what: str, advice: str, device: Device | None = None, *, traced: bool = False
) -> None:
    """Refuse a run that cannot fit, with the numbers; nothing is known under `jit`."""
    available = None if traced else available_bytes(device)
    if available is not None and needed > available:
        raise MemoryError(
            f"{what} needs about {needed / 2**30:.2f} GiB of memory and "
            f"{available / 2**30:.2f} GiB are available. {advice}"
        )


def working_set(rows: int, columns: int, itemsize: int) -> int:
    """Bytes that evaluating the kernel on one tile takes, at most, for kernels that are fused."""
    return _WORKSPACE * rows * columns * itemsize


def available_bytes(device: Device | None = None) -> int | None:
    """Bytes that a run may take on a device: free memory, or None where nobody says."""
    if device is None:
        device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    if device.platform != "cpu":
        return None
    known = [size for size in (_machine(), _control_group()) if size is not None]
    return min(known, default=None)


def _machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:  # all of it, where the system does not say what is free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _control_group() -> int | None:
    """What is left below the limit of a container."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        # Cached file pages count as used and are given back on demand.
        for line in (group / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                used -= int(line.split()[1])
        return None if limit == "max" else max(int(limit) - used, 0)
    except (OSError, ValueError):
        return None
