"""Estimates of the diversity study."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from scipy import stats

from kernelgap.studies import diversity_paper
from kernelgap.studies.diversity_parts import degrees, rounding_floor
from kernelgap.studies.estimates import (
    NAN,
    POSITIVE,
    REAL,
    Estimate,
    Interval,
    Range,
    Row,
    bootstrap,
    grouped,
    mean_interval,
    means,
    paired_changes,
)

if TYPE_CHECKING:
    from kernelgap.studies.diversity_options import DiversityConfig


def summarize(config: "DiversityConfig", rows: list[Row]) -> list[Estimate]:
    """Return the estimates of each part that was run."""
    parts = {
        "spectrum": _spectrum,
        "discrepancy": _discrepancy,
        "training": _training,
        "error": _errors,
        **diversity_paper.SUMMARIES,
    }
    of_parts = grouped(rows, ("part",))
    return [e for part in config.parts for e in parts[part](config, of_parts[part,])]


def _spectrum(config: "DiversityConfig", rows: list[Row]) -> list[Estimate]:
    """Return the population's degrees in order, and the smallest eigenvalues."""
    estimates = []
    rows = [row for row in rows if row["rank"] <= config.gram_n]
    for (d, activation), mine in grouped(rows, ("d", "case")).items():
        spectrum = degrees(int(d), activation)
        of = {"d": int(d), "activation": activation}
        below, shares = 0, 0.0
        for t in np.argsort(-spectrum.values):
            count = spectrum.multiplicities[t]
            inside = [row for row in mine if below < row["rank"] <= below + count]
            if not inside or spectrum.values[t] == 0:
                break
            ratios = [row["eigenvalue"] / row["population"] for row in inside]
            numbers = {
                "multiplicity": count,
                "population": spectrum.values[t],
                "least_ratio": min(ratios),
                "largest_ratio": max(ratios),
            }
            place = of | {"degree": int(t)}
            estimates += [Estimate(name, place, float(v)) for name, v in numbers.items()]
            below, shares = below + count, shares + float(spectrum.shares[t])
        last = [row["eigenvalue"] for row in mine if row["rank"] == config.gram_n]
        # The higher degrees, the remaining part of kappa(1) = 1/2, have so many dimensions that
        # they add little but a multiple of the identity to the Gram matrix.
        higher = (0.5 - shares) / config.gram_n
        estimates += [
            Estimate("smallest", of, float(np.mean(last))),
            Estimate("higher_degrees_over_n", of, higher),
        ]
    return estimates + diversity_paper.levels(config)


def arrangement(row: Row) -> str:
    """Return the name of an arrangement of units, with the size of its clusters."""
    return f"clustered {row['spread']:g}" if row["case"] == "clustered" else row["case"]


def _discrepancy(config: "DiversityConfig", rows: list[Row]) -> list[Estimate]:
    """Return means by arrangement, and rank correlations across and within arrangements."""
    rows = [
        row
        | {"s_min_squared": row["s_min"] ** 2, "arrangement": arrangement(row)}
        | {"squared_discrepancy": row["discrepancy"] ** 2}
        for row in rows
    ]
    first = [row for row in rows if row["draw"] == 0]
    rng = np.random.default_rng(config.seed)
    within = _evenness([row for row in rows if row["case"] == "random"])
    squares = {(row["case"], row["seed"]): row["s_min_squared"] for row in first}
    gains = [squares.get(("optimised", s), NAN) / squares["random", s] - 1
             for s in range(config.seeds)]  # fmt: skip
    ranges = {"s_min_squared": POSITIVE, "discrepancy": POSITIVE, "squared_discrepancy": REAL}
    across = bootstrap(_evenness(first), _rank_correlation, rng)
    correlations = mean_interval([_rank_correlation(pairs) for pairs in within], (-1.0, 1.0))
    return [
        *means(first, ("arrangement",), ranges),
        Estimate("rank_correlation", {}, *across),
        Estimate("rank_correlation_within_random", {}, *correlations),
        Estimate("gain_of_optimised", {}, *mean_interval(gains)),
        *diversity_paper.figure_4(config),
    ]


