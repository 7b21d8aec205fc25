"""Everything to measure on a GPU or TPU, in one command; prints a page in Markdown.

Each part runs in a process of its own, which has the device's memory to itself; a part that fails
is reported and does not stop the others. `--small` tries the script out, on a CPU in a minute.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import kernelgap as kg
from timing import seconds

_STUDIES = ("gap", "margin-path", "width", "regularization", "noisy-gd", "teacher", "diversity",
            "wide-mlp")  # fmt: skip


class Sizes(NamedTuple):
    """What to measure: numbers of points, and runs of the command-line interface."""

    gram: tuple[int, ...] = (8192, 16_384, 32_768)
    svm: int = 100_000
    svm_d: int = 320
    equal: int = 2000
    runs: tuple[tuple[str, ...], ...] = (
        *((study, "--preset", "quick") for study in _STUDIES),
        *((study,) for study in _STUDIES),
        ("gap", "--preset", "large"),
    )


_FULL = Sizes()
_SMALL = Sizes((512,), 2000, 20, 200, (("teacher", "--preset", "quick"),))


def main() -> None:
    """Run all parts one after another, or the given ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="equal, gram, svm, studies; all when empty")
    parser.add_argument("--small", action="store_true", help="small sizes, to try the script out")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = _SMALL if arguments.small else _FULL
    parts = {"equal": _equality, "gram": _gram, "svm": _svm, "studies": _studies}
    if unknown := set(arguments.parts) - {*parts, "device"}:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    if arguments.child:
        for line in {"device": _device, **parts}[arguments.parts[0]](sizes):
            print(line, flush=True)
        return
    # This process must not touch the device, whose memory JAX would take.
    small = ["--small"] * arguments.small
    for part in ("device", *(arguments.parts or parts)):
        if part == "studies":
            print(*_studies(sizes), sep="\n", flush=True)
        else:
            print(_child([sys.executable, __file__, "--child", part, *small])[0], flush=True)


def _child(command: list[str]) -> tuple[str, bool]:
    """Return the output of a process, with the reason if it failed, and whether it succeeded."""
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode == 0:
        return run.stdout, True
    reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
    return f"{run.stdout}\nFailed with status {run.returncode}: {reason}\n", False


def _device(sizes: Sizes) -> Iterator[str]:
    del sizes
    device = jax.devices()[0]
    yield f"## {device.device_kind} ({device.platform})\n"
    yield f"jax {jax.__version__}, kernelgap {kg.__version__}, float32, x {len(jax.devices())}."
    yield "First calls include compilation; others are the best of five.\n"


def _equality(sizes: Sizes) -> Iterator[str]:
    """Compare results on the device with those of the CPU, relative to the largest entry.

    Optima may differ by their certified gaps too.
    """
    devices = {"cpu": jax.devices("cpu")[0], "device": jax.devices()[0]}
    yield f"### Equal to the CPU, n = {sizes.equal}\n"
    yield "| result | difference | allowed | |"
    yield "|---|---|---|---|"
    for name, evaluate in _results(sizes.equal).items():
        values, gaps = {}, 0.0
        for place, device in devices.items():
            with jax.default_device(device):
                value, gap = evaluate()
            values[place], gaps = np.asarray(value, np.float64), gaps + float(gap)
        difference = np.max(np.abs(values["device"] - values["cpu"])) / np.max(
            np.abs(values["cpu"])
        )
        allowed = 1e-5 + gaps
        verdict = "equal" if difference <= allowed else "DIFFERENT"
        yield f"| {name} | {difference:.1e} | {allowed:.1e} | {verdict} |"
    yield ""


