"""Counts of coins: a study that costs nothing, for the tests of what all studies share.

It has a list,

- of <one> item with `code`;
- and another.

References:
    None & none.
"""

import contextlib
import dataclasses
import signal
from typing import Literal

import numpy as np

from kernelgap.studies import (
    STUDIES,
    Cell,
    Config,
    Curve,
    Estimate,
    Panel,
    Study,
    Table,
    means,
    option,
)
from kernelgap.studies.estimates import SHARE

CALLS = []  # identities of the cells that were run


@dataclasses.dataclass(frozen=True)
class CoinsConfig(Config):
    """Coins."""

    flips: tuple[int, ...] = option((5, 50), "throws of <b>each</b> coin", minimum=1)
    bias: float = option(0.5, "probability of heads", minimum=0, maximum=1)
    seeds: int = option(4, "coins, 100% fair", minimum=1)
    seed: int = option(0, "base of all random numbers", minimum=0)
    word: Literal["calm", "fail", "stop", "dropped", "late"] = option("calm", "what happens")


def run_cell(config, identity):
    CALLS.append(identity)
    (flips,) = identity
    if flips != config.flips[0]:
        if config.word == "fail":
            raise RuntimeError("the <coin> rolled under the sofa")
        if config.word == "stop":
            raise KeyboardInterrupt
    if config.word == "dropped":
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    rng = np.random.default_rng([config.seed, flips])
    shares = rng.binomial(flips, config.bias, size=config.seeds) / flips
    return [
        {"kind": "a<b", "flips": flips, "seed": k, "heads": float(share), "odd": float("nan")}
        for k, share in enumerate(shares)
    ]


def summarize(config, rows):
    heads = max(row["heads"] for row in rows)
    return [
        *means(rows, ("kind", "flips"), {"heads": SHARE, "odd": SHARE}),
        Estimate("largest", {}, heads),
        Estimate("never_seen", {}, float("nan")),
        Estimate("depth", {"at": "sea"}, -np.inf),
    ]


def tables(config):
    return [Table({"heads": ".4f", "odd": ".1f"}, "coins <n>"), Table({"largest": ".3f"})]


def panels(result):
    return [Panel("coins", "flips", [Curve("heads", marker="o")], "throws", "heads")]


COINS = Study(
    name="coins",
    title='throws & "heads" <script>alert(1)</script>',
    about=__doc__,
    config=CoinsConfig,
    presets={"quick": {"flips": (2, 3)}, "default": {}, "own": {"seeds": 2}},
    cells=lambda config: [Cell((flips,)) for flips in config.flips],
    run_cell=run_cell,
    summarize=summarize,
    tables=tables,
    panels=panels,
)


def register(monkeypatch, *studies):
    """Make these the only studies there are."""
    for name in list(STUDIES):
        monkeypatch.delitem(STUDIES, name)
    for study in studies:
        monkeypatch.setitem(STUDIES, study.name, study)
