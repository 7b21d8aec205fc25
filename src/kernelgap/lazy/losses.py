r"""Constants of a loss ell of the outputs z for convergence proofs: PL constant and smoothness.

ell is mu-PL if ||grad ell(z)||^2 >= 2 mu (ell(z) - ell*), and Lambda-smooth if its gradient is
Lambda-Lipschitz.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import root_scalar

from kernelgap._numerics import checks
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable


@saveable()
class LossConstants(NamedTuple):
    """Constants of a loss as a function of the outputs on n samples.

    Attributes:
        pl: mu; holds where target < ell <= the initial loss.
        smoothness: Lambda.
        optimum: ell*, the infimum of the loss.
        target: Where `pl` ends: nothing is claimed below. The optimum if it holds everywhere.
    """

    pl: float
    smoothness: float
    optimum: float = 0.0
    target: float = 0.0

    __repr__ = compact_repr
    _repr_html_ = html_repr


def squared_loss_constants(n: int) -> LossConstants:
    r"""Return mu = Lambda = 1 / n, the constants of ell(z) = (1 / 2n) sum_i ||z_i - y_i||^2.

    Args:
        n: Number of samples, at least 1.

    Returns:
        `LossConstants`.

    Example:
        >>> import kernelgap as kg
        >>> kg.lazy.squared_loss_constants(100).pl
        0.01

    References:
        grad ell = (z - y) / n, so that ||grad ell||^2 = (2 / n) ell.
    """
    n = checks.integer(n, "n", minimum=1)
    return LossConstants(1 / n, 1 / n)


def logistic_loss_constants(
    n: int, *, initial_loss: float, target: float, classes: int | None = None
) -> LossConstants:
    r"""Return constants of the mean logistic loss, or cross-entropy, until it falls to a target.

    The logistic loss is not PL: its infimum 0 is not attained, and for small losses t_i the squared
    gradient is about (1 / n^2) sum_i t_i^2. Down to a target eps > 0 it is, with

        mu = g(eps) / (2 n eps),    Lambda = 1 / (4 n), for k classes 1 / (2 n),

    where g is the convex envelope of (1 - e^-t)^2 on [0, n ell_0]. Proof: with losses t_i of the
    samples, the gradient in z_i has norm at least 1 - e^-t_i, over n (equality for one output), and
    t_i <= n ell <= n ell_0 while the loss does not rise. Hence ||grad ell||^2 >=
    (1 / n^2) sum_i g(t_i) >= g(ell) / n by convexity, and g(ell) / ell rises with ell as g(0) = 0.

    Args:
        n: Number of samples, at least 1.
        initial_loss: ell_0, the mean loss at the start.
        target: eps, with 0 < eps < ell_0. mu is about eps / (2 n) for small ones.
        classes: None for one output with labels -1, +1; k >= 2 for softmax cross-entropy.

    Returns:
        `LossConstants` with optimum 0, to be used until the loss is `target`.

    Example:
        >>> import math, kernelgap as kg
        >>> constants = kg.lazy.logistic_loss_constants(
        ...     100, initial_loss=math.log(2), target=0.01)
        >>> print(f"{constants.pl:.2e}, {constants.smoothness}")
        4.59e-05, 0.0025

    References:
        Derived by this project.
    """
    n = checks.integer(n, "n", minimum=1)
    checks.number(initial_loss, "initial_loss", minimum=0, exclusive=True)
    checks.number(target, "target", minimum=0, exclusive=True)
    if classes is not None:
        classes = checks.integer(classes, "classes", minimum=2)
    if target >= initial_loss:
        raise ValueError(f"`target` must be below `initial_loss`; got {float(target):g} and "
                         f"{float(initial_loss):g}")  # fmt: skip
    pl = _envelope(float(target), n * float(initial_loss)) / (2 * n * float(target))
    return LossConstants(pl, (1 / 4 if classes is None else 1 / 2) / n, 0.0, float(target))


def _envelope(t: float, end: float) -> float:
    """A lower bound on the convex envelope of g(s) = (1 - e^-s)^2 on [0, end], at t: that envelope.

    g is convex up to log 2 and concave beyond. A tangent at a point of the convex part that is not
    above g at the end is nowhere above g, whatever root finder has proposed the point.
    """

    def g(s: float) -> float:
        return np.expm1(-s) ** 2

    def slope(s: float) -> float:
        return -2 * np.expm1(-s) * np.exp(-s)

    def excess(s: float) -> float:
        """The tangent at s, over g, at the end."""
        return g(s) + slope(s) * (end - s) - g(end)

    bend = float(np.log(2))
    if end <= bend or (t <= bend and excess(t) <= 0):
        return g(t)
    touch = bend if excess(bend) <= 0 else root_scalar(excess, bracket=(0.0, bend), xtol=1e-15).root
    step = 1e-16
    while excess(touch) > 0:  # at most a few times: excess(0) < 0
        touch, step = max(touch - step, 0.0), 2 * step
    return g(touch) + slope(touch) * (t - touch)
