"""The five parts of the wide-mlp study: training, proof, moments, step sizes, spectrum."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernelgap import bounds, datasets, kernels, lazy, models, optim
from kernelgap.datasets import Dataset
from kernelgap.models import Model, Params
from kernelgap.studies import seeds, wide_mlp_runs as runs
from kernelgap.studies.estimates import Row
from kernelgap.studies.learners import initial
from kernelgap.studies.seeds import over_seeds
from kernelgap.studies.wide_mlp_runs import Descent

if TYPE_CHECKING:
    from kernelgap.studies.wide_mlp import WideMLPConfig

PARTS = ("train", "proof", "moments", "steps", "spectrum")
LAWS = ("sign", "uniform", "gaussian", "mixture", "student_t")
LOWER = 64  # factor by which step sizes of the standard parameterization begin lower


def run_cell(config: "WideMLPConfig", identity: tuple) -> list[Row]:
    """Return rows of one part of the study, for one problem and net, all seeds."""
    part, *place = identity
    run = {"train": _train, "proof": _proof, "moments": _moments, "steps": _steps,
           "spectrum": _spectrum}[part]  # fmt: skip
    # Use the same data at every width and depth, and in both parameterizations.
    key = jax.random.fold_in(jax.random.key(config.seed), PARTS.index(part))
    return run(config, key, *place)


def _train(
    config: "WideMLPConfig", key: jax.Array, data: str, loss: str, depth: int, width: int
) -> list[Row]:
    """Return loss and rate, path, distances, laziness, gap and bound of one problem and net."""
    signs = loss == "logistic" or data == "digits"
    teacher_keys, data_keys, net_keys = jax.random.split(key, (3, config.seeds))
    if data == "digits":
        both = seeds.digits(data_keys, config.classes)
    else:
        form: dict[str, Any] = {"units": config.units, "labels": "sign" if signs else "value"}
        whole = config.n + config.n_test
        both = seeds.teacher(teacher_keys, data_keys, whole, config.d, **form)
    point = {"part": "train", "data": data, "loss": loss, "depth": depth, "width": width}
    return _run(config, net_keys, *seeds.split(both, config.n), point, signs=signs)


def _moments(config: "WideMLPConfig", key: jax.Array, depth: int) -> list[Row]:
    """Return rows for several input distributions, with a limit of lambda_min per sample."""
    kernel = kernels.ntk(runs.net(config.law_width, depth, config.activation))
    rows = []
    for law in config.laws:
        form: dict[str, Any] = {"distribution": law}
        form |= {"df": config.freedom} if law == "student_t" else {}
        form |= {"kurtosis": config.fourth} if law == "mixture" else {}
        keys = jax.random.split(jax.random.fold_in(key, LAWS.index(law)), (3, config.seeds))
        static = (config.n + config.n_test, config.law_d, config.units, tuple(form.items()))
        both = jax.device_get(over_seeds(law_data, tuple(keys[:2]), static=static))
        train, test = seeds.split(both, config.n)
        limits = [float(np.linalg.eigvalsh(np.asarray(kernel(x), np.float64))[0]) for x in train.x]
        point = {"part": "moments", "data": law, "loss": "squared", "depth": depth}
        point |= {"width": config.law_width}
        fourth = datasets.moment(4, **form)
        rows += [
            r | {"fourth_moment": fourth, "lambda_min_limit": limits[r["seed"]]}
            for r in _run(config, keys[2], train, test, point, signs=False)
        ]
    return rows


def law_data(
    n: int, d: int, units: int, form: tuple, teacher_key: jax.Array, key: jax.Array
) -> Dataset:
    """Return independent coordinates of one distribution, with a teacher's outputs."""
    x = datasets.iid_inputs(key, n, d, **dict(form))
    teacher = models.homogeneous_mlp((units,))
    return Dataset(x, teacher.apply(datasets.planted_teacher(teacher_key, d, units=units), x))


