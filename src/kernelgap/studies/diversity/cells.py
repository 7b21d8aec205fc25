"""The cells of the diversity study, and those of its first three parts."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernelgap import datasets, kernels, metrics, models, objectives, optim
from kernelgap.models import Model
from kernelgap.studies.diversity import arrangements, errors
from kernelgap.studies.diversity.config import DiversityConfig
from kernelgap.studies.journal import Row
from kernelgap.studies.learners import NAN
from kernelgap.studies.study import Cell
from kernelgap.typing import Loss

TRAINING = ("random", "clustered", "optimised", "clustered, penalised")
DEGREE = 50  # of the population spectra

_TEXT = ("part", "data", "start", "case")
_NUMBERS = (
    "d", "width", "spread", "draw", "rank", "strength", "step",
    "eigenvalue", "population", "s_min", "discrepancy", "loss", "gradient", "certificate",
    "validation", "error",
)  # fmt: skip


def cells(config: DiversityConfig) -> list[Cell]:
    """A cell for each dimension, arrangement or net; those that decompose matrices run alone."""
    found = []
    for part in config.parts:
        if part == "spectrum":
            found += [Cell((part, d), alone=True) for d in config.dims]
        elif part == "discrepancy":
            found += [Cell((part,), alone=True)]
        elif part == "training":
            found += [Cell((part, case), alone=True) for case in TRAINING]
        else:
            errors.check(config)
            found += [
                Cell((part, data, start, width))
                for data in errors.sources(config)
                for start in config.starts
                for width in errors.widths(config, data)
            ]
    return found


def run_cell(config: DiversityConfig, identity: tuple) -> list[Row]:
    """A row per seed and whatever else the part counts."""
    part, *rest = identity
    run = {
        "spectrum": _spectrum,
        "discrepancy": _discrepancy,
        "training": _training,
        "error": errors.rows,
    }[part]
    return [_row(part, found) for found in run(config, *rest)]


def _row(part: str, found: dict[str, Any]) -> Row:
    """All columns, for all parts the same."""
    text = dict.fromkeys(_TEXT, "") | {"seed": 0}
    row = text | dict.fromkeys(_NUMBERS, NAN) | found | {"part": part}
    return {
        k: int(v) if k == "seed" else v if isinstance(v, str) else float(v) for k, v in row.items()
    }


def _keys(config: DiversityConfig, purpose: int) -> jax.Array:
    """A key per seed, the same for the same purpose."""
    key = jax.random.fold_in(jax.random.key(config.seed), purpose)
    return jax.random.split(key, config.seeds)


def _spectrum(config: DiversityConfig, d: int) -> list[Row]:
    """Eigenvalues of the Gram matrix over n at some ranks, and the population's there."""
    kernel, n = kernels.diversity_kernel(), config.gram_n
    expected = population(d, n)
    ends = np.flatnonzero(np.diff(expected)) + 1  # of the degrees
    spaced = np.round(np.geomspace(1, n, 80)).astype(int)
    ranks = np.unique(np.concatenate([spaced, ends, ends + 1]))
    found = []
    for seed in range(config.gram_seeds):
        key = jax.random.fold_in(jax.random.key(config.seed), seed)
        x = datasets.sphere(key, n, d)
        values = np.asarray(kernels.spectrum(kernel, x).values)[::-1] / n
        found += [
            {
                "d": d,
                "seed": seed,
                "rank": rank,
                "eigenvalue": values[rank - 1],
                "population": expected[rank - 1],
            }
            for rank in ranks
        ]
    return found


def population(d: int, n: int) -> np.ndarray:
    """The n largest eigenvalues of g on the sphere, each repeated by its multiplicity."""
    spectrum = kernels.zonal_spectrum(kernels.diversity_kernel(), d, degree=DEGREE)
    order = np.argsort(-spectrum.values)
    counts = [min(spectrum.multiplicities[t], n) for t in order]
    values = np.repeat(spectrum.values[order], counts)[:n]
    return np.pad(values, (0, n - len(values)), constant_values=np.nan)


class _Seen(NamedTuple):
    s_min: jax.Array
    discrepancy: jax.Array


@jax.jit
def _see(w: jax.Array, x: jax.Array) -> _Seen:
    """Both for units of shape (seeds, draws, m, d) and inputs (seeds, n, d)."""

    def one(w: jax.Array, x: jax.Array) -> _Seen:
        return _Seen(metrics.smallest_singular_value(w, x).value, metrics.slice_discrepancy(w))

    return jax.vmap(jax.vmap(one, (0, None)))(w, x)


