r"""Generalisation bounds from margins, for homogeneous nets and for kernels.

Every bound here is one on the probability of error on fresh data of a classifier that makes no
error on its n training samples and has normalised margin gamma there. It holds with probability at
least 1 - delta over the sample, at once for all classifiers and margins. All but the leave-one-out
bound have the form

    complexity / (gamma sqrt(n)) + eps,    eps = sqrt(log log2(. / gamma) / n) + sqrt(log(.) / n),

where the first root in eps pays for not fixing gamma in advance. A `Bound` says where its constants
come from, and never shows a value of 1 or more as if it were a probability.

There is no such function for paper A's lower bound: on the XOR distribution in d dimensions, with
n at most of the order of d^2 samples, every predictor in the span of the tangent kernel's
functions at the samples has an error bounded away from 0, while a weakly regularised net with four
units or more has one of the order of sqrt(d / n). Its constants are not known to us; the study
`gap` measures the two errors.
"""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import _checks
from kernelgap._display import html_repr, short
from kernelgap.typing import ArrayLike

Status = Literal["paper", "recalled", "derived"]


class Bound(NamedTuple):
    """A bound on the probability of error, and how far it can be trusted.

    Attributes:
        value: the bound; any shape. May be 1 or more: see `vacuous`.
        status: `"paper"`: a formula of the paper, read there; `"recalled"`: one of a paper, not
            checked against its text; `"derived"`: worked out by this project from `source`.
        source: the formula and where it comes from.
        constant: False if the formula holds only up to a universal constant that is not known;
            then `value` is a rate, to be compared between settings, and bounds nothing.
    """

    value: jax.Array
    status: Status
    source: str
    constant: bool = True

    _repr_html_ = html_repr

    @property
    def vacuous(self) -> jax.Array:
        """Where the bound says nothing, from 1 on, and everywhere if a constant is unknown."""
        says = self.value < 1
        return ~says if self.constant else jnp.ones_like(says)

    def __repr__(self) -> str:
        return f"Bound({self._described()}; {self.status}: {self.source})"

    def _entries(self) -> dict[str, Any]:
        about = {"status": self.status, "source": self.source}
        return {"value": self.value, "says": self._described()} | about

    def _described(self) -> str:
        if not isinstance(self.value, jax.Array | np.ndarray) or not _checks.is_concrete(
            self.value
        ):
            return short(self.value)
        values = np.asarray(self.value)
        if not self.constant:
            some = f"{values:.3g}" if values.ndim == 0 else f"of shape {values.shape}"
            return f"a rate {some}, up to an unknown constant"
        if values.ndim == 0:
            return f"error <= {values:.3g}" if values < 1 else f"vacuous: {values:.3g} >= 1"
        useful = values[values < 1]
        least = f", the least {useful.min():.3g}" if useful.size else ""
        return f"{values.size - useful.size} of {values.size} vacuous{least}"


def two_layer(
    margin: ArrayLike,
    *,
    n: ArrayLike,
    radius: ArrayLike,
    mean_square: ArrayLike | None = None,
    delta: ArrayLike = 0.05,
) -> Bound:
    r"""The bound for two-layer ReLU nets of any width in the first version of paper A.

    (6 / gamma) sqrt(D / n) + sqrt(log log2(4 C / gamma) / n) + sqrt(log(1 / delta) / (2 n))

    Args:
        margin: gamma = min_i y_i f(x_i) / ||Theta||^2 in the standard parameterization, as
            `metrics.normalized_margin` returns it. Not above C / 2, which no net exceeds.
        n: number of samples, at least 1.
        radius: C, the largest norm of an input under the distribution, positive; not estimated
            from the sample.
        mean_square: D = sum_i ||x_i||^2 / n, at most C^2; C^2 if None.
        delta: probability with which the bound may fail, in (0, 1).

    All of them may be arrays that broadcast.

    Returns:
        A `Bound` with status `"paper"`; infinite where the margin is not positive.

    Raises:
        TypeError: if an argument is not numeric.
        ValueError: if one is NaN or out of its range.

    Example:
        >>> import kernelgap as kg
        >>> kg.bounds.two_layer(0.125, n=1000, radius=4.4)  # XOR noise in 20 dimensions
        Bound(vacuous: 6.76 >= 1; paper: (6/gamma) sqrt(D/n) + eps, ... arXiv:1810.05369v1)

    References:
        Paper A, first version; eps as in S. Kakade, K. Sridharan, A. Tewari, NeurIPS 2008.
    """
    gamma, n, radius, delta = _arguments(margin=margin, n=n, radius=radius, delta=delta)
    square = _mean_square(mean_square, radius, "mean_square")
    gamma, n, radius, delta, square = jnp.broadcast_arrays(gamma, n, radius, delta, square)
    gamma, positive = _possible(gamma, radius / 2, "radius / 2")
    value = 6 / gamma * jnp.sqrt(square / n) + _paper_eps(gamma, n, radius, delta)
    return Bound(
        jnp.where(positive, value, jnp.inf),
        "paper",
        "(6/gamma) sqrt(D/n) + eps, Wei, Lee, Liu, Ma, arXiv:1810.05369v1",
    )


