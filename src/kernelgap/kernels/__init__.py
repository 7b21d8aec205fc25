"""Kernels induced by networks: their values, products and spectra.

`ntk` and `nngp` are the limits of large width at initialisation; `empirical_ntk` is the tangent
kernel of one finite net, trained or not; `diversity.diversity_kernel` is the limit for a first
layer of ReLU units alone. A `Kernel` is a plain callable, `kernel(x1, x2=None) -> (n1, n2)`, and a
pytree, so that it passes through `jit` and `vmap`. Two engines evaluate the infinite-width kernels:
`closed_form`, one fused pass for ReLU-like activations, and `neural_tangents`, the library of that
name. `convert` applies the factors of other authors' conventions. `k1 + k2`, `k1 * k2` and
`2.0 * k` are kernels again.

`gram` and `matmul` evaluate any kernel for any n: by panels, on disk, over devices, matrix-free.
`spectrum` and `extreme_eigenvalues` return eigenvalues of Gram matrices, `zonal_spectrum` those of
the kernel itself on the sphere; `nearest_pair` measures the separation of the inputs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kernelgap.kernels.conventions import convert
from kernelgap.kernels.empirical import empirical_ntk
from kernelgap.kernels.infinite import nngp, ntk
from kernelgap.kernels.kernel import Kernel
from kernelgap.kernels.spectra.dense import Spectrum as Spectrum, spectrum
from kernelgap.kernels.spectra.separation import NearestPair as NearestPair, nearest_pair
from kernelgap.kernels.spectra.zonal import ZonalSpectrum as ZonalSpectrum, zonal_spectrum
from kernelgap.kernels.tiled.products import matmul
from kernelgap.kernels.tiled.storage import gram

if TYPE_CHECKING:
    from kernelgap.kernels.spectra.extreme import (
        ExtremeEigenvalues as ExtremeEigenvalues,
        extreme_eigenvalues,
    )

__all__ = [
    "Kernel",
    "convert",
    "empirical_ntk",
    "extreme_eigenvalues",
    "gram",
    "matmul",
    "nearest_pair",
    "nngp",
    "ntk",
    "spectrum",
    "zonal_spectrum",
]


def __getattr__(name: str) -> Any:
    # These import scipy.sparse.linalg, and are therefore loaded on first use.
    if name in ("ExtremeEigenvalues", "extreme_eigenvalues"):
        return getattr(import_module("kernelgap.kernels.spectra.extreme"), name)
    raise AttributeError(f"module 'kernelgap.kernels' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "neural_tangents"})  # what tab completion offers
