"""The cells of the gap study: a learner, a dimension and a number of samples each."""

import jax

from kernelgap import kernels
from kernelgap.datasets import Dataset
from kernelgap.studies import samples
from kernelgap.studies.gap.config import GapConfig
from kernelgap.studies.journal import Row
from kernelgap.studies.learners import (
    ALONE_FROM,
    KERNEL_NET,
    annealed_nets,
    kernel_span,
    kernel_svm,
    two_layer_net,
)
from kernelgap.studies.study import Cell


def cells(config: GapConfig) -> list[Cell]:
    """A cell for each learner, dimension and n; those that hold a large Gram matrix run alone."""
    if config.data == "digits":
        samples.leave_some(config.sizes, config.classes, "sizes")
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
        Cell(identity, alone=identity[0] != "net" and identity[2] >= ALONE_FROM)
        for identity in dict.fromkeys(identities)
    ]


def run_cell(config: GapConfig, identity: tuple) -> list[Row]:
    """A row per seed of one learner at one d and n."""
    learner, d, n = identity
    train_keys, test_keys, other_keys = jax.random.split(
        jax.random.fold_in(jax.random.key(config.seed), d), (3, config.seeds)
    )
    if config.data == "digits":
        train, test = samples.split(samples.digits(train_keys, config.classes), n)
    else:
        train = _sample(config, train_keys, n, d, config.flip)
        test = _sample(config, test_keys, config.n_test, d)
    if learner == "net":
        rows = annealed_nets(
            two_layer_net(config.width),
            other_keys,
            train,
            test,
            l2s=config.l2s,
            steps=config.steps,
            learning_rate=config.learning_rate,
        )
    else:
        kernel = kernels.ntk(KERNEL_NET)
        pairs = zip(samples.each(train), samples.each(test), strict=True)
        if learner == "svm":
            rows = [kernel_svm(kernel, *pair) for pair in pairs]
        else:
            pool = samples.each(_sample(config, other_keys, config.population * n, d))
            rows = [
                kernel_span(kernel, *sets, some) for sets, some in zip(pairs, pool, strict=True)
            ]
    point = {"learner": learner, "d": d, "n": n}
    return [point | {"seed": seed} | row for seed, row in enumerate(rows)]


def _sample(config: GapConfig, keys: jax.Array, n: int, d: int, flip: float = 0.0) -> Dataset:
    """Draw n samples for each key: the first n of a stream, so that one program serves all n."""
    ratios = {1: config.net_ratios, 2: config.svm_ratios}
    longest = max(config.n_test, *(round(max(r) * d**power) for power, r in ratios.items()))
    if d <= config.span_limit:
        longest = max(longest, config.population * round(max(config.span_ratios) * d**2))
    stream = samples.xor(
        keys, max(longest, n), d, signal=config.signal, noise=config.noise, flip=flip
    )
    return samples.first(stream, n)
