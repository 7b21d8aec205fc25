"""Any function of two input sets as a kernel: what tiles, products and predictors ask of it."""

from collections.abc import Callable

import jax

from kernelgap.kernels.kernel import Kernel

KernelFunction = Callable[..., jax.Array]
"""`kernel(x1, x2=None) -> (n1, n2)`: a `kernels.Kernel` or any function of that form."""


def checked_kernel(kernel: KernelFunction) -> KernelFunction:
    """The kernel as a pytree, so that it passes through `jit`; refuse what is no function."""
    if not callable(kernel):
        raise TypeError(f"`kernel` must be a function kernel(x1, x2=None), such as "
                        f"kernels.ntk(model); got {type(kernel).__name__}")  # fmt: skip
    return kernel if isinstance(kernel, Kernel) else jax.tree_util.Partial(kernel)


def checked_block(kernel: KernelFunction, x1: jax.Array, x2: jax.Array | None) -> jax.Array:
    """kernel(x1, x2), refused unless it has one row per row of x1 and one column per row of x2."""
    block = kernel(x1) if x2 is None else kernel(x1, x2)
    shape = (x1.shape[0], (x1 if x2 is None else x2).shape[0])
    if block.shape != shape:
        raise ValueError(f"`kernel` must return shape {shape} for {shape[0]} and {shape[1]} "
                         f"inputs; got {block.shape}")  # fmt: skip
    return block


def diagonal(kernel: KernelFunction, x: jax.Array) -> jax.Array:
    """k(x_i, x_i) for each row: what kernel(x) has on its diagonal."""
    if isinstance(kernel, Kernel):
        return kernel.diag(x)
    return jax.vmap(lambda row: kernel(row[None])[0, 0])(x)
