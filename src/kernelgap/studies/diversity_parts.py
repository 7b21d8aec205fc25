"""Spectra, arrangements of units, and training, for the diversity study.

Units have norm sqrt(d), about that of Gaussian ones, so that arrangements differ in directions
only.
"""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernelgap import datasets, diversity, kernels, models, objectives, optim
from kernelgap.models import Model
from kernelgap.studies.estimates import NAN, Row
from kernelgap.studies.seeds import over_seeds
from kernelgap.typing import Loss

if TYPE_CHECKING:
    from kernelgap.studies.diversity_options import DiversityConfig

TRAINING = ("random", "clustered", "optimised", "clustered, penalised")
DEGREE = 50  # of the population spectra
_POWERS = {"relu": 1, "squared relu": 2}
_ALONE_FROM = 1000  # samples from which a batch of Gram matrices would need much memory


def random_units(key: jax.Array, n: int, d: int) -> jax.Array:
    """Draw independent uniform directions."""
    return _scaled(jax.random.normal(key, (n, d)))


def clustered_units(
    key: jax.Array, n: int, d: int, *, clusters: int, spread: float | jax.Array
) -> jax.Array:
    """Draw directions around random centres in turn; a large spread makes them independent."""
    centres_key, noise_key = jax.random.split(key)
    centres = jax.random.normal(centres_key, (clusters, d))
    noise = jax.random.normal(noise_key, (n, d))
    return _scaled(centres[jnp.arange(n) % clusters] + spread * noise)


def spread_out(steps: int, w: jax.Array) -> jax.Array:
    """Move units by Adam to lower the diversity penalty, with a learning rate that falls to 0."""
    # Nearly in radians, because Adam's steps do not depend on the scale of the penalty.
    size = jnp.sqrt(jnp.asarray(w.shape[1], w.dtype))
    optimizer = optax.adam(optax.linear_schedule(0.05, 0.0, steps))

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        u, state = carry
        gradient = jax.grad(diversity.diversity_penalty)(u)
        with jax.numpy_dtype_promotion("standard"):  # optax does not know the strict mode
            updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(u, updates), state), None

    u = w / size
    (u, _), _ = jax.lax.scan(step, (u, optimizer.init(u)), length=steps)
    return _scaled(u)


def _scaled(w: jax.Array) -> jax.Array:
    norms = jnp.linalg.norm(w, axis=1, keepdims=True)
    return w * (jnp.sqrt(jnp.asarray(w.shape[1], w.dtype)) / norms)


def keys_of(config: "DiversityConfig", purpose: int) -> jax.Array:
    """Return a key per seed, always the same for one purpose."""
    key = jax.random.fold_in(jax.random.key(config.seed), purpose)
    return jax.random.split(key, config.seeds)


def inputs(config: "DiversityConfig") -> jax.Array:
    """Return the inputs of all seeds: shape (seeds, n, d), on the unit sphere."""
    return over_seeds(_inputs, (keys_of(config, 0),), static=(config.n, config.d))


def _inputs(n: int, d: int, key: jax.Array) -> jax.Array:
    return datasets.sphere(key, n, d)


def random_starts(keys: jax.Array, n: int, d: int) -> jax.Array:
    """Return independent directions for each key: shape (seeds, n, d)."""
    return over_seeds(_random, (keys,), static=(n, d))


def _random(n: int, d: int, key: jax.Array) -> jax.Array:
    return random_units(key, n, d)


def clustered_starts(keys: jax.Array, n: int, d: int, *, clusters: int, spread: float) -> jax.Array:
    """Return clustered directions for each key: shape (seeds, n, d)."""
    size = jnp.asarray(spread, float)
    return over_seeds(_clustered, (keys,), static=(n, d, clusters), shared=(size,))


def _clustered(n: int, d: int, clusters: int, spread: jax.Array, key: jax.Array) -> jax.Array:
    return clustered_units(key, n, d, clusters=clusters, spread=spread)


def clustered(config: "DiversityConfig", spread: float) -> jax.Array:
    """Return clustered units of all seeds: shape (seeds, units, d)."""
    size = config.units, config.d
    return clustered_starts(keys_of(config, 2), *size, clusters=config.clusters, spread=spread)


