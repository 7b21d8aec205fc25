"""Empirical NTK against neural_tangents' in each of its options that work, jitted, on one net."""

import argparse
import warnings
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

import kernelgap as kg
from kernelgap.kernels.neural_tangents import load
from timing import compare, describe


def main() -> None:
    """Run the comparison for one and three hidden layers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--deep-n", type=int, default=200, help="fewer, so that Jacobians fit")
    parser.add_argument("--d", type=int, default=50)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # neural_tangents', about its own calls
    describe()
    nets = {hidden: kg.models.homogeneous_mlp((arguments.width,) * hidden) for hidden in (1, 3)}
    # Ours alone, before a competitor raises the peak of memory.
    for hidden, model in nets.items():
        kernel, _, x = _case(model, arguments.n, arguments.d)
        print(f"empirical NTK, n = {len(x)}, d = {arguments.d}, {hidden} hidden of "
              f"{arguments.width}, {x.dtype}")  # fmt: skip
        compare({"kernelgap, layer by layer": partial(kernel, x)}, repeats=arguments.repeats)
    for hidden, n in ((1, arguments.n), (3, arguments.deep_n)):
        kernel, params, x = _case(nets[hidden], n, arguments.d)
        generic = kg.kernels.empirical_ntk(nets[hidden].apply, params)
        print(f"the same, n = {n}, {hidden} hidden")
        candidates: dict[str, Callable[[], jax.Array]] = {
            "kernelgap, layer by layer": partial(kernel, x),
            "kernelgap, any function": partial(generic, x),
        }
        for name, theirs in _options(nets[hidden]).items():
            call = partial(theirs, x, None, params)
            try:
                error = np.max(np.abs(call() - kernel(x))) / np.max(kernel(x))
            except Exception as failure:
                print(f"{name:40} does not run: {type(failure).__name__} {failure!s:.60}")
                continue
            print(f"{name:40} differs by {error:.0e}")
            candidates[name] = call
        compare(candidates, repeats=arguments.repeats)


def _case(model: kg.models.Model, n: int, d: int) -> tuple[kg.kernels.Kernel, tuple, jax.Array]:
    params = model.init(jax.random.key(1), d)
    x = jax.random.normal(jax.random.key(0), (n, d))
    return kg.kernels.empirical_ntk(model, params), params, x


def _options(model: kg.models.Model) -> dict[str, Callable[..., jax.Array]]:
    """Each implementation, with and without the hint that rows are independent."""
    nt = load()
    options = {}
    for choice in nt.NtkImplementation:
        for vmap in (None, 0):
            name = choice.name.lower().replace("_", " ").removesuffix(" contraction")
            theirs = nt.empirical_ntk_fn(
                model.apply, trace_axes=(), vmap_axes=vmap, implementation=choice
            )
            options[f"nt, {name}{', vmap_axes=0' if vmap == 0 else ''}"] = jax.jit(theirs)
    return options


if __name__ == "__main__":
    main()
