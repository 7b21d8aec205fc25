"""Empirical NTK against neural_tangents' in each of its options that work, jitted, on one net."""

import argparse
import warnings
from functools import partial

import jax
import numpy as np

import kernelgap as kg
from timing import compare, describe


def main() -> None:
    """Run the comparison for one and three hidden layers, and for any function."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--deep-n", type=int, default=200, help="fewer, so that Jacobians fit")
    parser.add_argument("--d", type=int, default=50)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # neural_tangents', about its own calls
    describe()
    for hidden, n in ((1, arguments.n), (3, arguments.deep_n)):
        x = jax.random.normal(jax.random.key(0), (n, arguments.d))
        model = kg.models.homogeneous_mlp((arguments.width,) * hidden)
        params = model.init(jax.random.key(1), arguments.d)
        kernel = kg.kernels.empirical_ntk(model, params)
        generic = kg.kernels.empirical_ntk(model.apply, params)
        print(f"empirical NTK, n = {n}, d = {arguments.d}, {hidden} hidden layers of "
              f"{arguments.width}, {x.dtype}")  # fmt: skip
        candidates = {
            "kernelgap, layer by layer": lambda k=kernel, x=x: k(x),
            "kernelgap, any function": lambda k=generic, x=x: k(x),
        }
        for name, theirs in _options(model).items():
            call = partial(theirs, x, None, params)
            try:
                error = np.max(np.abs(call() - kernel(x))) / np.max(kernel(x))
            except Exception as failure:
                print(f"{name:40} does not run: {str(failure).splitlines()[0]:.60}")
                continue
            print(f"{name:40} differs by {error:.0e}")
            candidates[name] = call
        compare(candidates, repeats=arguments.repeats)
    if arguments.deep_n < arguments.n:
        x = jax.random.normal(jax.random.key(0), (arguments.n, arguments.d))
        print(f"the same three hidden layers, n = {arguments.n}")
        compare({"kernelgap, layer by layer": lambda: kernel(x)}, repeats=arguments.repeats)


def _options(model: kg.models.Model) -> dict:
    """Each implementation, with and without the hint that rows are independent."""
    nt = kg.kernels.neural_tangents.load()
    return {
        f"neural-tangents, {choice.name.lower()[:17]}{', vmap' if vmap == 0 else ''}": jax.jit(
            nt.empirical_ntk_fn(model.apply, trace_axes=(), vmap_axes=vmap, implementation=choice)
        )
        for choice in nt.NtkImplementation
        for vmap in (None, 0)
    }


if __name__ == "__main__":
    main()
