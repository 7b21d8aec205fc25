"""`import kernelgap` against `import jax`, whole processes, interleaved."""

import statistics
import subprocess
import sys
import time


def main() -> None:
    """Print the medians and their ratio."""
    times: dict[str, list[float]] = {"jax": [], "kernelgap": []}
    for _ in range(15):
        for module, values in times.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
            values.append(time.perf_counter() - started)
    jax, ours = (statistics.median(values) for values in times.values())
    print(f"import jax {jax:.3f} s, import kernelgap {ours:.3f} s: x{ours / jax:.2f}")


if __name__ == "__main__":
    main()