def targets(config: "DiversityConfig", x: jax.Array) -> jax.Array:
    """Return a random teacher's outputs for each seed, scaled to variance 1."""
    return over_seeds(_targets, (keys_of(config, 3), x), static=(config.teacher_units,))


def _targets(units: int, key: jax.Array, x: jax.Array) -> jax.Array:
    params = datasets.planted_teacher(key, x.shape[1], units=units)
    y = models.homogeneous_mlp((units,)).apply(params, x)
    return y / jnp.std(y)


def spectrum_rows(config: "DiversityConfig", d: int) -> list[Row]:
    """Return eigenvalues of Gram matrices over n at some ranks, and those of the population."""
    n, largest = config.gram_n, max(config.gram_n, config.ranks)
    rows = []
    for activation in config.activations:
        expected = population(d, largest, activation)
        ends = np.flatnonzero(np.diff(expected)) + 1  # of the degrees
        spaced = np.round(np.geomspace(1, n, 80)).astype(int)
        beyond = np.round(np.geomspace(n, largest, 20)).astype(int)
        ranks = np.unique(np.concatenate([spaced, beyond, ends, ends + 1]))
        ranks = ranks[ranks <= largest]
        for seed in range(config.gram_seeds):
            key = jax.random.fold_in(jax.random.key(config.seed), seed)
            values = np.full(largest, NAN)
            values[:n] = _eigenvalues(datasets.sphere(key, n, d), activation) / n
            columns = zip(ranks, values[ranks - 1], expected[ranks - 1], strict=True)
            rows += [
                {"case": activation, "d": d, "seed": seed}
                | {"rank": rank, "eigenvalue": value, "population": limit}
                for rank, value, limit in columns
            ]
    return rows


def population(d: int, n: int, activation: str = "relu") -> np.ndarray:
    """Return the n largest eigenvalues of g on the sphere, repeated by their multiplicities."""
    spectrum = degrees(d, activation)
    order = np.argsort(-spectrum.values)
    counts = [min(spectrum.multiplicities[t], n) for t in order]
    values = np.repeat(spectrum.values[order], counts)[:n]
    return np.pad(values, (0, n - len(values)), constant_values=np.nan)


def degrees(d: int, activation: str) -> kernels.ZonalSpectrum:
    """Return the eigenvalues by degree of the kernel of a first layer, scaled to a trace of 1/2."""
    kernel = diversity.diversity_kernel(_POWERS[activation])
    spectrum, scale = kernels.zonal_spectrum(kernel, d, degree=DEGREE), _scale(kernel, d)
    return spectrum._replace(values=scale * spectrum.values, shares=scale * spectrum.shares)


def _scale(kernel: kernels.Kernel, d: int) -> float:
    return 0.5 / float(kernel.diag(jnp.eye(1, d))[0])


def _eigenvalues(x: jax.Array, activation: str) -> np.ndarray:
    """Return the eigenvalues of the Gram matrix in descending order, scaled alike."""
    kernel = diversity.diversity_kernel(_POWERS[activation])
    return _scale(kernel, x.shape[1]) * np.asarray(kernels.spectrum(kernel, x).values)[::-1]


def discrepancy_rows(config: "DiversityConfig") -> list[Row]:
    """Return s_min and discrepancy of all arrangements on the same inputs of each seed."""
    x = inputs(config)
    size = config.draws, config.units, config.d
    drawn = over_seeds(_many_random, (keys_of(config, 1),), static=size)
    groups = [("random", NAN, drawn)]
    for spread in config.spreads if "clustered" in config.arrangements else ():
        groups.append(("clustered", spread, clustered(config, spread)[:, None]))
    if "optimised" in config.arrangements:
        best = over_seeds(spread_out, (drawn[:, 0],), static=(config.spreading,))
        groups.append(("optimised", NAN, best[:, None]))
    rows, wide = [], config.n > _ALONE_FROM
    for case, spread, w in groups:
        s_min, discrepancy = jax.device_get(over_seeds(_measure, (w, x), wide=wide))
        rows += [
            {"case": case, "spread": spread, "draw": draw, "seed": seed}
            | {"s_min": s_min[seed, draw], "discrepancy": discrepancy[seed, draw]}
            for seed in range(config.seeds)
            for draw in range(w.shape[1])
        ]
    return rows


