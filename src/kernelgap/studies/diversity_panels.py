"""Tables and panels of the diversity study."""

from typing import TYPE_CHECKING, Any

import numpy as np

from kernelgap.studies import diversity_paper
from kernelgap.studies.diversity_paper import PAPER
from kernelgap.studies.diversity_parts import TRAINING
from kernelgap.studies.diversity_summary import arrangement
from kernelgap.studies.estimates import Row, grouped
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
    fit_log_axis,
)
from kernelgap.studies.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kernelgap.studies.diversity_options import DiversityConfig
    from kernelgap.studies.study import Result

_LEARNERS: dict[str, dict[str, Any]] = {
    "none": {"color": GREY, "marker": "o", "label": "no penalty"},
    "l2": {"color": ORANGE, "marker": "s", "label": "weight decay"},
    "diversity": {"color": BLUE, "marker": "D", "label": "diversity penalty"},
}


def tables(config: "DiversityConfig") -> list[Table]:
    """Return the text tables."""
    ends = {0, config.steps}
    spectrum = {"multiplicity": ".6g", "population": ".3e", "least_ratio": ".2f"}
    training = dict.fromkeys(("loss", "gradient", "s_min", "certificate"), ".2e")
    correlations = {"rank_correlation": ".2f", "rank_correlation_within_random": "+.2f"}
    counts = dict.fromkeys(("records", "certified_records", "records_of_mere_rounding"), ".0f")
    changes = {"change": "+.4f", "relative_change": "+.1%"}
    return [
        Table(spectrum | {"largest_ratio": ".2f"}, "spectrum of g; ratios: Gram over population"),
        Table({"smallest": ".3e", "higher_degrees_over_n": ".3e"}, "smallest eigenvalues over n"),
        Table(
            {"s_min_squared": ".3f", "discrepancy": ".4f", "squared_discrepancy": ".2e"},
            f"{config.units} units, d = {config.d}, {config.n} samples",
        ),
        Table(correlations | {"gain_of_optimised": "+.1%"}, "of s_min and evenness"),
        Table(
            training | {"discrepancy_of_training": ".2e"},
            "training, medians and quartiles: start and end",
            where=lambda keys: keys["step"] in ends,
        ),
        Table(counts | {"tightest_certificate": ".3f"}, "no certificate was violated"),
        Table({"error": ".3f"}, "test errors", across="case"),
        Table(changes, "paired differences to no penalty"),
        Table({"error_of_best_width": ".3f"}, "the width is chosen, too", across="case"),
        Table({f"{k}_of_best_width": v for k, v in changes.items()}),
        *diversity_paper.tables(),
    ]


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
        title = f"rank correlation {-across:.2f}"
        title += f"; within random {-within:+.2f}" if np.isfinite(within) else ""
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
    return selected + _paper_panels(config)


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
    for k, ((d, case), mine) in enumerate(grouped(rows, ("d", "case")).items()):
        color = COLORS[-3 - k % 6]
        label = f"d = {d:g}" + f", {case}" * (len(result.config.activations) > 1)
        rank, gram, limit = np.transpose(
            [[r[name] for name in ("rank", "eigenvalue", "population")] for r in mine]
        )
        ax.plot(rank, limit, color=color, lw=1.3, drawstyle="steps-pre", label=label)
        ax.plot(rank, gram, color=color, ls="none", marker=".", ms=3.5)
    label = f"Gram, n = {result.config.gram_n}"
    ax.plot([], [], color=GREY, ls="none", marker=".", label=label)
    for e in result.select("level_of_the_paper"):
        label = "level in the paper's figure" if e.keys["degree"] == 1 else None
        ax.axhline(e.value, color=GREY, lw=0.8, ls="--", label=label)


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


def _paper_panels(config: "DiversityConfig") -> list[Panel]:
    """Return a panel for each experiment of the paper that was run."""
    selected = []
    if "trained" in config.parts:
        curves = [
            Curve("L2_squared", {"reading": "ours"}, "ours", BLUE, "o"),
            Curve(
                "L2_squared",
                {"reading": PAPER},
                PAPER,
                ORANGE,
                "s",
                "--",
            ),
        ]
        selected.append(Panel(f"after SGD, d = {config.trained_d}", "width", curves, "units",
                              r"$L_2(W)^2$", "xy"))  # fmt: skip
    if "losses" in config.parts:
        selected += [
            _compared(config.readings, "test_loss", f"after {config.losses_steps:,} steps of SGD"),
            Panel("in training, no penalty", "step", [
                Curve("test_loss_in_training", {"width": width, "strength": 0.0,
                      "reading": config.readings[0]}, f"{width} units", COLORS[k % 6])
                for k, width in enumerate(config.losses_units)
            ], "step of SGD", "test loss", "xy", ticks=None),
        ]  # fmt: skip
    if "orthant" in config.parts:
        curves = [
            Curve(metric, {"units": case, "reading": reading}, label, color, marker, style,
                  intervals="bars" if marker == "o" else "none")
            for case, color in (("all units", BLUE), ("units of both signs", ORANGE))
            for metric, reading, label, marker, style in (
                ("smallest_eigenvalue", "ours", f"{case}, ours", "o", "-"),
                ("infinitely_many_units", "ours", f"{case}, infinitely many", "", ":"),
                ("smallest_eigenvalue", PAPER, f"{case}, {PAPER}", "s", "--"),
            )
        ]  # fmt: skip
        selected.append(Panel("positive orthant", "d", curves, "d", "smallest eigenvalue", "y",
                              ticks=config.orthant_dims, draw=_fit))  # fmt: skip
    if "images" in config.parts:
        selected.append(_compared(config.images_readings, "test_error", "MNIST"))
    return selected


def _fit(ax: "Axes", result: "Result") -> None:
    fit_log_axis(ax)  # intervals of few seeds reach 0


def _compared(readings: tuple[str, ...], metric: str, title: str) -> Panel:
    """Return a panel of all readings, dashed with the penalty."""
    curves = []
    for k, reading in enumerate((*readings, PAPER)):
        color = GREY if reading == PAPER else COLORS[-3 - k % 6]
        for case, style in zip(diversity_paper.CASES, ("-", "--"), strict=True):
            where = {"reading": reading, "penalty": case}
            label = f"{reading}, {'no' if case == 'none' else 'best'} penalty"
            curves.append(Curve(metric, where, label, color, MARKERS[k], style, 1, "bars"))
    return Panel(title, "width", curves, "units", metric.replace("_", " "), "xy")
