r"""Gaussian expectations of smooth activations: sigmoids, and units gated by them.

A sigmoid here is a mean of error functions, s(z) = E_k erf(z / (k sqrt 2)). For erf(z / scale) the
distribution of k is a point mass at scale / sqrt(2). For tanh(z / scale) it is scale times the
Kolmogorov distribution, because a logistic variable is a Gaussian one times twice a Kolmogorov
variable. So every expectation is a mean of closed forms over independent k and l. For (u, v)
centred Gaussian with variances a, b and covariance c, G(u) = (1 + erf(u / (k sqrt 2))) / 2, H(v)
likewise with l, and

    D = (k^2 + a)(l^2 + b) - c^2,   P = E[G' H'] = 1 / (2 pi sqrt D),
    F = E[G H] = 1/4 + arctan(c / sqrt D) / (2 pi),   m = k^2 / (k^2 + a) + l^2 / (l^2 + b),

    sigmoids, phi = 2G - 1:  E[phi phi] = 4F - 1,  E[phi' phi'] = 4P,
    gated, phi = u G(u):     E[phi phi] = cF + P(ab - c^2 + m c^2),
                             E[phi' phi'] = F + cP(m + k^2 l^2 / D).

The mean over the Kolmogorov distribution is computed by a Gauss rule in log k. Its error, relative
to the expectation for equal inputs, is below 1e-7 with 6 nodes (float32) and 1e-12 with 12
(float64), for any variances and correlation, because the integrand does not sharpen as the variance
grows.

References: C. Williams, NIPS 1996 (erf); D. Andrews, C. Mallows, JRSS B 1974 (the logistic
distribution as a mixture; recalled). The gated form, by Gaussian integration by parts, and the rule
are derived by this project, and held against neural_tangents, quadrature and Monte Carlo by its
tests.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics.angles import tail_polynomial
from kernelgap.models import SmoothActivation

_NODES = {False: 6, True: 12}


def expectations(
    phi: SmoothActivation,
    variance1: jax.Array,
    variance2: jax.Array,
    covariance: jax.Array,
    same: jax.Array | None,
    unit1: jax.Array,
    unit2: jax.Array,
) -> tuple[jax.Array, ...]:
    """Return E[phi phi] and E[phi' phi'] over pairs, and E[phi^2] on both sides.

    Variances and covariances broadcast; `same` marks the pairs whose members are equal. Variances
    are given in units of unit1^2 and unit2^2, covariances in units of unit1 unit2. For a gated
    activation E[phi phi] has these units and E[phi' phi'] has none; for a sigmoid E[phi phi] has
    none and E[phi' phi'] is in units of 1 / (unit1 unit2). Large variances then do not overflow.
    """
    gap = variance1 * variance2 - covariance**2
    # Below rounding, nearly equal inputs count as equal, so that equal inputs have equal values in
    # every block. Unlike a maximum, this keeps the derivative of the gap.
    hidden = gap <= 8 * float(jnp.finfo(gap.dtype).eps) * (variance1 * variance2)
    gap -= jax.lax.stop_gradient(jnp.where(hidden, gap, 0))
    if same is not None:
        gap = jnp.where(same, 0, gap)
    value, slope = _mean(phi, unit1, unit2, variance1, variance2, covariance, gap)
    seconds = [
        _mean(phi, unit, unit, v, v, v, jnp.zeros_like(v))[0]
        for unit, v in ((unit1, variance1), (unit2, variance2))
    ]
    return value, slope, *seconds


def _mean(
    phi: SmoothActivation, unit1: jax.Array, unit2: jax.Array, *moments: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the two expectations, from a, b, c and ab - c^2."""
    dtype = moments[2].dtype
    if phi.sigmoid == "erf":
        k = jnp.asarray(phi.scale / 2**0.5, dtype)
        return _pair(phi.gated, k / unit1, k / unit2, *moments)
    nodes, weights = _kolmogorov(_NODES[dtype == jnp.float64])
    k, ell = (phi.scale * side.ravel() for side in np.meshgrid(nodes, nodes))
    shares = np.outer(weights, weights).ravel()
    pairs = tuple(jnp.asarray(a, dtype) for a in (k, ell, shares))
    # Without checkpoints reverse mode would store every term.
    term = jax.checkpoint(_pair, static_argnums=0)

    def add(total: tuple, pair: tuple) -> tuple[tuple, None]:
        k, ell, weight = pair
        values = term(phi.gated, k / unit1, ell / unit2, *moments)
        return tuple(t + weight * f for t, f in zip(total, values, strict=True)), None

    zero = jnp.zeros(jnp.broadcast_shapes(*map(jnp.shape, moments)), dtype)
    return jax.lax.scan(add, (zero, zero), pairs)[0]


