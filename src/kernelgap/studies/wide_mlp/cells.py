"""The cells of the wide-mlp study."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import bounds, datasets, kernels, metrics, models
from kernelgap.datasets import Dataset
from kernelgap.models import Model, Params
from kernelgap.studies import samples
from kernelgap.studies.journal import Row
from kernelgap.studies.study import Cell
from kernelgap.studies.wide_mlp import rows
from kernelgap.studies.wide_mlp.config import LAWS, PARTS, WideMLPConfig
from kernelgap.studies.wide_mlp.runs import descend, initial, losses_with_step, net, starts

ALONE_FROM = 2000  # units from which a net of several layers wants all cores and the memory

LOWER = 64  # by this factor the step sizes of the standard parameterization begin lower


def cells(config: WideMLPConfig) -> list[Cell]:
    """A cell for each problem and net; see `run_cell`."""
    if "digits" in config.data and "train" in config.parts:
        samples.leave_some((config.n,), config.classes, "n")
    found = {
        "train": [
            (data, loss, depth, width)
            for data in config.data
            for loss in config.losses
            for depth in (
                config.depths if (data, loss) == ("sphere", "squared") else [config.depth]
            )
            for width in config.widths
        ],
        "proof": [(width,) for width in config.proof_widths],
        "moments": [(depth,) for depth in config.depths],
        "steps": [
            (form, width) for form in ("ntk", "standard") for width in config.transfer_widths
        ],
        "spectrum": [(depth,) for depth in config.depths],
    }
    return [
        Cell((part, *rest), alone=part in ("train", "steps") and rest[-1] >= ALONE_FROM)
        for part in config.parts
        for rest in found[part]
    ]


def run_cell(config: WideMLPConfig, identity: tuple) -> list[Row]:
    """Rows of one part of the study, for one problem and net, all seeds."""
    part, *rest = identity
    run = {"train": _train, "proof": _proof, "moments": _moments, "steps": _steps,
           "spectrum": _spectrum}[part]  # fmt: skip
    # The same data at every width and depth, and in both parameterizations.
    key = jax.random.fold_in(jax.random.key(config.seed), PARTS.index(part))
    return run(config, key, *rest)


def _train(
    config: WideMLPConfig, key: jax.Array, data: str, loss: str, depth: int, width: int
) -> list[Row]:
    """Loss and rate, path, distances, laziness, gap and bound of one problem and net."""
    signs = loss == "logistic" or data == "digits"
    teacher_keys, data_keys, net_keys = jax.random.split(key, (3, config.seeds))
    if data == "digits":
        both = samples.digits(data_keys, config.classes)
    else:
        form: dict[str, Any] = {"units": config.units, "labels": "sign" if signs else "value"}
        whole = config.n + config.n_test
        both = samples.teacher(teacher_keys, data_keys, whole, config.d, **form)
    train, test = samples.split(both, config.n)
    return _runs(
        config, net_keys, train, test, loss=loss, signs=signs, part="train", data=data,
        depth=depth, width=width,
    )  # fmt: skip


def _moments(config: WideMLPConfig, key: jax.Array, depth: int) -> list[Row]:
    """The same for inputs of several laws, with a limit of lambda_min for each sample."""
    kernel = kernels.ntk(net(config.law_width, depth, config.activation))
    found = []
    for law in config.laws:
        form: dict[str, Any] = {"distribution": law}
        form |= {"df": config.freedom} if law == "student_t" else {}
        form |= {"kurtosis": config.fourth} if law == "mixture" else {}
        keys = jax.random.split(jax.random.fold_in(key, LAWS.index(law)), (3, config.seeds))
        whole = config.n + config.n_test
        both = _law_data(*keys[:2], whole, config.law_d, config.units, tuple(form.items()))
        train, test = samples.split(jax.device_get(both), config.n)
        limits = [float(np.linalg.eigvalsh(np.asarray(kernel(x), np.float64))[0]) for x in train.x]
        made = _runs(
            config, keys[2], train, test, loss="squared", signs=False, part="moments", data=law,
            depth=depth, width=config.law_width,
        )  # fmt: skip
        fourth = datasets.moment(4, **form)
        found += [
            r | {"fourth_moment": fourth, "lambda_min_limit": limits[r["seed"]]} for r in made
        ]
    return found


def _of(params: Params, seed: int) -> Params:
    return jax.tree.map(lambda leaf: leaf[seed], params)


@partial(jax.jit, static_argnames=("n", "d", "units", "form"))
def _law_data(
    teacher_keys: jax.Array, keys: jax.Array, n: int, d: int, units: int, form: tuple
) -> Dataset:
    """Independent coordinates of one law with a teacher's outputs, x of shape (seeds, n, d)."""
    teacher = models.homogeneous_mlp((units,))

    def one(teacher_key: jax.Array, key: jax.Array) -> Dataset:
        x = datasets.iid_inputs(key, n, d, **dict(form))
        return Dataset(x, teacher.apply(datasets.planted_teacher(teacher_key, d, units=units), x))

    return jax.vmap(one)(teacher_keys, keys)