def deep(
    margin: ArrayLike,
    *,
    depth: ArrayLike,
    n: ArrayLike,
    radius: ArrayLike,
    delta: ArrayLike = 0.05,
    form: Literal["explicit", "paper"] = "explicit",
) -> Bound:
    r"""Bounds for homogeneous nets of any depth and width, with 1-Lipschitz activations.

    With K = `depth`, C = `radius` and R = C K^(-K/2), the largest output of a net with
    ||Theta|| <= 1 on inputs with ||x|| <= C:

    - `"explicit"`: (4 R / gamma) (1 + sqrt(2 K log 2)) / sqrt(n) + sqrt(log log2(2 R / gamma) / n)
      + sqrt(log(2 / delta) / (2 n));
    - `"paper"`: C / (gamma K^((K-1)/2) sqrt(n)) + sqrt(log log2(4 C / gamma) / n)
      + sqrt(log(1 / delta) / (2 n)), which holds up to an unknown constant.

    The two main terms agree but for the constant 4 (sqrt(2 log 2) + 1 / sqrt(K)).

    Args:
        margin: gamma = min_i y_i f(x_i) / ||Theta||^K in the standard parameterization. Not above
            R, which no net exceeds.
        depth: number of weight matrices, K >= 1.
        n: number of samples, at least 1.
        radius: C, the largest norm of an input under the distribution, positive; not estimated
            from the sample.
        delta: probability with which the bound may fail, in (0, 1).
        form: as listed.

    All but `form` may be arrays that broadcast.

    Returns:
        A `Bound`: `"derived"`, or `"recalled"` without its constant; infinite where the margin is
        not positive.

    Raises:
        TypeError: if an argument is not numeric.
        ValueError: if one is NaN or out of its range, or `form` is unknown.

    Example:
        >>> import kernelgap as kg
        >>> kg.bounds.deep(0.125, depth=2, n=10**6, radius=4.4)
        Bound(error <= 0.19; derived: 4 R (1 + sqrt(2 K log 2)) / (gamma sqrt(n)) + eps, ...)

    References:
        The explicit form: Rademacher complexity of N. Golowich, A. Rakhlin, O. Shamir, COLT 2018,
        theorem 1 (recalled), with the product of the layers' norms at most K^(-K/2) by the
        inequality of the means; then the margin bound of V. Koltchinskii, D. Panchenko, Annals of
        Statistics 2002, its constants derived as for `kernel`. The other: paper A.
    """
    _checks.choice(form, "form", ("explicit", "paper"))
    gamma, depth, n, radius, delta = _arguments(
        margin=margin, depth=depth, n=n, radius=radius, delta=delta
    )
    gamma, depth, n, radius, delta = jnp.broadcast_arrays(gamma, depth, n, radius, delta)
    largest = radius * depth ** (-depth / 2)
    gamma, positive = _possible(gamma, largest, "radius * depth^(-depth / 2)")
    if form == "paper":
        value = radius / gamma * depth ** ((1 - depth) / 2) / jnp.sqrt(n)
        value += _paper_eps(gamma, n, radius, delta)
        source = "C / (gamma K^((K-1)/2) sqrt(n)) + eps, Wei, Lee, Liu, Ma, arXiv:1810.05369"
        return Bound(jnp.where(positive, value, jnp.inf), "recalled", source, constant=False)
    complexity = largest * (1 + jnp.sqrt(2 * math.log(2) * depth)) / jnp.sqrt(n)
    value = 4 / gamma * complexity + _eps(gamma, n, largest, delta)
    source = "4 R (1 + sqrt(2 K log 2)) / (gamma sqrt(n)) + eps, from Golowich et al. 2018"
    return Bound(jnp.where(positive, value, jnp.inf), "derived", source)


