"""Checks of any function of two input sets that tiles, products and predictors use as a kernel."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.outputs import check_apply
from kernelgap._support.registry import saveable
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


@saveable(inputs="nd", values="nn")
class GivenKernel(NamedTuple):
    """A stand-in, in a file, for a kernel that is a plain function.

    Attributes:
        name: The name of the function.
        inputs: Inputs of shape (n, d) at which a function that takes its place is compared with it.
        values: Its Gram matrix, (n, n).
    """

    name: str
    inputs: np.ndarray
    values: np.ndarray

    def checked(self, kernel: KernelFunction | None) -> KernelFunction:
        """Return the function that takes this place; refuse one of other values."""
        if kernel is None:
            raise ValueError(f"its kernel is the function {self.name!r:.200}, which could not be "
                             "saved: pass it again, load(path, kernel=...)")  # fmt: skip
        kernel = checked_kernel(kernel)
        values = np.asarray(checked_block(kernel, jax.numpy.asarray(self.inputs), None))
        # Machines differ by rounding, even that of TF32; other kernels differ by far more.
        tolerance = 5e-3 * np.abs(self.values).max()
        if not np.allclose(values, self.values, rtol=0, atol=tolerance):
            raise ValueError(f"`kernel` is not the function {self.name!r:.200} that was saved: it "
                             f"returns {values[0, 0]:.4g} in place of {self.values[0, 0]:.4g} for "
                             "the first input")  # fmt: skip
        return kernel


def saveable_kernel(kernel: KernelFunction, x: jax.Array) -> Kernel | GivenKernel:
    """Return what is saved of a kernel: a plain function is known by its values on rows of x."""
    if isinstance(kernel, Kernel):
        return kernel
    function = getattr(kernel, "func", kernel)  # that of a jax.tree_util.Partial
    name = getattr(function, "__qualname__", type(function).__name__)
    inputs = x[:4]
    values = checked_block(checked_kernel(kernel), inputs, None)
    return GivenKernel(name, np.asarray(inputs), np.asarray(values))
