import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
import scipy.linalg  # noqa: F401  its BLAS is loaded before the first limit is set
from threadpoolctl import threadpool_info, threadpool_limits

from kernelgap._blas import limited


def _threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.skipif(os.cpu_count() == 1, reason="one thread in any case")
def test_one_thread_where_matrices_are_small_and_as_before_afterwards():
    with threadpool_limits(2, user_api="blas"):
        assert limited(600, _threads) == {1}
        assert limited(100_000, _threads) == {2}
        assert _threads() == {2}
        with pytest.raises(ZeroDivisionError):
            limited(600, lambda: 1 / 0)
        assert _threads() == {2}


def test_under_transformations():
    double = jax.jit(jax.vmap(lambda x: limited(3, lambda: 2 * x)))
    assert double(jnp.arange(3.0)).tolist() == [0.0, 2.0, 4.0]


def test_what_jax_loads_later_is_limited_from_its_first_factorisation():
    """Its LAPACK is SciPy's, which it loads when a factorisation is compiled."""
    code = """
import jax.numpy as jnp
from threadpoolctl import threadpool_info
from kernelgap._blas import limited

def pools():
    jnp.linalg.cholesky(jnp.eye(3)).block_until_ready()
    return [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]

print(limited(10, pools))
"""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert set(json.loads(done.stdout)) == {1}
