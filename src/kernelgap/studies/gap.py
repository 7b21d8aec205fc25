"""The headline study: test error against the number of samples, network against kernel.

Paper A separates a weakly regularised ReLU net, which learns the XOR distribution with n = O(d)
samples, from its neural tangent kernel, for which every predictor in the span of the n training
inputs fails while n << d^2. The study measures both, on fresh data, for three learners:

- net: a two-layer ReLU net with annealed weak l2; svm: the hard-margin SVM of its NTK;
- span: the best predictor in the span of the n kernel functions, fitted on a population sample.

On `data="digits"` it draws the learning curves of net and svm on two classes of real digits.

References:
    Paper A, the separation theorem. An experiment of the paper on this distribution is not known to
    us; grids, optimiser and l2 path are this project's.
"""

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

from kernelgap import kernels
from kernelgap.datasets import Dataset
from kernelgap.studies import estimates, learners, seeds
from kernelgap.studies.estimates import REAL, SHARE, Estimate, Row, means
from kernelgap.studies.execution import Cell
from kernelgap.studies.options import Config, option
from kernelgap.studies.panels import BLUE, GREEN, ORANGE, Curve, Panel
from kernelgap.studies.study import Result, Study
from kernelgap.studies.tables import Table, interval_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["STUDY", "GapConfig"]


@dataclasses.dataclass(frozen=True)
class GapConfig(Config):
    """Options of the gap study; see the `help` of each field, or `kernelgap run gap --help`.

    Example:
        >>> from kernelgap.studies import gap
        >>> tiny = gap.GapConfig(dims=(4, 6), net_ratios=(2, 8), svm_ratios=(0.5, 4),
        ...                      span_ratios=(0.5, 4), seeds=2, n_test=500, width=16, steps=100)
        >>> len(gap.STUDY.run(tiny).rows)
        24
    """

    data: Literal["xor", "digits"] = option("xor", "xor (paper A) or digits (scikit-learn)")
    dims: tuple[int, ...] = option(
        (10, 14, 20, 28, 40), "input dimensions d (xor)", minimum=2, increasing=True
    )
    signal: Literal["axis", "cube"] = option("axis", "form of the xor signal: axis or cube")
    noise: Literal["sign", "gaussian"] = option("sign", "noise distribution: sign or gaussian")
    flip: float = option(0.0, "share of training labels flipped (xor)", minimum=0, maximum=0.5)
    classes: tuple[int, ...] = option(
        (3, 8), "two digits to tell apart (digits)", minimum=0, maximum=9, length=2
    )
    sizes: tuple[int, ...] = option(
        (10, 20, 40, 80, 160, 240), "training sizes n (digits)", minimum=2, increasing=True
    )
    net_ratios: tuple[float, ...] = option(
        (1, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 12), "n / d of the net (xor)", above=0, increasing=True
    )
    svm_ratios: tuple[float, ...] = option(
        (0.125, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2), "n / d^2 of the kernel SVM (xor)", above=0,
        increasing=True,
    )  # fmt: skip
    span_ratios: tuple[float, ...] = option(
        (0.125, 0.25, 0.4, 0.45, 0.5, 0.55, 0.6, 0.75, 1), "n / d^2 of the best in the span (xor)",
        above=0, increasing=True,
    )  # fmt: skip
    span_limit: int = option(80, "largest d for the best in the span, which costs most", minimum=1)
    seeds: int = option(10, "independent repetitions of each grid point", minimum=2)
    seed: int = option(0, "base of all random keys", minimum=0)
    n_test: int = option(10_000, "fresh test samples for each repetition (xor)", minimum=1)
    width: int = option(128, "hidden units of the net", minimum=1)
    steps: int = option(300, "full-batch Adam steps for each l2", minimum=1)
    learning_rate: float = option(0.02, "Adam learning rate", above=0)
    l2s: tuple[float, ...] = option(
        (1e-2, 3e-3, 1e-3, 3e-4, 1e-4), "strengths of the weight decay", above=0, decreasing=True
    )
    population: int = option(16, "population sample of the span, in multiples of n", minimum=1)
    target: float = option(0.1, "test error at which n is compared", above=0, maximum=0.5)


