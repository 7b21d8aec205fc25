"""The population spectrum of rotation-invariant kernels on the sphere.

Kernels come as a `Kernel`, as a profile kappa(c) of the cosine, or as its Taylor coefficients; the
eigenvalues are computed in `harmonics.py`.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import checks
from kernelgap._support import extras
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.kernels import neural_tangents, recursion
from kernelgap.kernels.kernel import Kernel
from kernelgap.kernels.spectra import harmonics, profiles
from kernelgap.models import Activation
from kernelgap.models.model import MLPSpec
from kernelgap.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


@saveable()
class ZonalSpectrum(NamedTuple):
    """Eigenvalues of a kernel on the sphere, by degree t = 0, 1, ....

    Attributes:
        values: lambda_t, always in NumPy float64, because they go down to 1e-300.
        errors: Estimated absolute error of each value.
        multiplicities: N(d, t), exact Python integers.
        shares: N(d, t) lambda_t; over all degrees they sum to kappa(1).
    """

    values: np.ndarray
    errors: np.ndarray
    multiplicities: tuple[int, ...]
    shares: np.ndarray

    __repr__ = compact_repr
    _repr_html_ = html_repr

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Plot eigenvalues and shares by degree where they exceed their error (extra `studies`)."""
        ax, degrees = extras.get_axes(ax), np.arange(len(self.values))
        sure = np.abs(self.values) > self.errors
        for values, marker, name in (
            (self.values, "o", "eigenvalue"),
            (self.shares, "s", "eigenvalue times multiplicity"),
        ):
            ax.plot(degrees[sure], np.abs(values[sure]), ls="-", marker=marker, ms=4, label=name)
        ax.set_yscale("log")
        ax.set_xlabel("degree")
        ax.locator_params("x", integer=True)
        ax.set_ylabel("absolute value")
        ax.legend(frameon=False, fontsize=8)
        return ax

    def to_pandas(self) -> "DataFrame":
        """Return a row per degree: value, error, multiplicity, share (extra `studies`)."""
        return extras.data_frame(
            {
                "degree": np.arange(len(self.values)),
                "value": self.values,
                "error": self.errors,
                "multiplicity": np.array(self.multiplicities, float),  # may leave 64-bit integers
                "share": self.shares,
            }
        )


def zonal_spectrum(
    kernel: Kernel | Callable[[np.ndarray], ArrayLike] | Sequence[float] | np.ndarray,
    d: int,
    *,
    degree: int,
    radius: float = 1.0,
    total: float | None = None,
) -> ZonalSpectrum:
    """Return the eigenvalues of a rotation-invariant kernel for uniform inputs on a sphere.

    The eigenvalues of the Gram matrix of n uniform inputs, divided by n, tend to these values, each
    repeated by its multiplicity.

    Args:
        kernel: One of
            a `Kernel`: `ntk` and `nngp` of a `homogeneous_mlp` are evaluated by power series or
            quadrature in float64, whichever is more accurate for each degree,
            `diversity.diversity_kernel` by its closed form; other kernels are evaluated on a
            circle, in JAX's default dtype, and refused unless they are rotation invariant;
            a profile, a function c -> kappa(c) of arrays of cosines, evaluated by quadrature;
            the Taylor coefficients a_0, a_1, ... of kappa at c = 0, those of a polynomial unless
            `total` is given.
        d: Dimension of the space, >= 2; the sphere is S^{d-1}.
        degree: The largest degree, >= 0.
        radius: Radius of the sphere, for a `Kernel`; sqrt(d) for inputs of unit variance.
        total: kappa(1), for nonnegative coefficients of a series that was cut off; it bounds the
            omitted terms and enters the errors.

    Returns:
        A `ZonalSpectrum`. For power series the errors are a bound on the tail and 1e-12 relative
        for rounding; for the closed form 1e-13 relative; for quadrature, the change on doubling
        the nodes and an estimate of rounding.

    Raises:
        ValueError: If a profile returns NaN, inf or the wrong shape.

    Example:
        >>> import kernelgap as kg
        >>> result = kg.kernels.zonal_spectrum(lambda c: c**2, 5, degree=2)
        >>> [round(float(value), 6) for value in result.values]  # 1/d, 0, 2/(d(d+2))
        [0.2, 0.0, 0.057143]
        >>> ntk = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> result = kg.kernels.zonal_spectrum(ntk, 1500, degree=50)
        >>> bool(result.errors[50] < 1e-11 * result.values[50]), result.multiplicities[2]
        (True, 1125749)

    References:
        K. Atkinson, W. Han, Spherical Harmonics and Approximations on the Unit Sphere, 2012
        (Funk-Hecke, multiplicities); I. Schoenberg, Duke Math. J. 9, 1942. The moments behind the
        power series are derived, see
        `kernelgap.kernels.spectra.harmonics`.
    """
    d = checks.integer(d, "d", minimum=2)
    degree = checks.integer(degree, "degree", minimum=0)
    checks.number(radius, "radius", minimum=0, exclusive=True)
    if total is not None:
        checks.number(total, "total", minimum=0)
        if callable(kernel):
            raise ValueError("`total` goes with Taylor coefficients; got a function as `kernel`")
    if isinstance(kernel, Kernel):
        infinite = kernel.evaluate in (recursion.gram, neural_tangents.gram)
        if infinite and isinstance(kernel.spec.activation, Activation):
            result = _network(kernel.spec, d, degree, float(radius), kernel.default)
        elif hasattr(kernel.spec, "zonal_eigenvalues"):
            values = kernel.spec.zonal_eigenvalues(d, degree, float(radius))
            result = values, 1e-13 * values
        else:
            result = harmonics.quadrature(_circle(kernel, d, float(radius)), d, degree)
    elif callable(kernel):
        _check_profile(kernel)
        result = harmonics.quadrature(kernel, d, degree)
    else:
        a = _coefficients(kernel)
        result = harmonics.series(a, d, degree, [_tail(a, total)] * 2)
    return _with_multiplicities(d, *result)