def _results(n: int) -> dict[str, Callable[[], tuple[Any, Any]]]:
    """Return evaluations on the default device, each to a result and its relative gap."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((n, 50)).astype(np.float32)
    targets = np.sin(normal[:, 0])
    with jax.default_device(jax.devices("cpu")[0]):
        x, y = map(np.asarray, kg.datasets.xor_noise(jax.random.key(0), n, 20))
    nets = {k: kg.models.homogeneous_mlp((256,) * k, parameterization="ntk") for k in (1, 3)}
    kernels = {k: kg.kernels.ntk(model) for k, model in nets.items()}
    params = tuple(
        rng.standard_normal(shape).astype(np.float32) for shape in nets[3].spec.shapes(50)
    )
    free = kg.predictors.MatrixFree()

    def empirical(function: Any) -> tuple[Any, float]:
        return kg.kernels.empirical_ntk(function, jax.device_put(params))(normal[:200]), 0.0

    def ridge(solver: Any) -> tuple[Any, float]:
        fit = kg.predictors.kernel_ridge(kernels[1], normal, targets, l2=1.0, solver=solver)
        return fit.decision_function(normal), 0.0

    def svm(solver: Any) -> tuple[Any, Any]:
        fit = kg.predictors.hard_margin_svm(kernels[1], x, y, solver=solver)
        return fit.margin, fit.duality_gap

    def logistic() -> tuple[Any, Any]:
        # The loss is within the gap; where it is strongly convex, f is within its root.
        fit = kg.predictors.kernel_logistic(kernels[1], normal, np.sign(targets), l2=0.1, tol=1e-9,
                                            solver=kg.predictors.Direct())  # fmt: skip
        return fit.decision_function(normal), 0.0

    return {
        "NTK, 1 hidden layer": lambda: (kernels[1](normal), 0.0),
        "NTK, 3 hidden layers": lambda: (kernels[3](normal), 0.0),
        "NNGP, 3 hidden layers": lambda: (kg.kernels.nngp(nets[3])(normal), 0.0),
        "empirical NTK, layer by layer": partial(empirical, nets[3]),
        "empirical NTK, any function": partial(empirical, nets[3].apply),
        "product without the matrix": lambda: (kg.kernels.matmul(kernels[1], normal, targets), 0.0),
        "ridge, direct": partial(ridge, kg.predictors.Direct()),
        "ridge, matrix-free": partial(ridge, free),
        "logistic regression": logistic,
        "SVM, margin": partial(svm, "auto"),
        "SVM, matrix-free, margin": partial(svm, free),
        "best margin of any width, proven bound": lambda: (
            kg.margins.upper_bound(x[:200], y[:200]).value, 1e-3),
    }  # fmt: skip


def _gram(sizes: Sizes) -> Iterator[str]:
    yield "### NTK Gram matrix, d = 100\n"
    yield "| n, hidden layers | bare write | bare matmul | kernelgap | first call | nt, jitted |"
    yield "|---|---|---|---|---|---|"
    product = jax.jit(lambda a, b: jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST))
    fill = jax.jit(lambda n, value: jnp.full((n, n), value), static_argnums=0)
    for n in sizes.gram:
        x1, x2 = (jax.random.normal(jax.random.key(seed), (n, 100)) for seed in (0, 1))
        for hidden in (1, 3):
            model = kg.models.homogeneous_mlp((512,) * hidden, parameterization="ntk")
            ours = partial(kg.kernels.ntk(model, engine="closed_form"), x1, x2)
            theirs = partial(kg.kernels.ntk(model, engine="neural_tangents"), x1, x2)
            calls = partial(fill, n, np.float32(1)), partial(product, x1, x2), ours, theirs
            firsts, times = zip(*(_first_and_best(call) for call in calls), strict=True)
            write, bare, own, other = (f"{1e3 * time:.2f} ms" for time in times)
            yield f"| {n}, {hidden} | {write} | {bare} | {own} | {firsts[2]:.2f} s | {other} |"
    yield f"\nPeak memory of the device: {_peak()}.\n"


def _svm(sizes: Sizes) -> Iterator[str]:
    n, d = sizes.svm, sizes.svm_d
    x, y = kg.datasets.xor_noise(jax.random.key(0), n, d)
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
    fit = partial(kg.predictors.hard_margin_svm, kernel, x, y, solver=kg.predictors.MatrixFree())
    first = seconds(lambda: fit().coef)
    started = time.perf_counter()
    svm = fit()
    again = time.perf_counter() - started
    yield f"### SVM without the Gram matrix, XOR, n = {n}, d = {d}\n"
    yield "| first call | again | gap | margin | support vectors | systems | peak of the device |"
    yield "|---|---|---|---|---|---|---|"
    yield (f"| {first:.1f} s | {again:.1f} s | {float(svm.duality_gap):.1e} "
           f"| {float(svm.margin):.6f} | {int(svm.support_size)} | {int(svm.iterations)} "
           f"| {_peak()} |\n")  # fmt: skip


def _studies(sizes: Sizes) -> Iterator[str]:
    yield "### Studies, whole processes\n"
    yield "| run | seconds |"
    yield "|---|---|"
    for run in sizes.runs:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "kernelgap", "run", *run, "--no-progress",
                       "--out", f"{folder}/out"]  # fmt: skip
            started = time.perf_counter()
            output, succeeded = _child(command)
            took = f"{time.perf_counter() - started:.0f}"
        yield f"| {' '.join(run)} | {took if succeeded else output.strip().splitlines()[-1]} |"
    yield ""


def _first_and_best(call: Callable[[], jax.Array]) -> tuple[float, float]:
    return seconds(call), min(seconds(call) for _ in range(5))


def _peak() -> str:
    stats = jax.devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return "not known" if peak is None else f"{peak / 2**30:.2f} GiB"


if __name__ == "__main__":
    main()