def _runs(
    config: WideMLPConfig,
    keys: jax.Array,
    train: Dataset,
    test: Dataset,
    *,
    loss: str,
    signs: bool,
    **point: Any,
) -> list[Row]:
    """Rows of all seeds and recorded times."""
    model = net(point["width"], point["depth"], config.activation)
    n, every = train.x.shape[1], config.steps // config.records
    params = initial(model, keys, train.x.shape[2])
    _, grams = jax.device_get(starts(model, params, jnp.asarray(train.x)))
    where = "{part} part, {data}, depth {depth}, width {width}".format_map(point)
    ends = [rows.spectrum(gram, f"{where}, seed {s}") for s, gram in enumerate(grams)]
    sizes = [config.step_share / (rows.smoothness(loss, n) * end.upper) for end in ends]
    run = jax.device_get(
        descend(
            model, params, train, jnp.asarray(test.x), jnp.asarray(sizes, train.x.dtype), loss=loss,
            steps=config.steps, records=config.records,
        )
    )  # fmt: skip
    point |= {"loss": loss, "parameterization": "ntk"}
    found = []
    for seed, data in enumerate(samples.each(train)):
        known = rows.constants(loss, n, float(run.losses[seed, 0]), config.target)
        rate, spectra, measured = rows.along_the_run(run, seed, known, sizes[seed])
        found += rows.run_rows(
            model, run, seed, _of(params, seed), data, np.asarray(test.y[seed]), rate, spectra,
            loss=known, size=sizes[seed], signs=signs, squared=loss == "squared",
            delta=config.delta, every=every,
            point=point | {"nonlinearity_of_run": measured},
        )  # fmt: skip
    return found


