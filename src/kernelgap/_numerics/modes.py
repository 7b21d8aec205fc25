"""Refuse reverse-mode derivatives of loops whose number of steps depends on the data."""

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from kernelgap._numerics import array_checks
from kernelgap.typing import PyTree


def forward_only(tree: PyTree, name: str) -> PyTree:
    """Return `tree` unchanged, but raise an error that names `name` in reverse mode."""

    def mark(leaf: jax.Array) -> jax.Array:
        if array_checks.is_concrete(leaf) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return _identity.bind(leaf, name=name)

    return jax.tree.map(mark, tree)


def _refuse(cotangent: jax.Array, x: jax.Array, *, name: str) -> None:
    raise TypeError(
        f"{name} can be differentiated in forward mode only, by jax.jvp or jax.jacfwd: its loop "
        "stops when it has converged; got a reverse-mode derivative (jax.grad, jax.jacrev, "
        "jax.vjp)"
    )


# JAX's own error would name only the loop.
_identity = Primitive("kernelgap_forward_only")
_identity.def_impl(lambda x, *, name: x)
_identity.def_abstract_eval(lambda x, *, name: x)
ad.deflinear2(_identity, _refuse)
batching.defvectorized(_identity)
mlir.register_lowering(_identity, lambda context, x, *, name: [x])
