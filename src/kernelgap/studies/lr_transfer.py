"""The best learning rate against the width, in three parameterizations.

Nets of growing width are trained for a fixed number of steps at learning rates on a grid. A coarse
grid of factors 4 finds the region, a fine one covers a factor 4 to both sides of its best rate.
Each seed's optimum is the vertex of the parabola through the logarithms of the losses at the best
rate and its two neighbours; the slope is that of log optimum on log width, by least squares for
each seed, with Student's t interval over seeds. A rate that transfers has slope 0.

The loss is the mean over mini-batches of the last steps, each before its step. Losses above that at
the start, as after a divergence, count as the latter. An optimum at the end of the fine grid is not
an estimate: it is counted, and its seed has no slope.

Predictions: the first step changes the outputs of a wide net by a multiple of learning rate *
width^p, so that the rate falls like width^-p where this change is what limits it. SGD has p = 1 in
the standard parameterization and 0 in the others. Adam changes all weights alike, so that a hidden
layer between two others adds the product of the 1-norms of its inputs and of the gradient at its
outputs, of order width^(3/2): p is 3/2 and 1 for standard and NTK from three layers on, 1 and 1/2
for two layers, and 0 for mup with its rates per layer.

References:
    Paper C, second version, proves that learning rates transfer across widths; its experiments are
    not known to us. Maximal updates: G. Yang, E. Hu, ICML 2021; G. Yang et al., arXiv 2203.03466.
    Protocol and predicted slopes are this project's.
"""

import dataclasses
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernelgap import datasets, models, objectives, optim
from kernelgap.models import Model, Params
from kernelgap.studies import seeds
from kernelgap.studies.estimates import NAN, Row, grouped
from kernelgap.studies.execution import Cell
from kernelgap.studies.learners import initial
from kernelgap.studies.lr_transfer_summary import PLACE, log_losses, panels, summarize, tables
from kernelgap.studies.options import Config, about_options, option
from kernelgap.studies.seeds import over_seeds
from kernelgap.studies.study import Study

__all__ = ["STUDY", "LRTransferConfig"]

_COARSE = 2.0 ** np.arange(-16, 9, 2)
_TOGETHER = 128  # largest width at which seeds run as one batch
_ALONE_FROM = 2000  # width from which a net of several layers must run alone


@dataclasses.dataclass(frozen=True)
class LRTransferConfig(Config):
    """Options of the lr-transfer study; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import lr_transfer
        >>> lr_transfer.LRTransferConfig(depths=(2, 3, 4), optimizers=("sgd",)).widths
        (64, 128, 256, 512)
    """

    optimizers: tuple[Literal["sgd", "adam", "noisy_gd"], ...] = option(
        ("sgd", "adam", "noisy_gd"), "subset of: sgd, adam, noisy_gd (Langevin)"
    )
    parameterizations: tuple[Literal["standard", "ntk", "mup"], ...] = option(
        ("standard", "ntk", "mup"), "subset of: standard, ntk, mup (Adam with rates per layer)"
    )
    widths: tuple[int, ...] = option(
        (64, 128, 256, 512), "units of each hidden layer", minimum=2, increasing=True
    )
    depths: tuple[int, ...] = option((3,), "layers of weights", minimum=2, increasing=True)
    activation: Literal["relu", "gelu", "silu", "tanh", "erf"] = option(
        "relu", "relu, gelu, silu, tanh or erf"
    )
    data: Literal["teacher", "digits"] = option("teacher", "teacher (6 ReLU units) or digits")
    loss: Literal["squared", "logistic"] = option("squared", "squared or logistic")
    n: int = option(128, "training samples", minimum=2)
    d: int = option(10, "input dimension on the sphere of radius sqrt(d) (teacher)", minimum=2)
    classes: tuple[int, ...] = option(
        (3, 8), "two digits to tell apart", minimum=0, maximum=9, length=2
    )
    steps: int = option(50, "steps at each learning rate", minimum=2)
    last: int = option(25, "last steps, whose mean loss is measured", minimum=1, at_most="steps")
    batch: int = option(32, "samples of a step; n: all samples", minimum=1, at_most="n")
    resolution: int = option(3, "learning rates per factor 2 of the fine grid", minimum=1)
    temperature: float = option(
        1e-4, "Langevin temperature of noisy_gd, in mean-field units", minimum=0
    )
    seeds: int = option(5, "repetitions, each with its own sample and start", minimum=2)
    seed: int = option(0, "base of all random keys", minimum=0)


_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"optimizers": ("sgd",), "depths": (2,), "widths": (64, 1024), "seeds": 3},
    "default": {},
    "large": {
        "widths": (64, 128, 256, 512, 1024, 2048, 4096),
        "depths": (2, 3, 4),
        "steps": 100,
        "last": 50,
        "seeds": 8,
    },
}


def _check(config: LRTransferConfig) -> None:
    if config.data == "digits" and config.n > (most := len(datasets.digits(config.classes).y)):
        error = f"`n` must be at most the {most} images of these classes; got {config.n}"
        raise about_options(ValueError(error), "n")


