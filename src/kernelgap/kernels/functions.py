"""Checks of any function of two input sets that tiles, products and predictors use as a kernel."""

from collections.abc import Callable, Hashable

import jax

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.outputs import check_apply
from kernelgap.kernels import jacobian
from kernelgap.kernels.algebra import Combined
from kernelgap.kernels.kernel import Kernel
from kernelgap.typing import ArrayLike

KernelFunction = Callable[..., jax.Array]
"""`kernel(x1, x2=None) -> (n1, n2)`: a `kernels.Kernel` or any pure function of that form."""


def checked_kernel(kernel: KernelFunction) -> KernelFunction:
    """Return the kernel as a pytree, which passes through `jit`; raise unless it is callable."""
    checks.function(kernel, "kernel", "kernel(x1, x2=None), such as kernels.ntk(model)")
    if not jax.tree_util.all_leaves([kernel]):  # a pytree already, with its parameters as leaves
        return kernel
    if _is_hashable(kernel):
        return jax.tree_util.Partial(kernel)
    # An unhashable callable may change between calls: a new lambda is traced anew every time.
    return jax.tree_util.Partial(lambda *inputs: kernel(*inputs))


def check_rows(kernel: KernelFunction, x: jax.Array) -> None:
    """Refuse the empirical kernel of a function whose outputs are not computed row by row.

    Call this before compiled code evaluates the kernel; other evaluations check for themselves.
    """
    if not isinstance(kernel, Kernel):
        return
    if isinstance(kernel.spec, Combined):
        for part in kernel.params:
            check_rows(part, x)
    elif kernel.evaluate is jacobian.gram:
        check_apply(kernel.spec.apply, kernel.params, x)


def checked_inputs(x1: ArrayLike, x2: ArrayLike | None) -> tuple[jax.Array, jax.Array | None]:
    """Return two sets of inputs of one dimension and dtype, the second perhaps None."""
    x1 = array_checks.inputs(x1, "x1")
    if x2 is None:
        return x1, None
    x2 = array_checks.inputs(x2, "x2", d=x1.shape[1])
    array_checks.same_dtype(x1, x2)
    return x1, x2


def checked_block(kernel: KernelFunction, x1: jax.Array, x2: jax.Array | None) -> jax.Array:
    """Return kernel(x1, x2); refuse other shapes than one row and column per row of x1 and x2."""
    block = kernel(x1) if x2 is None else kernel(x1, x2)
    shape = (x1.shape[0], (x1 if x2 is None else x2).shape[0])
    received = getattr(block, "shape", type(block).__name__)
    if received != shape:
        raise ValueError(f"`kernel` must return shape {shape} for {shape[0]} and {shape[1]} "
                         f"inputs; got {received}")  # fmt: skip
    if block.dtype != x1.dtype:
        raise TypeError(f"`kernel` must return the dtype of its inputs, {x1.dtype}; "
                        f"got {block.dtype}")  # fmt: skip
    return block


def diagonal(kernel: KernelFunction, x: jax.Array) -> jax.Array:
    """Return k(x_i, x_i) for each row: the diagonal of kernel(x)."""
    if isinstance(kernel, Kernel):
        return kernel.diag(x)
    return jax.vmap(lambda row: checked_block(kernel, row[None], None)[0, 0])(x)


def _is_hashable(kernel: KernelFunction) -> bool:
    if not isinstance(kernel, Hashable):
        return False
    try:
        hash(kernel)
    except TypeError:  # such as a partial of arrays
        return False
    return True
