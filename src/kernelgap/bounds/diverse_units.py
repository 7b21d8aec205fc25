r"""Paper B's statements on ReLU units with fixed output signs, as functions that can be evaluated.

The nets are f(x) = sum_k v_k relu(w_k . x), v_k = +-1, on inputs of norm 1. The paper writes n for
the number of units and m for the number of samples; here n counts samples and `width` units.
"""

import math
from typing import Literal

import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import checks
from kernelgap.bounds.bound import Bound, arguments
from kernelgap.bounds.gram_bounds import EigenvalueBound, checked_delta
from kernelgap.diversity import diversity_kernel
from kernelgap.kernels import zonal_spectrum
from kernelgap.typing import ArrayLike

_PAPER = "Xie, Liang, Song, AISTATS 2017"


def squared_loss_bound(
    train_loss: ArrayLike,
    *,
    n: ArrayLike,
    norm_sum: ArrayLike,
    largest_target: ArrayLike,
    radius: ArrayLike = 1.0,
    delta: ArrayLike = 0.05,
    form: Literal["paper", "explicit"] = "paper",
) -> Bound:
    r"""Return a bound on the expected squared loss of a ReLU layer from its training loss.

    It holds at once for all f(x) = sum_k v_k relu(w_k . x) with v_k = +-1 and sum_k ||w_k|| <= C_W,
    for any number of units. With L = (1/2n) sum_l (f(x_l) - y_l)^2 and C = C_W `radius`,
    E (f(x) - y)^2 / 2 is at most

    - `"paper"`, its lemma 14: L + 2 (Y + C) C / sqrt(n) + (Y^2 + C^2) sqrt(log(1 / delta) / (2 n));
    - `"explicit"`: L + 2 sqrt(2) (Y + C) C / sqrt(n)
      + (1/2) (Y + C)^2 sqrt(log(1 / delta) / (2 n)).

    Derivation of the second: the loss is (Y + C)-Lipschitz in f and at most (Y + C)^2 / 2. The
    Rademacher complexity of the nets is (C_W / n) E max(A, B), with A = sup sum_i sigma_i
    relu(w . x_i) over ||w|| <= 1 and B the same for -sigma. By contraction E A^2 <= E ||sum_i
    sigma_i x_i||^2 <= n radius^2, and E max(A, B)^2 <= 2 n radius^2. The paper's form has E max(A,
    B) <= sqrt(n) radius. That holds if all signs v_k are equal; for mixed signs we have no proof,
    and found no exception among up to 6 points in up to 5 dimensions, with signs enumerated.

    Args:
        train_loss: L, not negative.
        n: Number of samples, at least 1.
        norm_sum: C_W, positive and fixed before seeing the sample.
        largest_target: Y, the largest ``|y|`` under the distribution, positive.
        radius: The largest norm of an input under the distribution, positive; 1 in the paper.
        delta: Probability with which the bound may fail, in (0, 1).
        form: As listed.

    All arguments but `form` may be arrays that broadcast.

    Returns:
        A `Bound`, `"paper"` or `"derived"`; vacuous from (Y + C)^2 / 2 on, the largest loss that
        these nets can have.

    Example:
        >>> import kernelgap as kg
        >>> kg.bounds.squared_loss_bound(0.01, n=10_000, norm_sum=1.0, largest_target=1.0)
        Bound(loss <= 0.0745; paper: lemma 14, ...)

    References:
        Paper B, lemma 14. The explicit form: contraction (M. Ledoux, M. Talagrand, 1991, theorem
        4.12; recalled) and bounded differences; its constants are derived.
    """
    checks.choice(form, "form", ("paper", "explicit"))
    loss, n, norms, targets, radius, delta = jnp.broadcast_arrays(
        *arguments(
            {"train_loss": {"minimum": 0}},
            train_loss=train_loss,
            n=n,
            norm_sum=norm_sum,
            largest_target=largest_target,
            radius=radius,
            delta=delta,
        )
    )
    most = norms * radius
    ceiling = jnp.square(targets + most) / 2
    complexity = 2 * (targets + most) * most / jnp.sqrt(n)
    root = jnp.sqrt(-jnp.log(delta) / (2 * n))
    if form == "paper":
        value = loss + complexity + (targets**2 + most**2) * root
        return Bound(value, "paper", f"lemma 14, {_PAPER}", ceiling=ceiling)
    value = loss + math.sqrt(2) * complexity + ceiling * root
    source = "2 sqrt(2) (Y + C) C / sqrt(n) + (1/2) (Y + C)^2 sqrt(log(1 / delta) / (2 n))"
    return Bound(value, "derived", source, ceiling=ceiling)


