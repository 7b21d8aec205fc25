"""Excess loss against time: gradient descent, the perturbed flow, Langevin dynamics.

Paper A proves that a Wasserstein gradient flow in which a small share of the neurons is re-drawn
all the time comes close to the global minimum of the regularised loss from any start. The study
measures the excess loss L - L* of the best iterate, at several widths and from two starts:

- random: neurons uniform on their sphere;
- trapped: all output weights positive with w_j = ||u_j||. The gradient flow keeps w_j^2 - ||u_j||^2
  up to a factor, and with it the sign of w_j: it never finds a negative output, and negative
  samples cannot be fitted. Re-draws bring negative units in.

Excesses are measured from a certified lower bound on the least loss of any width, that of
`margins.global_net`, so that the reported values are upper bounds. `level_gap` is the distance of
the least loss found from that bound; excesses below it cannot be distinguished.

References:
    Paper A, the perturbed Wasserstein gradient flow: global convergence of the best iterate in
    polynomial time. An experiment on it is not known to us: problem, widths, rates and starts are
    this project's.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import margins, objectives, optim
from kernelgap._numerics import checks
from kernelgap._numerics.trees import squared_norm
from kernelgap.datasets import Dataset
from kernelgap.models import Model, Params
from kernelgap.studies import estimates, seeds
from kernelgap.studies.estimates import (
    NAN,
    POSITIVE,
    SHARE,
    Estimate,
    Row,
    means,
)
from kernelgap.studies.execution import Cell
from kernelgap.studies.learners import two_layer_net
from kernelgap.studies.options import Config, about_options, option
from kernelgap.studies.panels import BLUE, GREEN, GREY, ORANGE, Curve, Panel
from kernelgap.studies.seeds import over_seeds
from kernelgap.studies.study import Result, Study
from kernelgap.studies.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["STUDY", "NoisyGDConfig"]

METHODS = ("gd", "perturbed", "langevin")
STARTS = {"random": "random start", "trapped": "all output weights positive"}


@dataclasses.dataclass(frozen=True)
class NoisyGDConfig(Config):
    """Options of the noisy-gd study; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import noisy_gd
        >>> noisy_gd.NoisyGDConfig(widths=(16, 64)).l2
        0.01
    """

    d: int = option(10, "input dimension of the xor distribution", minimum=2)
    n: int = option(80, "training samples", minimum=2)
    widths: tuple[int, ...] = option((16, 64, 256), "hidden units", minimum=1, increasing=True)
    l2: float = option(1e-2, "strength of the weight decay", above=0)
    learning_rate: float = option(
        0.05, "learning rate of gradient descent; time is learning_rate * steps", above=0
    )
    resample_rate: float = option(
        1e-3, "rate at which the perturbed flow re-draws a neuron", minimum=0
    )
    temperature: float = option(1e-4, "Langevin temperature, in mean-field units", minimum=0)
    steps: int = option(8000, "full-batch steps", minimum=1)
    records: int = option(80, "number of recorded times", minimum=1, divides="steps")
    seeds: int = option(10, "repetitions, each with its own sample and start", minimum=2)
    seed: int = option(0, "base of all random keys", minimum=0)

    def check(self) -> None:
        """Refuse rates at which a neuron would be re-drawn more than once per step."""
        product = "`learning_rate` * `resample_rate`"
        try:
            checks.number(self.learning_rate * self.resample_rate, product, maximum=1)
        except ValueError as error:
            raise about_options(error, "learning_rate", "resample_rate") from None


_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"widths": (16, 64), "learning_rate": 0.1, "steps": 2000, "records": 40, "seeds": 5},
    "default": {},
    "large": {"d": 40, "n": 320, "widths": (16, 64, 256, 1024), "steps": 16_000},
}


def _cells(config: NoisyGDConfig) -> list[Cell]:
    return [Cell(("reference", "random", 0))] + [
        Cell((method, start, width))
        for method in METHODS
        for start in STARTS
        for width in config.widths
    ]


def _run_cell(config: NoisyGDConfig, identity: tuple) -> list[Row]:
    method, start, width = identity
    train_keys, start_keys, noise_keys = jax.random.split(
        jax.random.key(config.seed), (3, config.seeds)
    )
    data = seeds.xor(train_keys, config.n, config.d)
    if method == "reference":
        return _references(config, data, start_keys)
    model = two_layer_net(width)
    params = over_seeds(start_on_the_sphere, (start_keys,), static=(model, config.d, start))
    point = {"method": method, "start": start, "width": width}
    every = config.steps // config.records
    noise = (
        # A neuron is a particle of mass 1 / m, so the flow of the measure has m times the noise.
        config.temperature / width if method == "langevin" else 0.0,
        config.resample_rate if method == "perturbed" else 0.0,
    )
    static = (model, config.l2, config.learning_rate, *noise, config.steps, every)
    columns = jax.device_get(over_seeds(_train, (params, data, noise_keys), static=static))
    return [
        point | _row(seed, i * every, *(column[seed, i] for column in columns), lower=NAN)
        for seed in range(config.seeds)
        for i in range(config.records + 1)
    ]


def _row(
    seed: int, step: int, loss: float, best: float, negative: float, norm: float, lower: float
) -> Row:
    numbers = {"loss": loss, "best": best, "negative": negative, "norm": norm, "lower": lower}
    return {"seed": seed, "step": step} | {k: float(v) for k, v in numbers.items()}


def _references(config: NoisyGDConfig, data: Dataset, keys: jax.Array) -> list[Row]:
    """Return a row per seed about the net of least loss over all widths; `width` is its units."""
    rows = []
    for seed, (x, y) in enumerate(seeds.each(data)):
        best = margins.global_net(x, y, l2=config.l2, key=keys[seed])
        point = {"method": "reference", "start": "random", "width": best.params[1].shape[0]}
        rows.append(point | _row(seed, 0, best.loss, best.loss, NAN, NAN, best.lower))
    return rows


def start_on_the_sphere(model: Model, d: int, start: str, key: jax.Array) -> Params:
    """Put neurons on their sphere: uniform, or with output weights w_j = +||u_j||."""
    assert model.neurons is not None
    pack, unpack, radius = model.neurons
    hidden, readout = model.init(key, d)
    if start == "trapped":
        readout = jnp.linalg.norm(hidden, axis=1)
    else:
        # Use the scale of the hidden weights, so that the direction is uniform.
        readout = readout * jnp.sqrt(jnp.asarray(readout.shape[0] / d, readout.dtype))
    theta = pack((hidden, readout))
    return unpack(radius((hidden, readout)) * theta / jnp.linalg.norm(theta, axis=1, keepdims=True))


def _train(
    model: Model,
    l2: float,
    learning_rate: float,
    temperature: float,
    resample_rate: float,
    steps: int,
    every: int,
    params: Params,
    data: Dataset,
    key: jax.Array,
) -> tuple[jax.Array, ...]:
    """Return loss, best loss so far, share of negative outputs and norm at the recorded steps."""
    loss = objectives.regularized_logistic(model.apply, l2=l2)

    def look(params: Params) -> tuple[jax.Array, ...]:
        negative = jnp.mean((params[1] < 0).astype(params[1].dtype))
        return loss(params, *data), negative, jnp.sqrt(squared_norm(params))

    optimizer = optim.noisy_gd(
        learning_rate,
        temperature=temperature,
        resample_rate=resample_rate,
        neurons=model.neurons,
        key=key,
    )
    trained = optim.train(
        loss, params, data, optimizer, steps=steps, record=look, record_every=every
    )
    values, negative, norm = (
        jnp.concatenate([a[None], b]) for a, b in zip(look(params), trained.records, strict=True)
    )
    # The best of all iterates, not only of those recorded.
    running = jax.lax.cummin(trained.losses)[every - 1 :: every]
    best = jnp.minimum(jax.lax.cummin(values), jnp.concatenate([values[:1], running]))
    return values, best, negative, norm


def _summarize(config: NoisyGDConfig, rows: list[Row]) -> list[Estimate]:
    level = {row["seed"]: row["lower"] for row in rows if row["method"] == "reference"}
    least = {seed: min(row["best"] for row in rows if row["seed"] == seed) for seed in level}
    curves = [
        row | {f"{k}_excess": row[k] - level[row["seed"]] for k in ("loss", "best")}
        for row in rows
        if row["method"] != "reference"
    ]
    # Steps are finite, so that descent can change a sign that the flow conserves.
    ends = [r for r in curves if r["start"] == "trapped" and r["step"] == config.steps]
    gaps = np.array([least[seed] - level[seed] for seed in level])
    ranges = dict.fromkeys(("loss_excess", "best_excess", "loss"), POSITIVE) | {"negative": SHARE}
    by = ("method", "start", "width", "step")
    return [
        Estimate("level_gap", {}, *estimates.mean_interval(gaps, POSITIVE)),
        Estimate("largest_level_gap", {}, float(gaps.max())),
        Estimate("largest_relative_gap", {}, max(least[k] / level[k] for k in level) - 1),
        *means(curves, by, ranges),
        *(
            Estimate("seeds_with_negative_outputs", {"method": method, "width": width},
                     sum(row["negative"] > 0 for row in members))
            for (method, width), members in estimates.grouped(ends, ("method", "width")).items()
        ),
    ]  # fmt: skip


def _tables(config: NoisyGDConfig) -> list[Table]:
    return [
        Table(
            {"best_excess": ".5f", "negative": ".3f"},
            "excess loss of the best iterate at the end, at most; share of negative outputs",
            where=lambda keys: keys["step"] == config.steps,
        ),
        Table(
            {"level_gap": ".5f", "largest_relative_gap": ".4f"},
            "least loss found, above the certified lower bound; relatively, at most",
        ),
    ]


_LOOKS: dict[str, dict[str, Any]] = {
    "gd": {"color": ORANGE, "style": "--", "label": "gradient descent"},
    "perturbed": {"color": BLUE, "style": "-", "label": "perturbed flow: re-drawn neurons"},
    "langevin": {"color": GREEN, "style": "-.", "label": "Langevin"},
}


def _panels(result: Result) -> list[Panel]:
    places = [(start, width) for start in STARTS for width in result.config.widths]
    return [
        Panel(
            f"{STARTS[start]}, width {width}",
            "step",
            [
                *(Curve("best_excess", {"method": method, "start": start, "width": width}, **v)
                  for method, v in _LOOKS.items()),
                *(Curve("loss_excess", {"method": method, "start": start, "width": width},
                        color=v["color"], alpha=0.35, intervals="none")
                  for method, v in _LOOKS.items()),
            ],
            f"steps, each {result.config.learning_rate:g} of time",
            "excess loss",
            log="y",
            draw=_level,
        )
        for start, width in places
    ]  # fmt: skip


def _level(ax: "Axes", result: Result) -> None:
    """Shade the excesses that cannot be distinguished."""
    (gap,) = result.select("level_gap")
    low, high = gap.value / 3, max(e.high for e in result.select("loss_excess"))
    ax.set_ylim(low, 1.5 * high)
    ax.axhspan(low, gap.value, color=GREY, alpha=0.2, lw=0)


STUDY = Study(
    name="noisy-gd",
    title="excess loss of gradient descent, the perturbed flow and Langevin dynamics",
    about=__doc__ or "",
    config=NoisyGDConfig,
    presets=_PRESETS,
    cells=_cells,
    run_cell=_run_cell,
    summarize=_summarize,
    tables=_tables,
    panels=_panels,
    caption="XOR, d = {d}, n = {n}, λ = {l2:g}, {seeds} seeds, 95% intervals\nloss above a "
    "certified lower bound: best iterate (bold), current one (pale); grey: no net was found",
)
"""The study; `STUDY.run(config)` runs it."""
