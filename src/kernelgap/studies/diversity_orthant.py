"""Smallest eigenvalues for inputs of the positive orthant, after Table 2 of paper B.

The kernel is the share of the units w that are active on both inputs, times their inner product.
Units are uniform on the sphere, or only those that are active on some inputs of the orthant and
inactive on others: those with entries of both signs.
"""

from typing import TYPE_CHECKING

import jax
import numpy as np
from scipy import linalg

from kernelgap.studies.estimates import Row

if TYPE_CHECKING:
    from kernelgap.studies.diversity_options import DiversityConfig

CASES = ("all units", "units of both signs")
_CHUNK = 10_000


def orthant_rows(config: "DiversityConfig", d: int, seed: int) -> list[Row]:
    """Return the smallest eigenvalue with sampled units, and that of infinitely many."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), 5000 + d), seed)
    inputs_key, units_key = jax.random.split(key)
    x = np.abs(np.asarray(jax.random.normal(inputs_key, (config.gram_n, d)), float))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    products = x @ x.T
    common, counts = _common_units(units_key, config.orthant_units, x)
    angles = np.arccos(np.clip(products, -1, 1))
    np.fill_diagonal(angles, 0)
    shares = _both_cases(0.5 - angles / (2 * np.pi), np.array([1.0, 2.0**-d, 2.0**-d]))
    sampled = _both_cases(common, counts)
    return [
        {"case": case, "d": d, "seed": seed, "rank": config.gram_n}
        | {"eigenvalue": _smallest(a * products), "population": _smallest(b * products)}
        for case, a, b in zip(CASES, sampled, shares, strict=True)
    ]


def _both_cases(common: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of common units among all, and among those of both signs.

    Units of positive entries are active on all inputs of the orthant, those of negative entries on
    none; `counts` holds the number of all units, of these, and of those.
    """
    every, positive, negative = counts
    return common / every, (common - positive) / (every - positive - negative)


def _common_units(key: jax.Array, units: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the units that are active on both inputs, for all pairs, and units by their signs."""
    common, counts = np.zeros((len(x), len(x)), np.float32), np.zeros(3)  # exact below 2^24
    for start in range(0, units, _CHUNK):
        size = min(_CHUNK, units - start)
        w = np.asarray(jax.random.normal(jax.random.fold_in(key, start), (size, x.shape[1])))
        active = (w @ x.T.astype(w.dtype) > 0).astype(np.float32)
        common += active.T @ active
        counts += [size, np.all(w > 0, axis=1).sum(), np.all(w < 0, axis=1).sum()]
    return common.astype(float), counts


def _smallest(gram: np.ndarray) -> float:
    """Return the smallest eigenvalue in double precision: it is 1e-6 of the largest."""
    return float(linalg.eigvalsh(gram, subset_by_index=(0, 0))[0])
