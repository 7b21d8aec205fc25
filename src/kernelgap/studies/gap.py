"""The headline study: test error against the number of samples, network against kernel.

Paper A separates a weakly regularised ReLU net, which learns the XOR distribution with n = O(d)
samples, from its neural tangent kernel, for which every predictor in the span of the n training
inputs fails while n << d^2. The study measures both, on fresh data, for four learners:

- max_margin: the two-layer ReLU net of largest normalised margin, of which the theorem speaks, as
  far as a search finds it; a sample of points gets a proven bound on the margin of any width;
- net: what training finds, by annealed weak l2;
- svm: the hard-margin SVM of the net's NTK, with its duality gap;
- span: the best predictor in the span of the n kernel functions, in squared error, and the proven
  squared error of every beta. With sign noise both follow from the distribution itself.

On `data="digits"` it draws the learning curves of net and svm on two classes of real digits.

References:
    Paper A, the separation theorem. An experiment of the paper on this distribution is not known to
    us; grids, optimiser and l2 path are this project's.
"""

import dataclasses
from typing import Any, Literal

import jax

from kernelgap import datasets, kernels
from kernelgap.datasets import Dataset
from kernelgap.studies import learners, seeds
from kernelgap.studies.estimates import Row
from kernelgap.studies.execution import Cell
from kernelgap.studies.gap_summary import panels, summarize, tables
from kernelgap.studies.options import Config, option
from kernelgap.studies.study import Study

__all__ = ["STUDY", "GapConfig"]