_LARGE: dict[str, Any] = {
    "dims": (20, 40, 80, 160),
    "net_ratios": (1, 2, 3, 3.5, 4, 5, 6, 8),
    "svm_ratios": (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2),
    "span_ratios": (0.25, 0.45, 0.5, 0.55, 0.6, 0.75),
    "seeds": 5,
    "width": 256,
    "population": 8,
}
_HUGE = {"dims": (40, 80, 160, 320), "svm_ratios": (0.5, 0.75, 1, 1.25), "seeds": 3, "width": 512}
_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "dims": (10, 20),
        "net_ratios": (1, 2, 3, 4, 6, 8),
        "svm_ratios": (0.25, 0.5, 1, 1.5, 2),
        "span_ratios": (0.25, 0.45, 0.55, 0.75),
        "seeds": 5,
        "n_test": 4000,
        "width": 64,
        "steps": 200,
    },
    "default": {},
    "large": _LARGE,
    "huge": _LARGE | _HUGE,
}


def _check(config: GapConfig) -> None:
    if config.data == "digits":
        seeds.leave_some(config.sizes[-1], config.classes, "sizes")


def _cells(config: GapConfig) -> list[Cell]:
    if config.data == "digits":
        return [Cell((learner, 64, n)) for learner in ("net", "svm") for n in config.sizes]
    span_dims = [d for d in config.dims if d <= config.span_limit]
    grids = {
        "net": [(d, r * d) for d in config.dims for r in config.net_ratios],
        "svm": [(d, r * d**2) for d in config.dims for r in config.svm_ratios],
        "span": [(d, r * d**2) for d in span_dims for r in config.span_ratios],
    }
    identities = [
        (learner, d, max(2, round(n))) for learner, grid in grids.items() for d, n in grid
    ]
    return [
        Cell(identity, alone=identity[0] != "net" and identity[2] >= learners.ALONE_FROM)
        for identity in dict.fromkeys(identities)
    ]


def _run_cell(config: GapConfig, identity: tuple) -> list[Row]:
    learner, d, n = identity
    train_keys, test_keys, other_keys = jax.random.split(
        jax.random.fold_in(jax.random.key(config.seed), d), (3, config.seeds)
    )
    if config.data == "digits":
        whole = seeds.digits(train_keys, config.classes)
        stream, test = seeds.first(whole, config.sizes[-1]), seeds.split(whole, n)[1]
    else:
        longest = round(config.net_ratios[-1] * d) if learner == "net" else n
        stream = _sample(config, train_keys, max(n, longest), d, config.flip)
        test = _sample(config, test_keys, config.n_test, d)
    train = seeds.first(stream, n)
    if learner == "net":
        model = learners.two_layer_net(config.width)
        rows = learners.annealed_nets(model, other_keys, stream, n, test, config)
    else:
        kernel, parts = kernels.ntk(learners.KERNEL_NET), [seeds.each(train), seeds.each(test)]
        if learner == "span":
            parts.append(seeds.each(_sample(config, other_keys, config.population * n, d)))
        fit = learners.kernel_svm if learner == "svm" else learners.kernel_span
        rows = [fit(kernel, *sets) for sets in zip(*parts, strict=True)]
    point = {"learner": learner, "d": d, "n": n}
    return [point | {"seed": seed} | row for seed, row in enumerate(rows)]


def _sample(config: GapConfig, keys: jax.Array, n: int, d: int, flip: float = 0.0) -> Dataset:
    """Draw n samples for each key, the first n of a stream, so that one program serves all n."""
    ratios = {1: config.net_ratios, 2: config.svm_ratios}
    longest = max(config.n_test, *(round(max(r) * d**power) for power, r in ratios.items()))
    if d <= config.span_limit:
        longest = max(longest, config.population * round(max(config.span_ratios) * d**2))
    stream = seeds.xor(
        keys, max(longest, n), d, signal=config.signal, noise=config.noise, flip=flip
    )
    return seeds.first(stream, n)


def _summarize(config: GapConfig, rows: list[Row]) -> list[Estimate]:
    by = ("learner", "d", "n")
    results = means(rows, by, {"error": SHARE, "train_error": SHARE, "margin": REAL})
    results += [
        Estimate("largest_duality_gap", dict(zip(by, point, strict=True)),
                 max(row["duality_gap"] for row in members))
        for point, members in estimates.grouped(rows, by).items()
    ]  # fmt: skip
    rng = np.random.default_rng(config.seed)
    for (learner,), mine in estimates.grouped(rows, ("learner",)).items():
        crossings = {
            d: estimates.n_at_target(curve, config.target, rng)
            for (d,), curve in estimates.grouped(mine, ("d",)).items()
        }
        results += [
            Estimate(
                "n_at_target",
                {"learner": learner, "d": d},
                *estimates.percentile_interval(*crossed),
            )
            for d, crossed in crossings.items()
        ]
        if len(crossings) > 1:
            values, resamples = zip(*crossings.values(), strict=True)
            interval = estimates.percentile_interval(
                float(estimates.slope(list(crossings), values)),
                estimates.slope(list(crossings), np.stack(resamples, axis=-1)),
            )
            results.append(Estimate("exponent", {"learner": learner}, *interval))
    return results


