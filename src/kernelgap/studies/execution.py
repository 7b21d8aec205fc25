"""Execution of cells on threads, deferred interrupts, and the environment of a run."""

import importlib.metadata
import importlib.util
import os
import platform
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kernelgap._numerics import checks
from kernelgap._support.extras import missing_extra
from kernelgap.studies.options import about_options


class Cell(NamedTuple):
    """One unit of work of a study.

    Attributes:
        identity: Strings and numbers that distinguish it from the other cells.
        alone: True if it must run by itself, because of its memory.
    """

    identity: tuple
    alone: bool = False


def checked_workers(
    out: str | os.PathLike | None, *, resume: bool, overwrite: bool, workers: int | None
) -> int:
    """Check the options of a run, and return the number of workers."""
    if resume and overwrite:
        error = ValueError("`resume` and `overwrite` exclude each other; got both")
        raise about_options(error, "resume", "overwrite")
    if out is None and (resume or overwrite):
        raise ValueError("`resume` and `overwrite` need `out`, the folder of the run; got None")
    if out is not None and importlib.util.find_spec("matplotlib") is None:
        raise missing_extra("figures need", "matplotlib")
    default = min(2, os.cpu_count() or 1)
    try:
        return checks.integer(default if workers is None else workers, "workers", minimum=1)
    except (TypeError, ValueError) as error:
        raise about_options(error, "workers") from None


def run_cells(work: Callable[[Cell], None], cells: Sequence[Cell], workers: int) -> None:
    """Run cells on threads, then those that must run alone, one by one.

    Threads suffice because compiling and running release the interpreter lock. What holds it, such
    as a search in NumPy, is one kind of cells of several, and kinds are mixed. When a cell fails or
    the user interrupts, running cells are finished and kept, and no further cell starts.
    """
    shared = [] if workers == 1 else _mixed([cell for cell in cells if not cell.alone])
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, cell) for cell in shared]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for cell in cells:
        if workers == 1 or cell.alone:
            work(cell)


def _mixed(cells: list[Cell]) -> list[Cell]:
    """Spread the cells of each kind, the first part of their identity, over the whole run."""
    total = Counter(cell.identity[0] for cell in cells)
    before: Counter = Counter()
    places = []
    for cell in cells:
        kind = cell.identity[0]
        places.append((before[kind] + 0.5) / total[kind])
        before[kind] += 1
    return [cells[k] for k in sorted(range(len(cells)), key=places.__getitem__)]


@contextmanager
def interrupt_check() -> Iterator[Callable[[], None]]:
    """Yield a check that raises KeyboardInterrupt if Ctrl-C came before.

    Python drops exceptions within destructors and callbacks of weak references, of which JAX has
    many, so that a KeyboardInterrupt can be lost there. Elsewhere it is raised as usual. Custom
    signal handlers, and threads, which receive no signals, are left alone.
    """
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before is not signal.default_int_handler:
        yield lambda: None
        return
    came = threading.Event()

    def handle(*_: object) -> None:
        came.set()
        raise KeyboardInterrupt

    def check() -> None:
        if came.is_set():
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def describe_environment() -> dict[str, Any]:
    """Return versions, device and dtype, on which numbers depend besides the configuration."""
    device = jax.devices()[0]
    packages = ("kernelgap", "jax", "jaxlib", "numpy", "scipy", "optax", "neural-tangents")
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "host_cores": os.cpu_count(),
        },
        "dtype": str(jnp.zeros(()).dtype),
        "x64": x64(),
    }


def version(package: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def x64() -> bool:
    """Return True if JAX's default is double precision."""
    return jnp.zeros(()).dtype == jnp.float64
