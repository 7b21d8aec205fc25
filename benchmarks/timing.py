"""Paired timings: candidates interleaved in one process, warmed up, blocked until ready."""

import pathlib
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax


def compare(candidates: dict[str, Callable[[], Any]], *, repeats: int = 9) -> dict[str, float]:
    """Print and return the median seconds of each candidate, and its ratio to the first."""
    first_calls: dict[str, float] = {}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for name, call in candidates.items():
        first_calls[name] = seconds(call)
    for _ in range(repeats):
        for name, call in candidates.items():
            times[name].append(seconds(call))
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = medians[next(iter(candidates))]
    for name, median in medians.items():
        print(
            f"{name:40} {1e3 * median:9.1f} ms  x{median / base:5.2f}"
            f"   (min {1e3 * min(times[name]):.1f}, first call {1e3 * first_calls[name]:.0f})"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'peak resident memory so far':40} {peak:9.2f} GiB\n")
    return medians


def describe() -> None:
    """Print device and versions."""
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.device_kind} ({device.platform})\n")


def peak() -> float:
    """Return the peak of this process in GiB; getrusage would count the one that started it."""
    status = pathlib.Path("/proc/self/status").read_text()  # Linux
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


def seconds(call: Callable[[], Any]) -> float:
    """Return the seconds that a call takes until its result is ready."""
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started
