r"""The search for two-layer ReLU networks of large normalised margin.

Networks of random weights climb the smoothed margin (`search.climb`). Rounds of column generation
(`search.columns`) and further climbing follow.
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

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


class Climb(NamedTuple):
    """Networks that are to climb, with their first and last temperatures and step sizes."""

    nets: Nets
    temperatures: np.ndarray
    rates: np.ndarray


class _Search:
    """The search on one data set: its pool of networks, the best of them, and dual weights."""

    def __init__(self, problem: Problem, key: Key, start: tuple[np.ndarray, np.ndarray] | None):
        self.rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        self.y, self.dtype = problem.y, problem.dtype
        self.x, self.basis = _in_span(problem.x)
        self.pool, self.others = [], self.x[:_PADDED]
        if start is not None:
            hidden, readout = start
            hidden = hidden if self.basis is None else hidden @ self.basis.T
            self.pool = [over_units(self.x, self.y, readout, hidden)]
            self.others = np.vstack([self.others, self.pool[0].units])
        self.dual = DualPoint(np.full(len(self.x), 1 / len(self.x)), np.inf)
        self.best: UnitNetwork | None = None
        self.ended = False

    def opening(self, width: int, restarts: int) -> Climb:
        """Return the climb of networks of random weights."""
        size = float(np.mean(np.linalg.norm(self.x, axis=1))) / 8
        which = np.arange(restarts) % len(_TEMPERATURES)
        first = size * np.asarray(_TEMPERATURES)[which]
        rates = np.asarray(_RATES)[which] / np.sqrt(width)
        return Climb(
            random_nets(self.rng, restarts, width, self.x.shape[1]),
            np.stack([first, np.full(restarts, 3e-4 * size)], 1),
            np.stack([rates, rates / 100], 1),
        )

    def refinement(self) -> Climb:
        """Return the climb of the best few networks at low temperatures."""
        assert self.best is not None
        pool = _best([self.best, *self.pool])
        pool += pool[:1] * (_REFINED - len(pool))  # one shape for all data sets
        readout = np.zeros((_REFINED, _PADDED))
        hidden = np.zeros((_REFINED, _PADDED, self.x.shape[1]))
        for k, net in enumerate(pool):
            heaviest = np.argsort(-np.abs(net.coef))[:_PADDED]
            root = np.sqrt(np.abs(net.coef[heaviest]))
            readout[k, : len(root)] = np.sign(net.coef[heaviest]) * root
            hidden[k, : len(root)] = root[:, None] * net.units[heaviest]
        margin = max(max(net.margin for net in pool), 1e-6)
        rates = np.array([[0.003, 0.0001], [0.01, 0.0003]])[np.arange(_REFINED) % 2]
        temperatures = np.tile([0.03 * margin, 3e-4 * margin], (_REFINED, 1))
        return Climb(Nets(readout, hidden), temperatures, rates)

    def take(self, climbed: Nets) -> None:
        """Combine the networks that climbed, and add columns."""
        x, y = self.x, self.y
        before, others = self.best, self.others if self.best is None else self.best.units
        start = self.pool if before is None else []
        climbers = [over_units(x, y, w, u.astype(float)) for w, u in zip(*climbed, strict=True)]
        self.pool = climbers + start
        best = best_over(x, y, np.vstack([others, *(net.units for net in _best(self.pool))]))
        if before is not None:
            best = max(before, best, key=lambda net: net.margin)
        self.best, self.dual = column_generation(
            x, y, best, self.dual, rng=self.rng, rounds=_COLUMNS, dtype=self.dtype
        )
        self.ended = before is not None and self.best.margin <= before.margin * (1 + 1e-4)

    def result(self) -> tuple[UnitNetwork, DualPoint]:
        assert self.best is not None
        return _out_of_span(self.best, self.basis), self.dual


def search_networks(
    problems: Sequence[Problem],
    keys: Sequence[Key],
    *,
    width: int,
    restarts: int,
    steps: int,
    rounds: int,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> Iterator[list[tuple[UnitNetwork, DualPoint]]]:
    """Yield the best networks so far for the scaled inputs, and dual weights, after each round.

    The networks of all problems, which must be of one shape and dtype, climb together.
    """
    searches = [_Search(*pair, start) for pair in zip(problems, keys, strict=True)]
    with single_blas_thread():
        _advance(searches, [s.opening(width, restarts) for s in searches], steps)
    yield [s.result() for s in searches]
    for _ in range(rounds):
        running = [s for s in searches if not s.ended]
        if not running:
            break
        with single_blas_thread():
            _advance(running, [s.refinement() for s in running], (steps + 1) // 2)
        yield [s.result() for s in searches]


def _advance(searches: list[_Search], climbs: list[Climb], steps: int) -> None:
    """Let the networks of all searches climb at once, with several threads where that pays."""
    dtype, (count, width) = searches[0].dtype, climbs[0].nets.readout.shape
    whole = [np.concatenate(parts) for parts in zip(*(c.nets for c in climbs), strict=True)]
    temperatures = np.concatenate([c.temperatures for c in climbs])
    rates = np.concatenate([c.rates for c in climbs])
    if len(searches) == 1:  # all networks share the inputs
        x, y = searches[0].x.astype(dtype)[None], searches[0].y.astype(dtype)[None]
    else:
        x, y = (np.stack([getattr(s, name).astype(dtype) for s in searches]) for name in "xy")

    def climb(k: np.ndarray) -> Nets:
        which = np.arange(1) if len(x) == 1 else k // count
        return ascend_margin(
            Nets(*(part[k] for part in whole)), x[which], y[which],
            temperatures=temperatures[k], rates=rates[k], steps=steps,
        )  # fmt: skip

    threads = min(len(rates), os.cpu_count() or 1) if x[0].size * width >= _LARGE else 1
    parts = map_in_threads(climb, np.array_split(np.arange(len(rates)), threads))
    climbed = Nets(*(np.concatenate(pieces) for pieces in zip(*parts, strict=True)))
    for j, search in enumerate(searches):
        mine = slice(j * count, (j + 1) * count)
        search.take(Nets(climbed.readout[mine], climbed.hidden[mine]))


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
