r"""A generalisation bound for lazy training: nets that stay near their initial parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks
from kernelgap._numerics.quick import quick_jit
from kernelgap.bounds.bound import Bound, arguments
from kernelgap.typing import ArrayLike


def lazy_bound(
    distance: ArrayLike,
    *,
    trace: ArrayLike,
    n: ArrayLike,
    curvature: ArrayLike | Callable[[float], ArrayLike] = 0.0,
    loss_lipschitz: ArrayLike = 1.0,
    train_loss: ArrayLike = 0.0,
    smallest_radius: ArrayLike = 1.0,
    delta: ArrayLike = 0.05,
) -> Bound:
    r"""Return a bound on the expected loss of a net within some distance of its initial parameters.

    For a loss in [0, 1] that is rho-Lipschitz in the output, with R = `smallest_radius` 2^(j-1) the
    first of these radii that is at least the distance, j = 1, 2, ..., and t = `train_loss`,

        t + 2 rho (R sqrt(tr K_0) / n + h R^2 / 2) + 3 sqrt(log(2 j (j+1) / delta) / (2 n)).

    The first term in brackets is the complexity of the linearised nets of the ball, the second what
    the others differ from them by. With `train_loss=0` this bounds the gap of test and training
    loss. For classification take the ramp loss with margin m > 0: rho = 1 / m, and `train_loss` the
    share of samples with y f < m; the probability of error is below its mean.

    Derivation: for Theta in the ball, ``|f - f_lin|`` <= h_i R^2 / 2 on sample i. The empirical
    Rademacher complexity of the linearised nets f_0 + <grad f_0, v>, ||v|| <= R, is at most
    R sqrt(tr K_0) / n, as f_0 is one function; the differences add at most mean_i h_i R^2 / 2. The
    contraction lemma multiplies both by rho, twice the complexity and 3 sqrt(log(2 / delta) / 2n)
    bound the gap at a radius that was fixed before, and radius j may fail with probability
    delta / (j (j+1)).

    Args:
        distance: ||Theta - Theta_0||, not negative. Theta_0 must be independent of the sample.
        trace: tr K_0 = sum_i ||grad f(Theta_0; x_i)||^2 over the sample, positive.
        n: Number of samples, at least 1.
        curvature: h = mean_i h_i, where h_i bounds the second derivative of f(.; x_i) on the ball
            of radius R; or a function of R that returns the h_i, such as
            `output_curvature(model, params, x)`. 0 for linear models only.
        loss_lipschitz: rho, not negative.
        train_loss: Mean loss on the sample, in [0, 1].
        smallest_radius: Positive, fixed before seeing the sample.
        delta: Probability with which the bound may fail, in (0, 1).

    All arguments but a function may be arrays that broadcast. For nets with one output.

    Returns:
        A `Bound` with status `"derived"`.

    Raises:
        TypeError: If `curvature` is a function and the distances are being traced.

    Example:
        >>> import kernelgap as kg
        >>> kg.bounds.lazy_bound([0.9, 3.7], trace=2e4, n=20000, curvature=1e-3, train_loss=0.1)
        Bound(0 of 2 vacuous, the least 0.147; derived: ...)

    References:
        P. Bartlett, S. Mendelson, JMLR 2002 (complexity of balls; recalled); M. Ledoux,
        M. Talagrand, 1991 (contraction; recalled); M. Mohri, A. Rostamizadeh, A. Talwalkar,
        "Foundations of Machine Learning", theorem 3.3 (recalled). For wide nets: S. Arora et al.,
        ICML 2019; paper C, second version, whose constants we do not know.
    """
    if callable(curvature):
        if not array_checks.is_concrete(distance, smallest_radius):
            raise TypeError("`curvature` as a function needs distances known now: call this "
                            "outside of jit, vmap and grad, or pass numbers")  # fmt: skip
        known = arguments(distance=distance, smallest_radius=smallest_radius)
        radii = np.asarray(_radius(*known)[0])
        means = [float(np.mean(np.asarray(curvature(float(r))))) for r in radii.ravel()]
        curvature = np.array(means).reshape(radii.shape)
    values = jnp.broadcast_arrays(
        *arguments(
            distance=distance,
            trace=trace,
            n=n,
            curvature=curvature,
            loss_lipschitz=loss_lipschitz,
            train_loss=train_loss,
            smallest_radius=smallest_radius,
            delta=delta,
        )
    )
    return Bound(
        _value(*values),
        "derived",
        "2 rho (R sqrt(tr K_0) / n + h R^2 / 2) + 3 sqrt(log(2 j (j+1) / delta) / (2 n)), from "
        "Bartlett, Mendelson 2002 and Taylor's formula",
    )


@quick_jit
def _value(
    distance: jax.Array,
    trace: jax.Array,
    n: jax.Array,
    curvature: jax.Array,
    loss_lipschitz: jax.Array,
    train_loss: jax.Array,
    smallest_radius: jax.Array,
    delta: jax.Array,
) -> jax.Array:
    radius, j = _radius(distance, smallest_radius)
    complexity = radius * jnp.sqrt(trace) / n + curvature * radius**2 / 2
    deviation = 3 * jnp.sqrt(jnp.log(2 * j * (j + 1) / delta) / (2 * n))
    return train_loss + 2 * loss_lipschitz * complexity + deviation


@quick_jit
def _radius(distance: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return (R, j): the first radius R = scale 2^(j-1) that is at least the distance."""
    dtype = jnp.result_type(float, jnp.promote_types(distance.dtype, scale.dtype))
    distance, scale = distance.astype(dtype), scale.astype(dtype)
    doublings = jnp.ceil(jnp.log2(jnp.maximum(distance / scale, 1))).astype(jnp.int32)
    # ldexp is exact where 2.0**k is not; the logarithm may have been rounded down.
    doublings += (jnp.ldexp(scale, doublings) < distance).astype(jnp.int32)
    return jnp.ldexp(scale, doublings), doublings.astype(dtype) + 1