def discrepancy_bound(
    n: int,
    d: int,
    *,
    width: int,
    discrepancy: float,
    max_discrepancy: float | None = None,
    delta: float = 0.05,
    constant: float = 1.0,
) -> EigenvalueBound:
    r"""Evaluate paper B's bounds on s_min(D)^2 by the discrepancy of the units, which are vacuous.

    For n inputs that are uniform on the sphere of R^d, with gamma_n the n-th largest eigenvalue of
    `diversity.diversity_kernel`, each counted with its multiplicity, and m units:

    - lemma 5, with `max_discrepancy`: s_min(D)^2 >= m n gamma_n / 2 - c m rho, where
      rho = (log(d) / sqrt(d)) [n sqrt(L_inf L_2) ((4/n) log(1/delta))^(1/4)
      + n L_inf sqrt(4/(3n) log(1/delta)) + n L_2] + L_inf;
    - theorem 1, without: m n gamma_n - (m / sqrt(d)) [n^(3/4) sqrt(L_2) + sqrt(n) + n L_2], each
      term up to a constant and to powers of logarithms, which the paper does not give.

    Both are said to hold with probability 1 - n exp(-n gamma_n / 8) - 2 n^2 exp(-4 log(d)^2)
    - delta. That is negative for every n >= 2: the gamma_i decrease and sum to g(x, x) = 1/2, so
    that n gamma_n <= 1/2, and n exp(-n gamma_n / 8) >= 2 exp(-1/16) > 1. For n = 1 it is at most
    1 - exp(-1/16) < .07.
    `uniform_gram_bound` is a bound of this kind that is not vacuous, for random units.

    Args:
        n: Number of samples, at least 1 (m in the paper).
        d: Dimension, at least 2.
        width: Number of units, m >= 1 (n in the paper).
        discrepancy: L_2, `diversity.slice_discrepancy(w)`, not negative.
        max_discrepancy: L_inf, the supremum over slices, not negative; or None for theorem 1.
        delta: Probability in (0, 1).
        constant: c, for theorem 1 that of all subtracted terms; not given by the paper, positive.

    Returns:
        An `EigenvalueBound` with `constant=False`. The value may be negative.

    Example:
        >>> import kernelgap as kg
        >>> bound = kg.bounds.discrepancy_bound(100, 20, width=1000, discrepancy=0.01)
        >>> print(f"{bound.probability:.1f}", bound.vacuous)
        -98.1 True

    References:
        Paper B, lemma 5 and theorem 1; the probability is the theorem's. That it is negative is
        derived. D. Soudry, E. Hoffer, "Exponentially vanishing sub-optimal local minima in
        multilayer neural networks", 2017, say that the assumption on the spectrum fails (the title
        is recalled).
    """
    n = checks.integer(n, "n", minimum=1)
    d = checks.integer(d, "d", minimum=2)
    width = checks.integer(width, "width", minimum=1)
    l2 = checks.static_number(discrepancy, "discrepancy", minimum=0)
    constant = checks.static_number(constant, "constant", minimum=0, exclusive=True)
    delta = checked_delta(delta)
    gamma = _eigenvalue(n, d)
    failing = n * math.exp(-n * gamma / 8) + 2 * n**2 * math.exp(-4 * math.log(d) ** 2) + delta
    if max_discrepancy is None:
        subtracted = (n**0.75 * math.sqrt(l2) + math.sqrt(n) + n * l2) / math.sqrt(d)
        value = width * (n * gamma - constant * subtracted)
        return EigenvalueBound(value, 1 - failing, "paper", f"theorem 1, {_PAPER}", constant=False)
    worst = checks.static_number(max_discrepancy, "max_discrepancy", minimum=0)
    log = math.log(1 / delta)
    inside = math.sqrt(worst * l2) * n * (4 * log / n) ** 0.25
    inside += n * worst * math.sqrt(4 * log / (3 * n)) + n * l2
    rho = math.log(d) / math.sqrt(d) * inside + worst
    value = width * (n * gamma / 2 - constant * rho)
    return EigenvalueBound(value, 1 - failing, "paper", f"lemma 5, {_PAPER}", constant=False)


def _eigenvalue(n: int, d: int) -> float:
    """Return the n-th largest eigenvalue of g on the sphere, counted with multiplicity."""
    degree = 8
    while True:
        spectrum = zonal_spectrum(diversity_kernel(), d, degree=degree)
        order = np.argsort(-spectrum.values, kind="stable")
        counted = 0
        # About half of the values vanish; those of higher degrees are smaller than the others.
        for t in order[: degree // 2]:
            counted += spectrum.multiplicities[t]
            if counted >= n:
                return float(spectrum.values[t])
        degree *= 2
