"""First calls: each public function in a fresh process with empty caches, next to `eigh`."""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import kernelgap as kg

_PREFIX = "/jax/core/compile/"
_STAGES = {
    "jaxpr_trace_duration": "trace",
    "jaxpr_to_mlir_module_duration": "lower",
    "backend_compile_duration": "compile",
}
_N, _D = 200, 10


def main() -> None:
    """Print a table of all functions, or the programs that the given ones compile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("functions", nargs="*", help="a part of the names; all when empty")
    parser.add_argument("--repeats", type=int, default=1, help="processes each; the best counts")
    parser.add_argument("--programs", action="store_true", help="list what each one compiles")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_measured(arguments.child)))
        return
    names = [
        name
        for name in _calls()
        if not arguments.functions or any(part in name for part in arguments.functions)
    ]
    print(
        f"jax {jax.__version__}, {jax.devices()[0].device_kind}; n = {_N}, d = {_D}, float32; s\n"
    )
    print(
        "| function | first, CPU | over eigh | wall | second | programs | trace | lower | compile |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    base = None
    for name in dict.fromkeys(["eigh", *names]):
        runs = [_in_fresh_process(name) for _ in range(arguments.repeats)]
        row = min(runs, key=lambda run: run["cpu"])
        base = row["cpu"] if base is None else base
        print(
            f"| {name} | {row['cpu']:.2f} | {row['cpu'] - base:+.2f} | {row['wall']:.2f} "
            f"| {row['second']:.3f} | {sum(row['programs'].values())} | {row['trace']:.2f} "
            f"| {row['lower']:.2f} | {row['compile']:.2f} |",
            flush=True,
        )
        if arguments.programs:
            print(
                "\n".join(f"    {count:3} {program}" for program, count in row["programs"].items())
            )


def _in_fresh_process(name: str) -> dict[str, Any]:
    unset = {"JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_X64"}
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    command = [sys.executable, __file__, "--child", name]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def _measured(name: str) -> dict[str, Any]:
    """Call twice and return seconds and programs of the first call, seconds of the second."""
    call = _calls()[name]()  # imports the module, and makes inputs by NumPy
    stages = dict.fromkeys(_STAGES.values(), 0.0)
    programs: Counter = Counter()

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        stage = _STAGES.get(event.removeprefix(_PREFIX))
        if stage is None:
            return
        stages[stage] += duration_secs
        if stage == "compile":
            programs[str(kwargs.get("fun_name", "?"))] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    cpu, wall = _cpu_seconds(), time.perf_counter()
    jax.block_until_ready(call())
    row: dict[str, Any] = {"cpu": _cpu_seconds() - cpu, "wall": time.perf_counter() - wall}
    row |= stages | {"programs": dict(programs.most_common())}
    wall = time.perf_counter()
    jax.block_until_ready(call())
    return row | {"second": time.perf_counter() - wall}


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _calls() -> dict[str, Callable[[], Callable[[], Any]]]:
    """Return for each function how to prepare a call of it."""
    rng = np.random.default_rng(0)
    # XOR as `datasets.xor_noise` draws it, with distinct rows, and without compiling anything.
    signs = rng.permutation(np.unique(rng.choice([-1.0, 1.0], (2 * _N, _D)), axis=0))[:_N]
    first = signs[:, 0] > 0
    inputs = signs.astype(np.float32)
    inputs[:, 0] = np.where(first, signs[:, 1], 0)
    inputs[:, 1] = np.where(first, 0, signs[:, 1])
    labels = signs[:, 0].astype(np.float32)
    hidden = rng.standard_normal((64, _D)).astype(np.float32)
    symmetric = (inputs @ inputs.T + rng.standard_normal((_N, 1)) ** 2 * np.eye(_N)).astype(
        np.float32
    )
    x, y, few, their, u, w, symmetric = jax.device_put(
        (inputs, labels, inputs[:50], labels[:50], hidden, np.ones(64, np.float32), symmetric)
    )
    key = jax.random.key(0)

    def model(*widths: int) -> kg.models.Model:
        return kg.models.homogeneous_mlp(widths or (64,), parameterization="ntk")

    def ntk() -> kg.kernels.Kernel:
        return kg.kernels.ntk(model())

    def fitted() -> kg.predictors.KernelPredictor:
        number, count = jax.device_put((np.float32(1), np.int32(0)))
        numbers, counts = (number,) * 3, (count,) * 3
        return kg.predictors.KernelPredictor(ntk(), x, y, *numbers, *counts)

    def trained() -> Any:
        import optax

        loss = kg.objectives.regularized_logistic(model().apply, l2=1e-3)
        return kg.optim.train(loss, (u, w), (x, y), optax.adam(1e-2), steps=100)

    def noisy() -> Any:
        net = model()
        loss = kg.objectives.regularized_logistic(net.apply, l2=1e-3)
        optimizer = kg.optim.noisy_gd(0.1, temperature=1e-4, neurons=net.neurons, key=key)
        return kg.optim.train(loss, (u, w), (x, y), optimizer, steps=100)

    predictors, margins, datasets = kg.predictors, kg.margins, kg.datasets
    direct = (
        ("eigh", lambda: jnp.linalg.eigh(symmetric)),
        ("datasets.xor_noise", lambda: datasets.xor_noise(key, _N, _D)),
        ("datasets.teacher", lambda: datasets.teacher(key, _N, _D)),
        ("datasets.sphere", lambda: datasets.sphere(key, _N, _D)),
        ("datasets.iid_inputs", lambda: datasets.iid_inputs(key, _N, _D)),
        (
            "datasets.iid_inputs, Student's t",
            lambda: datasets.iid_inputs(key, _N, _D, distribution="student_t", df=5.0),
        ),
        (
            "datasets.iid_inputs, mixture",
            lambda: datasets.iid_inputs(key, _N, _D, distribution="mixture", kurtosis=2.0),
        ),
        ("models: init, 1 hidden layer", lambda: model().init(key, _D)),
        ("models: init, 3 hidden layers", lambda: model(64, 32, 16).init(key, _D)),
        ("models: apply", lambda: model().apply((u, w), x)),
        ("optim.train, Adam", trained),
        ("optim.train, noisy_gd", noisy),
        ("metrics.normalized_margin", lambda: kg.metrics.normalized_margin(model(), (u, w), x, y)),
        ("metrics.target_alignment", lambda: kg.metrics.target_alignment(symmetric, y)),
        ("kernels.ntk(x)", lambda: ntk()(x)),
        ("kernels.ntk(x, x2)", lambda: ntk()(x, few)),
        ("kernels.ntk, diag", lambda: ntk().diag(x)),
        (
            "kernels.ntk(x), tanh",
            lambda: kg.kernels.ntk(kg.models.mlp((64,), activation="tanh"))(x),
        ),
        ("kernels.gram", lambda: kg.kernels.gram(ntk(), x)),
        ("kernels.matmul", lambda: kg.kernels.matmul(ntk(), x, y)),
        ("kernels.empirical_ntk(x)", lambda: kg.kernels.empirical_ntk(model(), (u, w))(x)),
        ("kernels.spectrum", lambda: kg.kernels.spectrum(ntk(), x)),
        ("predictors.kernel_ridge", lambda: predictors.kernel_ridge(ntk(), x, y, l2=1e-3)),
        ("predictors.kernel_ridge, l2=0", lambda: predictors.kernel_ridge(ntk(), x, y)),
        (
            "predictors.kernel_ridge, MatrixFree",
            lambda: predictors.kernel_ridge(ntk(), x, y, l2=1.0, solver=predictors.MatrixFree()),
        ),
        ("predictors.kernel_logistic", lambda: predictors.kernel_logistic(ntk(), x, y, l2=1e-3)),
        (
            "predictors.logistic_path",
            lambda: predictors.logistic_path(ntk(), x, y, l2s=(1e-2, 1e-3)),
        ),
        ("predictors.hard_margin_svm", lambda: predictors.hard_margin_svm(ntk(), x, y)),
        ("predictors.best_in_span", lambda: predictors.best_in_span(ntk(), few, x, y)),
        ("predictors: predict", lambda: fitted().predict(few)),
        ("predictors: score", lambda: fitted().score(few, their)),
        ("margins.upper_bound", lambda: margins.upper_bound(x, y)),
        ("margins.duality_gap", lambda: margins.duality_gap(model(), (u, w), x, y, l2=1e-2)),
        ("margins.max_margin", lambda: margins.max_margin(x, y, key=key, steps=100, upper=False)),
        ("margins.max_margin, 3000 steps", lambda: margins.max_margin(x, y, key=key)),
        ("margins.kkt_residuals", lambda: margins.kkt_residuals(model(), (u, w), x, y)),
        (
            "margins.regularization_path",
            lambda: margins.regularization_path(model(), (u, w), x, y, l2s=(1e-2, 1e-3)),
        ),
        ("lazy.laziness", lambda: kg.lazy.laziness(model(), (u, w), x, y)),
        ("diversity.diversity_penalty", lambda: kg.diversity.diversity_penalty(u)),
        ("diversity.slice_discrepancy", lambda: kg.diversity.slice_discrepancy(u)),
    )
    return {name: lambda call=call: call for name, call in direct}


if __name__ == "__main__":
    main()
