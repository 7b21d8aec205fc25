"""How tight and how fast `margins.max_margin` is: found, proved, seconds, over seeds.

    python benchmarks/margins.py [--seeds 10]

On `xor_noise` margins are in units of the planted network's, 1/8; on digits in their own. The
first call of a shape includes compilation.
"""

import argparse
import time

import jax

import kernelgap as kg

XOR = ((20, 4), (20, 8), (20, 16), (40, 4), (40, 8), (40, 16))
DIGITS = ((0, 1), (3, 8))


def problems(seeds: int):
    """(name, unit, seed, data) of every call."""
    for d, ratio in XOR:
        for seed in range(seeds):
            data = kg.datasets.xor_noise(jax.random.key(seed), ratio * d, d)
            yield f"xor d={d} n={ratio * d}", 1 / 8, seed, data
    for classes in DIGITS:
        for seed in range(seeds):
            yield f"digits {classes[0]} {classes[1]}", 1.0, seed, kg.datasets.digits(classes)


def main() -> None:
    """Call `max_margin` on all problems."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    print("problem           seed  found    proved   ratio    seconds")
    for name, unit, seed, data in problems(parser.parse_args().seeds):
        started = time.perf_counter()
        best = kg.margins.max_margin(*data, key=jax.random.key(100 + seed))
        seconds = time.perf_counter() - started
        print(
            f"{name:17s} {seed:4d}  {best.lower / unit:.5f}  {best.upper / unit:.5f}  "
            f"{best.ratio:.5f}  {seconds:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
