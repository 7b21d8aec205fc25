"""Estimates and panels of the wide-mlp study: means over seeds, exponents, stable steps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kernelgap.studies.estimates import (
    POSITIVE,
    REAL,
    RESAMPLES,
    SHARE,
    Estimate,
    Interval,
    Range,
    Row,
    grouped,
    mean_interval,
    means,
    percentile_interval,
    slope,
)
from kernelgap.studies.panels import (
    BLUE,
    COLORS,
    GREEN,
    GREY,
    MARKERS,
    ORANGE,
    PURPLE,
    SKY,
    Curve,
    Panel,
    fit_log_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kernelgap.studies.study import Result
    from kernelgap.studies.wide_mlp import WideMLPConfig

_GEOMETRIC = dict.fromkeys(
    (
        "train_loss", "path_length", "displacement", "path_bound", "min_norm_distance",
        "linear_displacement", "relative_displacement", "linearization_error", "activation_change",
        "kernel_change", "kernel_distance", "lambda_max", "nonlinearity", "nonlinearity_of_run",
        "decrease", "loss_ratio", "path_ratio", "bound", "bound_if_linear",
    ),
    POSITIVE,
)  # fmt: skip
_MEANS = dict.fromkeys(("test_error", "train_clipped", "test_clipped"), SHARE)
_MEANS |= dict.fromkeys(("test_loss", "lambda_min"), POSITIVE)
_MEANS |= dict.fromkeys(("kernel_alignment", "target_alignment"), (-1.0, 1.0))
SCALING = (
    "relative_displacement", "linearization_error", "activation_change", "kernel_change",
    "kernel_distance", "nonlinearity", "nonlinearity_of_run",
)  # fmt: skip
_PROBLEM = ("data", "loss", "depth", "width")


def summarize(config: "WideMLPConfig", rows: list[Row]) -> list[Estimate]:
    """Return means with intervals of each part; exponents by bootstrap over seeds."""
    parts = {part: mine for (part,), mine in grouped(rows, ("part",)).items()}
    rng = np.random.default_rng(config.seed)
    estimates: list[Estimate] = []
    if runs := parts.get("train"):
        ends = _ends(config, runs)
        curves = [r | {"loss_at": r["train_loss"]} for r in runs]
        ranges = dict.fromkeys(("loss_at", "certified_loss"), POSITIVE)
        estimates += means(curves, (*_PROBLEM, "time"), ranges, of=_geometric)
        estimates += _at_the_end(ends, _PROBLEM) + _counts(ends, _PROBLEM, "claimed", "kept")
        estimates += exponents(ends, ("data", "loss", "depth"), SCALING, rng)
        diverged = {(*(r[k] for k in _PROBLEM), r["seed"]): r["diverged_at"] for r in runs}
        estimates += [
            Estimate("diverged_at", dict(zip((*_PROBLEM, "seed"), place, strict=True)), step)
            for place, step in diverged.items()
            if step >= 0
        ]
    if proofs := parts.get("proof"):
        ends = _ends(config, proofs)
        proof = _at_the_end(ends, ("width",)) + _counts(
            ends, ("width",), "proven", "kept_of_proven"
        )
        estimates += [_renamed(e, "proof") for e in proof]
    if laws := parts.get("moments"):
        ends = _ends(config, laws)
        place = ("data", "fourth_moment", "depth")
        moments = _at_the_end(ends, place) + means(ends, place, {"lambda_min_limit": POSITIVE})
        estimates += [_renamed(e, "law") for e in moments]
    if tries := parts.get("steps"):
        estimates += _stable_steps(tries)
    if spectra := parts.get("spectrum"):
        estimates += _spectrum(spectra, rng)
    return estimates


def _renamed(estimate: Estimate, part: str) -> Estimate:
    same = estimate.metric in ("proven", "kept_of_proven")
    return estimate if same else estimate._replace(metric=f"{estimate.metric}_of_{part}")


def _ends(config: "WideMLPConfig", rows: Sequence[Row]) -> list[Row]:
    """Return the last time of each run that came to its end."""
    return [r for r in rows if r["time"] == config.steps and r["diverged_at"] < 0]


def _geometric(values: Any, within: Range) -> Interval:
    """Return the geometric mean with its interval, of the seeds that have a positive value."""
    logs = np.log([value for value in values if value > 0])
    if not len(logs):
        return Interval(np.nan)
    return Interval(*(float(np.exp(end)) for end in mean_interval(logs)))


def _at_the_end(rows: Sequence[Row], by: tuple[str, ...]) -> list[Estimate]:
    """Return means over seeds, geometric ones of metrics that span decades."""
    return means(rows, by, _GEOMETRIC, of=_geometric) + means(rows, by, _MEANS)


def _counts(rows: Sequence[Row], by: tuple[str, ...], claimed: str, kept: str) -> list[Estimate]:
    """Return for how many seeds a rate is claimed, and how many of them kept it."""
    estimates = []
    for place, members in grouped(rows, by).items():
        keys = dict(zip(by, place, strict=True))
        claims = sum(np.isfinite(r["decrease"]) for r in members)
        within = sum(r["loss_ratio"] <= 1 and r["path_ratio"] <= 1 for r in members)
        estimates += [Estimate(claimed, keys, int(claims)), Estimate(kept, keys, within)]
    return estimates


def exponents(
    rows: Sequence[Row], by: tuple[str, ...], names: Sequence[str], rng: np.random.Generator
) -> list[Estimate]:
    """Return slopes of mean logarithms against log width; the interval resamples seeds."""
    estimates = []
    for place, mine in grouped(rows, by).items():
        widths = sorted({r["width"] for r in mine})
        seeds = sorted({r["seed"] for r in mine})
        if len(widths) < 2 or len(mine) != len(widths) * len(seeds):
            continue  # a run diverged
        drawn = rng.integers(len(seeds), size=(RESAMPLES, len(seeds)))
        keys = dict(zip(by, place, strict=True))
        for name in names:
            values = {(r["width"], r["seed"]): r[name] for r in mine}
            with np.errstate(invalid="ignore", divide="ignore"):
                logs = np.log([[values[w, s] for s in seeds] for w in widths])
                value = float(slope(widths, np.exp(logs.mean(axis=1))))
                resampled = slope(widths, np.exp(logs[:, drawn].mean(axis=2).T))
            interval = percentile_interval(value, resampled)
            estimates.append(Estimate(f"exponent_of_{name}", keys, *interval))
    return estimates


def _stable_steps(rows: Sequence[Row]) -> list[Estimate]:
    """Return the largest step below the first that diverged for a seed, and that first one.

    Exponents are those of the largest stable step, which is known up to a factor 2.
    """
    estimates = []
    largest: dict[str, dict[int, float]] = {}
    for (form, width), mine in grouped(rows, ("parameterization", "width")).items():
        keys = {"parameterization": form, "width": width}
        bad = [r for r in mine if r["diverged_at"] >= 0]
        first = min((r["step_size"] for r in bad), default=np.inf)
        good = [r | {"loss_of_step": r["train_loss"]} for r in mine if r["step_size"] < first]
        place = ("parameterization", "width", "step_size")
        estimates += means(good, place, {"loss_of_step": POSITIVE}, of=_geometric)
        if good:
            stable = max(r["step_size"] for r in good)
            largest.setdefault(form, {})[width] = stable
            estimates.append(Estimate("largest_stable_step", keys, stable))
        if bad:
            at = min(r["diverged_at"] for r in bad if r["step_size"] == first)
            estimates += [
                Estimate("next_step", keys, first),
                Estimate("diverged_at_step", keys, at),
            ]
    return estimates + [
        Estimate("exponent_of_largest_stable_step", {"parameterization": form},
                 float(slope(list(steps), list(steps.values()))))
        for form, steps in largest.items() if len(steps) > 1
    ]  # fmt: skip


def _spectrum(rows: Sequence[Row], rng: np.random.Generator) -> list[Estimate]:
    """Return lambda_min at the start, its relative deviation from the limit, and its spread."""
    by = ("depth", "width")
    rows = [
        r
        | {"lambda_min_at_the_start": r["lambda_min"]}
        | {"deviation": abs(r["lambda_min"] / r["lambda_min_limit"] - 1)}
        for r in rows
    ]
    ranges = dict.fromkeys(("lambda_min_at_the_start", "deviation"), POSITIVE)
    estimates = means(rows, by, ranges | {"lambda_min_limit": REAL})
    for place, members in grouped(rows, by).items():
        values = [r["lambda_min"] for r in members]
        spread = float(np.std(values, ddof=1) / np.mean(values))
        estimates.append(Estimate("spread", dict(zip(by, place, strict=True)), spread))
    return estimates + exponents(rows, ("depth",), ("deviation",), rng)


def panels(result: "Result") -> list[Panel]:
    """Return up to nine panels, those of the parts that were run."""
    config, found = result.config, []
    if runs := result.select("loss_at"):
        # The problem shown in detail: the first, at the common depth where it was run.
        problem = {name: runs[0].keys[name] for name in ("data", "loss")}
        depths = list(dict.fromkeys(e.keys["depth"] for e in result.select("loss_at", problem)))
        depth = config.depth if config.depth in depths else depths[0]
        shown = problem | {"depth": depth}
        what = f"{problem['data']}, {problem['loss']}"
        found += [
            _rates(f"loss, {what}, depth {depth}", shown, "width", config.widths),
            _rates(f"loss, {what}, width {config.widths[-1]}",
                   problem | {"width": config.widths[-1]}, "depth", depths),
        ]  # fmt: skip
        if result.select("train_loss"):  # none if all runs diverged
            found += [_lengths(what, shown), _gaps(result, depth), _laziness(result, what, shown)]
            found.append(_nonlinearity(result, what, shown))
    elif result.select("nonlinearity_of_proof"):
        found.append(_nonlinearity(result, "", {}))
    if steps := result.select("loss_of_step"):
        found.append(_step_sizes(result, sorted({e.keys["width"] for e in steps})))
    for metric, panel in (
        ("lambda_min_at_the_start", _spectra),
        ("lambda_min_limit_of_law", _laws),
    ):
        if points := result.select(metric):
            found.append(panel(list(dict.fromkeys(e.keys["depth"] for e in points)), config))
    return found


def _rates(title: str, shown: dict[str, Any], key: str, values: Sequence[int]) -> Panel:
    """Show the loss against time, with the rate by constants of the run."""
    curves = []
    for k, value in enumerate(values):
        where, color = shown | {key: value}, COLORS[(k + 2 * (key == "depth")) % 6]
        rate = "at most, by constants of the run" if k == 0 else ""
        curves += [
            Curve("loss_at", where, f"{key} {value}", color, MARKERS[k % 6]),
            Curve("certified_loss", where, rate, color, style="--", intervals="none"),
        ]
    return Panel(title, "time", curves, "steps of gradient descent", "training loss", draw=_fit)


def _lengths(what: str, shown: dict[str, Any]) -> Panel:
    curves = [
        Curve(metric, shown, label, color, marker, style)
        for metric, label, color, marker, style in (
            ("path_bound", "bound on the path, by constants of the run", GREY, "_", "--"),
            ("path_length", "length of the path", BLUE, "o", "-"),
            ("displacement", "distance from the start", ORANGE, "s", "-"),
            ("linear_displacement", "the same, linearised net", SKY, "D", ":"),
            ("min_norm_distance", "nearest optimum, linearised net", GREEN, "v", "-"),
        )
    ]
    title = f"how far it goes, {what}, depth {shown['depth']}"
    return _against_width(title, curves, "length in parameters")


def _gaps(result: "Result", depth: int) -> Panel:
    """Show the clipped test loss with its bounds, all problems at one depth."""
    curves = []
    problems = dict.fromkeys((e.keys["data"], e.keys["loss"]) for e in result.select("train_loss"))
    for k, (data, loss) in enumerate(problems):
        where = {"data": data, "loss": loss, "depth": depth}
        look = {"where": where, "color": COLORS[(k + 2) % 6], "marker": MARKERS[k % 6]}
        curves += [
            Curve("test_clipped", label=f"{data}, {loss}", **look),
            Curve("bound", label="bound" * (k == 0), style="--", **look),
            Curve("bound_if_linear", label="bound, were the net linear" * (k == 0), style=":",
                  **look),
        ]  # fmt: skip
    title = f"fresh data, depth {depth}; grey: bounds say nothing"
    return _against_width(title, curves, "loss clipped to [0, 1]", draw=_vacuous)


def _laziness(result: "Result", what: str, shown: dict[str, Any]) -> Panel:
    looks = {
        "kernel_change": (BLUE, "o"),
        "kernel_distance": (SKY, "s"),
        "linearization_error": (ORANGE, "D"),
        "activation_change": (GREEN, "v"),
        "relative_displacement": (PURPLE, "^"),
    }
    curves = [
        Curve(metric, shown, metric.replace("_", " ") + "".join(
            f", {e.value:+.2f}" for e in result.select(f"exponent_of_{metric}", shown)), *look)
        for metric, look in looks.items()
    ]  # fmt: skip
    title = f"laziness and exponents, {what}, depth {shown['depth']}"
    return _against_width(title, curves, "at the end", legend="lower left", draw=_fit_for_legend)


def _nonlinearity(result: "Result", what: str, shown: dict[str, Any]) -> Panel:
    """Show what must be below 1 for a proof, against the width."""
    curves = []
    for part, where, label, color, marker in (
        ("", shown, what, ORANGE, "s"),
        ("_of_proof", {}, "tiny problem", BLUE, "o"),
    ):
        if result.select(f"nonlinearity{part}", where):
            curves += [
                Curve(f"nonlinearity{part}", where, f"{label}: proven L", color, marker),
                Curve(f"nonlinearity_of_run{part}", where, "L of the run", color, marker, ":"),
            ]
    title = "what a proof asks: green, below 1"
    return _against_width(title, curves, "nonlinearity", draw=_provable)


def _against_width(title: str, curves: list[Curve], ylabel: str, **look: Any) -> Panel:
    """Show curves against the width; the ticks are the widths that were run."""
    return Panel(title, "width", curves, "width", ylabel, "x", **{"draw": _fit} | look)


def _step_sizes(result: "Result", widths: list[int]) -> Panel:
    """Show the loss against the step size, as far as no seed diverged."""
    curves = [
        Curve("loss_of_step", {"width": width, "parameterization": form}, f"{form}, {width}",
              COLORS[k % 6], style=style, intervals="none")
        for k, width in enumerate(widths) for form, style in (("ntk", "-"), ("standard", ":"))
    ]  # fmt: skip
    config = result.config
    title = f"step sizes across widths, depth {config.depth}"
    return Panel(title, "step_size", curves, "step size",
                 f"loss after {config.transfer_steps} steps", draw=_crosses, legend="lower left")  # fmt: skip


def _spectra(depths: list[int], config: "WideMLPConfig") -> Panel:
    curves = [
        Curve("lambda_min_at_the_start", {"depth": depth}, f"depth {depth}", COLORS[(k + 1) % 6],
              MARKERS[k % 6])
        for k, depth in enumerate(depths)
    ]  # fmt: skip
    return Panel("at the start, each initialisation a dot", "width", curves, "width",
                 "smallest eigenvalue of the NTK", "x", bottom=0, draw=_dots)  # fmt: skip


def _laws(depths: list[int], config: "WideMLPConfig") -> Panel:
    """Show lambda_min by the fourth moment, which is not all that distributions differ in."""
    curves = [
        Curve("lambda_min_limit_of_law", {"depth": depth}, f"depth {depth}", COLORS[(k + 1) % 6],
              MARKERS[k % 6], "", intervals="bars")
        for k, depth in enumerate(depths)
    ]  # fmt: skip
    return Panel("input distributions", "fourth_moment", curves,
                 "fourth moment of a coordinate, variance 1",
                 "smallest eigenvalue, infinite width", draw=_names)  # fmt: skip


def _names(ax: "Axes", result: "Result") -> None:
    for keys in (e.keys for e in result.select("lambda_min_limit_of_law")):
        place, look = (keys["fourth_moment"], 0.98), {"fontsize": 8, "rotation": 90}
        if keys["depth"] == result.config.depths[0]:
            ax.annotate(keys["data"], place, xycoords=("data", "axes fraction"), color=GREY,
                        ha="center", va="top", **look)  # fmt: skip
    ax.set_ylim(0, 1.35 * ax.get_ylim()[1])


def _fit(ax: "Axes", result: "Result") -> None:
    fit_log_axis(ax, below=1.5, above=8)


def _fit_for_legend(ax: "Axes", result: "Result") -> None:
    fit_log_axis(ax, below=60)


def _vacuous(ax: "Axes", result: "Result") -> None:
    fit_log_axis(ax, above=1e4)
    top = ax.get_ylim()[1]
    ax.axhspan(1, top, color=GREY, alpha=0.12, lw=0)
    ax.set_ylim(top=top)


def _provable(ax: "Axes", result: "Result") -> None:
    fit_log_axis(ax, above=30)
    low = min(ax.get_ylim()[0], 0.1)
    ax.axhspan(low, 1, color=GREEN, alpha=0.12, lw=0)
    ax.set_ylim(bottom=low)


def _crosses(ax: "Axes", result: "Result") -> None:
    """Mark the largest stable steps."""
    loss = {(*e.keys.values(),): e.value for e in result.select("loss_of_step")}
    known = [(e, loss[*e.keys.values(), e.value]) for e in result.select("largest_stable_step")]
    label = "twice this diverges"
    for e, value in known:
        ax.plot(e.value, value, color=GREY, marker="X", ms=8, mec="black", ls="", label=label)
        label = ""
    ax.set_xscale("log", base=2)
    fit_log_axis(ax, below=40)


def _dots(ax: "Axes", result: "Result") -> None:
    rows = [r for r in result.rows if r["part"] == "spectrum"]
    for k, ((_,), mine) in enumerate(grouped(rows, ("depth",)).items()):
        color, (x, y) = COLORS[(k + 1) % 6], ([r[i] for r in mine] for i in ("width", "lambda_min"))
        ax.plot(x, y, color=color, ls="", marker=".", ms=3, alpha=0.6)
        ax.axhline(mine[0]["lambda_min_limit"], color=color, ls="--", lw=1)
    ax.plot([], [], color=GREY, ls="--", lw=1, label="infinite width")
