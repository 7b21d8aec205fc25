r"""The limit kernel of diverse units: the tangent kernel of a first layer of ReLU units.

For f(x) = sum_k v_k relu(w_k . x) with fixed v_k = +-1, the tangent kernel of W, over the number m
of units, is (1/m) sum_k 1[w_k . x > 0] 1[w_k . z > 0] <x, z>. For units uniform on the sphere it
tends to g(x, z) = k(x, z) <x, z> with k = 1/2 - theta / (2 pi), the share of the units that are on
for both inputs, theta = angle(x, z).
"""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap._support.registry import register
from kernelgap.kernels.arccosine import arccosines
from kernelgap.kernels.inner import inner_products, rescaled, scaled_rows
from kernelgap.kernels.kernel import Kernel
from kernelgap.typing import PyTree


@dataclass(frozen=True)
class UniformUnits:
    """Description of the kernel: ReLU units that are uniform on the sphere."""

    def zonal_eigenvalues(self, d: int, degree: int, radius: float) -> np.ndarray:
        r"""Return the eigenvalues on the sphere of a radius in R^d, for degrees 0, ..., degree.

        With respect to the harmonics 1[c > 0] has coefficients a_t, its product with itself,
        1/2 - theta / (2 pi), has a_t^2, and the factor c couples neighbours in degree. For odd t,
        ``|a_t|`` = B(t/2, d/2) / (2 pi), so that a_{t+2} / a_t = -t / (t + d). The computation
        uses logarithms, since the values go down to 1e-300.
        """
        # B(1/2, 1/2) = pi, B(1/2, 1) = 2, B(1/2, d/2 + 1) = d / (d + 1) B(1/2, d/2).
        steps = [math.log1p(-1 / (k + 1)) for k in range(2 - d % 2, d, 2)]
        start = math.fsum([math.log(math.pi if d % 2 else 2.0), *steps]) - math.log(2 * math.pi)
        logs = {1: start}
        for t in range(1, degree, 2):
            logs[t + 2] = logs[t] + math.log(t / (t + d))
        eigenvalues = np.zeros(degree + 1)
        scale = 2 * math.log(radius)
        eigenvalues[0] = math.exp(2 * logs[1] + scale)
        eigenvalues[1:2] = math.exp(scale) / (4 * d)
        for t in range(2, degree + 1, 2):
            ratio = (t - 1) / (t - 1 + d)  # of a_{t+1} to a_{t-1}
            share = ((t + d - 2) * ratio**2 + t) / (2 * t + d - 2)
            eigenvalues[t] = math.exp(2 * logs[t - 1] + scale) * share
        return eigenvalues


def diversity_kernel() -> Kernel:
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

    Returns:
        A `Kernel`, called as `kernel(x1, x2=None) -> (n1, n2)`, for inputs of any norm; 0 for zero
        inputs, ||x||^2 / 2 on the diagonal. Values are finite and have finite first and second
        derivatives at equal, opposite and zero inputs, those in the angle counted as 0 there. In
        float32 the error is at most 1e-6 sqrt(g(x,x) g(z,z)) for inputs at an angle of at least 0.4
        to each other and to each other's opposite, and grows like 3e-7 / angle below; inputs at an
        angle below 1.4e-3, some up to 1.6e-3, count as parallel (float64: 6e-8, 7e-8).

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> kernel = kg.diversity.diversity_kernel()
        >>> print(kernel(jnp.eye(2), jnp.ones((1, 2))).round(4))  # angle pi/4: 3/8 <x, z>
        [[0.375]
         [0.375]]
        >>> spectrum = kg.kernels.zonal_spectrum(kernel, 1500, degree=50)
        >>> print(f"{spectrum.values[1]:.6e} {spectrum.values[50]:.4e}")
        1.666667e-04 8.0365e-99

    References:
        Paper B (the kernel; its eigenvalues decay slowly). The spectrum with multiplicities is
        derived by this project, and held against quadrature and Gram matrices by its tests.
    """
    return Kernel(gram, diagonal, UniformUnits(), "diversity", None, ("diversity",))


@partial(jax.jit, static_argnames=("spec", "get"))
def gram(
    spec: UniformUnits,
    params: PyTree,
    x1: Float[Array, "n1 d"],
    x2: Float[Array, "n2 d"] | None,
    get: str,
) -> Float[Array, "n1 n2"]:
    """Return the kernel between all rows of x1 and x2, or among x1 when x2 is None."""
    del spec, params, get
    # Cosines on the diagonal are 1 up to two roundings, which count as 1.
    rows1, root1 = scaled_rows(x1)
    rows2, root2 = (None, root1) if x2 is None else scaled_rows(x2)
    norms1, norms2, products = inner_products(rows1, rows2)
    inverse1, inverse2 = (1 / jnp.sqrt(jnp.where(v > 0, v, 1)) for v in (norms1, norms2))
    cosines = products * (inverse1[:, None] * inverse2[None, :])
    # J_0 = pi - theta.
    values = products * (arccosines(0, cosines)[0] / (2 * np.pi))
    return rescaled(values, root1[:, None], root2[None, :], 1)


@partial(jax.jit, static_argnames=("spec", "get"))
def diagonal(
    spec: UniformUnits, params: PyTree, x: Float[Array, "n d"], get: str
) -> Float[Array, " n"]:
    """Return k(x_i, x_i) for each row."""
    del spec, params, get
    rows, root = scaled_rows(x)
    return rescaled(jnp.sum(jnp.square(rows), axis=1) / 2, root, root, 1)


register(
    Kernel,
    lambda kernel: {} if kernel.evaluate is gram else None,
    diversity_kernel,
    kind="diversity",
)
