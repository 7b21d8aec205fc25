r"""The limit kernel of diverse units: the tangent kernel of a first layer of ReLU units.

For f(x) = sum_k v_k relu(w_k . x) with fixed v_k = +-1, the tangent kernel of W, over the number m
of units, is (1/m) sum_k 1[w_k . x > 0] 1[w_k . z > 0] <x, z>. For units uniform on the sphere it
tends to g(x, z) = k(x, z) <x, z> with k = 1/2 - theta / (2 pi), the share of the units that are on
for both inputs, theta = angle(x, z).
"""

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


def diversity_kernel() -> Kernel:
    r"""The tangent kernel of a layer of many random ReLU units, g(x, z) = k(x, z) <x, z>.

    With k = 1/2 - theta / (2 pi), theta the angle of x and z. It is the mean over units w, uniform
    on the sphere, of 1[w.x > 0] 1[w.z > 0] <x, z>: the limit of
    `metrics.extended_feature_gram(w, x)` / m for m random units. `ntk` of a two-layer net is
    this, up to a factor, plus the part of the readout.

    Its eigenvalues under the uniform law on the sphere of R^d are, for degree t,

        lambda_t = [(t+d-2) a_{t+1}^2 + t a_{t-1}^2] / (2t+d-2),

    with a_0 = 1/2, a_t = 0 for even t >= 2 and ``|a_t|`` = B(t/2, d/2) / (2 pi) for odd t:
    lambda_1 = 1 / (4d), and those of odd t >= 3 vanish. `zonal_spectrum(diversity_kernel(), d,
    degree=...)` returns them, with multiplicities, to 13 digits for any d.

    Returns:
        A `Kernel`, called as `kernel(x1, x2=None) -> (n1, n2)`, for inputs of any norm; 0 for zero
        inputs, ||x||^2 / 2 on the diagonal. Values are finite and have finite first and second
        derivatives at equal, opposite and zero inputs, those in the angle counted as 0 there. In
        float32 the error is at most 1e-6 sqrt(g(x,x) g(z,z)) for inputs at an angle of at least 0.4
        to each other and to each other's opposite, and grows like 3e-7 / angle below; inputs at an
        angle below 1.4e-3 count as parallel (float64: 6e-8).

    Raises:
        TypeError: from the kernel, if inputs are not floating.
        ValueError: from the kernel, if inputs are not finite matrices of equal d.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> kernel = kg.kernels.diversity_kernel()
        >>> print(kernel(jnp.eye(2), jnp.ones((1, 2))).round(4))  # angle pi/4: 3/8 <x, z>
        [[0.375]
         [0.375]]
        >>> found = kg.kernels.zonal_spectrum(kernel, 1500, degree=50)
        >>> print(f"{found.values[1]:.6e} {found.values[50]:.4e}")
        1.666667e-04 8.0365e-99

    References:
        Paper B (the kernel; its eigenvalues decay slowly). The spectrum with multiplicities is
        derived by this project, and held against quadrature and Gram matrices by its tests.
    """
    return Kernel(gram, diagonal, None, "diversity", None, ("diversity",))


@partial(jax.jit, static_argnames=("spec", "get"))
def gram(
    spec: None,
    params: PyTree,
    x1: Float[Array, "n1 d"],
    x2: Float[Array, "n2 d"] | None,
    get: str,
) -> Float[Array, "n1 n2"]:
    """The kernel between all rows of x1 and x2, or among x1 when x2 is None."""
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
def diagonal(spec: None, params: PyTree, x: Float[Array, "n d"], get: str) -> Float[Array, " n"]:
    """k(x_i, x_i) for each row."""
    del spec, params, get
    rows, root = scaled_rows(x)
    return rescaled(jnp.sum(jnp.square(rows), axis=1) / 2, root, root, 1)


register(
    Kernel,
    lambda kernel: {} if kernel.evaluate is gram else None,
    diversity_kernel,
    kind="diversity",
)
