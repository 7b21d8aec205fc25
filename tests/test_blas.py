import json
import os
import subprocess
import sys
import threading
import time
import warnings
from contextlib import ExitStack

import jax
import jax.numpy as jnp
import pytest
import scipy.linalg  # noqa: F401  its BLAS is loaded before the first limit is set
from threadpoolctl import threadpool_info, threadpool_limits

from kernelgap._numerics.blas import limit_blas_threads, map_in_threads, single_blas_thread
from kernelgap._support.warning_filters import ignore_warnings


def _threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.skipif(os.cpu_count() == 1, reason="one thread in any case")
def test_one_thread_where_matrices_are_small_and_as_before_afterwards():
    with threadpool_limits(2, user_api="blas"):
        assert limit_blas_threads(600, _threads) == {1}
        assert limit_blas_threads(100_000, _threads) == {2}
        assert _threads() == {2}
        with pytest.raises(ZeroDivisionError):
            limit_blas_threads(600, lambda: 1 / 0)
        assert _threads() == {2}


def _overlap(first, second):
    """Enter the first, then the second; leave the first, then the second."""
    entered, left = threading.Event(), threading.Event()

    def run():
        with first():
            entered.set()
            left.wait(60)

    thread = threading.Thread(target=run)
    thread.start()
    assert entered.wait(60)
    with ExitStack() as stack:
        stack.enter_context(second())
        left.set()
        thread.join(60)


@pytest.mark.skipif(os.cpu_count() == 1, reason="one thread in any case")
def test_two_threads_leave_the_limit_as_it_was():
    with threadpool_limits(2, user_api="blas"):
        _overlap(single_blas_thread, single_blas_thread)
        assert _threads() == {2}


def test_two_threads_leave_the_filters_of_warnings_as_they_were():
    inside, most = [0], []

    def run():
        for _ in range(20):
            with ignore_warnings():
                inside[0] += 1
                most.append(inside[0])
                time.sleep(1e-3)
                inside[0] -= 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert list(warnings.filters) == before
    assert set(most) == {1}


def test_items_in_threads_keep_their_order_and_raise():
    together = threading.Barrier(3)

    def call(k):
        together.wait(60)  # for all of them at once
        return 1 / k

    assert map_in_threads(call, [1, 2, 4]) == [1, 0.5, 0.25]
    with pytest.raises(ZeroDivisionError):
        map_in_threads(call, [1, 0, 4])
    assert map_in_threads(lambda _: threading.get_ident(), [0]) == [threading.get_ident()]


def test_under_transformations():
    double = jax.jit(jax.vmap(lambda x: limit_blas_threads(3, lambda: 2 * x)))
    assert double(jnp.arange(3.0)).tolist() == [0.0, 2.0, 4.0]


def test_what_jax_loads_later_is_limited_from_its_first_factorisation():
    """Its LAPACK is SciPy's, which it loads when a factorisation is compiled."""
    code = """
import jax.numpy as jnp
from threadpoolctl import threadpool_info
from kernelgap._numerics.blas import limit_blas_threads

def pools():
    jnp.linalg.cholesky(jnp.eye(3)).block_until_ready()
    return [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]

print(limit_blas_threads(10, pools))
"""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert set(json.loads(done.stdout)) == {1}
