"""Estimates, tables and panels of the gap study."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kernelgap.datasets import planted_xor
from kernelgap.studies import estimates
from kernelgap.studies.estimates import REAL, SHARE, Estimate, Row, means
from kernelgap.studies.panels import BLUE, GREEN, GREY, ORANGE, PURPLE, Curve, Panel
from kernelgap.studies.study import Result
from kernelgap.studies.tables import Table, interval_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kernelgap.studies.gap import GapConfig

_POINT = ("learner", "d", "n")


def summarize(config: "GapConfig", rows: list[Row]) -> list[Estimate]:
    """Return means over seeds, proven quantities, thresholds and exponents."""
    results = means(rows, _POINT, {"error": SHARE, "train_error": SHARE, "margin": REAL})
    results += [
        Estimate("largest_duality_gap", dict(zip(_POINT, point, strict=True)),
                 max(row["duality_gap"] for row in members))
        for point, members in estimates.grouped(rows, _POINT).items()
    ]  # fmt: skip
    if config.data == "xor":
        results += _proven(config, rows)
    rng = np.random.default_rng(config.seed)
    for (learner,), mine in estimates.grouped(rows, ("learner",)).items():
        curves = estimates.grouped(mine, ("d",))
        at = {d: estimates.n_at_target(c, config.target, rng) for (d,), c in curves.items()}
        results += _thresholds("n_at_target", "exponent", {"learner": learner}, at)
        if len(at) > 1:
            values, resampled = zip(*at.values(), strict=True)
            likelihoods = estimates.law_likelihoods(list(at), values, np.stack(resampled, axis=-1))
            results += [
                Estimate("log_likelihood", {"learner": learner, "law": law}, value)
                for law, value in likelihoods.items()
            ]
        if learner == "span":
            floors = {
                d: estimates.n_at_target([r | {"error": r["squared_error"]} for r in c], 0.5, rng)
                for (d,), c in curves.items()
            }
            results += _thresholds("n_at_half", "exponent_at_half", {}, floors)
    return results


def _thresholds(
    metric: str, exponent: str, keys: Row, crossings: dict[int, tuple[float, np.ndarray]]
) -> list[Estimate]:
    """Return the n at a target for each d, and their exponent in d."""
    results = [
        Estimate(metric, keys | {"d": d}, *estimates.percentile_interval(*crossed))
        for d, crossed in crossings.items()
    ]
    if len(crossings) > 1:
        values, resamples = zip(*crossings.values(), strict=True)
        interval = estimates.percentile_interval(
            float(estimates.slope(list(crossings), values)),
            estimates.slope(list(crossings), np.stack(resamples, axis=-1)),
        )
        results.append(Estimate(exponent, keys, *interval))
    return results


def _proven(config: "GapConfig", rows: list[Row]) -> list[Estimate]:
    """Return what holds for every beta, and the certified margins in units of the planted one."""
    params = planted_xor(2, signal=config.signal)  # y f = 1, in every dimension
    planted = 1 / sum(float(np.sum(np.square(p))) for p in params)
    results = means([r for r in rows if r["learner"] == "span"], _POINT, {"squared_error": SHARE})
    nets = [
        row | {"of_planted": row["margin"] / planted}
        for row in rows
        if row["learner"] in ("net", "max_margin")
    ]
    results += means(nets, _POINT, {"of_planted": REAL})
    certified = [row for row in nets if np.isfinite(row["upper"])]
    for (d, n), members in estimates.grouped(certified, ("d", "n")).items():
        upper = float(np.mean([row["upper"] for row in members])) / planted
        results.append(Estimate("upper_of_planted", {"d": d, "n": n}, upper))
    for (d,), members in estimates.grouped(certified, ("d",)).items():
        ratio = max(row["upper"] / max(row["margin"], 1e-300) for row in members)
        results.append(Estimate("largest_upper_over_lower", {"d": d}, ratio))
    return results


def tables(config: "GapConfig") -> list[Table]:
    """Return the thresholds with their laws, and what is proved."""
    if config.data == "digits":
        return [Table({"error": ".3f", "margin": ".3f"})]
    title = f"samples at {config.target:.0%} test error, and their exponent in d"
    return [
        Table({"n_at_target": ".0f", "exponent": ".2f"}, title, across="d"),
        Table({"log_likelihood": ".1f"}, "log-likelihood of n = a d, a d log d, a d^2",
              across="law"),
        Table({"n_at_half": ".0f", "exponent_at_half": ".2f"},
              "samples below which every beta has a squared error above 1/2, proved", across="d"),
        Table({"largest_upper_over_lower": ".3f"},
              "proved: largest margin of any width over that found, at most", across="d"),
    ]  # fmt: skip


_LEARNERS: dict[str, dict[str, Any]] = {
    "max_margin": {"color": PURPLE, "marker": "D", "label": "largest-margin net"},
    "net": {"color": BLUE, "marker": "o", "label": "l2-regularised net, trained"},
    "svm": {"color": ORANGE, "marker": "s", "label": "NTK hard-margin SVM"},
    "span": {"color": GREEN, "marker": "^", "label": "best in the NTK's span"},
}


def panels(result: Result) -> list[Panel]:
    """Return error against n/d and n/d^2, the thresholds, and the certified margins."""
    config: GapConfig = result.config
    if config.data == "digits":
        errors, margins = (
            [Curve(metric, {"learner": k}, **_LEARNERS[k]) for k in ("net", "svm")]
            for metric in ("error", "margin")
        )
        title = f"digits {config.classes[0]} against {config.classes[1]}"
        x, name = "training images n", "normalised margin, each in its own norm"
        return [
            Panel(title, "n", errors, x, "test error", log="x", bottom=0),
            Panel("margins on the training set", "n", margins, x, name, log="xy"),
        ]
    alphas = dict(zip(config.dims, np.linspace(0.35, 1, len(config.dims)), strict=True))

    def curves(metric: str, learner: str, **look: Any) -> list[Curve]:
        """Return a curve for each d, the last of which enters the legend."""
        v = _LEARNERS[learner] | look
        return [
            Curve(metric, {"learner": learner, "d": d}, v["label"] * (d == config.dims[-1]),
                  v["color"], v["marker"], v.get("style", ""), alpha, v.get("intervals", "bars"))
            for d, alpha in alphas.items()
        ]  # fmt: skip

    floor = {"color": GREY, "marker": "", "style": "-", "intervals": "none"}
    floor["label"] = "proved: squared error of every β"
    proved = [
        Curve("upper_of_planted", {"d": d}, "proved: upper bound, some seeds" * (not k), GREY, "_",
              "-", alpha, "none")
        for k, (d, alpha) in enumerate(alphas.items())
    ]  # fmt: skip
    sizes = []
    for k, v in _LEARNERS.items():
        fits = [e for e in result.select("exponent", {"learner": k}) if np.isfinite(e.value)]
        text = "".join(f"\n  n ~ d^{interval_text(e, '.2f')}" for e in fits)
        how = v["label"] + text, v["color"], v["marker"]
        sizes.append(Curve("n_at_target", {"learner": k}, *how, style="", intervals="bars"))
    title = f"samples at {config.target:.0%} test error"
    nets = curves("error", "max_margin", style="--") + curves("error", "net", style=":")
    fits = curves("error", "svm", style=":") + curves("error", "span", style=":")
    reached = curves("of_planted", "max_margin", style="--")
    return [
        Panel("networks, against n/d", partial(_over, 1), nets, "n / d", "test error", log="x",
              ticks=(1, 2, 3, 4, 6, 8), draw=partial(_chance, 0.56)),
        Panel("kernel, against n/d²", partial(_over, 2),
              curves("squared_error", "span", **floor) + fits, "n / d²", "error", log="x",
              ticks=(0.125, 0.25, 0.5, 1, 1.5), draw=partial(_chance, 1.03)),
        Panel(title, "d", sizes, "d", "n", log="xy", draw=_fits, legend="upper left"),
        Panel("largest margins", partial(_over, 1), proved + reached, "n / d",
              "margin over that of the planted net", draw=_planted),
    ]  # fmt: skip


def _over(power: int, keys: Any) -> float:
    return keys["n"] / keys["d"] ** power


def _chance(top: float, ax: "Axes", result: Result) -> None:
    ax.axhline(0.5, color="0.6", lw=0.8, ls=":")
    ax.set_ylim(-0.04 * top, top)


def _planted(ax: "Axes", result: Result) -> None:
    ax.axhline(1, color="0.6", lw=0.8, ls=":")


def _fits(ax: "Axes", result: Result) -> None:
    for learner, look in _LEARNERS.items():
        points = result.select("n_at_target", {"learner": learner})
        points = [e for e in points if np.isfinite(e.value)]
        d, n = [e.keys["d"] for e in points], [e.value for e in points]
        if len(d) > 1:
            fit = np.polyfit(np.log(d), np.log(n), 1)
            ax.plot(d, np.exp(np.polyval(fit, np.log(d))), color=look["color"], lw=1)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.45)
