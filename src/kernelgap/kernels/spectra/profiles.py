r"""Network kernels on a sphere as functions of the cosine: values and Taylor coefficients.

On the sphere of radius r the kernels of ReLU-like nets are functions kappa(c) of the cosine c.
With E_p, O_p the even and odd parts of J_p as functions of the cosine, J_p' = p^2 J_{p-1} gives

    E_p' = p^2 O_{p-1},   O_p' = p^2 E_{p-1},   E_0 = pi / 2,   O_0 = arcsin.

Composed with a power series w(c) of nonnegative coefficients (a layer's correlation), each follows
from (F o w)' = (F' o w) w', and r = (1 - w^2)^(-1/2) from (1 - w^2) r' = w w' r. All sums in these
recursions have nonnegative terms only, so that every coefficient keeps its relative accuracy.
Derived by this project; its tests hold the coefficients against exact ones and against quadrature.
"""

from collections.abc import Callable

import numpy as np

from kernelgap.models import Activation
from kernelgap.models.model import MLPSpec

_Parts = list[tuple[np.ndarray, np.ndarray]]


def taylor(spec: MLPSpec, d: int, radius: float, get: str, terms: int) -> np.ndarray:
    """Return coefficients a_0, ..., a_{terms-1} >= 0 of kappa(c) = sum_k a_k c^k."""
    first = np.zeros(terms)
    first[1] = 1
    return _recursion(
        spec, d, radius, get, first, _series_parts, lambda a, b: np.convolve(a, b)[:terms]
    )


def values(spec: MLPSpec, d: int, radius: float, get: str, cosines: np.ndarray) -> np.ndarray:
    """Return the values of kappa at the given cosines, in float64."""
    return _recursion(spec, d, radius, get, cosines, _value_parts, np.multiply)


def _recursion(
    spec: MLPSpec,
    d: int,
    radius: float,
    get: str,
    cosine: np.ndarray,
    parts: Callable[[int, np.ndarray], _Parts],
    product: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Run the recursion of `kernels.recursion` on values or on power series."""
    layers = spec.layers(d)
    first = layers[0]
    variance = (first.scale * first.init_std * radius) ** 2
    covariance, tangent = variance * cosine, (first.scale * radius) ** 2 * cosine
    phi = spec.activation
    assert isinstance(phi, Activation)  # checked by the caller
    p = int(phi.power)
    plus = (phi.positive + phi.negative) ** 2 / (2 * np.pi)
    minus = (phi.positive - phi.negative) ** 2 / (2 * np.pi)
    for layer in layers[1:]:
        own = layer.scale**2 * layer.fan_in
        both = own * layer.init_std**2
        arccosines = parts(p, covariance / variance)
        (even_below, odd_below), (even, odd) = arccosines[p - 1], arccosines[p]
        value = variance**p * (plus * even + minus * odd)
        slope = p**2 * variance ** (p - 1) * (minus * even_below + plus * odd_below)
        second = variance**p * (plus + minus) / 2 * np.pi * {1: 1, 2: 3, 3: 15}[p]
        covariance, tangent = both * value, own * value + both * product(slope, tangent)
        variance = both * second
    return tangent if get == "ntk" else covariance


def _value_parts(p: int, w: np.ndarray) -> _Parts:
    """Return (E_q(w), O_q(w)) for q = 0..p, at cosines w."""
    w = np.clip(w, -1, 1)
    theta, sine = np.arccos(w), np.sqrt((1 - w) * (1 + w))
    results = []
    for q in range(p + 1):
        forward, backward = _arccosine(q, theta, sine, w), _arccosine(q, np.pi - theta, sine, -w)
        results.append(((forward + backward) / 2, (forward - backward) / 2))
    return results


def _arccosine(p: int, theta: np.ndarray, sine: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    """Return J_p(theta) of Cho and Saul (2009), eq. 4 and 5."""
    complement = np.pi - theta
    if p == 0:
        return complement
    if p == 1:
        return sine + complement * cosine
    if p == 2:
        return 3 * sine * cosine + complement * (1 + 2 * cosine**2)
    return (4 * sine**2 + 15 * cosine**2) * sine + complement * cosine * (
        9 * sine**2 + 15 * cosine**2
    )


def _series_parts(p: int, w: np.ndarray) -> _Parts:
    """Return the power series of E_q(w(c)) and O_q(w(c)) for q = 0..p."""
    slope = np.arange(1, len(w)) * w[1:]
    constants = _value_parts(p, w[:1])
    if w[0] == 0:
        constants = [(even, np.zeros(1)) for even, _ in constants]  # exactly odd

    def integral(start: np.ndarray, integrand: np.ndarray, factor: float) -> np.ndarray:
        terms = np.convolve(integrand, slope)[: len(w) - 1]
        return np.concatenate([start, factor * terms / np.arange(1, len(w))])

    even = np.zeros_like(w)
    even[0] = np.pi / 2
    results = [(even, integral(constants[0][1], _inverse_sine(w), 1))]
    for q in range(1, p + 1):
        even, odd = results[-1]
        results.append(
            (integral(constants[q][0], odd, q**2), integral(constants[q][1], even, q**2))
        )
    return results


def _inverse_sine(w: np.ndarray) -> np.ndarray:
    """Return the power series of (1 - w^2)^(-1/2)."""
    terms = len(w)
    square = np.convolve(w, w)[:terms]
    weighted = np.arange(1, terms) * square[1:] / 2  # w w'
    root, slope = np.zeros(terms), np.zeros(terms)  # slope[k] = (k + 1) root[k + 1]
    root[0] = (1 - square[0]) ** -0.5
    for k in range(terms - 1):
        total = weighted[: k + 1] @ root[k::-1]
        if k:
            total += square[1 : k + 1] @ slope[k - 1 :: -1]
        slope[k] = total / (1 - square[0])
        root[k + 1] = slope[k] / (k + 1)
    return root