def _discrepancy(config: DiversityConfig) -> list[Row]:
    """s_min and discrepancy of all arrangements on the same inputs of each seed."""
    x = _inputs(config)
    draws = jax.vmap(lambda key: jax.random.split(key, config.draws))(_keys(config, 1))
    drawn = jax.vmap(jax.vmap(lambda key: arrangements.random(key, config.units, config.d)))(draws)
    groups = [("random", NAN, drawn)]
    for spread in config.spreads:
        groups.append(("clustered", spread, _clustered(config, spread)[:, None]))
    best = jax.vmap(partial(arrangements.spread_out, steps=config.spreading))(drawn[:, 0])
    groups.append(("optimised", NAN, best[:, None]))
    found = []
    for case, spread, w in groups:
        seen = jax.device_get(_see(w, x))
        found += [
            {
                "case": case,
                "spread": spread,
                "draw": draw,
                "seed": seed,
                "s_min": seen.s_min[seed, draw],
                "discrepancy": seen.discrepancy[seed, draw],
            }
            for seed in range(config.seeds)
            for draw in range(w.shape[1])
        ]
    return found


def _training(config: DiversityConfig, case: str) -> list[Row]:
    """Gradient descent on the squared loss from one arrangement, with what s_min certifies."""
    x = _inputs(config)
    y = jax.vmap(partial(_targets, units=config.teacher_units))(_keys(config, 3), x)
    w = _clustered(config, config.spread)
    if not case.startswith("clustered"):
        w = jax.vmap(lambda key: arrangements.random(key, config.units, config.d))(_keys(config, 1))
    if case == "optimised":
        w = jax.vmap(partial(arrangements.spread_out, steps=config.spreading))(w)
    model = _net(config.units)
    strength = config.penalty if case.endswith("penalised") else 0.0
    every = config.steps // config.records
    looks = jax.device_get(
        _train(model, w, x, y, strength, config.learning_rate, config.steps, every)
    )
    refuse_violations(looks.loss, looks.certificate)
    return [
        {"case": case, "strength": strength, "seed": seed, "step": k * every}
        | {name: values[seed, k] for name, values in looks._asdict().items()}
        for seed in range(config.seeds)
        for k in range(config.records + 1)
    ]


def refuse_violations(loss: np.ndarray, certificate: np.ndarray) -> None:
    """Stop where a loss is above what the gradient certifies: then a formula is wrong.

    s_min enters by its lower end; what is left to rounding is the gradient's relative error.
    """
    bad = ~((loss <= (1 + 1e-3) * certificate) | (loss < rounding_floor(loss.dtype)))
    if bad.any():
        where = tuple(np.argwhere(bad)[0].tolist())
        raise RuntimeError(
            f"the certificate L <= (n/2) ||grad L||^2 / s_min^2 is violated in {bad.sum()} of "
            f"{bad.size} records: {loss[where]:.6g} > {certificate[where]:.6g} at {where}"
        )


def rounding_floor(dtype: np.dtype) -> float:
    """The loss below which residuals, of targets of size 1, are rounding and nothing else."""
    return (100 * float(np.finfo(dtype).eps)) ** 2


class _Look(NamedTuple):
    """What is seen of a net at one moment."""

    loss: jax.Array
    gradient: jax.Array
    s_min: jax.Array
    certificate: jax.Array
    discrepancy: jax.Array


@partial(jax.jit, static_argnames=("model", "strength", "learning_rate", "steps", "every"))
def _train(
    model: Model,
    w: jax.Array,
    x: jax.Array,
    y: jax.Array,
    strength: float,
    learning_rate: float,
    steps: int,
    every: int,
) -> _Look:
    """Looks of shape (seeds, records + 1), the first at the start."""
    data_term = objectives.regularized_squared(model.apply)
    loss: Loss = data_term
    if strength:
        loss = objectives.with_diversity(data_term, strength=strength)
    optimizer = optax.sgd(learning_rate, momentum=0.9)

    def one(w: jax.Array, x: jax.Array, y: jax.Array) -> _Look:
        def look(params: tuple) -> _Look:
            # Of the data term alone: the certificate is about it.
            value, gradient = jax.value_and_grad(data_term)(params, x, y)
            smallest = metrics.smallest_singular_value(params[0], x)
            certificate = metrics.pl_bound(gradient, smallest, n=x.shape[0], scale=model.spec.scale)
            return _Look(
                value,
                jnp.linalg.norm(gradient[0]),
                smallest.value,
                certificate,
                metrics.slice_discrepancy(params[0]),
            )

        records = optim.train(
            loss, (w,), (x, y), optimizer, steps=steps, record=look, record_every=every
        ).records
        return jax.tree.map(
            lambda first, later: jnp.concatenate([first[None], later]), look((w,)), records
        )

    return jax.vmap(one)(w, x, y)


def _net(width: int) -> Model:
    return errors.net(width, None)


def _inputs(config: DiversityConfig) -> jax.Array:
    return jax.vmap(lambda key: datasets.sphere(key, config.n, config.d))(_keys(config, 0))


def _clustered(config: DiversityConfig, spread: float) -> jax.Array:
    draw = partial(
        arrangements.clustered, n=config.units, d=config.d, clusters=config.clusters, spread=spread
    )
    return jax.vmap(draw)(_keys(config, 2))


def _targets(key: jax.Array, x: jax.Array, *, units: int) -> jax.Array:
    """A random teacher's outputs, scaled to variance 1."""
    params = datasets.planted_teacher(key, x.shape[1], units=units)
    y = models.homogeneous_mlp((units,)).apply(params, x)
    return y / jnp.std(y)
