r"""The search for two-layer ReLU networks of large normalised margin.

Networks of random weights climb the smoothed margin (`search.climb`). Rounds of column generation
(`search.columns`) and further climbing follow.
"""

import os
from collections.abc import Iterator

import jax
import numpy as np

from kernelgap._numerics.blas import map_in_threads, single_blas_thread
from kernelgap.margins.problem import Problem
from kernelgap.margins.search.climb import Nets, ascend_margin, random_nets
from kernelgap.margins.search.columns import (
    DualPoint,
    UnitNetwork,
    best_over,
    column_generation,
    over_units,
)
from kernelgap.typing import Key

# Settings of the search, chosen by measurement on `xor_noise`, `digits` and MNIST.
_TEMPERATURES = (0.1, 0.03, 0.01, 0.03)  # first temperatures, over the scale of the data
_RATES = (0.1, 0.03, 0.03, 0.1)  # first step sizes, over the size of a parameter
_REFINED = 4  # networks that are refined in a round
_PADDED = 64  # units of a network that is refined
_COLUMNS = 4  # linear programmes of a column generation
_LARGE = 2**20  # entries of the scores of a network from which threads pay


def search_networks(
    problem: Problem, key: Key, *, width: int, restarts: int, steps: int, rounds: int
) -> Iterator[tuple[UnitNetwork, DualPoint]]:
    """Yield the best network so far for the scaled inputs, and dual weights, after each round."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    y, dtype = problem.y, problem.dtype
    x, basis = _in_span(problem.x)
    size = float(np.mean(np.linalg.norm(x, axis=1))) / 8
    which = np.arange(restarts) % len(_TEMPERATURES)
    first = size * np.asarray(_TEMPERATURES)[which]
    rates = np.asarray(_RATES)[which] / np.sqrt(width)
    nets = random_nets(rng, restarts, width, x.shape[1])
    with single_blas_thread():
        pool = _climb(
            nets, x, y, dtype,
            temperatures=np.stack([first, np.full(restarts, 3e-4 * size)], 1),
            rates=np.stack([rates, rates / 100], 1),
            steps=steps,
        )  # fmt: skip
        best = _together(pool, x, y, x[:_PADDED])
        dual = DualPoint(np.full(len(x), 1 / len(x)), np.inf)
        best, dual = column_generation(x, y, best, dual, rng=rng, rounds=_COLUMNS, dtype=dtype)
    yield _out_of_span(best, basis), dual
    for _ in range(rounds):
        with single_blas_thread():
            pool = _refined(_best([best, *pool]), x, y, dtype, (steps + 1) // 2)
            before = best.margin
            best = max(best, _together(pool, x, y, best.units), key=lambda p: p.margin)
            best, dual = column_generation(x, y, best, dual, rng=rng, rounds=_COLUMNS, dtype=dtype)
        yield _out_of_span(best, basis), dual
        if best.margin <= before * (1 + 1e-4):
            break


def _in_span(x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return coordinates of the points in their span, and its basis, where that is smaller."""
    if len(x) >= x.shape[1]:
        return x, None
    basis = np.linalg.qr(x.T)[0].T
    return x @ basis.T, basis


def _out_of_span(network: UnitNetwork, basis: np.ndarray | None) -> UnitNetwork:
    return network if basis is None else network._replace(units=network.units @ basis)


def _best(pool: list[UnitNetwork]) -> list[UnitNetwork]:
    return sorted(pool, key=lambda net: -net.margin)[:_REFINED]


def _together(
    pool: list[UnitNetwork], x: np.ndarray, y: np.ndarray, others: np.ndarray
) -> UnitNetwork:
    """Return the best network over the units of the best few networks, and others."""
    return best_over(x, y, np.vstack([others, *(net.units for net in _best(pool))]))


def _refined(
    pool: list[UnitNetwork], x: np.ndarray, y: np.ndarray, dtype: np.dtype, steps: int
) -> list[UnitNetwork]:
    """Climb from each network at low temperatures."""
    readout, hidden = np.zeros((len(pool), _PADDED)), np.zeros((len(pool), _PADDED, x.shape[1]))
    for k, net in enumerate(pool):
        heaviest = np.argsort(-np.abs(net.coef))[:_PADDED]
        root = np.sqrt(np.abs(net.coef[heaviest]))
        readout[k, : len(root)] = np.sign(net.coef[heaviest]) * root
        hidden[k, : len(root)] = root[:, None] * net.units[heaviest]
    margin = max(max(net.margin for net in pool), 1e-6)
    rates = np.array([[0.003, 0.0001], [0.01, 0.0003]])[np.arange(len(pool)) % 2]
    return _climb(
        Nets(readout, hidden), x, y, dtype,
        temperatures=np.tile([0.03 * margin, 3e-4 * margin], (len(pool), 1)),
        rates=rates,
        steps=steps,
    )  # fmt: skip


def _climb(
    nets: Nets,
    x: np.ndarray,
    y: np.ndarray,
    dtype: np.dtype,
    *,
    temperatures: np.ndarray,
    rates: np.ndarray,
    steps: int,
) -> list[UnitNetwork]:
    """Climb in the given dtype, with several threads where that pays."""
    count, width = nets.readout.shape
    inputs, labels = x.astype(dtype), y.astype(dtype)

    def climb(k: np.ndarray) -> list[UnitNetwork]:
        part = Nets(nets.readout[k], nets.hidden[k])
        moved = ascend_margin(
            part, inputs, labels, temperatures=temperatures[k], rates=rates[k], steps=steps
        )
        return [over_units(x, y, w, u.astype(float)) for w, u in zip(*moved, strict=True)]

    threads = min(count, os.cpu_count() or 1) if x.size * width >= _LARGE else 1
    parts = map_in_threads(climb, np.array_split(np.arange(count), threads))
    return [net for part in parts for net in part]