def kernel(
    margin: ArrayLike,
    *,
    n: ArrayLike,
    radius: ArrayLike,
    trace: ArrayLike | None = None,
    delta: ArrayLike = 0.05,
) -> Bound:
    r"""The margin bound for a kernel classifier without bias, such as the hard-margin SVM.

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
        n: number of samples, at least 1.
        radius: C, the largest sqrt(k(x, x)) under the distribution, positive; not estimated from
            the sample.
        trace: tr K = sum_i k(x_i, x_i) over the sample, at most n C^2.
        delta: probability with which the bound may fail, in (0, 1).

    All of them may be arrays that broadcast.

    Returns:
        A `Bound` with status `"derived"`; infinite where the margin is not positive.

    Raises:
        TypeError: if an argument is not numeric.
        ValueError: if one is NaN or out of its range.

    Example:
        >>> import kernelgap as kg
        >>> kg.bounds.kernel([0.5, 0.05], n=1000, radius=1.0)
        Bound(1 of 2 vacuous, the least 0.322; derived: ...)

    References:
        P. Bartlett, S. Mendelson, JMLR 2002, lemma 22 (complexity; recalled); V. Koltchinskii,
        D. Panchenko, Annals of Statistics 2002 (margins).
    """
    gamma, n, radius, delta = _arguments(margin=margin, n=n, radius=radius, delta=delta)
    if trace is None:
        gamma, n, radius, delta = jnp.broadcast_arrays(gamma, n, radius, delta)
        gamma, positive = _possible(gamma, radius, "radius")
        value = 4 * radius / gamma / jnp.sqrt(n) + _eps(gamma, n, radius, delta)
        source = "4 C / (gamma sqrt(n)) + eps, from Bartlett, Mendelson 2002"
    else:
        square = _mean_square(trace, radius, "trace", n)
        gamma, n, radius, delta, square = jnp.broadcast_arrays(gamma, n, radius, delta, square)
        gamma, positive = _possible(gamma, radius, "radius")
        value = 4 / gamma * jnp.sqrt(square / n) + 3 * _eps(gamma, n, radius, delta / 2)
        source = "4 sqrt(tr K) / (gamma n) + 3 eps, from Bartlett, Mendelson 2002"
    return Bound(jnp.where(positive, value, jnp.inf), "derived", source)


def leave_one_out(margin: ArrayLike, *, n: ArrayLike, radius: ArrayLike) -> Bound:
    r"""The leave-one-out bound for the hard-margin SVM without bias: C^2 / (gamma^2 n).

    Its mean over samples of size n is at least the mean error of the SVM trained on n - 1 of them:
    a statement about means over samples, not about one sample, and often below 1 where `kernel` is
    vacuous.

    Derivation: leaving sample i out can make it an error only if alpha_i k(x_i, x_i) >= 1, for the
    dual variables alpha of the machine with margins 1 on its support. There are at most
    sum_i alpha_i k(x_i, x_i) <= C^2 sum_i alpha_i = C^2 / gamma^2 such samples.

    Args:
        margin: gamma of the SVM trained on all n samples. Not above C.
        n: number of samples, at least 1.
        radius: C, the largest sqrt(k(x, x)), positive.

    All of them may be arrays that broadcast.

    Returns:
        A `Bound` with status `"derived"`; infinite where the margin is not positive.

    Raises:
        TypeError: if an argument is not numeric.
        ValueError: if one is NaN or out of its range.

    Example:
        >>> import kernelgap as kg
        >>> kg.bounds.leave_one_out(0.1, n=400, radius=1.0)
        Bound(error <= 0.25; derived: C^2 / (gamma^2 n) in the mean over samples, ...)

    References:
        T. Jaakkola, D. Haussler, "Probabilistic kernel regression models", AISTATS 1999 (the lemma
        on leaving out; recalled); V. Vapnik, "Statistical Learning Theory", 1998.
    """
    gamma, n, radius = jnp.broadcast_arrays(*_arguments(margin=margin, n=n, radius=radius))
    gamma, positive = _possible(gamma, radius, "radius")
    return Bound(
        jnp.where(positive, (radius / gamma) ** 2 / n, jnp.inf),
        "derived",
        "C^2 / (gamma^2 n) in the mean over samples, from Jaakkola, Haussler 1999",
    )


