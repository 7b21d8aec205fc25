"""Estimates and panels of the diversity study."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from scipy import stats

from kernelgap import diversity, kernels
from kernelgap.studies.diversity_parts import DEGREE, TRAINING, rounding_floor
from kernelgap.studies.estimates import (
    POSITIVE,
    Estimate,
    Interval,
    Range,
    Row,
    bootstrap,
    grouped,
    mean_interval,
    means,
)
from kernelgap.studies.panels import (
    BLUE,
    COLORS,
    GREEN,
    GREY,
    MARKERS,
    ORANGE,
    PURPLE,
    Curve,
    Panel,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kernelgap.studies.diversity import DiversityConfig
    from kernelgap.studies.study import Result

_LEARNERS: dict[str, dict[str, Any]] = {
    "none": {"color": GREY, "marker": "o", "label": "no penalty"},
    "l2": {"color": ORANGE, "marker": "s", "label": "weight decay"},
    "diversity": {"color": BLUE, "marker": "D", "label": "diversity penalty"},
}


def summarize(config: "DiversityConfig", rows: list[Row]) -> list[Estimate]:
    """Return the estimates of each part that was run."""
    parts = {
        "spectrum": _spectrum,
        "discrepancy": _discrepancy,
        "training": _training,
        "error": _errors,
    }
    of_parts = grouped(rows, ("part",))
    return [e for part in config.parts for e in parts[part](config, of_parts[part,])]


def _spectrum(config: "DiversityConfig", rows: list[Row]) -> list[Estimate]:
    """Return the population's degrees in order, and the smallest eigenvalues."""
    estimates = []
    for (d,), mine in grouped(rows, ("d",)).items():
        spectrum = kernels.zonal_spectrum(diversity.diversity_kernel(), int(d), degree=DEGREE)
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
            place = {"d": int(d), "degree": int(t)}
            estimates += [Estimate(name, place, float(v)) for name, v in numbers.items()]
            below, shares = below + count, shares + float(spectrum.shares[t])
        last = [row["eigenvalue"] for row in mine if row["rank"] == config.gram_n]
        # The higher degrees, the remaining part of kappa(1) = 1/2, have so many dimensions that
        # they add little but a multiple of the identity to the Gram matrix.
        higher = (0.5 - shares) / config.gram_n
        estimates += [
            Estimate("smallest", {"d": int(d)}, float(np.mean(last))),
            Estimate("higher_degrees_over_n", {"d": int(d)}, higher),
        ]
    return estimates


def arrangement(row: Row) -> str:
    """Return the name of an arrangement of units, with the size of its clusters."""
    return f"clustered {row['spread']:g}" if row["case"] == "clustered" else row["case"]


