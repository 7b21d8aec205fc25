r"""The population spectrum of rotation invariant kernels on the sphere.

Under the uniform law on S^{d-1}, a kernel kappa(cos(x, z)) has for each degree t one eigenvalue on
the N(d, t) = (2t+d-2)/t binom(t+d-3, t-1) spherical harmonics of that degree (Funk and Hecke):

    lambda_t = E[kappa(c) P_t(c)],   c of density |S^{d-2}| / |S^{d-1}| (1-c^2)^{(d-3)/2},

with Gegenbauer's polynomial, P_t(1) = 1. Quadrature in the angle has an absolute error near 1e-16
kappa(1), which says nothing of lambda_t of the order 1 / N(d, t). For kappa(c) = sum_k a_k c^k,

    lambda_t = sum_k a_k m(k, t),  m(t, t) = t! / (d (d+2) ... (d+2t-2)),
    m(k+2, t) / m(k, t) = (k+2)(k+1) / ((k-t+2)(k+t+d)),  and m(k, t) = 0 for odd k - t or k < t;

with nonnegative a_k nothing cancels, and the error is relative. m follows from Rodrigues' formula
and is derived by this project; the tests hold it against exact values.

References: K. Atkinson, W. Han, Spherical Harmonics and Approximations on the Unit Sphere, 2012
(Funk-Hecke, multiplicities, Rodrigues); I. Schoenberg, Duke Math. J. 9, 1942 (a_k >= 0).
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import _checks, _extras
from kernelgap._display import compact_repr, html_repr
from kernelgap.kernels import diversity, neural_tangents, recursion
from kernelgap.kernels.kernel import Kernel
from kernelgap.kernels.spectra import profiles
from kernelgap.models import Activation
from kernelgap.models.model import MLPSpec
from kernelgap.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_EPS = float(np.finfo(float).eps)


class ZonalSpectrum(NamedTuple):
    """Eigenvalues of a kernel on the sphere, by degree t = 0, 1, ....

    Attributes:
        values: lambda_t, NumPy float64 whatever JAX's default: they go down to 1e-300.
        errors: estimated absolute error of each; digits below it are noise.
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
        """Eigenvalues and shares by degree, where they exceed their error (extra `studies`)."""
        ax, degrees = _extras.get_axes(ax), np.arange(len(self.values))
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
        """A row per degree: value, error, multiplicity, share (extra `studies`)."""
        return _extras.data_frame(
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
    """The eigenvalues of a rotation invariant kernel under the uniform law on a sphere.

    The eigenvalues of the Gram matrix of n uniform inputs, divided by n, tend to these, each
    repeated by its multiplicity.

    Args:
        kernel: one of
            a `Kernel`: `ntk` and `nngp` of a `homogeneous_mlp` are taken by power series or
            quadrature in float64, whichever is surer for each degree, `diversity_kernel` by its
            closed form; other kernels are evaluated on a circle, in JAX's default dtype, and
            refused unless they are rotation invariant;
            a profile, a function c -> kappa(c) of arrays of cosines, taken by quadrature;
            the Taylor coefficients a_0, a_1, ... of kappa at c = 0, taken for a polynomial
            unless `total` is given.
        d: dimension of the space, >= 2; the sphere is S^{d-1}.
        degree: the largest degree, >= 0.
        radius: of the sphere, for a `Kernel`; sqrt(d) for inputs of unit variance.
        total: with coefficients that are nonnegative and cut off: kappa(1), which bounds what was
            cut off. It enters the errors.

    Returns:
        A `ZonalSpectrum`. For power series the errors are a bound of the tail and 1e-12 relative
        for rounding; for the closed form 1e-13 relative; for quadrature, the change on doubling
        the nodes and a rounding estimate.

    Raises:
        TypeError: if `kernel` is none of these, or a number is none.
        ValueError: if `d` < 2, `degree` < 0, `radius` <= 0, coefficients or the profile are not
            finite or have a wrong shape, a `Kernel` is not rotation invariant, or `total` comes
            without coefficients, with negative ones, or is less than their sum.

    Example:
        >>> import kernelgap as kg
        >>> found = kg.kernels.zonal_spectrum(lambda c: c**2, 5, degree=2)
        >>> [round(float(value), 6) for value in found.values]  # 1/d, 0, 2/(d(d+2))
        [0.2, 0.0, 0.057143]
        >>> ntk = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> found = kg.kernels.zonal_spectrum(ntk, 1500, degree=50)
        >>> bool(found.errors[50] < 1e-11 * found.values[50]), found.multiplicities[2]
        (True, 1125749)

    References:
        K. Atkinson, W. Han, Spherical Harmonics and Approximations on the Unit Sphere, 2012
        (Funk-Hecke, multiplicities); I. Schoenberg, Duke Math. J. 9, 1942. The moments behind the
        power series are derived, see `kernelgap.kernels.spectra.zonal`.
    """
    d = _checks.integer(d, "d", minimum=2)
    degree = _checks.integer(degree, "degree", minimum=0)
    _checks.number(radius, "radius", minimum=0, exclusive=True)
    if total is not None:
        _checks.number(total, "total", minimum=0)
        if callable(kernel):
            raise ValueError("`total` goes with Taylor coefficients; got a function as `kernel`")
    if isinstance(kernel, Kernel):
        infinite = kernel.evaluate in (recursion.gram, neural_tangents.gram)
        if infinite and isinstance(kernel.spec.activation, Activation):
            found = _network(kernel.spec, d, degree, float(radius), kernel.default)
        elif kernel.evaluate is diversity.gram:
            values = profiles.first_layer(d, degree, float(radius))
            found = values, 1e-13 * values
        else:
            found = _quadrature(_circle(kernel, d, float(radius)), d, degree)
    elif callable(kernel):
        _check_profile(kernel)
        found = _quadrature(kernel, d, degree)
    else:
        a = _coefficients(kernel)
        found = _series(a, d, degree, [_rest(a, total)] * 2)
    return _with_multiplicities(d, *found)


def _network(spec: MLPSpec, d: int, degree: int, radius: float, get: str) -> tuple:
    """Power series where it is surer, quadrature where that is: low d, with slow tails."""

    def profile(cosines: np.ndarray) -> np.ndarray:
        return profiles.values(spec, d, radius, get, cosines)

    terms = degree + int(np.clip(32 * _peak(d, degree), 1024, 8192))
    a = profiles.taylor(spec, d, radius, get, terms)
    there, back = profile(np.array([1.0, -1.0]))
    rests = [
        max(float(total) - math.fsum(part), 0.0) + 8 * _EPS * float(there)
        for total, part in (((there + back) / 2, a[::2]), ((there - back) / 2, a[1::2]))
    ]
    series = _series(a, d, degree, rests)
    direct = _quadrature(profile, d, degree)
    surer = series[1] <= direct[1]
    return tuple(np.where(surer, a, b) for a, b in zip(series, direct, strict=True))


def _peak(d: int, t: int) -> float:
    """The k from which m(k, t) decreases."""
    return max(((t - 2) * (t + d) + 2) / (d - 1), t)


def _series(a: np.ndarray, d: int, degree: int, rests: Sequence[float]) -> tuple:
    """Eigenvalues and errors; `rests`: the sums of the even and odd coefficients cut off."""
    values, errors = np.zeros(degree + 1), np.zeros(degree + 1)
    first = 0.0  # log m(t, t)
    for t in range(degree + 1):
        k = np.arange(t, max(len(a), math.ceil(_peak(d, t)) + 1) + 3, 2.0)
        ratios = (k + 2) * (k + 1) / ((k - t + 2) * (k + t + d))
        logs = first + np.concatenate([[0.0], np.cumsum(np.log(ratios[:-1]))])
        own = a[t::2]
        inside, beyond = logs[: len(own)], logs[len(own) :]
        some = own != 0
        parts = np.exp(np.log(np.abs(own[some])) + inside[some])
        values[t] = math.fsum(np.sign(own[some]) * parts)
        errors[t] = 1e-12 * float(np.sum(parts)) + rests[t % 2] * math.exp(np.max(beyond))
        first += math.log((t + 1) / (d + 2 * t))
    return values, errors


def _quadrature(profile: Callable, d: int, degree: int) -> tuple:
    """Gauss-Legendre on panels of the angle: network kernels are smooth there, not in c."""
    panels = 2 + math.ceil((d**0.5 * (1 + degree**0.5) + degree) / 6)
    (coarse, _), (fine, rounding) = (_rule(profile, d, degree, p) for p in (panels, 2 * panels))
    return fine, np.abs(fine - coarse) + rounding


def _rule(profile: Callable, d: int, degree: int, panels: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(32)
    starts = np.arange(panels)[:, None]
    angles = (np.pi / panels * (starts + (1 + nodes) / 2)).ravel()
    law = np.tile(weights, panels) * np.sin(angles) ** (d - 2)
    law /= np.sum(law)
    c = np.cos(angles)
    raw = np.asarray(profile(c))
    if raw.shape != c.shape or not np.issubdtype(raw.dtype, np.floating):
        raise ValueError(f"`kernel`, as a profile, must map cosines of shape {c.shape} to floating "
                         f"values of that shape; got {raw.dtype} of shape {raw.shape}")  # fmt: skip
    if not np.isfinite(raw).all():
        raise ValueError("`kernel` returned NaN or inf for cosines in [-1, 1]")
    kappa = raw.astype(float)
    # Single precision comes from JAX kernels, whose own error is a few units.
    eps = _EPS if raw.dtype == np.float64 else 8 * float(np.finfo(raw.dtype).eps)
    values, rounding = np.zeros(degree + 1), np.zeros(degree + 1)
    below, now = np.zeros_like(c), np.ones_like(c)
    for t in range(degree + 1):
        values[t] = (law * kappa) @ now
        rounding[t] = (4 + t) * eps * float(np.max(np.abs(kappa)) * (law @ np.abs(now)))
        # (t+d-2) P_{t+1} = (2t+d-2) c P_t - t P_{t-1}; at d = 2, t = 0 it is 0 = 0.
        below, now = now, c if t == 0 else ((2 * t + d - 2) * c * now - t * below) / (t + d - 2)
    return values, rounding


def _check_profile(kernel: Callable) -> None:
    """Refuse what cannot be called with cosines alone, such as a kernel of two sets of inputs."""
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
    """The profile of a kernel, refused unless random pairs of the same angles agree with it."""

    def along(c: np.ndarray, frame: np.ndarray) -> np.ndarray:
        c, (u, v) = c[:, None], frame
        points = jnp.asarray(radius * (c * u + np.sqrt((1 - c) * (1 + c)) * v), float)
        return np.asarray(kernel(jnp.asarray(radius * u[None], float), points))[0]

    axes = np.eye(d)[:2]
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(d, 2)))[0].T
    cosines = np.linspace(-0.9, 0.9, 7)
    here, there = along(cosines, axes), along(cosines, turned)
    size = float(np.max(np.abs(here)))
    if not np.max(np.abs(here - there)) <= 1e4 * float(np.finfo(here.dtype).eps) * size:
        raise ValueError(f"`kernel` must be rotation invariant on the sphere; its values for equal "
                         f"cosines differ by {np.max(np.abs(here - there)):.2g}")  # fmt: skip
    return lambda c: along(c, axes)


