"""Kernels induced by networks: the neural tangent kernel and the NNGP kernel.

`ntk` and `nngp` are the limits of large width at initialisation; `empirical_ntk` is the tangent
kernel of one finite net, trained or not.

A `Kernel` is a plain callable, `kernel(x1, x2=None) -> (n1, n2)`, and a pytree, so that it passes
through `jit` and `vmap`. Two engines evaluate the infinite-width kernels: `closed_form`, one fused
pass for ReLU-like activations, and `neural_tangents`, the library of that name.
"""

from kernelgap.kernels.empirical import empirical_ntk
from kernelgap.kernels.infinite import nngp, ntk
from kernelgap.kernels.kernel import Kernel
from kernelgap.kernels.products import matmul
from kernelgap.kernels.storage import gram

__all__ = ["Kernel", "empirical_ntk", "gram", "matmul", "nngp", "ntk"]
