r"""Generalisation bounds from margins, for kernel classifiers without bias."""

import jax.numpy as jnp

from kernelgap.bounds.bound import (
    Bound,
    arguments,
    deviation,
    mean_square_within,
    possible_margin,
)
from kernelgap.typing import ArrayLike


def kernel_margin_bound(
    margin: ArrayLike,
    *,
    n: ArrayLike,
    radius: ArrayLike,
    trace: ArrayLike | None = None,
    delta: ArrayLike = 0.05,
) -> Bound:
    r"""Return the margin bound for a kernel classifier without bias, such as the hard-margin SVM.

    With C = `radius`:

    - without `trace`: (4 C / gamma) / sqrt(n) + sqrt(log log2(2 C / gamma) / n)
      + sqrt(log(2 / delta) / (2 n));
    - with it: (4 / (gamma n)) sqrt(tr K) + 3 sqrt(log log2(2 C / gamma) / n)
      + 3 sqrt(log(4 / delta) / (2 n)), in which the complexity is that of the sample.

    Derivation: the unit ball of the kernel's Hilbert space has the empirical Rademacher complexity
    sqrt(tr K) / n at most. For a fixed margin the error is at most (2 / gamma) times the
    complexity + t but with probability exp(-2 n t^2). Margins C 2^-k with t_k = t +
    sqrt(log k / n), k = 1, 2, ..., cover all margins at twice the first term and twice the failure
    probability. The empirical complexity costs two more such deviations.

    Args:
        margin: gamma = min_i y_i f(x_i) / ||f||, as `hard_margin_svm(...).margin`. Not above C.
        n: Number of samples, at least 1.
        radius: C, the largest sqrt(k(x, x)) under the distribution, positive; not estimated from
            the sample.
        trace: tr K = sum_i k(x_i, x_i) over the sample, at most n C^2.
        delta: Probability with which the bound may fail, in (0, 1).

    All arguments may be arrays that broadcast.

    Returns:
        A `Bound` with status `"derived"`; infinite where the margin is not positive.

    Example:
        >>> import kernelgap as kg
        >>> kg.bounds.kernel_margin_bound([0.5, 0.05], n=1000, radius=1.0)
        Bound(1 of 2 vacuous, the least 0.322; derived: ...)

    References:
        P. Bartlett, S. Mendelson, JMLR 2002, lemma 22 (complexity; recalled); V. Koltchinskii,
        D. Panchenko, Annals of Statistics 2002 (margins).
    """
    gamma, n, radius, delta = arguments(margin=margin, n=n, radius=radius, delta=delta)
    if trace is None:
        gamma, n, radius, delta = jnp.broadcast_arrays(gamma, n, radius, delta)
        gamma, positive = possible_margin(gamma, radius, "radius")
        value = 4 * radius / gamma / jnp.sqrt(n) + deviation(gamma, n, radius, delta)
        source = "4 C / (gamma sqrt(n)) + eps, from Bartlett, Mendelson 2002"
    else:
        square = mean_square_within(trace, radius, "trace", n)
        gamma, n, radius, delta, square = jnp.broadcast_arrays(gamma, n, radius, delta, square)
        gamma, positive = possible_margin(gamma, radius, "radius")
        value = 4 / gamma * jnp.sqrt(square / n) + 3 * deviation(gamma, n, radius, delta / 2)
        source = "4 sqrt(tr K) / (gamma n) + 3 eps, from Bartlett, Mendelson 2002"
    return Bound(jnp.where(positive, value, jnp.inf), "derived", source)


def leave_one_out(margin: ArrayLike, *, n: ArrayLike, radius: ArrayLike) -> Bound:
    r"""Return the leave-one-out bound C^2 / (gamma^2 n) for the hard-margin SVM without bias.

    Its mean over samples of size n is at least the mean error of the SVM trained on n - 1 of them:
    a statement about means over samples, not about one sample, and often below 1 where
    `kernel_margin_bound` is vacuous.

    Derivation: leaving sample i out can make it an error only if alpha_i k(x_i, x_i) >= 1, for the
    dual variables alpha of the machine with margins 1 on its support. There are at most
    sum_i alpha_i k(x_i, x_i) <= C^2 sum_i alpha_i = C^2 / gamma^2 such samples.

    Args:
        margin: gamma of the SVM trained on all n samples. Not above C.
        n: Number of samples, at least 1.
        radius: C, the largest sqrt(k(x, x)), positive.

    All arguments may be arrays that broadcast.

    Returns:
        A `Bound` with status `"derived"`; infinite where the margin is not positive.

    Example:
        >>> import kernelgap as kg
        >>> kg.bounds.leave_one_out(0.1, n=400, radius=1.0)
        Bound(error <= 0.25; derived: C^2 / (gamma^2 n) in the mean over samples, ...)

    References:
        T. Jaakkola, D. Haussler, "Probabilistic kernel regression models", AISTATS 1999 (the lemma
        on leaving out; recalled); V. Vapnik, "Statistical Learning Theory", 1998.
    """
    gamma, n, radius = jnp.broadcast_arrays(*arguments(margin=margin, n=n, radius=radius))
    gamma, positive = possible_margin(gamma, radius, "radius")
    return Bound(
        jnp.where(positive, (radius / gamma) ** 2 / n, jnp.inf),
        "derived",
        "C^2 / (gamma^2 n) in the mean over samples, from Jaakkola, Haussler 1999",
    )
