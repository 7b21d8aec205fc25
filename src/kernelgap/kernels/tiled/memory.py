"""Memory that a run needs and that a device has, compared before the run starts."""

import os
from pathlib import Path
from typing import Any

_WORKSPACE = 3  # tiles: the inner products, the kernel, and one intermediate

# For each version of Linux's control groups: the mount point, and the names of the limit, of the
# use, and of the cached file pages in that use, which the system gives back on demand.
_CONTROL_GROUPS = {
    2: ("", "memory.max", "memory.current", "inactive_file"),
    1: ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def default_tile(platform: str) -> int:
    """Return a side at which a tile takes a few megabytes, which stay in the caches of a CPU."""
    return 1024 if platform == "cpu" else 8192


def require(needed: int, what: str, advice: str, device: Any, *, traced: bool = False) -> None:
    """Raise MemoryError for a run that cannot fit; under `jit` nothing is known."""
    available = None if traced else available_bytes(device)
    if available is not None and needed > available:
        raise MemoryError(
            f"{what} needs about {needed / 2**30:.2f} GiB of memory and "
            f"{available / 2**30:.2f} GiB are available. {advice}"
        )


def working_set(rows: int, columns: int, itemsize: int) -> int:
    """Return the bytes that evaluating one tile takes at most, for kernels that are fused."""
    return _WORKSPACE * rows * columns * itemsize


def available_bytes(device: Any) -> int | None:
    """Return the free memory of a device in bytes, or None where it is not known."""
    if device.platform != "cpu":
        stats = device.memory_stats()
        if not stats or "bytes_limit" not in stats:
            return None
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    known = [size for size in (machine_bytes(), control_group_bytes()) if size is not None]
    return min(known, default=None)


def machine_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory that the machine can give to a process, in bytes."""
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:  # the total where the system does not report the free memory
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def control_group_bytes(root: Path = Path("/")) -> int | None:
    """Return the bytes left below the limits of this process's control groups."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    left = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        version = 2 if not controllers else 1 if "memory" in controllers.split(",") else None
        if version is None:
            continue
        mount, *names = _CONTROL_GROUPS[version]
        base = root / "sys/fs/cgroup" / mount
        # The limits of all parent groups hold too. Inside a container the path is often the host's;
        # then only the mount itself exists, which is the container's group.
        own = base / group.lstrip("/")
        above = [own, *own.parents]
        folders = above[: above.index(base) + 1] if base in above else [base]
        left += [size for folder in folders if (size := _left(folder, *names)) is not None]
    return min(left, default=None)


def _left(folder: Path, limit: str, use: str, cached: str) -> int | None:
    try:
        most = int((folder / limit).read_text())
        used = int((folder / use).read_text())
        for line in (folder / "memory.stat").read_text().splitlines():
            if line.startswith(f"{cached} "):
                used -= int(line.split()[1])
    except (OSError, ValueError):  # no such file, or a limit of "max"
        return None
    return max(most - used, 0)