def _many_random(draws: int, n: int, d: int, key: jax.Array) -> jax.Array:
    return jax.vmap(lambda key: random_units(key, n, d))(jax.random.split(key, draws))


def _measure(w: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return (s_min, discrepancy) for units of shape (draws, m, d) and inputs (n, d)."""

    def of_draw(w: jax.Array) -> tuple[jax.Array, jax.Array]:
        return diversity.smallest_singular_value(w, x).value, diversity.slice_discrepancy(w)

    return jax.vmap(of_draw)(w)


def training_rows(config: "DiversityConfig", case: str) -> list[Row]:
    """Return gradient descent on the squared loss from one arrangement, and its certificates."""
    x = inputs(config)
    y = targets(config, x)
    w = clustered(config, config.spread)
    if not case.startswith("clustered"):
        w = random_starts(keys_of(config, 1), config.units, config.d)
    if case == "optimised":
        w = over_seeds(spread_out, (w,), static=(config.spreading,))
    strength = config.penalty if case.endswith("penalised") else 0.0
    every = config.steps // config.records
    model = models.fixed_sign_net(config.units)
    static = (model, strength, config.learning_rate, config.steps, every)
    looks = jax.device_get(over_seeds(_train, (w, x, y), static=static))
    refuse_violations(looks.loss, looks.certificate)
    return [
        {"case": case, "strength": strength, "seed": seed, "step": k * every}
        | {name: values[seed, k] for name, values in looks._asdict().items()}
        for seed in range(config.seeds)
        for k in range(config.records + 1)
    ]


def refuse_violations(loss: np.ndarray, certificate: np.ndarray) -> None:
    """Raise if a loss exceeds the one that the gradient certifies: then a formula is wrong.

    s_min enters by its lower bound, so that only rounding errors remain: a relative one of the
    gradient, and one of each residual, which counts where residuals are small.
    """
    floor = np.sqrt(rounding_floor(loss.dtype))
    bad = ~(np.sqrt(loss) <= (1 + 5e-4) * np.sqrt(certificate) + floor)
    if bad.any():
        where = tuple(np.argwhere(bad)[0].tolist())
        raise RuntimeError(
            f"the certificate L <= (n/2) ||grad L||^2 / s_min^2 is violated in {bad.sum()} of "
            f"{bad.size} records: {loss[where]:.6g} > {certificate[where]:.6g} at {where}"
        )


def rounding_floor(dtype: np.dtype) -> float:
    """Return the loss below which residuals of targets of size 1 are mere rounding errors."""
    return (100 * float(np.finfo(dtype).eps)) ** 2


class _Look(NamedTuple):
    """Measurements of a net at one moment."""

    loss: jax.Array
    gradient: jax.Array
    s_min: jax.Array
    certificate: jax.Array
    discrepancy: jax.Array


def _train(
    model: Model,
    strength: float,
    learning_rate: float,
    steps: int,
    every: int,
    w: jax.Array,
    x: jax.Array,
    y: jax.Array,
) -> _Look:
    """Return measurements of shape (records + 1,), the first at the start."""
    data_term = objectives.regularized_squared(model.apply)
    loss: Loss = data_term
    if strength:
        loss = diversity.add_diversity_penalty(data_term, strength=strength)
    optimizer = optax.sgd(learning_rate, momentum=0.9)

    def look(params: tuple) -> _Look:
        # The certificate concerns the data term alone.
        value, gradient = jax.value_and_grad(data_term)(params, x, y)
        smallest = diversity.smallest_singular_value(params[0], x)
        certificate = diversity.pl_bound(gradient, smallest, n=x.shape[0], scale=model.spec.scale)
        size, discrepancy = jnp.linalg.norm(gradient[0]), diversity.slice_discrepancy(params[0])
        return _Look(value, size, smallest.value, certificate, discrepancy)

    records = optim.train(
        loss, (w,), (x, y), optimizer, steps=steps, record=look, record_every=every
    ).records
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), look((w,)), records)
