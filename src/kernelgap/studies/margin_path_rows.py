"""Rows of the margin-path study: nets along the path, certificates, functions on the line."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import margins, metrics, models
from kernelgap.datasets import Dataset
from kernelgap.margins import objective
from kernelgap.margins.search import columns
from kernelgap.models import Model
from kernelgap.studies import seeds
from kernelgap.studies.estimates import NAN, Row

if TYPE_CHECKING:
    from kernelgap.studies.margin_path import MarginPathConfig

PARTS = ("xor", "line", "digits")
_TOL = 1e-2  # relative gap of the global nets that is small enough
_GRID = 41  # points at which functions on the line are recorded
_OF_FUNCTIONS = ("t", "output", "svm_output", "svm_margin", "svm_distance")
_COLUMNS = (
    "margin", "smoothed_margin", "norm", "log_loss", "log_data_loss", "stationarity",
    "kkt_stationarity", "kkt_slackness", "train_error", "lower", "upper", "loss_gap",
    "global_gap", "global_margin", *_OF_FUNCTIONS,
)  # fmt: skip


def path_rows(config: "MarginPathConfig", part: str, depth: int) -> list[Row]:
    """Return a row per seed and l2 about the nets of one depth on one data set."""
    model, data, paths, search_keys = _paths(config, part, depth)
    rows = []
    for seed, (x, y) in enumerate(seeds.each(data)):
        path = jax.tree.map(lambda leaf, s=seed: leaf[s], paths)
        nets = [jax.tree.map(lambda leaf, k=k: leaf[k], path.records)
                for k in range(len(config.l2s))]  # fmt: skip
        certified, optima = {"lower": NAN, "upper": NAN}, {}
        if depth == 2 and part != "digits":
            best = margins.max_margin(x, y, key=search_keys[seed])
            # The best observed margin is a lower bound as well.
            lower = max(best.lower, float(np.max(path.margins["l2"])))
            certified = {"lower": lower, "upper": best.upper}
            optima = _optima(config.l2s, x, y, search_keys[seed])
        rows += [
            {"part": part, "depth": depth, "seed": seed, "l2": l2}
            | _row(model, path, k, nets[k], x, y)
            | certified
            | _against(optima.get(l2), model, nets[k], x, y, l2)
            | dict.fromkeys(_OF_FUNCTIONS, NAN)
            for k, l2 in enumerate(config.l2s)
        ]
    return rows


def function_rows(config: "MarginPathConfig") -> list[Row]:
    """Compare functions on the line: of nets, and of the l1-SVM over units on the circle.

    The net sum_j a_j relu(w_j t + b_j), with all weights regularised, tends to a net of largest
    margin. Its limit over ||Theta||^2 is half an l1-SVM over the units with w^2 + b^2 = 1.
    """
    _, data, paths, _ = _paths(config, "line", 2)
    x, y = (np.asarray(leaf[0], np.float64) for leaf in data)  # the same points for all seeds
    angles = 2 * np.pi * np.arange(config.features) / config.features
    units = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    svm = columns.l1_svm(np.maximum(x @ units.T, 0), y)
    grid = np.linspace(-1, 1, _GRID)
    at = np.stack([grid, np.ones_like(grid)], axis=1)
    best = np.maximum(at @ units.T, 0) @ svm.coef / 2
    rows = []
    for seed in range(config.seeds):
        for k in shown(config.l2s):
            params = jax.tree.map(lambda leaf, s=seed, k=k: np.float64(leaf[s, k]), paths.records)
            square = sum(float(np.sum(leaf**2)) for leaf in jax.tree.leaves(params))
            hidden, readout = params
            outputs = np.maximum(at @ hidden.T, 0) @ readout / square if square else 0 * grid
            distance = float(np.max(np.abs(outputs - best)) / np.max(np.abs(best)))
            place = {"part": "function", "depth": 2, "seed": seed, "l2": config.l2s[k]}
            empty = dict.fromkeys(_COLUMNS, NAN)
            rows += [
                place
                | empty
                | {"t": t, "output": output, "svm_output": svm_output}
                | {"svm_margin": svm.margin / 2, "svm_distance": distance}
                for t, output, svm_output in zip(
                    grid.tolist(), outputs.tolist(), best.tolist(), strict=True
                )
            ]
    return rows


def shown(l2s: tuple[float, ...]) -> list[int]:
    """Return the places of the first, the middle and the last strength."""
    return sorted({0, len(l2s) // 2, len(l2s) - 1})


def _paths(config: "MarginPathConfig", part: str, depth: int) -> tuple[Model, Dataset, Any, Any]:
    """Return the model, the data, the paths of all seeds, and keys for a search."""
    key = jax.random.fold_in(jax.random.key(config.seed), PARTS.index(part))
    data_keys, net_keys, search_keys = jax.random.split(key, (3, config.seeds))
    data = jax.device_get(_data(config, part, data_keys))
    outputs = 10 if part == "digits" else None
    model = models.homogeneous_mlp((config.width,) * (depth - 1), outputs=outputs)
    how = (model, config.l2s, config.steps, config.learning_rate)
    paths = jax.device_get(seeds.over_seeds(_path, (net_keys, data), static=how))
    return model, data, paths, search_keys


def _row(
    model: Model, path: margins.RegularizationPath, k: int, params: Any, x: jax.Array, y: jax.Array
) -> Row:
    """Return what was recorded at one l2, and the optimality conditions of the margin."""
    conditions = margins.kkt_residuals(model, params, x, y)
    return {
        "margin": float(path.margins["l2"][k]),
        "smoothed_margin": float(path.margins["smooth"][k]),
        "norm": float(path.norm[k]),
        "log_loss": float(path.log_loss[k]),
        "log_data_loss": float(path.log_data_loss[k]),
        "stationarity": float(path.stationarity[k]),
        "kkt_stationarity": float(conditions.stationarity),
        "kkt_slackness": float(conditions.slackness),
        "train_error": float(path.train_error[k]),
    }


def _optima(
    l2s: tuple[float, ...], x: jax.Array, y: jax.Array, key: jax.Array
) -> dict[float, margins.GlobalNet]:
    """Return the certified global nets of the strengths that double precision resolves."""
    # Below, terms of the loss are too small for a certificate.
    strengths = [l2 for l2 in l2s if l2 >= 1e-8]
    if not strengths:
        return {}
    nets = margins.global_path(x, y, l2s=strengths, key=key, tol=_TOL)
    return dict(zip(strengths, nets, strict=True))


def _against(
    best: margins.GlobalNet | None, model: Model, params: Any, x: jax.Array, y: jax.Array, l2: float
) -> dict[str, float]:
    """Return how far a net's loss, and the global net's own, can be above the least, relatively."""
    if best is None:
        return dict.fromkeys(("loss_gap", "global_gap", "global_margin"), NAN)
    data = objective.prepare(x, y, "logistic", "mean")
    factors = objective.forward_factors(model, params, data.problem.device_x)
    hidden, readout = params
    loss, _ = objective.loss_above(data, hidden, readout, l2, factors)
    net = models.homogeneous_mlp((len(best.params[1]),))
    return {
        "loss_gap": (loss - best.lower) / loss,
        "global_gap": best.gap / best.loss,
        "global_margin": float(metrics.normalized_margin(net, best.params, x, y)),
    }


def _data(config: "MarginPathConfig", part: str, keys: jax.Array) -> Dataset:
    if part == "xor":
        return seeds.xor(keys, config.n, config.d)
    if part == "line":
        x, y = seeds.line(config.line_n)
        return Dataset(*(jnp.broadcast_to(a, (config.seeds, *a.shape)) for a in (x, y)))
    return seeds.first(seeds.digits(keys, tuple(range(10))), config.digits_n)


def _path(
    model: Model,
    l2s: tuple[float, ...],
    steps: int,
    learning_rate: float,
    key: jax.Array,
    data: Dataset,
) -> margins.RegularizationPath:
    return margins.regularization_path(
        model,
        model.init(key, data.x.shape[1]),
        *data,
        l2s=l2s,
        steps=steps,
        learning_rate=learning_rate,
        record=lambda params: params,
    )