def _run(
    config: "WideMLPConfig",
    keys: jax.Array,
    train: Dataset,
    test: Dataset,
    point: dict[str, Any],
    *,
    signs: bool,
) -> list[Row]:
    """Return rows of all seeds and recorded times."""
    model, loss = runs.net(point["width"], point["depth"], config.activation), point["loss"]
    n, squared = train.x.shape[1], point["loss"] == "squared"
    params = initial(model, keys, train.x.shape[2], wide=runs.is_wide(model))
    grams = jax.device_get(runs.starts(model, params, jnp.asarray(train.x))[1])
    where = "{part} part, {data}, depth {depth}, width {width}".format_map(point)
    ends = [spectrum(gram, f"{where}, seed {seed}") for seed, gram in enumerate(grams)]
    # Lambda, the smoothness, is the same at every loss.
    sizes = [config.step_share / ((1 if squared else 1 / 4) / n * end.upper) for end in ends]
    how: dict[str, Any] = {"loss": loss, "steps": config.steps, "records": config.records}
    steps = jnp.asarray(sizes, train.x.dtype)
    descents = runs.descend(model, params, train, jnp.asarray(test.x), steps, **how)
    params, rows = jax.device_get(params), []  # slices on the host need no program each
    for seed, (data, run) in enumerate(zip(seeds.each(train), descents, strict=True)):
        known = loss_constants(loss, n, float(run.losses[0]), config.target)
        start, y_test = _of(params, seed), np.asarray(test.y[seed])
        descent = Descent(model, start, data, y_test, run, known, squared, signs, sizes[seed])
        rate, spectra, measured = runs.along_the_run(descent)
        about = point | {"parameterization": "ntk", "nonlinearity_of_run": measured, "seed": seed}
        rows += runs.run_rows(descent, rate, spectra, delta=config.delta, **about)
    return rows


def spectrum(gram: np.ndarray, where: str) -> bounds.EigenvalueEnclosure:
    """Return the ends of the spectrum at the start; raise an error with the place if singular."""
    try:
        return bounds.eigenvalue_enclosure(gram)
    except ValueError as error:
        raise ValueError(f"{where}: no linear rate without lambda_min(K_0) > 0. {error}") from error


def loss_constants(name: str, n: int, initial: float, target: float) -> lazy.LossConstants:
    """Return constants of the squared loss, or of the logistic one down to `target` or half way."""
    if name == "squared":
        return lazy.squared_loss_constants(n)
    return lazy.logistic_loss_constants(n, initial_loss=initial, target=min(target, initial / 2))


def _of(params: Params, seed: int) -> Params:
    return jax.tree.map(lambda leaf: leaf[seed], params)


def _proof(config: "WideMLPConfig", key: jax.Array, width: int) -> list[Row]:
    """Return certificates for the whole ball, and the runs that they hold for, with two layers."""
    model, n = runs.net(width, 2, config.activation), config.proof_n
    data_keys, target_keys, net_keys = jax.random.split(key, (3, config.seeds))
    x = over_seeds(_sphere, (data_keys,), static=(n, config.d))
    params = initial(model, net_keys, config.d, wide=runs.is_wide(model))
    outputs, grams = runs.starts(model, params, x)
    noise = over_seeds(_normal, (target_keys,), static=(n, x.dtype))
    train = jax.device_get(Dataset(x, outputs + config.proof_residual * noise))
    on_host, certificates, sizes = jax.device_get(params), [], []
    for seed, gram in enumerate(jax.device_get(grams)):
        end = spectrum(gram, f"proof part, width {width}, seed {seed}")
        loss = float(np.mean((train.y[seed] - np.asarray(outputs[seed])) ** 2) / 2)
        certificate = lazy.convergence_certificate(
            loss * (1 + 1e-6),
            lazy.squared_loss_constants(n),
            lambda_min=end.lower,
            lambda_max=end.upper,
            lipschitz=lazy.tangent_lipschitz(model, _of(on_host, seed), train.x[seed]),
        )
        certificates.append(certificate)
        proven = float(certificate.learning_rate) if certificate.holds else None
        sizes.append(proven or config.step_share * n / end.upper)
    how: dict[str, Any] = {"loss": "squared", "steps": config.steps, "records": config.records}
    descents = runs.descend(model, params, train, train.x, jnp.asarray(sizes, x.dtype), **how)
    point = {"part": "proof", "data": "sphere", "loss": "squared", "parameterization": "ntk"}
    point |= {"depth": 2, "width": width}
    rows = []
    for seed, (data, run) in enumerate(zip(seeds.each(train), descents, strict=True)):
        start, y, known = _of(on_host, seed), np.asarray(data.y), lazy.squared_loss_constants(n)
        descent = Descent(model, start, data, y, run, known, True, False, sizes[seed])
        _, spectra, measured = runs.along_the_run(descent)
        about = point | {"nonlinearity_of_run": measured, "seed": seed}
        rows += runs.run_rows(descent, certificates[seed], spectra, delta=config.delta, **about)
    return rows


