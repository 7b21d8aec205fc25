"""Counts of coins: a study that costs nothing, for the tests of what all studies share.

It has a list,

- of <one> item with `code`;
- and another.

`run` returns a `Result`, which is left out.

Example:
    >>> 1 + 1

References:
    None & none.
"""

import contextlib
import dataclasses
import signal

import numpy as np

from kernelgap.studies import STUDIES, Study, statistics
from kernelgap.studies.options import at_least, option, sequence
from kernelgap.studies.study import Cell


@dataclasses.dataclass(frozen=True)
class CoinsConfig:
    """What is thrown."""

    flips: tuple[int, ...] = option((5, 50), "throws of <b>each</b> coin")
    bias: float = option(0.5, "probability of heads")
    seeds: int = option(4, "coins, 100% fair")
    seed: int = option(0, "base of all random numbers")
    word: str = option("calm", "calm, fail, stop or dropped")

    def __post_init__(self):
        sequence(self, "flips", at_least(1))
        at_least(1)(self.seeds, "seeds")


def run_cell(config, identity):
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
    points = statistics.group_means(rows, ("kind", "flips"), ("heads", "odd"))
    largest = max(row["heads"] for row in rows)
    return {"points": points, "first": points[0], "overall": points[0]["heads"],
            "largest": largest, "none_found": float("nan"),
            "limits": {"deep": [{"a": 1.0, "more": [{"b": -np.inf}]}], "track": {"t": [1, 2]}}}  # fmt: skip


def table(config, summary):
    lines = [f"{'flips <n>':12}heads"]
    lines += [f"{p['flips']:<12}{p['heads']['value']:.4f} {p['odd']['value']}"
              for p in summary["points"]]  # fmt: skip
    return "\n".join([*lines, f"largest {summary['largest']:.3f} of {config.bias:.0%}"])


def figure(config, rows, summary):
    from matplotlib.figure import Figure

    made = Figure(figsize=(3, 2))
    made.subplots().plot([row["flips"] for row in rows], [row["heads"] for row in rows], "o")
    return made


COINS = Study(
    name="coins",
    title='throws & "heads" <script>alert(1)</script>',
    config=CoinsConfig,
    presets={"quick": {"flips": (2, 3)}, "default": {}, "own": {"seeds": 2}},
    cells=lambda config: [Cell((flips,)) for flips in config.flips],
    run_cell=run_cell,
    summarize=summarize,
    table=table,
    figure=figure,
)


def register(monkeypatch, *studies):
    """Make these the only studies there are."""
    for name in list(STUDIES):
        monkeypatch.delitem(STUDIES, name)
    for study in studies:
        monkeypatch.setitem(STUDIES, study.name, study)