def _discrepancy(config: "DiversityConfig", rows: list[Row]) -> list[Estimate]:
    """Return means by arrangement, and rank correlations across and within arrangements."""
    rows = [
        row | {"s_min_squared": row["s_min"] ** 2, "arrangement": arrangement(row)} for row in rows
    ]
    first = [row for row in rows if row["draw"] == 0]
    rng = np.random.default_rng(config.seed)
    within = _evenness([row for row in rows if row["case"] == "random"])
    squares = {(row["case"], row["seed"]): row["s_min_squared"] for row in first}
    gain = [squares["optimised", s] / squares["random", s] - 1 for s in range(config.seeds)]
    ranges = {"s_min_squared": POSITIVE, "discrepancy": POSITIVE}
    across = bootstrap(_evenness(first), _rank_correlation, rng)
    correlations = mean_interval([_rank_correlation(pairs) for pairs in within], (-1.0, 1.0))
    return [
        *means(first, ("arrangement",), ranges),
        Estimate("rank_correlation", {}, *across),
        Estimate("rank_correlation_within_random", {}, *correlations),
        Estimate("gain_of_optimised", {}, *mean_interval(gain)),
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
    ranks = stats.rankdata(pairs.reshape(-1, 2), axis=0)
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
            pair = np.stack([errors[case], errors["none"]], axis=1)
            relative = bootstrap(pair, lambda both: np.divide(*np.mean(both, axis=0)) - 1, rng)
            keys = dict(zip(by, place, strict=True)) | {"case": case}
            estimates += [
                Estimate("change", keys, *mean_interval(pair[:, 0] - pair[:, 1])),
                Estimate("relative_change", keys, *relative),
            ]
    return estimates


def panels(result: "Result") -> list[Panel]:
    """Return panels of spectra, arrangements, training and test errors of the selected parts."""
    config, selected = result.config, []
    if "spectrum" in config.parts:
        selected.append(Panel("spectrum of g on the sphere (lines)", "rank", xlabel="rank",
                           ylabel="eigenvalue over n", log="xy", draw=_draw_spectrum))  # fmt: skip
    if "discrepancy" in config.parts:
        across, within = (
            result.select(name)[0].value
            for name in ("rank_correlation", "rank_correlation_within_random")
        )
        title = f"rank correlation {-across:.2f}; within random {-within:+.2f}"
        selected.append(Panel(title, "", xlabel="discrepancy of the units", bottom=0,
                           ylabel=r"$s_{\min}(D)^2$", draw=_draw_arrangements))  # fmt: skip
    if "training" in config.parts:
        selected += [
            _training_panel("loss", "loss in training: medians, quartiles", log="y"),
            _training_panel("gradient", "gradient norm in training", log="y"),
            _training_panel("s_min", "smallest singular value in training", bottom=0),
            _training_panel("discrepancy_of_training", "discrepancy in training", bottom=0),
        ]
    if "error" in config.parts:
        data = dict.fromkeys(e.keys["data"] for e in result.select("error"))
        selected += [_error_panel(config, name) for name in data]
        series = [(name, start) for name in data for start in config.starts]
        curves = [
            Curve("relative_change", {"data": name, "start": start, "case": "diversity"},
                  f"{name}, {start} start", COLORS[-1 - k % 6], MARKERS[k % 6], "", 1, "bars")
            for k, (name, start) in enumerate(series)
        ]  # fmt: skip
        selected.append(Panel("diversity penalty against none, paired", "width", curves, "units",
                           "relative change of the test error", "x",
                           draw=_draw_zero))  # fmt: skip
    return selected


def _training_panel(metric: str, title: str, **look: Any) -> Panel:
    colors = (BLUE, ORANGE, GREEN, PURPLE)
    curves = [
        Curve(metric, {"case": case}, case if metric == "loss" else "", color)
        for case, color in zip(TRAINING, colors, strict=True)
    ]
    if metric == "loss":
        curves += [
            Curve("certificate", {"case": case}, "certified by gradient and s_min" * (k == 0),
                  color, style=":", intervals="none")
            for k, (case, color) in enumerate(zip(TRAINING, colors, strict=True))
        ]  # fmt: skip
    return Panel(title, "step", curves, "step of gradient descent", metric.split("_of_")[0], **look)


def _error_panel(config: "DiversityConfig", data: str) -> Panel:
    curves = []
    for case, look in _LEARNERS.items():
        first, *others = ({"data": data, "start": start, "case": case} for start in config.starts)
        curves.append(Curve("error", first, **look))
        for where in others:
            label = f"{where['start']} start" if case == "none" else ""
            color, marker = look["color"], look["marker"]
            curves.append(Curve("error", where, label, color, marker, "--", intervals="none"))
    name = "test error over variance" if data == "teacher" else "test error"
    return Panel(f"{data}, n = {config.n_train}", "width", curves, "units", name, "x",
                 bottom=0)  # fmt: skip


def _draw_zero(ax: "Axes", result: "Result") -> None:
    from matplotlib.ticker import PercentFormatter

    ax.axhline(0, color=GREY, lw=1.0)
    ax.yaxis.set_major_formatter(PercentFormatter(1))


def _draw_spectrum(ax: "Axes", result: "Result") -> None:
    rows = [r for r in result.rows if r["part"] == "spectrum" and r["seed"] == 0]
    for k, ((d,), mine) in enumerate(grouped(rows, ("d",)).items()):
        color = COLORS[-3 - k % 6]
        rank, gram, limit = np.transpose(
            [[r[name] for name in ("rank", "eigenvalue", "population")] for r in mine]
        )
        ax.plot(rank, limit, color=color, lw=1.3, drawstyle="steps-pre", label=f"d = {d:g}")
        ax.plot(rank, gram, color=color, ls="none", marker=".", ms=3.5)
    label = f"Gram, n = {result.config.gram_n}"
    ax.plot([], [], color=GREY, ls="none", marker=".", label=label)


def _draw_arrangements(ax: "Axes", result: "Result") -> None:
    rows = [r for r in result.rows if r["part"] == "discrepancy" and r["draw"] == 0]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(arrangement(row), []).append(row)
    shades = iter(np.linspace(1, 0.4, len(result.config.spreads)))
    for name, mine in groups.items():
        color, marker = {"random": (BLUE, "o"), "optimised": (GREEN, "^")}.get(name, (ORANGE, "s"))
        alpha = next(shades) if color == ORANGE else 1
        x, y = [r["discrepancy"] for r in mine], [r["s_min"] ** 2 for r in mine]
        ax.plot(x, y, ms=4, ls="", mew=0, label=name, color=color, marker=marker, alpha=alpha)
