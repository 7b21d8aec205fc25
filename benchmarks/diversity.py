"""The extended feature Gram and the diversity penalty against the matmuls that they need."""

import argparse
import subprocess
import sys

import jax
import jax.numpy as jnp

import kernelgap as kg
from timing import compare, describe

# Alone in a process, so that its peak is its own.
_LARGE = """
import pathlib, time
import jax, kernelgap as kg
def peak():  # Linux; getrusage would count the process that started this one
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20
w = jax.random.normal(jax.random.key(0), ({n}, {d}))
x = jax.random.normal(jax.random.key(1), ({m}, {d}))
call = {call}
jax.block_until_ready((w, x))
before = peak()
for name in ("first call", "second call"):
    started = time.perf_counter()
    jax.block_until_ready(call(w, x))
    print(f"{{name:40}} {{time.perf_counter() - started:9.2f}} s")
print(f"{{'peak resident memory, before it':40}} {{peak():9.2f}} GiB, {{before:.2f}} GiB")
"""
_CALLS = {
    "penalty and gradient": "jax.jit(jax.value_and_grad(lambda w, x: "
    "kg.diversity.diversity_penalty(w)))",
    "extended_feature_gram": "kg.diversity.extended_feature_gram",
}


def main() -> None:
    """Compare at sizes where all matrices fit; then each once at n = 10^4 and more, for memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=8192)
    parser.add_argument("--m", type=int, default=4096)
    parser.add_argument("--d", type=int, default=100)
    parser.add_argument("--large", type=int, default=20_000)
    arguments = parser.parse_args()
    n, m, d = arguments.n, arguments.m, arguments.d
    describe()
    w = jax.random.normal(jax.random.key(0), (n, d))
    x = jax.random.normal(jax.random.key(1), (m, d))
    highest = jax.lax.Precision.HIGHEST

    product = jax.jit(lambda w: jnp.matmul(w, w.T, precision=highest))
    penalty = jax.jit(kg.diversity.diversity_penalty)
    both = jax.jit(jax.value_and_grad(kg.diversity.diversity_penalty))
    tight = jnp.ones((1, d)) + 1e-3 * w
    plane = jax.random.normal(jax.random.key(0), (n, 2))
    print(f"diversity penalty, n = {n} units, d = {d}, {w.dtype}")
    compare(
        {
            "one matmul W W'": lambda: product(w),
            "diversity_penalty": lambda: penalty(w),
            "diversity_penalty and gradient": lambda: both(w),
            "the same, units in a tight cluster": lambda: both(tight),
            "the same, d = 2": lambda: both(plane),
            "diversity.slice_discrepancy": lambda: kg.diversity.slice_discrepancy(w),
        }
    )

    # The two it needs: patterns from W X', and A'A; X X' is small beside them for d << n.
    matmuls = jax.jit(
        lambda w, x, on: (
            jnp.matmul(w, x.T, precision=highest),
            jnp.matmul(on.T, on, precision=highest),
        )
    )
    on = jax.block_until_ready((w @ x.T > 0).astype(x.dtype))
    print(f"extended feature Gram, n = {n} units, m = {m} samples, d = {d}, {x.dtype}")
    compare(
        {
            "the matmuls W X' and A'A": lambda: matmuls(w, x, on),
            "extended_feature_gram": lambda: kg.diversity.extended_feature_gram(w, x),
        },
        repeats=5,
    )
    for name, call in _CALLS.items():
        size = arguments.large
        print(f"{name}, n = {size}, m = {m}, d = {d}; a process of its own")
        sys.stdout.flush()
        code = _LARGE.format(n=size, m=m, d=d, call=call)
        subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    main()
