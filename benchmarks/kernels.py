"""Closed-form NTK Gram against jitted neural-tangents and the bare matmul of the same output."""

import argparse

import jax
import jax.numpy as jnp

import kernelgap as kg
from timing import compare, describe


def main() -> None:
    """Run the comparison for one and three hidden layers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=4096)
    parser.add_argument("--d", type=int, default=100)
    arguments = parser.parse_args()
    describe()
    x1, x2 = (jax.random.normal(jax.random.key(s), (arguments.n, arguments.d)) for s in (0, 1))
    product = jax.jit(lambda a, b: jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST))
    for hidden in (1, 3):
        model = kg.models.homogeneous_mlp((512,) * hidden, parameterization="ntk")
        ours = kg.kernels.ntk(model, engine="closed_form")
        theirs = kg.kernels.ntk(model, engine="neural_tangents")  # jitted as a whole
        print(f"NTK Gram, n = {arguments.n}, d = {arguments.d}, {hidden} hidden, {x1.dtype}")
        compare(
            {
                "bare matmul": lambda: product(x1, x2),
                "kernelgap closed form": lambda f=ours: f(x1, x2),
                "neural-tangents, jitted": lambda f=theirs: f(x1, x2),
            }
        )


if __name__ == "__main__":
    main()
