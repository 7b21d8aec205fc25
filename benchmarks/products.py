"""Products without the Gram matrix: against K @ v with it, and what memory they take beyond it."""

import argparse
import subprocess
import sys

import jax
import jax.numpy as jnp

import kernelgap as kg
from kernelgap.kernels.tiled import products
from timing import compare, describe

# Alone in a process, so that its peak is its own.
_LARGE = """
import pathlib, time
import jax, kernelgap as kg
def peak():  # Linux; getrusage would count the process that started this one
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20
x = jax.random.normal(jax.random.key(0), ({n}, {d}))
v = jax.random.normal(jax.random.key(1), ({n},))
kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
before = peak()
for call in ("first call", "second call"):
    started = time.perf_counter()
    kg.kernels.matmul(kernel, x, v).block_until_ready()
    print(f"{{call:40}} {{time.perf_counter() - started:9.2f}} s")
print(f"{{'peak resident memory, before it':40}} {{peak():9.2f}} GiB, {{before:.2f}} GiB")
"""


def main() -> None:
    """Compare at a size whose Gram matrix fits; then one product at a size where it does not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=8192)
    parser.add_argument("--large", type=int, default=50_000)
    parser.add_argument("--d", type=int, default=100)
    arguments = parser.parse_args()
    n, large, d = arguments.n, arguments.large, arguments.d
    describe()
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
    x = jax.random.normal(jax.random.key(0), (n, d))
    v = jax.random.normal(jax.random.key(1), (n,))
    dense = jax.jit(lambda x, v: jnp.matmul(kernel(x), v, precision=jax.lax.Precision.HIGHEST))
    tile = min(n, 1024)
    print(f"K v, n = {n}, d = {d}, one hidden layer, {x.dtype}: {n * n * 4 / 2**30:.2f} GiB as K")
    compare(
        {
            "kernel(x) @ v, jitted": lambda: dense(x, v),
            "kernels.matmul": lambda: kg.kernels.matmul(kernel, x, v),
            "kernels.matmul, x2 given": lambda: kg.kernels.matmul(kernel, x, v, x2=x),
            "accurate product of the solvers": lambda: products.accurate_matmul(
                kernel, x, v, jnp.zeros((), x.dtype), tile, None
            ),
        }
    )
    print(f"K v, n = {large}, d = {d}: {large**2 * 4 / 2**30:.1f} GiB as K; a process of its own")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-c", _LARGE.format(n=large, d=d)], check=True)


if __name__ == "__main__":
    main()
