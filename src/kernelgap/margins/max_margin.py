r"""The best two-layer ReLU network found, with a proof of how far it is from the best of any width.

gamma* = max over networks of any width of min_i y_i f(Theta; x_i) / ||Theta||^2. A network gives a
lower bound; weights p of the simplex on the samples give an upper bound (`upper_bound`). Both are
evaluated in float64 with room for rounding, so that lower <= gamma* <= upper.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import _checks
from kernelgap._extras import progress_bar
from kernelgap.margins import ascent, polish
from kernelgap.margins.certificate import Interrupted, MarginCertificate
from kernelgap.margins.upper import inseparable, upper_bound
from kernelgap.margins.violation import unit_scale
from kernelgap.models import Params
from kernelgap.typing import ArrayLike, DTypeLike, Key

# Settings of the search, chosen by measurement on `xor_noise` and `digits`.
_TEMPERATURES = (0.1, 0.03, 0.01, 0.03)  # first temperatures, over the scale of the data
_RATES = (0.1, 0.03, 0.03, 0.1)  # first step sizes, over the size of a parameter
_REFINED = 4  # networks that are refined in a round
_PADDED = 64  # units of a network that is refined
_COLUMNS = 4  # linear programmes of a column generation


def max_margin(
    x: ArrayLike,
    y: ArrayLike,
    *,
    key: Key,
    width: int = 128,
    restarts: int | None = None,
    steps: int = 3000,
    rounds: int = 3,
    upper: bool = True,
    progress: bool = False,
) -> MarginCertificate:
    r"""The two-layer ReLU network of largest normalised margin that was found, certified.

    gamma* = max_Theta min_i y_i f(Theta; x_i) / ||Theta||^2 with f = sum_j w_j relu(u_j . x), over
    all widths. The search:

    1. Networks of random weights climb the smoothed margin (several temperatures and step sizes).
    2. Over the directions of their units, the l1-SVM is solved as a linear programme.
    3. `rounds` times: the best few networks climb again from where they are; units that violate
       the dual solution are added; the programme is solved anew. The margin never falls.

    It runs on the host, in NumPy and SciPy, between compiled stages, and cannot be traced. The
    upper bound is for two layers and one output; for deeper and multi-class networks only
    `metrics.normalized_margin` is known.

    Args:
        x: inputs of shape (n, d).
        y: (n,) labels, -1 or +1; one class is fine.
        key: JAX random key.
        width: hidden units of the networks of step 1; the result has as many as it needs.
        restarts: networks of step 1; None: 8, or fewer for large data.
        steps: of every climb.
        rounds: of step 3, at least 0.
        upper: whether to compute the upper bound, half of the time or more.
        progress: show a bar over the stages on stderr (extra `studies`).

    Returns:
        A `MarginCertificate(lower, upper, ratio, params, weights)`. Data that no network separates
        (a zero row, equal rows with different labels) have gamma* = 0: `lower` is 0, `params` are
        zero, and `upper` is 0, or nearly 0 where rows are equal up to scaling or rounding only.

    Raises:
        TypeError: if x is not floating, `key` is no JAX key, or an argument is traced.
        ValueError: if shapes disagree, x is not finite, labels are not -1 or +1, or a number is
            too small.
        RuntimeError: if the linear programme's solver fails.
        ImportError: if tqdm is missing for `progress`.
        Interrupted: on Ctrl-C, once a network has been found; it carries that network.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> x, y = jnp.array([[3.0, 4.0]]), jnp.array([1.0])  # one sample: gamma* = ||x|| / 2
        >>> kg.margins.max_margin(x, y, key=jax.random.key(0), width=8, steps=10)
        MarginCertificate(lower=2.5, upper=2.5, ratio=1, units=1)

    References:
        Paper A: the margin, and its l1-SVM form (T4). The search and both certificates are ours.
    """
    given = x
    x = _checks.inputs(x)
    n, d = x.shape
    y = _checks.signs(y, n)
    _checks.random_key(key)
    if not _checks.is_concrete(x, y, key):
        raise TypeError("max_margin solves linear programmes on the host and cannot be traced: "
                        "call it outside of jit, vmap and grad")  # fmt: skip
    width = _checks.integer(width, "width", minimum=1)
    if restarts is not None:
        restarts = _checks.integer(restarts, "restarts", minimum=1)
    steps = _checks.integer(steps, "steps", minimum=1)
    rounds = _checks.integer(rounds, "rounds", minimum=0)
    dtype = x.dtype if x.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)

    # As given: jnp.asarray may have rounded it.
    exact_x, exact_y = np.asarray(given, float), np.asarray(y, float)
    unit_x, scale = unit_scale(exact_x)
    hopeless = inseparable(unit_x, exact_y)
    if hopeless is not None:  # nothing to search for
        high = upper_bound(given, y).value if upper else float(np.inf)
        return MarginCertificate(0.0, high, _ratio(0.0, high), _no_units(d, dtype), hopeless[0])
    searched = _search(
        unit_x, exact_y, key, dtype, width=width, steps=steps, rounds=rounds,
        restarts=restarts or int(np.clip(2**18 // (n * d), 2, 8)),
    )  # fmt: skip
    with progress_bar(
        1 + rounds + bool(upper), "max_margin", unit="stage", enabled=progress
    ) as stages:
        found = next(searched)
        stages.update()
        try:
            left = rounds
            for better in searched:
                found = better
                stages.update()
                left -= 1
            stages.update(left)  # of a search that ended early
            if not upper:
                return _certified(found, unit_x, exact_y, scale, dtype)
            bound = upper_bound(given, y)  # dual weights as its start made it slower, not tighter
            stages.update()
        except KeyboardInterrupt as stop:
            raise Interrupted(_certified(found, unit_x, exact_y, scale, dtype)) from stop
    best = _certified(found, unit_x, exact_y, scale, dtype)
    ratio = _ratio(best.lower, bound.value)
    return best._replace(upper=bound.value, ratio=ratio, weights=bound.weights)


def _search(
    x: np.ndarray,
    y: np.ndarray,
    key: jax.Array,
    dtype: DTypeLike,
    *,
    width: int,
    restarts: int,
    steps: int,
    rounds: int,
) -> Iterator[tuple[polish.Polished, polish.Dual]]:
    """The best units found so far for inputs of order one, and dual weights, after each round."""
    net_key, *round_keys = jax.random.split(key, rounds + 2)
    x_climb, y_climb = jnp.asarray(x, dtype), jnp.asarray(y, dtype)
    size = float(np.mean(np.linalg.norm(x, axis=1))) / 8
    which = np.arange(restarts) % len(_TEMPERATURES)
    first = size * np.asarray(_TEMPERATURES)[which]
    rates = np.asarray(_RATES)[which] / np.sqrt(width)
    _, hidden = ascent.ascend_margin(
        ascent.random_nets(net_key, restarts, width, x_climb), x_climb, y_climb,
        temperatures=jnp.asarray(np.stack([first, np.full(restarts, 3e-4 * size)], 1), dtype),
        rates=jnp.asarray(np.stack([rates, rates / 100], 1), dtype),
        steps=steps,
    )  # fmt: skip
    pool = [polish.best_over(x, y, np.asarray(units, float)) for units in hidden]
    pool.append(polish.best_over(x, y, np.vstack([x[:_PADDED], *(p.units for p in pool)])))
    best = max(pool, key=lambda p: p.margin)
    dual = polish.Dual(np.full(len(x), 1 / len(x)), np.inf)
    best, dual = polish.column_generation(
        x, y, best, dual, key=round_keys[0], rounds=_COLUMNS, dtype=dtype
    )
    yield best, dual
    for round_key in round_keys[1:]:
        pool = sorted([best, *pool], key=lambda p: -p.margin)[:_REFINED]
        pool = _refined(pool, x, y, x_climb, y_climb, steps)
        together = polish.best_over(x, y, np.vstack([p.units for p in pool]))
        before = best.margin
        best = max(best, together, key=lambda p: p.margin)
        best, dual = polish.column_generation(
            x, y, best, dual, key=round_key, rounds=_COLUMNS, dtype=dtype
        )
        yield best, dual
        if best.margin <= before * (1 + 1e-5):
            break


def _refined(
    pool: list[polish.Polished],
    x: np.ndarray,
    y: np.ndarray,
    x_climb: jax.Array,
    y_climb: jax.Array,
    steps: int,
) -> list[polish.Polished]:
    """Climb from each network at low temperatures, and solve over the old and the new units."""
    readout, hidden = np.zeros((_REFINED, _PADDED)), np.zeros((_REFINED, _PADDED, x.shape[1]))
    for k, net in enumerate(pool):
        heaviest = np.argsort(-np.abs(net.coef))[:_PADDED]
        root = np.sqrt(np.abs(net.coef[heaviest]))
        readout[k, : len(root)] = np.sign(net.coef[heaviest]) * root
        hidden[k, : len(root)] = root[:, None] * net.units[heaviest]
    dtype = x_climb.dtype
    margin = max(max(net.margin for net in pool), 1e-6)
    rates = np.array([[0.003, 0.0001], [0.01, 0.0003]])[np.arange(_REFINED) % 2]
    _, moved = ascent.ascend_margin(
        (jnp.asarray(readout, dtype), jnp.asarray(hidden, dtype)), x_climb, y_climb,
        temperatures=jnp.asarray(np.tile([0.03 * margin, 3e-4 * margin], (_REFINED, 1)), dtype),
        rates=jnp.asarray(rates, dtype),
        steps=steps,
    )  # fmt: skip
    return [
        polish.best_over(x, y, np.vstack([net.units, np.asarray(units, float)]))
        for net, units in zip(pool, moved, strict=False)
    ]


def _certified(
    found: tuple[polish.Polished, polish.Dual],
    x: np.ndarray,
    y: np.ndarray,
    scale: float,
    dtype: DTypeLike,
) -> MarginCertificate:
    """The network of a search for inputs x times `scale`, without an upper bound."""
    params, lower = _network(found[0], x.shape[1], dtype, x, y)
    high = float(np.inf)
    return MarginCertificate(lower * scale, high, _ratio(lower, high), params, found[1].weights)


def _network(
    found: polish.Polished, d: int, dtype: DTypeLike, x: np.ndarray, y: np.ndarray
) -> tuple[Params, float]:
    """Balanced parameters of norm 1, rounded to `dtype`, and a lower bound of their margin."""
    size = np.sqrt(np.abs(found.coef) / max(2 * np.sum(np.abs(found.coef)), 1e-300))
    hidden = jnp.asarray(size[:, None] * found.units, dtype)
    readout = jnp.asarray(np.sign(found.coef) * size, dtype)
    lower = rounded_margin(hidden, readout, x, y) if len(size) else 0.0
    if not lower > 0:
        return _no_units(d, dtype), 0.0
    return (hidden, readout), lower


def _no_units(d: int, dtype: DTypeLike) -> Params:
    return jnp.zeros((1, d), dtype), jnp.zeros(1, dtype)


def rounded_margin(hidden: ArrayLike, readout: ArrayLike, x: np.ndarray, y: np.ndarray) -> float:
    """min_i y_i f(x_i) / ||Theta||^2 in float64, less than the exact value in spite of rounding."""
    u, w = np.asarray(hidden, float), np.asarray(readout, float)
    outputs = np.maximum(x @ u.T, 0) @ w
    # Each product, sum and square root has relative error below eps; a sum of k terms, k eps.
    terms = x.shape[1] + len(w) + 8
    room = terms * np.finfo(float).eps
    error = room * np.linalg.norm(x, axis=1) * np.sum(np.abs(w) * np.linalg.norm(u, axis=1))
    worst = np.min(y * outputs - error)
    squares = np.sum(u * u) + np.sum(w * w)
    factor = 1 - np.sign(worst) * (u.size + len(w) + 8) * np.finfo(float).eps
    return float(worst / squares * factor)


def _ratio(lower: float, upper: float) -> float:
    if lower > 0:
        return upper / lower
    return 1.0 if upper <= 0 else float(np.inf)