@dataclasses.dataclass(frozen=True)
class GapConfig(Config):
    """Options of the gap study; see the `help` of each field, or `kernelgap run gap --help`.

    Example:
        >>> from kernelgap.studies import gap
        >>> tiny = gap.GapConfig(
        ...     dims=(4, 6), net_ratios=(2, 8), margin_ratios=(2, 8), svm_ratios=(0.5, 4),
        ...     span_ratios=(0.5, 4), seeds=2, n_test=500, width=16, steps=100, rounds=0)
        >>> len(gap.STUDY.run(tiny).rows)  # 4 learners, 2 dimensions, 2 sizes, 2 seeds
        32
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
        (1, 2, 2.5, 3, 3.5, 4, 5, 6, 8), "n / d of the net (xor)", above=0, increasing=True
    )
    margin_ratios: tuple[float, ...] = option(
        (2.25, 2.75, 3.25, 3.75), "n / d of the largest-margin net (xor)", above=0,
        increasing=True,
    )  # fmt: skip
    svm_ratios: tuple[float, ...] = option(
        (0.125, 0.25, 0.5, 0.75, 1, 1.25, 1.5), "n / d^2 of the kernel SVM (xor)", above=0,
        increasing=True,
    )  # fmt: skip
    span_ratios: tuple[float, ...] = option(
        (0.125, 0.25, 0.4, 0.45, 0.5, 0.55, 0.6, 0.75), "n / d^2 of the best in the span (xor)",
        above=0, increasing=True,
    )  # fmt: skip
    span_limit: int = option(80, "largest d for the best in the span", minimum=1)
    margin_limit: int = option(80, "largest d for the largest-margin net", minimum=1)
    certified: int = option(1, "seeds whose largest margin gets a proven upper bound", minimum=0)
    certified_ratios: tuple[float, ...] = option(
        (3.25, 3.75), "n / d of these bounds, of those of the largest-margin net", above=0,
        increasing=True,
    )  # fmt: skip
    certified_limit: int = option(20, "largest d of these bounds", minimum=1)
    restarts: int = option(4, "random starts of the search for the largest margin", minimum=1)
    rounds: int = option(3, "most rounds of refinement of that search", minimum=0)
    seeds: int = option(10, "independent repetitions of each grid point", minimum=2)
    seed: int = option(0, "base of all random keys", minimum=0)
    n_test: int = option(10_000, "fresh test samples for each repetition (xor)", minimum=1)
    width: int = option(128, "hidden units of the net", minimum=1)
    steps: int = option(300, "full-batch Adam steps for each l2", minimum=1)
    learning_rate: float = option(0.02, "Adam learning rate", above=0)
    l2s: tuple[float, ...] = option(
        (1e-2, 3e-3, 1e-3, 3e-4, 1e-4), "strengths of the weight decay", above=0, decreasing=True
    )
    population: int = option(
        16, "population sample of the span with Gaussian noise, in multiples of n", minimum=1
    )
    target: float = option(0.1, "test error at which n is compared", above=0, maximum=0.5)


_LARGE: dict[str, Any] = {
    "dims": (20, 40, 80, 160),
    "net_ratios": (1, 2, 3, 3.5, 4, 5, 6, 8),
    "margin_ratios": (2.25, 2.75, 3, 3.25, 3.5, 3.75, 4),
    "svm_ratios": (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2),
    "span_ratios": (0.25, 0.45, 0.5, 0.55, 0.6, 0.75),
    "certified_limit": 40,
    "restarts": 8,
    "rounds": 10,
    "seeds": 5,
    "width": 256,
    "population": 8,
}
_HUGE = {"dims": (40, 80, 160, 320), "svm_ratios": (0.5, 0.75, 1, 1.25), "seeds": 3, "width": 512}
_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "dims": (10, 20),
        "net_ratios": (1, 2, 3, 4, 6, 8),
        "margin_ratios": (2, 3, 4),
        "certified_ratios": (4,),
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
    margin_dims = [d for d in config.dims if d <= config.margin_limit]
    span_dims = [d for d in config.dims if d <= config.span_limit]
    grids = {
        "max_margin": [(d, r * d) for d in margin_dims for r in config.margin_ratios],
        "net": [(d, r * d) for d in config.dims for r in config.net_ratios],
        "svm": [(d, r * d**2) for d in config.dims for r in config.svm_ratios],
        "span": [(d, r * d**2) for d in span_dims for r in config.span_ratios],
    }
    identities = [
        (learner, d, max(2, round(n))) for learner, grid in grids.items() for d, n in grid
    ]
    return [
        Cell(identity, alone=identity[0] in ("svm", "span") and identity[2] >= learners.ALONE_FROM)
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
    elif learner == "max_margin":
        at = [max(2, round(ratio * d)) for ratio in config.certified_ratios]
        certified = config.certified if d <= config.certified_limit and n in at else 0
        start = datasets.planted_xor(d, signal=config.signal)
        rows = learners.largest_margins(other_keys, train, test, start, certified, config)
    else:
        sets = zip(range(config.seeds), seeds.each(train), seeds.each(test), strict=True)
        rows = [_kernel_row(config, learner, other_keys, *parts) for parts in sets]
    point = {"learner": learner, "d": d, "n": n}
    return [point | {"seed": seed} | row for seed, row in enumerate(rows)]


def _kernel_row(
    config: GapConfig, learner: str, keys: jax.Array, seed: int, train: Dataset, test: Dataset
) -> Row:
    kernel = kernels.ntk(learners.KERNEL_NET)
    if learner == "svm":
        return learners.kernel_svm(kernel, train, test)
    if config.noise == "sign":
        return learners.exact_span(kernel, train, test, config.signal)
    n, d = train.x.shape
    population = _sample(config, keys[seed : seed + 1], config.population * n, d)
    return learners.kernel_span(kernel, train, test, *seeds.each(population))


def _sample(config: GapConfig, keys: jax.Array, n: int, d: int, flip: float = 0.0) -> Dataset:
    """Draw n samples for each key, the first n of a stream, so that one program serves all n."""
    ratios = [(1, config.net_ratios), (1, config.margin_ratios), (2, config.svm_ratios)]
    longest = max(config.n_test, *(round(max(r) * d**power) for power, r in ratios))
    if d <= config.span_limit and config.noise == "gaussian":
        longest = max(longest, config.population * round(max(config.span_ratios) * d**2))
    stream = seeds.xor(
        keys, max(longest, n), d, signal=config.signal, noise=config.noise, flip=flip
    )
    return seeds.first(stream, n)


STUDY = Study(
    name="gap",
    title="samples a net and its tangent kernel need on XOR (paper A), or on two digits",
    about=__doc__ or "",
    config=GapConfig,
    presets=_PRESETS,
    check=_check,
    cells=_cells,
    run_cell=_run_cell,
    summarize=summarize,
    tables=tables,
    panels=panels,
    caption="{data}, {seeds} seeds, 95% intervals; light to dark: d from small to large",
)
"""The study; `STUDY.run(config)` runs it."""
