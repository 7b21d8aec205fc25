"""Limit BLAS and LAPACK to one thread for small matrices.

The threads of OpenBLAS spin while they wait, so that processes on one machine block each other:
with 4 threads each on 4 cores, two processes that solved SVMs with 600 samples took 2.6 s instead
of 0.02 s, and 13 s instead of 0.13 s with 1500 samples. Up to about 2000 rows, one thread is as
fast.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

import jax
from threadpoolctl import ThreadpoolController

_SMALL = 2048  # rows
_S = TypeVar("_S")
_T = TypeVar("_T")


_lock = threading.Lock()
_active = 0  # calls running under the limit
_limits: Any = None


def limit_blas_threads(rows: int, call: Callable[[], _T]) -> _T:
    """Run `call` and block until ready, limiting BLAS to one thread for small factorisations.

    `jax_debug_nans` is off during the call: a factorisation signals failure by NaN, and its callers
    check for it.
    """
    threads = single_blas_thread() if rows <= _SMALL else nullcontext()
    with threads, jax.debug_nans(False), jax.debug_infs(False):
        return jax.block_until_ready(call())


def map_in_threads(call: Callable[[_S], _T], items: Iterable[_S]) -> list[_T]:
    """Return `call` of each item, each in a thread of its own; NumPy lets them run at once."""
    items = list(items)
    if len(items) == 1:
        return [call(items[0])]
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(call, items))


@cache
def _controller() -> ThreadpoolController:
    # JAX uses the LAPACK of SciPy on CPUs, which must be loaded before it can be limited.
    import_module("scipy.linalg")
    return ThreadpoolController()


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Limit the whole process to one thread, from the first concurrent caller to the last."""
    global _active, _limits
    with _lock:
        _active += 1
        if _active == 1:
            _limits = _controller().limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _active -= 1
            if _active == 0 and _limits is not None:
                _limits.restore_original_limits()
