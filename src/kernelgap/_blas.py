"""The threads of BLAS and LAPACK: one where matrices are small.

OpenBLAS's threads spin while they wait, so that processes that share a machine stop each other:
with 4 threads each on 4 cores, two processes that solved SVMs of 600 samples took 2.6 s instead of
0.02 s, and of 1500 samples 13 s instead of 0.13 s. Up to some 2000 rows one thread is as fast.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TypeVar

import jax
from threadpoolctl import threadpool_limits

_SMALL = 2048  # rows
_T = TypeVar("_T")


def limited(rows: int, call: Callable[[], _T]) -> _T:
    """What `call()` returns, ready; on one thread where its factorised matrices are small.

    JAX's debugging of NaN is off meanwhile: factorisations say by NaN that they failed, and what
    calls them looks at that.
    """
    import_module("scipy.linalg")  # JAX's LAPACK on CPUs: only what is loaded can be limited
    threads = threadpool_limits(1 if rows <= _SMALL else None, user_api="blas")
    with threads, jax.debug_nans(False), jax.debug_infs(False):
        return jax.block_until_ready(call())