def _evenness(rows: list[Row]) -> np.ndarray:
    """Return (minus discrepancy, s_min^2): shape (seeds, arrangements, 2)."""
    return np.array(
        [
            [(-row["discrepancy"], row["s_min_squared"]) for row in members]
            for members in grouped(rows, ("seed",)).values()
        ]
    )


def _rank_correlation(pairs: np.ndarray) -> float:
    """Return Spearman's rank correlation, which SciPy's function gives with a slow p-value."""
    pairs = pairs.reshape(-1, 2)
    if len(pairs) < 2:
        return NAN
    ranks = stats.rankdata(pairs, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN where all are equal
        return float(np.corrcoef(ranks.T)[0, 1])


def _training(config: "DiversityConfig", rows: list[Row]) -> list[Estimate]:
    """Return medians and quartiles over seeds at each step: certificates can be infinite."""
    metrics = ("loss", "gradient", "s_min", "certificate", "discrepancy_of_training")
    rows = [row | {"discrepancy_of_training": row["discrepancy"]} for row in rows]
    floor = rounding_floor(jnp.zeros(()).dtype)
    finite = [row for row in rows if np.isfinite(row["certificate"]) and row["loss"] >= floor]
    ends = [row for row in rows if row["step"] == config.steps]
    start = {(row["case"], row["seed"]): row["s_min"] for row in rows if row["step"] == 0}
    pairs = np.array([(start[row["case"], row["seed"]], -row["loss"]) for row in ends])
    numbers = {
        "records": len(rows),
        "certified_records": len(finite),
        "records_of_mere_rounding": sum(row["loss"] < floor for row in rows),
        "tightest_certificate": min((r["certificate"] / r["loss"] for r in finite), default=np.nan),
        "rank_correlation_of_s_min_and_loss": _rank_correlation(pairs),
    }
    medians = means(rows, ("case", "step"), dict.fromkeys(metrics, POSITIVE), of=_quartiles)
    return [*medians, *(Estimate(name, {}, float(value)) for name, value in numbers.items())]


def _quartiles(values: Any, within: Range) -> Interval:
    low, middle, high = np.percentile(values, [25, 50, 75], method="nearest")
    return Interval(float(middle), float(low), float(high))


def _errors(config: "DiversityConfig", rows: list[Row]) -> list[Estimate]:
    """Return errors by learner, with the strength chosen on the validation set of each seed."""
    rng = np.random.default_rng(config.seed)
    names = ("error", "discrepancy_at_the_end", "strength")
    ranges: dict[str, Range] = dict.fromkeys(names, POSITIVE)
    rows = [row | {"discrepancy_at_the_end": row["discrepancy"]} for row in rows]
    place = ("data", "start", "width")
    best = choose(rows, (*place, "case", "seed"))
    estimates = means(best, (*place, "case"), ranges) + _paired(best, place, rng)
    overall = choose(rows, ("data", "start", "case", "seed"))
    of_best = means(overall, ("data", "start", "case"), {"error": POSITIVE})
    of_best += _paired(overall, ("data", "start"), rng)
    return estimates + [e._replace(metric=f"{e.metric}_of_best_width") for e in of_best]


def choose(rows: list[Row], by: Sequence[str]) -> list[Row]:
    """Return the row of least validation error, the first of several, for each value of `by`."""
    return [
        min(group, key=lambda row: np.nan_to_num(row["validation"], nan=np.inf))
        for group in grouped(rows, by).values()
    ]


def _paired(rows: list[Row], by: Sequence[str], rng: np.random.Generator) -> list[Estimate]:
    """Return differences to the net without penalty on the same data, from the same units.

    `relative_change` is the mean difference over the mean error without penalty.
    """
    estimates = []
    for place, members in grouped(rows, by).items():
        errors = {case: [r["error"] for r in rows] for (case,), rows in
                  grouped(members, ("case",)).items()}  # fmt: skip
        for case in ("l2", "diversity"):
            difference, relative = paired_changes(errors[case], errors["none"], rng)
            keys = dict(zip(by, place, strict=True)) | {"case": case}
            estimates += [
                Estimate("change", keys, *difference),
                Estimate("relative_change", keys, *relative),
            ]
    return estimates