def _network(spec: MLPSpec, d: int, degree: int, radius: float, get: str) -> tuple:
    """Return, for each degree, the more accurate of power series and quadrature."""

    def profile(cosines: np.ndarray) -> np.ndarray:
        return profiles.values(spec, d, radius, get, cosines)

    terms = degree + int(np.clip(32 * harmonics.peak(d, degree), 1024, 8192))
    a = profiles.taylor(spec, d, radius, get, terms)
    forward, backward = profile(np.array([1.0, -1.0]))
    tails = [
        max(float(total) - math.fsum(part), 0.0) + 8 * harmonics.EPS * float(forward)
        for total, part in (((forward + backward) / 2, a[::2]), ((forward - backward) / 2, a[1::2]))
    ]
    series = harmonics.series(a, d, degree, tails)
    direct = harmonics.quadrature(profile, d, degree)
    surer = series[1] <= direct[1]
    return tuple(np.where(surer, a, b) for a, b in zip(series, direct, strict=True))


def _check_profile(kernel: Callable) -> None:
    """Refuse functions that cannot be called with cosines alone, such as kernels of inputs."""
    try:
        inspect.signature(kernel).bind(None)
    except TypeError as error:
        raise TypeError(
            "`kernel` as a function must be a profile of one argument, the cosine; for "
            f"a kernel of inputs pass a kernels.Kernel; got {kernel!r:.40}"
        ) from error
    except ValueError:  # builtins may have no signature
        pass


def _circle(kernel: Kernel, d: int, radius: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the profile of a kernel; raise unless random pairs of equal angle agree."""

    def along(c: np.ndarray, frame: np.ndarray) -> np.ndarray:
        c, (u, v) = c[:, None], frame
        points = jnp.asarray(radius * (c * u + np.sqrt((1 - c) * (1 + c)) * v), float)
        return np.asarray(kernel(jnp.asarray(radius * u[None], float), points))[0]

    axes = np.eye(d)[:2]
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(d, 2)))[0].T
    cosines = np.linspace(-0.9, 0.9, 7)
    values, rotated = along(cosines, axes), along(cosines, turned)
    size = float(np.max(np.abs(values)))
    if not np.max(np.abs(values - rotated)) <= 1e4 * float(np.finfo(values.dtype).eps) * size:
        raise ValueError(f"`kernel` must be rotation invariant on the sphere; its values for equal "
                         f"cosines differ by {np.max(np.abs(values - rotated)):.2g}")  # fmt: skip
    return lambda c: along(c, axes)


def _coefficients(series: object) -> np.ndarray:
    try:
        array = np.asarray(series)
    except (TypeError, ValueError, jax.errors.TracerArrayConversionError):
        array = np.asarray(None)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"`kernel` must be a Kernel, a profile c -> kappa(c) or a sequence of "
                        f"Taylor coefficients; got {type(series).__name__}")  # fmt: skip
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"`kernel`, as Taylor coefficients, must be finite of shape (terms,); "
                         f"got shape {array.shape}")  # fmt: skip
    return array.astype(float)


def _tail(a: np.ndarray, total: float | None) -> float:
    """Return a bound on the part of kappa(1) that the coefficients leave out."""
    if total is None:
        return 0.0
    if np.any(a < 0):
        raise ValueError("`total` bounds the tail of nonnegative coefficients only; "
                         f"got {np.min(a):.4g} among them")  # fmt: skip
    tail = total - math.fsum(a)
    if tail < -1e-10 * total:
        raise ValueError(f"`total` must be kappa(1), at least the sum of the coefficients "
                         f"{math.fsum(a):.8g}; got {total:.8g}")  # fmt: skip
    return max(tail, 0.0) + 8 * harmonics.EPS * total


def _with_multiplicities(d: int, values: np.ndarray, errors: np.ndarray) -> ZonalSpectrum:
    counts = [1]
    counts += [(2 * t + d - 2) * math.comb(t + d - 3, t - 1) // t for t in range(1, len(values))]
    # In logarithms: the integers may leave the range of float64.
    shares = [
        math.copysign(math.exp(math.log(count) + math.log(abs(value))), value) if value else 0.0
        for count, value in zip(counts, values, strict=True)
    ]
    return ZonalSpectrum(values, errors, tuple(counts), np.array(shares))
