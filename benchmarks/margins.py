"""How tight and how fast `margins.max_margin` is: found, proved, seconds, memory.

    python benchmarks/margins.py [NAME ...] [--seeds 1] [--mnist FOLDER]

Every row is a process of its own: the seconds of a first call, of a second one with another key,
and the peak of resident memory. Names are those of the first column; without any, all rows are
printed, those of MNIST if its folder is given. On `xor_noise` margins are in units of the planted
network's, 1/8; elsewhere in their own. The batch is of ten data sets, without upper bounds, in
threads; its margin is the least of the ten.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np

import kernelgap as kg

XOR = ((20, 80), (20, 160), (20, 320), (40, 160), (40, 320), (40, 640), (100, 10_000))
DIGITS = ((0, 1), (3, 8))
MNIST = (300, 1000, 1500)


def main() -> None:
    """Print a row for each problem and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="a part of the names of the rows; all when empty")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--mnist", help="folder of the four files of MNIST")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    rows = _rows(arguments.mnist)
    if arguments.child is not None:
        print(json.dumps(_measured(rows[arguments.names[0]], arguments.child)))
        return
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {os.cpu_count()} cores\n")
    print("| data | seed | found | proved | ratio | first call, s | again, s | CPU, s | GiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in rows:
        if arguments.names and not any(part in name for part in arguments.names):
            continue
        for seed in range(arguments.seeds):
            row = _in_fresh_process(name, seed, arguments.mnist)
            print(
                f"| {name} | {seed} | {row['lower']:.5f} | {row['upper']:.5f} "
                f"| {row['ratio']:.5f} | {row['first']:.2f} | {row['again']:.2f} "
                f"| {row['cpu']:.2f} | {row['memory']:.2f} |",
                flush=True,
            )


def _rows(mnist: str | None) -> dict[str, Callable[[int], Callable[[jax.Array], Any]]]:
    """Return for each name how to prepare, for a seed, a call that takes a key."""

    def xor(d: int, n: int, seed: int, upper: bool = True) -> Callable[[jax.Array], Any]:
        x, y = kg.datasets.xor_noise(jax.random.key(seed), n, d)
        return lambda key: kg.margins.max_margin(8 * x, y, key=key, upper=upper)

    def batch(seed: int) -> Callable[[jax.Array], Any]:
        calls = [xor(20, 80, 10 * seed + k, upper=False) for k in range(10)]

        def call(key: jax.Array) -> Any:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                found = list(pool.map(lambda search: search(key), calls))
            return min(found, key=lambda best: best.lower)

        return call

    def digits(classes: tuple[int, int], _: int) -> Callable[[jax.Array], Any]:
        x, y = kg.datasets.digits(classes)
        return lambda key: kg.margins.max_margin(x, y, key=key)

    def mnist_of(n: int, _: int) -> Callable[[jax.Array], Any]:
        x, y = kg.datasets.mnist(str(mnist), classes=(3, 8)).train
        x, y = np.asarray(x)[:n], np.asarray(y)[:n]
        return lambda key: kg.margins.max_margin(x, y, key=key)

    rows: dict[str, Callable[[int], Callable[[jax.Array], Any]]]
    rows = {f"xor d={d} n={n}": partial(xor, d, n) for d, n in XOR}
    rows["batch of 10 xor d=20 n=80"] = batch
    rows |= {f"digits {a} {b}": partial(digits, (a, b)) for a, b in DIGITS}
    if mnist:
        rows |= {f"mnist 3 8 n={n}": partial(mnist_of, n) for n in MNIST}
    return rows


def _in_fresh_process(name: str, seed: int, mnist: str | None) -> dict[str, float]:
    unset = {"JAX_COMPILATION_CACHE_DIR"}
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    command = [sys.executable, __file__, name, "--child", str(seed)]
    command += ["--mnist", mnist] if mnist else []
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def _measured(prepare: Callable[[int], Callable], seed: int) -> dict[str, float]:
    call = prepare(seed)
    started = time.perf_counter()
    call(jax.random.key(200 + seed))
    again, cpu = time.perf_counter(), time.process_time()
    best = call(jax.random.key(100 + seed))
    return {
        "first": again - started,
        "again": time.perf_counter() - again,
        "cpu": time.process_time() - cpu,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "lower": best.lower,
        "upper": best.upper,
        "ratio": best.ratio,
    }


if __name__ == "__main__":
    main()
