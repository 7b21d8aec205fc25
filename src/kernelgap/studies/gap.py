"""The headline study: test error against the number of samples, network against kernel.

Paper A separates a weakly regularised ReLU net, which learns the XOR distribution with n = O(d)
samples, from its neural tangent kernel, for which every predictor in the span of the n training
inputs fails while n << d^2. The study measures both, on fresh data, for three learners:

- net: a two-layer ReLU net with annealed weak l2 regularisation;
- svm: the hard-margin SVM of its NTK;
- span: the best predictor in the span of the n kernel functions, fitted on a population sample.

On `data="digits"` it draws the learning curves of net and svm on two classes of real digits.
"""

import os
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np

from kernelgap import datasets, kernels, models
from kernelgap.datasets import Dataset
from kernelgap.studies import gap_figure, statistics
from kernelgap.studies.gap_config import PRESETS, GapConfig
from kernelgap.studies.journal import Row
from kernelgap.studies.learners import annealed_nets, kernel_span, kernel_svm
from kernelgap.studies.study import Cell, Result, Study, execute

_ALONE_FROM = 4000  # training points from which a dense kernel cell wants the memory to itself


def run(
    config: GapConfig | None = None,
    *,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    workers: int | None = None,
) -> Result:
    """Run the gap study.

    Args:
        config: what to run; `GapConfig()` when None. `GapConfig(**PRESETS["quick"])` is quick.
        out: folder for gap.csv, gap.json, gap.png and the journal; nothing is written when None.
        resume: go on from the journal of an interrupted run of the same configuration.
        overwrite: start anew in a folder that holds a run.
        progress: show a bar on stderr.
        workers: threads that compile and run cells; as many as cores, at most 2, when None:
            linear algebra within a cell uses all cores by itself. What JAX's context managers
            set belongs to the calling thread, and reaches the cells for workers=1 only.

    Returns:
        A `Result`, with `rows`, `summary`, `table()`, `plot()`, `to_pandas()` and `save(out)`.

    Raises:
        TypeError, ValueError: if the configuration or an option is wrong.
        FileExistsError: if `out` holds a run and neither `resume` nor `overwrite` is set.
        NotADirectoryError, PermissionError: if `out` cannot be written.
        ImportError: if matplotlib or tqdm is needed and missing (extra `studies`).

    Example:
        >>> from kernelgap.studies import gap
        >>> tiny = gap.GapConfig(dims=(4, 6), net_ratios=(2, 8), svm_ratios=(0.5, 4),
        ...                      span_ratios=(0.5, 4), seeds=2, n_test=500, width=16, steps=100)
        >>> result = gap.run(tiny)
        >>> len(result.rows)
        24

    References:
        Paper A, the separation between a regularised net and its NTK. The exact protocol of the
        paper's experiments is unknown to us; grids, optimiser and regularisation path are ours.
    """
    return execute(
        STUDY,
        GapConfig() if config is None else config,
        out=out,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        workers=workers,
    )


def _cells(config: GapConfig) -> list[Cell]:
    if config.data == "digits":
        available = len(datasets.digits(*config.classes).y)
        if config.sizes[-1] >= available:
            raise ValueError(
                f"`sizes` must stay below the {available} images of the two classes, to leave "
                f"some for testing; got {config.sizes[-1]}"
            )
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
        Cell(identity, alone=identity[0] != "net" and identity[2] >= _ALONE_FROM)
        for identity in dict.fromkeys(identities)
    ]


def _run_cell(config: GapConfig, identity: tuple) -> list[Row]:
    learner, d, n = identity
    # The same seeds see the same data whatever the learner, and more of it as n grows.
    train_keys, test_keys, other_keys = jax.random.split(
        jax.random.fold_in(jax.random.key(config.seed), d), (3, config.seeds)
    )
    if config.data == "digits":
        digits = jax.device_get(_shuffle(train_keys, datasets.digits(*config.classes)))
        train = Dataset(digits.x[:, :n], digits.y[:, :n])
        test = Dataset(digits.x[:, n:], digits.y[:, n:])
    else:
        train = _sample(config, train_keys, n, d, config.flip)
        test = _sample(config, test_keys, config.n_test, d)
    if learner == "net":
        rows = annealed_nets(
            _model(config.width),
            other_keys,
            train,
            test,
            l2_path=config.l2_path,
            steps=config.steps,
            learning_rate=config.learning_rate,
        )
    else:
        # In this parameterization both layers count alike; the width does not matter.
        kernel = kernels.ntk(models.homogeneous_mlp((1,), parameterization="ntk"))
        sets = [[Dataset(*pair) for pair in zip(*data, strict=True)] for data in (train, test)]
        if learner == "svm":
            rows = [kernel_svm(kernel, *pair) for pair in zip(*sets, strict=True)]
        else:
            pool = _sample(config, other_keys, config.population * n, d)
            sets.append([Dataset(*pair) for pair in zip(*pool, strict=True)])
            rows = [kernel_span(kernel, *triple) for triple in zip(*sets, strict=True)]
    point = {"learner": learner, "d": d, "n": n}
    return [point | {"seed": seed} | row for seed, row in enumerate(rows)]


