r"""From the limit kernel to finitely many random units: lower tails of sums of random matrices.

For a unit w let Z = (a a') o C with a_i = 1[w.x_i > 0] and C = X X'. The extended features of m
units have D'D = sum_k Z_k. For independent uniform units, E Z = G, the Gram matrix of g, and
0 <= Z <= ||C|| in the order of matrices, since Z is C between two projections. Hence, for n inputs:

- (Chernoff) with L <= lambda_min(G) and R >= ||C||, for 0 <= eps < 1,

      P(lambda_min(D'D) <= (1 - eps) m L) <= n exp(-(eps + (1-eps) log(1-eps)) m L / R);

- (second moments) e^-z <= 1 - z + z^2 / 2 for z >= 0, so that log E e^(-theta Z) <=
  -theta G + (theta^2 / 2) M with M = E Z^2, and for every theta > 0, with probability 1 - delta,

      lambda_min(D'D) / m >= lambda_min(G - (theta / 2) M) - log(n / delta) / (m theta).

M is known: three half-spaces meet in a share 1/2 - (sum of the three angles) / (4 pi) of the
sphere, so that, with the angles Theta_ij,

    M = C^2 / 2 - [Theta o C^2 + C (Theta o C) + (Theta o C) C] / (4 pi).

In place of ||C|| this has, in effect, the spectral norm over the active inputs alone, about half.

The spectral norm of n uniform inputs: X with rows multiplied by independent norms of N(0, I_d) is a
Gaussian matrix A, and by Jensen's inequality E exp(s ||X|| E||g||) <= E exp(s ||A||) <=
exp(s (sqrt(n) + sqrt(d)) + s^2 / 2). With probability 1 - delta,

    ||X|| <= (sqrt(n) + sqrt(d) + sqrt(2 log(1 / delta))) / E||g||.

References:
    J. Tropp, "User-friendly tail bounds for sums of random matrices", 2012, theorems 3.6 and 1.1
    (both recalled; the second is the case above); K. Davidson, S. Szarek, 2001 (the mean of ||A||;
    recalled). M and the use of the second moment are derived.
"""

import math
from typing import Any

import numpy as np
from scipy import linalg, optimize, special

from kernelgap._numerics.verified import (
    above,
    below,
    gamma,
    smallest_eigenvalue_bound,
)


def chernoff(lower: float, largest: float, *, width: int, n: int, delta: float) -> float:
    """Return the bound on lambda_min(D'D) from lambda_min(G) >= lower and ||C|| <= largest."""
    if lower <= 0:
        return 0.0
    cost = largest / (width * lower) * math.log(n / delta)
    if cost >= 1:
        return 0.0
    # s = 1 - eps solves 1 - s + s log s = cost.
    s = optimize.root_scalar(
        lambda s: 1 - s + special.xlogy(s, s) - cost, bracket=(0, 1), xtol=1e-14
    ).root
    return below(max(s - 1e-13, 0.0) * width * lower, 4)


def spectral_norm_of_uniform(n: int, d: int, delta: float) -> float:
    """Return the bound on ||C|| = ||X||^2 for n uniform inputs."""
    log_norm = special.gammaln((d + 1) / 2) - special.gammaln(d / 2)  # E||g|| is sqrt(2) times that
    top = math.sqrt(n) + math.sqrt(d) + math.sqrt(2 * math.log(1 / delta))
    return above(top**2 / (2 * math.exp(2 * log_norm)) * (1 + 1e-11))


def second_moment(products: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return M = E Z^2 from C and the angles of the inputs."""
    square, weighted = products @ products, angles * products
    mixed = products @ weighted
    return square / 2 - (angles * square + mixed + mixed.T) / (4 * math.pi)


def second_moment_bound(
    gram: np.ndarray,
    gram_error: float,
    products: np.ndarray,
    angles: np.ndarray,
    angle_error: np.ndarray,
    *,
    d: int,
    width: int,
    delta: float,
) -> float:
    """Return the bound on lambda_min(D'D) from second moments, for the best theta.

    The eigenvalue is proved for that theta by a factorisation; `gram_error` bounds the error of G
    in norm, `angle_error` those of the angles.
    """
    n = len(gram)
    moment = second_moment(products, angles)
    moment = (moment + moment.T) / 2
    lengths = np.sqrt(np.diagonal(products))
    norm = float(np.linalg.norm(products))
    size = max(norm, float(np.trace(products)))
    rows = np.linalg.norm(products, axis=1)
    # |C^2|_ij is at most the product of the norms of two rows, and |C_ij| of two inputs.
    first = np.linalg.norm(angle_error * np.outer(rows, rows))
    second = np.linalg.norm(angle_error * np.outer(lengths, lengths))
    from_angles = (float(first) + 2 * norm * float(second)) / (4 * math.pi)
    error = 1.01 * from_angles + 4 * gamma(4 * n + 4 * d + 80) * size**2
    level = math.log(n / delta) / width

    def smallest(theta: float) -> float:
        matrix = gram - theta / 2 * moment
        return float(linalg.eigh(matrix, eigvals_only=True, subset_by_index=[0, 0])[0])

    # Concave in theta. M >= G^2 makes the matrix indefinite beyond 2 / lambda_max(G).
    last = [n - 1, n - 1]
    top = math.log(2 / float(linalg.eigh(gram, eigvals_only=True, subset_by_index=last)[0]))
    best: Any = optimize.minimize_scalar(
        lambda log: level * math.exp(-log) - smallest(math.exp(log)),
        bounds=(top - 14, top), method="bounded", options={"xatol": 0.05},
    )  # fmt: skip
    theta = math.exp(best.x)
    matrix = gram - theta / 2 * moment
    rounding = gram_error + theta / 2 * error + 4 * gamma(4) * float(np.linalg.norm(matrix))
    proven = smallest_eigenvalue_bound(matrix, smallest(theta)) - 1.01 * rounding
    value = proven - above(level / theta, 6)
    return below(width * value, 2) if value > 0 else 0.0
