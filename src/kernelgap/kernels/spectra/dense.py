"""All eigenvalues of a Gram matrix, by a dense solver that does not break at n = 32,767.

LAPACK's syevd needs 1 + 6n + 2n^2 entries of workspace for eigenvectors, which leaves 32-bit
integers at n = 32,767. `jax.numpy.linalg.eigvalsh` asks for vectors all the same: on CPU it raises
an error at this n (JAX 0.10.2, tried), or returned NaN (older versions; jax issues 10420 and
20904). Without vectors the workspace is 2n + 1, so that NumPy's `eigvalsh` has no such limit.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks
from kernelgap._numerics.blas import limit_blas_threads
from kernelgap._support import extras
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.kernels.functions import checked_kernel
from kernelgap.kernels.kernel import widened
from kernelgap.kernels.spectra.separation import (
    concrete_inputs,
    pairs_for,
    rounding_error,
    warn_if_hidden,
)
from kernelgap.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_INT32 = 2**31 - 1


@saveable()
class Spectrum(NamedTuple):
    """All eigenvalues of a Gram matrix.

    Attributes:
        values: Shape (n,), ascending.
        error: Estimated rounding error of each value, from the kernel values in this dtype and the
            solver. It is usually pessimistic, but not a bound.
    """

    values: Float[Array, " n"]
    error: float

    __repr__ = compact_repr
    _repr_html_ = html_repr

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Plot the eigenvalues, largest first, and the rounding error (extra `studies`)."""
        ax, values = extras.get_axes(ax), np.asarray(self.values)[::-1]
        ax.plot(np.arange(1, len(values) + 1), values, ".", ms=3)
        ax.axhline(self.error, color="0.5", ls=":", lw=1, label="rounding error")
        ax.set_xscale("log")
        ax.set_yscale("log", nonpositive="mask")
        ax.set_xlabel("rank")
        ax.set_ylabel("eigenvalue of the Gram matrix")
        ax.legend(frameon=False, fontsize=8)
        return ax

    def to_pandas(self) -> "DataFrame":
        """Return a row per eigenvalue, ascending as in `values` (extra `studies`)."""
        return extras.data_frame({"value": self.values, "error": self.error})


def spectrum(kernel: Callable[..., jax.Array] | ArrayLike, x: ArrayLike | None = None) -> Spectrum:
    """Return all eigenvalues of the Gram matrix of a kernel, in ascending order.

    It takes O(n^3) time and O(n^2) memory, for any n that fits, in the dtype of the matrix. It is
    computed on the accelerator if there is one and n < 32,767, else on the host by NumPy, and
    cannot be traced. `extreme_eigenvalues` computes both ends of the spectrum without the matrix.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`; or, when `x` is left out,
            a symmetric Gram matrix of shape (n, n).
        x: Inputs of shape (n, d).

    Returns:
        `Spectrum(values, error)`, in float32 for inputs of half precision.

    Raises:
        TypeError: If x or the matrix is traced.
        ValueError: If the Gram matrix is not finite.

    Warns:
        RuntimeWarning: If rounding hides the smallest eigenvalue, with the nearest pair of inputs.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 50, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> values, error = kg.kernels.spectrum(kernel, x)
        >>> values.shape, bool(values[0] > 100 * error)
        ((50,), True)

    References:
        The solver is LAPACK's. The estimate of the rounding error is this project's.
    """
    if x is None:
        gram, pair = _checked_matrix(kernel), None
    else:
        kernel = checked_kernel(kernel)  # pyright: ignore[reportArgumentType]
        x = widened(concrete_inputs(x, "spectrum"))
        gram = kernel(x)
        if gram.shape != (x.shape[0],) * 2:
            raise ValueError(f"`kernel` must return shape ({x.shape[0]}, {x.shape[0]}) for "
                             f"{x.shape[0]} inputs; got {gram.shape}")  # fmt: skip
        pair = next(iter(pairs_for(kernel, x)), None)
    host = np.asarray(gram)
    if not np.isfinite(host).all():
        raise ValueError("`kernel` returned NaN or inf on `x`; expected a finite Gram matrix")
    error_dtype, host = host.dtype, np.asarray(widened(gram))
    platform = next(iter(gram.devices())).platform
    if solver(host.shape[0], platform) == "device":
        values = jnp.linalg.eigvalsh(widened(gram))
    else:
        values = jnp.asarray(limit_blas_threads(len(host), lambda: np.linalg.eigvalsh(host)))
    smallest, largest = float(values[0]), float(values[-1])
    error = rounding_error(error_dtype, largest, float(np.max(np.diag(host))), pair)
    warn_if_hidden(smallest, error, error_dtype, pair)
    return Spectrum(values, error)


def solver(n: int, platform: str) -> str:
    """Return `"device"` for JAX's solver, `"host"` for NumPy's.

    On CPU, JAX calls the same LAPACK but computes eigenvectors as well, which are not needed.
    """
    return "host" if platform == "cpu" or 1 + 6 * n + 2 * n**2 > _INT32 else "device"


def _checked_matrix(gram: object) -> jax.Array:
    if callable(gram):
        raise TypeError("`x` is missing: spectrum(kernel, x) for a kernel, spectrum(gram) "
                        "for a Gram matrix")  # fmt: skip
    array = array_checks.inputs(gram, "kernel")  # pyright: ignore[reportArgumentType]
    if array.shape[0] != array.shape[1]:
        raise ValueError(f"`kernel`, as a Gram matrix, must have shape (n, n); got {array.shape}")
    if not array_checks.is_concrete(array):
        raise TypeError("`spectrum` runs on the host: call it outside of jit, vmap and grad")
    host = np.asarray(array, np.float64)
    skew = float(np.max(np.abs(host - host.T)))
    if skew > 100 * float(jnp.finfo(array.dtype).eps) * float(np.max(np.abs(host))):
        raise ValueError(f"`kernel`, as a Gram matrix, must be symmetric; entries differ from the "
                         f"transposed ones by up to {skew:.2g}")  # fmt: skip
    return array