def _tables(config: GapConfig) -> list[Table]:
    if config.data == "digits":
        return [Table({"error": ".3f", "margin": ".3f"})]
    title = f"samples at {config.target:.0%} test error, and their exponent in d"
    return [Table({"n_at_target": ".0f", "exponent": ".2f"}, title, across="d")]


_LEARNERS: dict[str, dict[str, Any]] = {
    "net": {"color": BLUE, "marker": "o", "label": "l2-regularised net"},
    "svm": {"color": ORANGE, "marker": "s", "label": "NTK hard-margin SVM"},
    "span": {"color": GREEN, "marker": "^", "label": "best in the NTK's span"},
}


def _panels(result: Result) -> list[Panel]:
    config: GapConfig = result.config
    if config.data == "digits":
        errors, margins = (
            [Curve(metric, {"learner": k}, **_LEARNERS[k]) for k in ("net", "svm")]
            for metric in ("error", "margin")
        )
        title = f"digits {config.classes[0]} against {config.classes[1]}"
        x, name = "training images n", "normalised margin, each in its own norm"
        return [
            Panel(title, "n", errors, x, "test error", log="x", bottom=0),
            Panel("margins on the training set", "n", margins, x, name, log="xy"),
        ]
    alphas = dict(zip(config.dims, np.linspace(0.35, 1, len(config.dims)), strict=True))
    curves = [
        Curve("error", {"learner": k, "d": d}, "", v["color"], v["marker"], alpha=alpha)
        for k, v in _LEARNERS.items()
        for d, alpha in alphas.items()
    ]
    sizes = []
    for k, v in _LEARNERS.items():
        fits = [e for e in result.select("exponent", {"learner": k}) if np.isfinite(e.value)]
        text = "".join(f"\n  n ~ d^{interval_text(e, '.2f')}" for e in fits)
        how = v["label"] + text, v["color"], v["marker"]
        sizes.append(Curve("n_at_target", {"learner": k}, *how, style="", intervals="bars"))
    title = f"samples at {config.target:.0%} test error"
    look: dict[str, Any] = {"ylabel": "test error", "log": "x", "draw": _chance}
    return [
        Panel(
            "against n/d: the net's curves fall together",
            partial(_over, 1),
            curves,
            "n / d",
            **look,
        ),
        Panel("against n/d²: the kernel's curves do", partial(_over, 2), curves, "n / d²", **look),
        Panel(title, "d", sizes, "d", "n", log="xy", draw=_fits, legend="upper left"),
    ]


def _over(power: int, keys: Any) -> float:
    return keys["n"] / keys["d"] ** power


def _chance(ax: "Axes", result: Result) -> None:
    ax.axhline(0.5, color="0.6", lw=0.8, ls=":")
    ax.set_ylim(-0.02, 0.56)


def _fits(ax: "Axes", result: Result) -> None:
    for learner, look in _LEARNERS.items():
        points = result.select("n_at_target", {"learner": learner})
        points = [e for e in points if np.isfinite(e.value)]
        d, n = [e.keys["d"] for e in points], [e.value for e in points]
        if len(d) > 1:
            fit = np.polyfit(np.log(d), np.log(n), 1)
            ax.plot(d, np.exp(np.polyval(fit, np.log(d))), color=look["color"], lw=1)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.35)


STUDY = Study(
    name="gap",
    title="samples a net and its tangent kernel need on XOR (paper A), or on two digits",
    about=__doc__ or "",
    config=GapConfig,
    presets=_PRESETS,
    check=_check,
    cells=_cells,
    run_cell=_run_cell,
    summarize=_summarize,
    tables=_tables,
    panels=_panels,
    caption="{data}, {seeds} seeds, 95% intervals; light to dark: d from small to large",
)
"""The study; `STUDY.run(config)` runs it."""