def _proof(config: WideMLPConfig, key: jax.Array, width: int) -> list[Row]:
    """A certificate for the whole ball, and the run that it is for; two layers, few samples."""
    model = net(width, 2, config.activation)
    n, every = config.proof_n, config.steps // config.records
    data_keys, target_keys, net_keys = jax.random.split(key, (3, config.seeds))
    x = jax.vmap(lambda k: config.d**0.5 * datasets.sphere(k, n, config.d))(data_keys)
    params = initial(model, net_keys, config.d)
    outputs, grams = starts(model, params, x)
    noise = jax.vmap(lambda k: jax.random.normal(k, (n,), x.dtype))(target_keys)
    train = jax.device_get(Dataset(x, outputs + config.proof_residual * noise))
    found, certificates, ends = [], [], []
    for seed, gram in enumerate(jax.device_get(grams)):
        ends.append(rows.spectrum(gram, f"proof part, width {width}, seed {seed}"))
        loss = float(np.mean((train.y[seed] - np.asarray(outputs[seed])) ** 2) / 2)
        certificates.append(
            bounds.convergence_certificate(
                loss * (1 + 1e-6), bounds.squared_loss_constants(n), lambda_min=ends[-1].lower,
                lambda_max=ends[-1].upper,
                lipschitz=bounds.tangent_lipschitz(model, _of(params, seed), train.x[seed]),
            )
        )  # fmt: skip
    sizes = [
        float(c.learning_rate) if c.holds else config.step_share * n / end.upper
        for c, end in zip(certificates, ends, strict=True)
    ]
    run = jax.device_get(
        descend(
            model, params, train, train.x, jnp.asarray(sizes, x.dtype), loss="squared",
            steps=config.steps, records=config.records,
        )
    )  # fmt: skip
    for seed, data in enumerate(samples.each(train)):
        known = bounds.squared_loss_constants(n)
        _, spectra, measured = rows.along_the_run(run, seed, known, sizes[seed])
        point = {
            "part": "proof",
            "data": "sphere",
            "loss": "squared",
            "parameterization": "ntk",
            "depth": 2,
            "width": width,
            "nonlinearity_of_run": measured,
        }
        found += rows.run_rows(
            model, run, seed, _of(params, seed), data, np.asarray(data.y),
            certificates[seed], spectra,
            loss=known, size=sizes[seed], signs=False, squared=True, delta=config.delta,
            every=every, point=point,
        )  # fmt: skip
    return found


def _steps(config: WideMLPConfig, key: jax.Array, form: str, width: int) -> list[Row]:
    """The loss after a few steps of each size, until two sizes in turn diverge for all seeds."""
    model = net(width, config.depth, config.activation, form)
    teacher_key, data_key, net_key = jax.random.split(key, 3)
    train = samples.teacher(
        teacher_key[None], data_key[None], config.n, config.d, units=config.units, labels="value"
    )
    (train,) = samples.each(train)
    params = initial(model, jax.random.split(net_key, config.transfer_seeds), config.d)
    found, diverged = [], 0
    size = config.smallest_step / (1 if form == "ntk" else LOWER)
    while diverged < 2 and size <= config.largest_step:
        losses = jax.device_get(
            losses_with_step(
                model, params, train, jnp.asarray(size, train.x.dtype), steps=config.transfer_steps
            )
        )
        ends = np.asarray(metrics.divergence_step(losses))
        for seed in range(config.transfer_seeds):
            finite = losses[seed][np.isfinite(losses[seed])]
            found.append(
                rows.row(
                    part="steps", data="sphere", loss="squared", parameterization=form,
                    depth=config.depth, width=width, seed=seed, time=config.transfer_steps,
                    step_size=size, train_loss=float(finite[-1]), diverged_at=int(ends[seed]),
                )
            )  # fmt: skip
        diverged = diverged + 1 if (ends >= 0).all() else 0
        size *= 2
    return found


def _spectrum(config: WideMLPConfig, key: jax.Array, depth: int) -> list[Row]:
    """lambda_min of one sample's K_0 over initial parameters and widths, and its limit."""
    data_key, net_key = jax.random.split(key)
    x = config.d**0.5 * datasets.sphere(data_key, config.n, config.d)
    keys = jax.random.split(net_key, config.spectrum_seeds)
    gram = kernels.ntk(net(1, depth, config.activation))(x)
    limit = bounds.eigenvalue_enclosure(gram, singular="keep")
    found = []
    for width in config.spectrum_widths:
        model: Model = net(width, depth, config.activation)
        many = jnp.broadcast_to(x, (config.spectrum_seeds, *x.shape))
        grams = jax.device_get(starts(model, initial(model, keys, config.d), many)[1])
        for seed, gram in enumerate(grams):
            end = rows.spectrum(gram, f"spectrum part, depth {depth}, width {width}, seed {seed}")
            found.append(
                rows.row(
                    part="spectrum", data="sphere", parameterization="ntk", depth=depth,
                    width=width, seed=seed, time=0, lambda_min=end.smallest,
                    lambda_max=end.largest, lambda_min_limit=limit.smallest,
                )
            )  # fmt: skip
    return found