def _coefficients(series: object) -> np.ndarray:
    try:
        found = np.asarray(series)
    except (TypeError, ValueError, jax.errors.TracerArrayConversionError):
        found = np.asarray(None)
    if found.dtype.kind not in "fiu":
        raise TypeError(f"`kernel` must be a Kernel, a profile c -> kappa(c) or a sequence of "
                        f"Taylor coefficients; got {type(series).__name__}")  # fmt: skip
    if found.ndim != 1 or found.size == 0 or not np.isfinite(found).all():
        raise ValueError(f"`kernel`, as Taylor coefficients, must be finite of shape (terms,); "
                         f"got shape {found.shape}")  # fmt: skip
    return found.astype(float)


def _rest(a: np.ndarray, total: float | None) -> float:
    """What the coefficients leave of kappa(1)."""
    if total is None:
        return 0.0
    if np.any(a < 0):
        raise ValueError("`total` bounds the tail of nonnegative coefficients only; "
                         f"got {np.min(a):.4g} among them")  # fmt: skip
    rest = total - math.fsum(a)
    if rest < -1e-10 * total:
        raise ValueError(f"`total` must be kappa(1), at least the sum of the coefficients "
                         f"{math.fsum(a):.8g}; got {total:.8g}")  # fmt: skip
    return max(rest, 0.0) + 8 * _EPS * total


def _with_multiplicities(d: int, values: np.ndarray, errors: np.ndarray) -> ZonalSpectrum:
    counts = [1]
    counts += [(2 * t + d - 2) * math.comb(t + d - 3, t - 1) // t for t in range(1, len(values))]
    # In logarithms: the integers may leave the range of float64.
    shares = [
        math.copysign(math.exp(math.log(count) + math.log(abs(value))), value) if value else 0.0
        for count, value in zip(counts, values, strict=True)
    ]
    return ZonalSpectrum(values, errors, tuple(counts), np.array(shares))