def _cells(config: LRTransferConfig) -> list[Cell]:
    return [
        Cell((optimizer, form, depth, width), alone=depth > 2 and width >= _ALONE_FROM)
        for optimizer in config.optimizers
        for form in config.parameterizations
        for depth in config.depths
        for width in config.widths
    ]


def _run_cell(config: LRTransferConfig, identity: tuple) -> list[Row]:
    """Return rows of both grids, all seeds. Data, starts and batches do not depend on the cell."""
    optimizer, form, depth, width = identity
    teacher_keys, data_keys, net_keys, step_keys = jax.random.split(
        jax.random.key(config.seed), (4, config.seeds)
    )
    if config.data == "digits":
        data = seeds.first(seeds.digits(data_keys, config.classes), config.n)
    else:
        labels = "value" if config.loss == "squared" else "sign"
        data = seeds.teacher(teacher_keys, data_keys, config.n, config.d, units=6, labels=labels)
    model = models.mlp((width,) * (depth - 1), activation=config.activation, parameterization=form)
    params = initial(model, net_keys, data.x.shape[2])
    # A neuron is a particle of mass 1 / width, so that the net has width times the noise.
    static = (model, optimizer, config.loss, config.steps, config.batch, config.temperature / width)
    rows: list[Row] = []
    for grid in ("coarse", "fine"):
        rates = _COARSE if grid == "coarse" else _fine(rows, config.resolution)
        shared = (jnp.asarray(rates, data.x.dtype),)
        arguments = (step_keys, params, data.x, data.y)
        wide = width > _TOGETHER
        losses = jax.device_get(
            over_seeds(_train, arguments, static=static, shared=shared, wide=wide)
        )
        ends = losses[:, :, -config.last :].astype(float).mean(axis=2)
        rows += [
            dict(zip(PLACE, identity, strict=True))
            | {"seed": seed, "grid": grid, "learning_rate": float(rate)}
            | {"loss": float(end) if np.isfinite(end) else NAN, "start": float(of_seed[0, 0])}
            for seed, of_seed in enumerate(losses)
            for rate, end in zip(rates, ends[seed], strict=True)
        ]
    return rows


def _train(
    model: Model,
    optimizer: str,
    loss: str,
    steps: int,
    batch: int,
    temperature: float,
    rates: jax.Array,
    key: jax.Array,
    params: Params,
    x: jax.Array,
    y: jax.Array,
) -> jax.Array:
    """Return the mini-batch losses (rates, steps) of one seed, each before its step."""
    logistic = partial(objectives.regularized_logistic, l2=0.0)
    objective = (logistic if loss == "logistic" else objectives.regularized_squared)(model.apply)
    batch_key, noise_key = jax.random.split(key)
    n, d = x.shape
    samples = jnp.broadcast_to(jnp.arange(n), (steps, n))
    if batch < n:
        samples = jax.random.randint(batch_key, (steps, batch), 0, n)

    def losses_at(rate: jax.Array) -> jax.Array:
        rule = _optimizer(optimizer, rate, model, d, temperature, noise_key)

        def step(carry: tuple, chosen: jax.Array) -> tuple[tuple, jax.Array]:
            params, state = carry
            value, gradient = jax.value_and_grad(objective)(params, x[chosen], y[chosen])
            updates, state = rule.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (params, rule.init(params)), samples)[1]

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # for optax
        if optimizer == "noisy_gd":  # a batch shares the draws, which cost more than the steps
            return jax.vmap(losses_at)(rates)
        return jax.lax.map(losses_at, rates)  # on a CPU as fast as a batch, in less memory


def _optimizer(
    name: str, rate: Any, model: Model, d: int, temperature: float, key: jax.Array
) -> optax.GradientTransformation:
    if name == "sgd":
        return optax.sgd(rate)
    if name == "noisy_gd":
        return optim.noisy_gd(rate, temperature=temperature, key=key)
    adam = optax.adam(rate, eps=1e-12)  # gradients fall like 1 / width
    if model.spec.parameterization != "mup":
        return adam
    return optax.chain(adam, optim.scale_by_fan_in(model, d))


def _fine(rows: list[Row], resolution: int) -> np.ndarray:
    """Return the rates up to a factor 4 from the best of the coarse grid, for all seeds."""
    logs = {
        rate: np.mean(log_losses(mine))
        for (rate,), mine in grouped(rows, ("learning_rate",)).items()
    }
    best = min(logs, key=lambda rate: logs[rate])
    return best * 2.0 ** (np.arange(-2 * resolution, 2 * resolution + 1) / resolution)


STUDY = Study(
    name="lr-transfer",
    title="the best learning rate as nets widen, in three parameterizations",
    about=__doc__ or "",
    config=LRTransferConfig,
    presets=_PRESETS,
    check=_check,
    cells=_cells,
    run_cell=_run_cell,
    summarize=summarize,
    tables=tables,
    panels=panels,
    caption="{activation} nets, {data}, {loss} loss, n = {n}, {steps} steps of {batch} samples, "
    "{seeds} seeds; bands: 95% intervals",
)
"""The study; `STUDY.run(config)` runs it."""
