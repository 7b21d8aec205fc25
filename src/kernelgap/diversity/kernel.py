r"""The limit kernel of diverse units: the tangent kernel of a first layer of ReLU units.

For f(x) = sum_k v_k relu(w_k . x) with fixed v_k = +-1, the tangent kernel of W, over the number m
of units, is (1/m) sum_k 1[w_k . x > 0] 1[w_k . z > 0] <x, z>. For units uniform on the sphere it
tends to g(x, z) = k(x, z) <x, z> with k = 1/2 - theta / (2 pi), the share of the units that are on
for both inputs, theta = angle(x, z). Units relu(w . x)^p are the extension of the paper's appendix.
"""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap._numerics import checks
from kernelgap._support.registry import register
from kernelgap.kernels.arccosine import POWERS, arccosines
from kernelgap.kernels.inner import inner_products, rescaled, scaled_rows
from kernelgap.kernels.kernel import Kernel
from kernelgap.typing import PyTree


@dataclass(frozen=True)
class UniformUnits:
    """Description of the kernel: units relu(w . x)^power with w uniform on the sphere."""

    power: int = 1

    def factor(self, d: int) -> float:
        """Return power^2 / E||z||^(2 power - 2) for Gaussian z: from Gaussian units to uniform."""
        return self.power**2 / math.prod(range(d, d + 2 * self.power - 2, 2))

    def zonal_eigenvalues(self, d: int, degree: int, radius: float) -> np.ndarray:
        r"""Return the eigenvalues on the sphere of a radius in R^d, for degrees 0, ..., degree.

        With q = power - 1, the function max(c, 0)^q has the coefficients a_t = E max(c, 0)^q P_t,
        and ``|a_{t+2} / a_t|`` = ``|q - t|`` / (q + d + t). Its product with itself over units has
        a_t^2, and the factor c couples neighbours in degree. The computation uses logarithms,
        since the values go down to 1e-300.
        """
        q = self.power - 1
        # E|c|: B(1/2, 1/2) = pi, B(1/2, 1) = 2, B(1/2, d/2 + 1) = d / (d + 1) B(1/2, d/2).
        steps = [math.log1p(-1 / (k + 1)) for k in range(2 - d % 2, d, 2)]
        logs = [0.0, math.fsum([math.log(math.pi if d % 2 else 2.0), *steps]) - math.log(math.pi)]
        for k in range(q):  # E|c|^(k+2) = (k+1) / (k+d) E|c|^k
            logs.append(logs[k] + math.log((k + 1) / (k + d)))
        logs = [value - math.log(2) for value in logs[q : q + 2]]  # of a_0 and a_1
        for t in range(degree):
            ratio = abs(q - t) / (q + d + t)
            logs.append(logs[t] + math.log(ratio) if ratio else -math.inf)
        scale = 2 * self.power * math.log(radius) + 2 * math.log(self.power)
        squares = np.array([math.exp(2 * log + scale) for log in logs])
        t = np.arange(1, degree + 1)
        beside = ((t + d - 2) * squares[t + 1] + t * squares[t - 1]) / (2 * t + d - 2)
        return np.concatenate([squares[1:2], beside])


