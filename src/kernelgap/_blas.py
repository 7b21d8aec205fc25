"""The threads of BLAS and LAPACK: one where matrices are small.

OpenBLAS's threads spin while they wait, so that processes that share a machine stop each other:
with 4 threads each on 4 cores, two processes that solved SVMs of 600 samples took 2.6 s instead of
0.02 s, and of 1500 samples 13 s instead of 0.13 s. Up to some 2000 rows one thread is as fast.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import TypeVar

import jax
from threadpoolctl import threadpool_limits

_SMALL = 2048  # rows
_T = TypeVar("_T")


_lock = threading.Lock()
_inside = 0  # calls that are limited now
_limits: threadpool_limits | None = None


def limited(rows: int, call: Callable[[], _T]) -> _T:
    """What `call()` returns, ready; on one thread where its factorised matrices are small.

    JAX's debugging of NaN is off meanwhile: factorisations say by NaN that they failed, and what
    calls them looks at that.
    """
    import_module("scipy.linalg")  # JAX's LAPACK on CPUs: only what is loaded can be limited
    threads = _one_thread() if rows <= _SMALL else nullcontext()
    with threads, jax.debug_nans(False), jax.debug_infs(False):
        return jax.block_until_ready(call())


@contextmanager
def _one_thread() -> Iterator[None]:
    """The limit belongs to the process: the first of several callers sets it, the last lifts it."""
    global _inside, _limits
    with _lock:
        _inside += 1
        if _inside == 1:
            _limits = threadpool_limits(1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _limits is not None:
                _limits.restore_original_limits()