def _pair(
    gated: bool,
    k: jax.Array,
    ell: jax.Array,
    a: jax.Array,
    b: jax.Array,
    c: jax.Array,
    gap: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Return the two expectations for single k and l."""
    k2, l2 = jnp.square(k), jnp.square(ell)
    root = _root(k2 * l2 + k2 * b + l2 * a + gap, k * jnp.sqrt(l2 + b), ell, a)
    angle = _angle(c, root, jnp.sqrt(k2 + a) * jnp.sqrt(l2 + b))
    if not gated:
        return 2 / np.pi * angle, 2 / np.pi / root
    both = 0.25 + angle / (2 * np.pi)
    density = 1 / (2 * np.pi * root)
    shares = k2 / (k2 + a) + l2 / (l2 + b)
    value = c * both + density * (gap + c * c * shares)
    return value, both + c * density * (shares + jnp.square(k * ell / root))


def _root(determinant: jax.Array, first: jax.Array, ell: jax.Array, a: jax.Array) -> jax.Array:
    """Return the root of D, also where D underflows: inputs are equal and very large there."""
    usable = determinant > 1e6 * float(jnp.finfo(determinant.dtype).tiny)
    ratio = ell * jnp.sqrt(jnp.where(usable, 1, a)) / first
    return jnp.where(
        usable,
        jnp.sqrt(jnp.where(usable, determinant, 1)),
        first * jnp.sqrt(1 + jnp.square(ratio)),
    )


def _angle(sine: jax.Array, cosine: jax.Array, size: jax.Array) -> jax.Array:
    """arctan(sine / cosine) as 2 arcsin(sin(angle / 2)); cosine > 0, size^2 = sine^2 + cosine^2."""
    half = sine / jnp.sqrt(2 * size * (size + cosine))
    return half * tail_polynomial(0, half * half)


@lru_cache(maxsize=2)
def _kolmogorov(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of a Gauss rule in log k for the Kolmogorov distribution."""
    # Less than 1e-17 of the probability lies outside of these ends.
    low, high = np.log(0.16), np.log(4.5)
    t, weights = np.polynomial.legendre.leggauss(200)
    t = low + (high - low) * (t + 1) / 2
    weights = weights * (high - low) / 2 * np.exp(t) * _kolmogorov_density(np.exp(t))
    # Golub and Welsch: the nodes are the eigenvalues of the Jacobi matrix, found by Lanczos.
    basis = [np.sqrt(weights / weights.sum())]
    jacobi = np.zeros((count, count))
    for i in range(count):
        image = t * basis[i]
        for _ in range(2):  # twice is enough for orthogonality
            for j in range(i + 1):
                part = basis[j] @ image
                jacobi[j, i] += part
                image = image - part * basis[j]
        basis.append(image / np.linalg.norm(image))
    values, vectors = np.linalg.eigh(jacobi, UPLO="U")
    return np.exp(values), vectors[0] ** 2


def _kolmogorov_density(k: np.ndarray) -> np.ndarray:
    """Evaluate the density by two series, one that converges for small k and one for large k."""
    j = np.arange(1, 9)[:, None]
    odd = ((2 * j - 1) * np.pi / k) ** 2 / 4
    small = np.sqrt(2 * np.pi) / k**2 * np.sum((odd - 1) * np.exp(-odd / 2), axis=0)
    large = 8 * k * np.sum((-1.0) ** (j - 1) * j**2 * np.exp(-2 * (j * k) ** 2), axis=0)
    return np.where(k < 1, small, large)