@lru_cache(maxsize=8)
def _model(width: int) -> models.Model:
    """One object for each width, so that what is compiled for it is found again."""
    return models.homogeneous_mlp((width,))


def _sample(config: GapConfig, keys: jax.Array, n: int, d: int, flip: float = 0.0) -> Dataset:
    """Draw n samples for each key: the first n of a stream, so that one program serves all n."""
    ratios = {1: config.net_ratios, 2: config.svm_ratios}
    longest = max(config.n_test, *(round(max(r) * d**power) for power, r in ratios.items()))
    if d <= config.span_limit:
        longest = max(longest, config.population * round(max(config.span_ratios) * d**2))
    stream = jax.device_get(_stream(keys, max(longest, n), d, config.signal, config.noise, flip))
    return Dataset(stream.x[:, :n], stream.y[:, :n])


@partial(jax.jit, static_argnames=("n", "d", "signal", "noise", "flip"))
def _stream(
    keys: jax.Array, n: int, d: int, signal: datasets.Signal, noise: datasets.Noise, flip: float
) -> Dataset:
    def one(key: jax.Array) -> Dataset:
        return datasets.xor_noise(key, n, d, signal=signal, noise=noise, flip=flip)

    return jax.vmap(one)(keys)


@jax.jit
def _shuffle(keys: jax.Array, data: Dataset) -> Dataset:
    def one(key: jax.Array) -> Dataset:
        order = jax.random.permutation(key, data.y.shape[0])
        return Dataset(data.x[order], data.y[order])

    return jax.vmap(one)(keys)


def _summarize(config: GapConfig, rows: list[Row]) -> dict[str, Any]:
    """Mean errors with intervals, n at the target error, and its exponent in d."""
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    curves: dict[tuple, dict[int, list[Row]]] = {}
    for row in rows:
        curves.setdefault((row["learner"], row["d"]), {}).setdefault(row["n"], []).append(row)

    points = []
    for (learner, d), curve in curves.items():
        for n, seeds in curve.items():
            point: dict[str, Any] = {"learner": learner, "d": d, "n": n, "seeds": len(seeds)}
            for name in ("error", "train_error", "margin"):
                lowest = 0.0 if name != "margin" else -np.inf
                values = np.array([seed[name] for seed in seeds])
                point[name] = statistics.mean_interval(values, lowest=lowest)._asdict()
            worst = max(seed["duality_gap"] for seed in seeds)
            points.append(point | {"largest_duality_gap": worst})

    rng = np.random.default_rng(config.seed)
    n_at_target, exponents = [], []
    for learner in learners:
        dims = [d for name, d in curves if name == learner]
        values, resamples = [], []
        for d in dims:
            curve = curves[learner, d]
            errors = np.array([[seed["error"] for seed in seeds] for seeds in curve.values()])
            value, resampled = statistics.bootstrap_crossings(
                np.array(list(curve)), errors, config.target, rng
            )
            values.append(value)
            resamples.append(resampled)
            estimate = statistics.percentile_interval(value, resampled)
            n_at_target.append({"learner": learner, "d": d} | estimate._asdict())
        if len(dims) > 1:
            estimate = statistics.percentile_interval(
                float(statistics.slope(np.array(dims), np.array(values))),
                statistics.slope(np.array(dims), np.stack(resamples, axis=-1)),
            )
            exponents.append({"learner": learner} | estimate._asdict())
    return {"points": points, "n_at_target": n_at_target, "exponents": exponents}


def _table(config: GapConfig, summary: dict[str, Any]) -> str:
    if config.data == "digits":
        lines = [f"{'learner':8}{'n':>6}{'test error':>24}{'margin':>28}"]
        for p in summary["points"]:
            error, margin = (_interval(p[name], ".3f") for name in ("error", "margin"))
            lines.append(f"{p['learner']:8}{p['n']:>6}{error:>24}{margin:>28}")
        return "\n".join(lines)
    dims = list(dict.fromkeys(entry["d"] for entry in summary["n_at_target"]))
    exponents = {entry["learner"]: entry for entry in summary["exponents"]}
    head = "".join(f"{f'd={d}':>9}" for d in dims)
    lines = [f"samples at {config.target:.0%} test error", f"{'learner':8}{head}   exponent in d"]
    for learner in dict.fromkeys(entry["learner"] for entry in summary["n_at_target"]):
        found = {e["d"]: e["value"] for e in summary["n_at_target"] if e["learner"] == learner}
        values = [found.get(d, np.nan) for d in dims]
        cells = "".join(f"{n:>9.0f}" if np.isfinite(n) else f"{'-':>9}" for n in values)
        exponent = exponents.get(learner)
        lines.append(f"{learner:8}{cells}   " + (_interval(exponent, ".2f") if exponent else "-"))
    return "\n".join(lines)


def _interval(estimate: dict[str, float], form: str) -> str:
    value, low, high = (estimate[k] for k in ("value", "low", "high"))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


STUDY = Study(
    name="gap",
    title="samples a net and its tangent kernel need on XOR (paper A), or on two digits",
    config=GapConfig,
    presets=PRESETS,
    cells=_cells,
    run_cell=_run_cell,
    summarize=_summarize,
    table=_table,
    figure=gap_figure.figure,
)