def _paper_eps(gamma: jax.Array, n: jax.Array, radius: jax.Array, delta: jax.Array) -> jax.Array:
    deviation = jnp.sqrt(-jnp.log(delta) / (2 * n))
    return jnp.sqrt(jnp.log(jnp.log2(4 * radius / gamma)) / n) + deviation


def _eps(gamma: jax.Array, n: jax.Array, largest: jax.Array, delta: jax.Array) -> jax.Array:
    # Rounding may put gamma above the largest margin: log2 then falls below 1.
    scales = jnp.log(jnp.maximum(jnp.log2(2 * largest / gamma), 1))
    return jnp.sqrt(scales / n) + jnp.sqrt(jnp.log(2 / delta) / (2 * n))


_RANGES = {  # name: (lowest, whether it is excluded, what is expected)
    "margin": (-np.inf, False, "finite numbers"),
    "n": (1, False, "numbers >= 1"),
    "depth": (1, False, "numbers >= 1"),
    "radius": (0, True, "positive numbers"),
    "delta": (0, True, "numbers in (0, 1)"),
    "mean_square": (0, True, "positive numbers"),
    "trace": (0, True, "positive numbers"),
    "distance": (0, False, "numbers >= 0"),
    "curvature": (0, False, "numbers >= 0"),
    "loss_lipschitz": (0, False, "numbers >= 0"),
    "train_loss": (0, False, "numbers in [0, 1]"),
    "smallest_radius": (0, True, "positive numbers"),
}


def _arguments(**values: Any) -> list[jax.Array]:
    """Floating arrays of one dtype, checked where they are concrete."""
    arrays = {}
    for name, value in values.items():
        low, excluded, expected = _RANGES[name]
        try:
            if isinstance(value, int | np.integer) and abs(int(value)) >= 2**31:
                value = float(value)  # JAX would not hold it
            array = arrays[name] = _checks.array(value, name)
        except TypeError as error:
            raise TypeError(f"`{name}` must hold {expected}; got {value!r:.40}") from error
        if not (
            jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, np.integer)
        ):
            raise TypeError(f"`{name}` must hold {expected}; got dtype {array.dtype}")
        if _checks.is_concrete(array):
            numbers = np.asarray(array, np.float64)
            bad = ~np.isfinite(numbers) | (numbers <= low if excluded else numbers < low)
            bad |= (numbers >= 1) if name == "delta" else False
            bad |= (numbers > 1) if name == "train_loss" else False
            if bad.any():
                raise ValueError(f"`{name}` must hold {expected}; got {numbers[bad][:3].tolist()}")
    floating = [
        a.dtype for a in arrays.values()
        if jnp.issubdtype(a.dtype, jnp.floating) and not a.weak_type
    ]  # fmt: skip
    dtype = np.result_type(*floating) if floating else jnp.zeros(()).dtype
    return [a.astype(dtype) for a in arrays.values()]


def _mean_square(
    value: ArrayLike | None, radius: jax.Array, name: str, n: jax.Array | None = None
) -> jax.Array:
    """`value` (over n), at most radius^2."""
    if value is None:
        return radius**2
    (total,) = _arguments(**{name: value})
    total = total.astype(radius.dtype)
    if n is not None:
        total, n = jnp.broadcast_arrays(total, n)
        total = total / n
    total, radius = jnp.broadcast_arrays(total, radius)
    if _checks.is_concrete(total, radius):
        excess = np.asarray(total / radius**2)
        if (excess > 1 + 1e-4).any():
            raise ValueError(f"`{name}` belongs to inputs of at most the norm `radius`; got a mean "
                             f"square of {excess.max():.3g} times radius^2")  # fmt: skip
    return total


def _possible(gamma: jax.Array, largest: jax.Array, name: str) -> tuple[jax.Array, jax.Array]:
    """(gamma made safe, where it is positive); refuses margins that no classifier can have."""
    if _checks.is_concrete(gamma, largest):
        ratio = np.asarray(gamma / largest)
        if (ratio > 1 + 1e-4).any():
            raise ValueError(f"`margin` cannot be above {name}; got {ratio.max():.3g} times that. "
                             "Is it normalised, and `radius` the largest norm?")  # fmt: skip
    positive = gamma > 0
    return jnp.where(positive, gamma, largest), positive
