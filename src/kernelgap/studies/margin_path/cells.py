"""The cells of the margin-path study: a data set and a depth each."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import datasets, margins, models
from kernelgap.datasets import Dataset
from kernelgap.margins import RegularizationPath
from kernelgap.models import Model, Params
from kernelgap.studies import samples
from kernelgap.studies.journal import Row
from kernelgap.studies.learners import NAN
from kernelgap.studies.margin_path.config import PARTS, MarginPathConfig
from kernelgap.studies.study import Cell

_DIGITS_DEPTH = 3


def cells(config: MarginPathConfig) -> list[Cell]:
    """A cell for each data set and depth."""
    if "digits" in config.parts:
        available = len(datasets.digits().y)
        if config.digits_n > available:
            raise ValueError(f"`digits_n` must be at most {available}, the images there are; "
                             f"got {config.digits_n}")  # fmt: skip
    return [
        Cell((part, depth))
        for part in config.parts
        for depth in config.depths
        if part != "digits" or depth <= _DIGITS_DEPTH
    ]


def run_cell(config: MarginPathConfig, identity: tuple) -> list[Row]:
    """A row per seed and l2 of one data set and depth."""
    part, depth = identity
    key = jax.random.fold_in(jax.random.key(config.seed), PARTS.index(part))
    data_keys, net_keys, search_keys = jax.random.split(key, (3, config.seeds))
    data = jax.device_get(_data(config, part, data_keys))
    model = _net((config.width,) * (depth - 1), 10 if part == "digits" else None)
    paths = _paths(model, net_keys, data, config.l2s, config.steps, config.learning_rate)
    rows = []
    for seed, (x, y) in enumerate(samples.each(data)):
        path = jax.tree.map(lambda leaf, s=seed: leaf[s], paths)
        known = {"lower": NAN, "upper": NAN, "loss_gap": [NAN] * len(config.l2s)}
        if depth == 2 and part != "digits":
            known = _certified(model, path, x, y, config.l2s, search_keys[seed])
        rows += [
            {"part": part, "depth": depth, "seed": seed, "l2": l2}
            | _row(model, path, k, x, y)
            | {"lower": known["lower"], "upper": known["upper"], "loss_gap": known["loss_gap"][k]}
            for k, l2 in enumerate(config.l2s)
        ]
    return rows


def _row(model: Model, path: RegularizationPath, k: int, x: jax.Array, y: jax.Array) -> Row:
    """What was recorded at one l2; the optimality conditions of the margin."""
    params = _record(path, k)
    conditions = margins.kkt_residuals(model, params, x, y)
    return {
        "margin": float(path.margin[k]),
        "smoothed_margin": float(path.margins["smooth"][k]),
        "norm": float(path.norm[k]),
        "log_loss": float(path.log_loss[k]),
        "log_data_loss": float(path.log_data_loss[k]),
        "stationarity": float(path.stationarity[k]),
        "kkt_stationarity": float(conditions.stationarity),
        "kkt_slackness": float(conditions.slackness),
        "train_error": float(path.train_error[k]),
    }


def _certified(
    model: Model,
    path: RegularizationPath,
    x: jax.Array,
    y: jax.Array,
    l2s: tuple[float, ...],
    key: jax.Array,
) -> dict:
    """Bounds on the largest margin of any width, and on what each loss lacks of its optimum.

    `loss_gap` is (L - lower bound of L*) / L. The best margin seen is a lower bound too.
    """
    certificate = margins.max_margin(x, y, key=key)
    lower = max(certificate.lower, float(np.max(path.margin)))
    gaps = []
    for k, l2 in enumerate(l2s):
        # Below, terms of the loss leave what double precision can add up in a certificate.
        if l2 < 1e-8:
            gaps.append(NAN)
            continue
        found = margins.duality_gap(model, _record(path, k), x, y, l2=l2, steps=0)
        gaps.append(found.gap / found.loss)
    return {"lower": lower, "upper": certificate.upper, "loss_gap": gaps}


def _record(path: RegularizationPath, k: int) -> Params:
    return jax.tree.map(lambda leaf: leaf[k], path.records)


def _net(widths: tuple[int, ...], outputs: int | None) -> Model:
    return models.homogeneous_mlp(widths, outputs=outputs)


def _data(config: MarginPathConfig, part: str, keys: jax.Array) -> Dataset:
    """Training sets of all seeds, x of shape (seeds, n, d)."""
    if part == "xor":
        return samples.xor(keys, config.n, config.d)
    if part == "line":
        x, y = line(config.line_n)
        return Dataset(*(jnp.broadcast_to(a, (config.seeds, *a.shape)) for a in (x, y)))
    return samples.first(samples.digits(keys, tuple(range(10))), config.digits_n)


def line(n: int) -> Dataset:
    """Points t on [-1, 1] as inputs (t, 1), labelled + + - - + + and so on.

    With d = 2 the largest margin of any width is known exactly, by enumeration.
    """
    t = jnp.linspace(-1, 1, n)
    y = jnp.where(jnp.arange(n) // 2 % 2 == 0, 1, -1).astype(t.dtype)
    return Dataset(jnp.stack([t, jnp.ones_like(t)], axis=1), y)


@partial(jax.jit, static_argnames=("model", "l2s", "steps", "learning_rate"))
def _paths(
    model: Model,
    keys: jax.Array,
    data: Dataset,
    l2s: tuple[float, ...],
    steps: int,
    learning_rate: float,
) -> RegularizationPath:
    def one(key: jax.Array, x: jax.Array, y: jax.Array) -> RegularizationPath:
        params = model.init(key, x.shape[1])
        return margins.regularization_path(
            model,
            params,
            x,
            y,
            l2s=l2s,
            steps=steps,
            learning_rate=learning_rate,
            record=lambda p: p,
        )

    return jax.vmap(one)(keys, *data)
