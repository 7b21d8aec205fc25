"""Empirical NTK against neural_tangents' in each of its options that work, jitted.

Every measurement has a process of its own, so that its memory is its own: the peak, less what was
there before the first call.
"""

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

import kernelgap as kg
from timing import describe, peak, seconds

_OURS = ("kernelgap, layer by layer", "kernelgap, any function")
_OPTIONS = ("jacobian contraction", "ntk vector products", "structured derivatives")


def main() -> None:
    """Print a row for each method and net."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, nargs="*", default=[200, 1000])
    parser.add_argument("--hidden", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--width", type=int, nargs="*", default=[256, 512])
    parser.add_argument("--outputs", type=int, help="trace over so many; without them (n,)")
    parser.add_argument("--d", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_measured(arguments)))
        return
    describe()
    methods = [
        *_OURS,
        *(f"nt, {name}{hint}" for name in _OPTIONS for hint in ("", ", vmap_axes=0")),
    ]
    print("| n | layers | width | method | first call | again | memory | sum of entries |")
    print("|---|---|---|---|---|---|---|---|")
    for n in arguments.n:
        for hidden in arguments.hidden:
            for width in arguments.width:
                for method in methods:
                    case = ["--n", str(n), "--hidden", str(hidden), "--width", str(width)]
                    row = _in_own_process(method, [*case, *_common(arguments)])
                    print(f"| {n} | {hidden + 1} | {width} | {method} | {row} |", flush=True)


def _common(arguments: argparse.Namespace) -> list[str]:
    outputs = [] if arguments.outputs is None else ["--outputs", str(arguments.outputs)]
    return ["--d", str(arguments.d), "--repeats", str(arguments.repeats), *outputs]


def _in_own_process(method: str, options: list[str]) -> str:
    command = [sys.executable, __file__, "--child", method, *options]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        return "does not run | | | "
    first, again, memory, total = json.loads(run.stdout.splitlines()[-1])
    return f"{first:.2f} s | {again:.3f} s | {memory:.2f} GiB | {total:.6g}"


def _measured(arguments: argparse.Namespace) -> tuple[float, float, float, float]:
    """Return the seconds of the first call and of the best other, GiB, and a number to compare."""
    warnings.simplefilter("ignore")  # neural_tangents', about its own calls
    (n,), (hidden,), (width,) = arguments.n, arguments.hidden, arguments.width
    model = kg.models.homogeneous_mlp((width,) * hidden, outputs=arguments.outputs)
    params = model.init(jax.random.key(1), arguments.d)
    x = jax.random.normal(jax.random.key(0), (n, arguments.d))
    call = partial(_method(arguments.child, model, params), x)
    before = peak()
    first = seconds(call)
    again = min(seconds(call) for _ in range(arguments.repeats))
    return first, again, peak() - before, float(jnp.sum(call()))


def _method(name: str, model: kg.models.Model, params: tuple) -> Callable[[jax.Array], jax.Array]:
    k = model.spec.outputs
    if name in _OURS:
        kernel = kg.kernels.empirical_ntk(model if name == _OURS[0] else model.apply, params)
        if k is None:
            return kernel
        return lambda x: jnp.trace(kernel(x), axis1=2, axis2=3) / k
    from kernelgap.kernels.neural_tangents import load

    nt = load()
    option, _, hint = name.removeprefix("nt, ").partition(", ")
    theirs = jax.jit(
        nt.empirical_ntk_fn(
            model.apply,
            trace_axes=() if k is None else (-1,),
            vmap_axes=0 if hint else None,
            implementation=nt.NtkImplementation[option.upper().replace(" ", "_")],
        )
    )
    return lambda x: theirs(x, None, params)


if __name__ == "__main__":
    main()