def _sphere(n: int, d: int, key: jax.Array) -> jax.Array:
    return d**0.5 * datasets.sphere(key, n, d)


def _normal(n: int, dtype: np.dtype, key: jax.Array) -> jax.Array:
    return jax.random.normal(key, (n,), dtype)


def _steps(config: "WideMLPConfig", key: jax.Array, form: str, width: int) -> list[Row]:
    """Return losses after a few steps of each size, until two in a row diverge for all seeds."""
    model = runs.net(width, config.depth, config.activation, form)
    teacher_key, data_key, net_key = jax.random.split(key, 3)
    (train,) = seeds.each(
        seeds.teacher(
            teacher_key[None],
            data_key[None],
            config.n,
            config.d,
            units=config.units,
            labels="value",
        )
    )
    keys = jax.random.split(net_key, config.transfer_seeds)
    params = initial(model, keys, config.d, wide=runs.is_wide(model))
    rows, diverged = [], 0
    size = config.smallest_step / (1 if form == "ntk" else LOWER)
    while diverged < 2 and size <= config.largest_step:
        shared = (train, jnp.asarray(size, train.x.dtype))
        static, wide = (model, config.transfer_steps), runs.is_wide(model)
        losses = jax.device_get(
            over_seeds(_losses_with_step, (params,), static=static, shared=shared, wide=wide)
        )
        ends = np.asarray(lazy.divergence_step(losses))
        point = {"part": "steps", "data": "sphere", "loss": "squared", "parameterization": form}
        point |= {"depth": config.depth, "width": width, "time": config.transfer_steps}
        rows += [
            runs.row(
                **point,
                seed=seed,
                step_size=size,
                train_loss=float(losses[seed][np.isfinite(losses[seed])][-1]),
                diverged_at=int(ends[seed]),
            )
            for seed in range(config.transfer_seeds)
        ]
        diverged = diverged + 1 if (ends >= 0).all() else 0
        size *= 2
    return rows


def _losses_with_step(
    model: Model, steps: int, train: Dataset, size: jax.Array, params: Params
) -> jax.Array:
    """Return squared losses (steps + 1,) of gradient descent with one step size."""
    objective = runs.loss_of(model, "squared")
    trained = optim.train(objective, params, train, optax.sgd(size), steps=steps)
    return jnp.append(trained.losses, objective(trained.params, *train))


def _spectrum(config: "WideMLPConfig", key: jax.Array, depth: int) -> list[Row]:
    """Return lambda_min of one sample's K_0 over initial parameters and widths, and its limit."""
    data_key, net_key = jax.random.split(key)
    x = config.d**0.5 * datasets.sphere(data_key, config.n, config.d)
    keys = jax.random.split(net_key, config.spectrum_seeds)
    gram = kernels.ntk(runs.net(1, depth, config.activation))(x)
    limit = bounds.eigenvalue_enclosure(gram, singular="keep")
    point = {"part": "spectrum", "data": "sphere", "parameterization": "ntk", "depth": depth}
    rows = []
    for width in config.spectrum_widths:
        model = runs.net(width, depth, config.activation)
        many = jnp.broadcast_to(x, (config.spectrum_seeds, *x.shape))
        params = initial(model, keys, config.d, wide=runs.is_wide(model))
        grams = jax.device_get(runs.starts(model, params, many)[1])
        where = f"spectrum part, depth {depth}, width {width}"
        for seed, gram in enumerate(grams):
            end = spectrum(gram, f"{where}, seed {seed}")
            known = {"lambda_min": end.smallest, "lambda_max": end.largest}
            known |= {"lambda_min_limit": limit.smallest, "time": 0}
            rows.append(runs.row(**point, width=width, seed=seed, **known))
    return rows