def diversity_kernel(power: int = 1) -> Kernel:
    r"""Return the tangent kernel of a layer of many random ReLU units, g(x, z) = k(x, z) <x, z>.

    With k = 1/2 - theta / (2 pi), theta the angle of x and z. It is the mean over units w, uniform
    on the sphere, of 1[w.x > 0] 1[w.z > 0] <x, z>: the limit of
    `diversity.extended_feature_gram(w, x)` / m for m random units. `kernels.ntk` of a two-layer net
    is this, up to a factor, plus the part of the readout.

    Its eigenvalues under the uniform law on the sphere of R^d are, for degree t,

        lambda_t = [(t+d-2) a_{t+1}^2 + t a_{t-1}^2] / (2t+d-2),

    with a_0 = 1/2, a_t = 0 for even t >= 2 and ``|a_t|`` = B(t/2, d/2) / (2 pi) for odd t:
    lambda_1 = 1 / (4d), and those of odd t >= 3 vanish. `kernels.zonal_spectrum` returns them, with
    multiplicities, to 13 digits for any d.

    For units relu(w . x)^p, k is replaced by p^2 E (w.x)_+^(p-1) (w.z)_+^(p-1) over the same w,

        k_p = p^2 (||x|| ||z||)^(p-1) J_{p-1}(theta) / (2 pi d (d+2) ... (d+2p-4)),

    with the arc-cosine functions J_q. The squared ReLU has an eigenvalue also in degree 3, which
    the ReLU has not.

    Args:
        power: p, from 1 to 4.

    Returns:
        A `Kernel`, called as `kernel(x1, x2=None) -> (n1, n2)`, for inputs of any norm; 0 for zero
        inputs, for the ReLU ||x||^2 / 2 on the diagonal. Values are finite and have finite first
        and second derivatives at equal, opposite and zero inputs, those in the angle counted as 0
        there. In float32 the error for the ReLU is at most 1e-6 sqrt(g(x,x) g(z,z)) for inputs at
        an angle of at least 0.4 to each other and to each other's opposite, and grows like 3e-7 /
        angle below; inputs at an angle below 1.4e-3, some up to 1.6e-3, count as parallel (float64:
        6e-8, 7e-8).

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> kernel = kg.diversity.diversity_kernel()
        >>> print(kernel(jnp.eye(2), jnp.ones((1, 2))).round(4))  # angle pi/4: 3/8 <x, z>
        [[0.375]
         [0.375]]
        >>> spectrum = kg.kernels.zonal_spectrum(kernel, 1500, degree=50)
        >>> print(f"{spectrum.values[1]:.6e} {spectrum.values[50]:.4e}")
        1.666667e-04 8.0365e-99
        >>> squared = kg.diversity.diversity_kernel(2)
        >>> bool(kg.kernels.zonal_spectrum(squared, 15, degree=3).values[3] > 0)
        True

    References:
        Paper B (the kernel; its eigenvalues decay slowly; its appendix F names rectified powers).
        The spectra with multiplicities and the normalisation of k_p are derived by this project,
        and held against quadrature, Gram matrices and Monte Carlo by its tests. J_q: Y. Cho,
        L. Saul, NeurIPS 2009.
    """
    power = checks.integer(power, "power", minimum=1)
    if power > len(POWERS) + 1:
        raise ValueError(f"`power` must be at most {len(POWERS) + 1}; got {power}")
    return Kernel(gram, diagonal, UniformUnits(power), "diversity", None, ("diversity",))


@partial(jax.jit, static_argnames=("spec", "get"))
def gram(
    spec: UniformUnits,
    params: PyTree,
    x1: Float[Array, "n1 d"],
    x2: Float[Array, "n2 d"] | None,
    get: str,
) -> Float[Array, "n1 n2"]:
    """Return the kernel between all rows of x1 and x2, or among x1 when x2 is None."""
    del params, get
    p = spec.power
    # Cosines on the diagonal are 1 up to two roundings, which count as 1.
    rows1, root1 = scaled_rows(x1)
    rows2, root2 = (None, root1) if x2 is None else scaled_rows(x2)
    norms1, norms2, products = inner_products(rows1, rows2)
    inverse1, inverse2 = (1 / jnp.sqrt(jnp.where(v > 0, v, 1)) for v in (norms1, norms2))
    cosines = products * (inverse1[:, None] * inverse2[None, :])
    # J_0 = pi - theta.
    values = products * (arccosines(p - 1, cosines)[0] * (spec.factor(x1.shape[1]) / (2 * np.pi)))
    if p > 1:
        sizes = (norms1 * inverse1)[:, None] * (norms2 * inverse2)[None, :]
        values = values * sizes ** (p - 1)
        if x2 is None:
            values = jnp.where(jnp.eye(len(x1), dtype=bool), _own_values(spec, rows1), values)
    return rescaled(values, root1[:, None], root2[None, :], p)


@partial(jax.jit, static_argnames=("spec", "get"))
def diagonal(
    spec: UniformUnits, params: PyTree, x: Float[Array, "n d"], get: str
) -> Float[Array, " n"]:
    """Return k(x_i, x_i) for each row."""
    del params, get
    rows, root = scaled_rows(x)
    return rescaled(_own_values(spec, rows), root, root, spec.power)


def _own_values(spec: UniformUnits, rows: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Return k(x, x); J_q(0) = pi (2q - 1)!!."""
    factor = spec.factor(rows.shape[1]) * math.prod(range(1, 2 * spec.power - 2, 2)) / 2
    return factor * jnp.sum(jnp.square(rows), axis=1) ** spec.power


register(
    Kernel,
    lambda kernel: {"power": kernel.spec.power} if kernel.evaluate is gram else None,
    diversity_kernel,
    kind="diversity",
)
