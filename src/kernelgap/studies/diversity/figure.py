"""The figure of the diversity study: a row of panels for each part, or two parts in one."""

from typing import TYPE_CHECKING, Any

import numpy as np

from kernelgap.studies import figures
from kernelgap.studies.diversity.config import DiversityConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEARNERS = {
    "none": (figures.GREY, "o", "no penalty"),
    "l2": (figures.ORANGE, "s", "weight decay"),
    "diversity": (figures.BLUE, "D", "diversity penalty"),
}
_TRAINING = {
    "random": (figures.BLUE, "random start"),
    "clustered": (figures.ORANGE, "clustered start"),
    "optimised": (figures.GREEN, "optimised start"),
    "clustered, penalised": (figures.PURPLE, "clustered start, with penalty"),
}
_DATA = {
    "teacher": (figures.BLUE, "o"),
    "digits": (figures.ORANGE, "s"),
    "mnist": (figures.GREEN, "D"),
}


def figure(
    config: DiversityConfig, rows: list[dict[str, Any]], summary: dict[str, Any]
) -> "Figure":
    """Spectra, arrangements, training curves and test errors, of the parts that were run."""
    from matplotlib.figure import Figure

    panels: list[Any] = []
    if "spectrum" in config.parts:
        panels.append(lambda ax: _spectrum(ax, config, rows))
    if "discrepancy" in config.parts:
        panels.append(lambda ax: _arrangements(ax, config, rows, summary["discrepancy"]))
    if "training" in config.parts:
        cases = summary["training"]["cases"]
        panels += [
            lambda ax: _loss(ax, config, cases),
            lambda ax: _curves(ax, config, cases, "gradient", "gradient norm in training"),
            lambda ax: _curves(ax, config, cases, "s_min", "smallest singular value in training"),
            lambda ax: _curves(ax, config, cases, "discrepancy", "discrepancy in training"),
        ]
    if "error" in config.parts:
        found = summary["error"]
        names = list(dict.fromkeys(p["data"] for p in found["points"]))
        panels += [lambda ax, data=data: _errors(ax, config, found, data) for data in names]
        panels.append(lambda ax: _relative(ax, config, found, names))
    columns = min(3, len(panels))
    height = -(-len(panels) // columns)
    made = Figure(figsize=(4.6 * columns, 3.7 * height), layout="constrained")
    axes = made.subplots(height, columns, squeeze=False).ravel()
    for ax, draw in zip(axes, panels, strict=False):
        draw(ax)
    for ax in axes[len(panels) :]:
        ax.remove()
    return made


def _spectrum(ax: "Axes", config: DiversityConfig, rows: list[dict[str, Any]]) -> None:
    colors = (figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE)
    for k, d in enumerate(config.dims):
        color = colors[k % len(colors)]
        own = [r for r in rows if r["part"] == "spectrum" and r["d"] == d and r["seed"] == 0]
        rank, gram, expected = (
            np.array([r[name] for r in own]) for name in ("rank", "eigenvalue", "population")
        )
        ax.plot(rank, expected, color=color, lw=1.3, drawstyle="steps-pre", label=f"d = {d}")
        ax.plot(rank, gram, color=color, ls="none", marker=".", ms=3.5)
    ax.plot([], [], color=figures.GREY, ls="none", marker=".", label=f"Gram, n = {config.gram_n}")
    ax.set(xscale="log", yscale="log", xlabel="rank", ylabel="eigenvalue over n")
    ax.set_title("spectrum of g on the sphere (lines)", fontsize=10)
    ax.legend(frameon=False, fontsize=8)


def _arrangements(
    ax: "Axes", config: DiversityConfig, rows: list[dict[str, Any]], found: dict[str, Any]
) -> None:
    own = [r for r in rows if r["part"] == "discrepancy" and r["draw"] == 0]
    shades = np.linspace(1, 0.4, len(config.spreads))
    looks = [
        ("optimised", np.nan, figures.GREEN, "^", 1.0),
        ("random", np.nan, figures.BLUE, "o", 1.0),
    ]
    looks += [
        ("clustered", spread, figures.ORANGE, "s", shade)
        for spread, shade in zip(config.spreads, shades, strict=True)
    ]
    for case, spread, color, marker, shade in looks:
        points = [
            r for r in own
            if r["case"] == case and (r["spread"] == spread or np.isnan(spread))
        ]  # fmt: skip
        ax.plot(
            [r["discrepancy"] for r in points],
            [r["s_min"] ** 2 for r in points],
            color=color, alpha=shade, marker=marker, ms=4, ls="none", mew=0,
            label=case if np.isnan(spread) else f"clusters of size {spread:g}",
        )  # fmt: skip
    ax.set(xlabel="discrepancy of the units", ylabel=r"$s_{\min}(D)^2$")
    ax.set_ylim(bottom=0)
    across, within = found["across"], found["within_random"]
    ax.set_title(
        f"rank correlation {-across['value']:.2f}; within random {-within['value']:+.2f}",
        fontsize=10,
    )
    ax.legend(frameon=False, fontsize=8)


def _loss(ax: "Axes", config: DiversityConfig, cases: dict[str, Any]) -> None:
    for case, (color, name) in _TRAINING.items():
        curves = cases[case]
        steps = np.array(curves["step"])
        figures.band(ax, steps, _named(curves, "loss"), "loss", color=color, label=name)
        certificate = np.array([p["value"] for p in curves["certificate"]])
        ax.plot(steps, certificate, color=color, ls=":", lw=1.3)
    ax.plot([], [], color=figures.GREY, ls=":", label="certified by gradient and s_min")
    ax.set_title("loss in training: medians, quartiles", fontsize=10)
    ax.set(yscale="log", xlabel="step of gradient descent", ylabel="loss", xlim=(0, config.steps))
    ax.legend(frameon=False, fontsize=8)


def _curves(
    ax: "Axes", config: DiversityConfig, cases: dict[str, Any], column: str, title: str
) -> None:
    for case, (color, _) in _TRAINING.items():
        curves = cases[case]
        figures.band(ax, curves["step"], _named(curves, column), column, color=color)
    ax.set_title(title, fontsize=10)
    ax.set(xlabel="step of gradient descent", xlim=(0, config.steps))
    if column == "gradient":
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)


def _named(curves: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [{name: point} for point in curves[name]]


def _errors(ax: "Axes", config: DiversityConfig, found: dict[str, Any], data: str) -> None:
    for case, (color, marker, name) in _LEARNERS.items():
        for k, start in enumerate(config.starts):
            curve = [
                p
                for p in found["points"]
                if (p["data"], p["start"], p["case"]) == (data, start, case)
            ]
            width = [p["width"] for p in curve]
            if k == 0:
                figures.band(ax, width, curve, "error", color=color, marker=marker, label=name)
            else:
                value = [p["error"]["value"] for p in curve]
                ax.plot(width, value, color=color, marker=marker, ms=3.5, lw=1.3, ls="--")
    for start in config.starts[1:]:
        ax.plot([], [], color=figures.GREY, ls="--", label=f"{start} start")
    figures.grid_ticks(ax, config.widths)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("units")
    ax.set_ylabel("test error" if data != "teacher" else "test error over variance")
    ax.set_title(f"{data}, n = {config.n_train}", fontsize=10)
    ax.legend(frameon=False, fontsize=8)


def _relative(ax: "Axes", config: DiversityConfig, found: dict[str, Any], names: list[str]) -> None:
    """Side by side at each width: intervals, not bands, which would hide each other."""
    series = [(data, start) for data in names for start in config.starts]
    for k, (data, start) in enumerate(series):
        color, marker = _DATA[data]
        points = [
            p for p in found["paired"]
            if (p["data"], p["start"], p["case"]) == (data, start, "diversity")
        ]  # fmt: skip
        value, low, high = (
            100 * np.array([p["relative"][end] for p in points]) for end in ("value", "low", "high")
        )
        shift = 1.06 ** (k - (len(series) - 1) / 2)
        ax.errorbar(
            np.array([p["width"] for p in points]) * shift, value,
            [np.maximum(value - low, 0), np.maximum(high - value, 0)],
            color=color, marker=marker, ms=4, lw=1.3, ls="none",
            mfc=color if start == config.starts[0] else "white", label=f"{data}, {start} start",
        )  # fmt: skip
    ax.axhline(0, color=figures.GREY, lw=1.0)
    figures.grid_ticks(ax, config.widths)
    ax.set(xlabel="units", ylabel="change of the test error, %")
    ax.set_title("diversity penalty against none, paired", fontsize=10)
    ax.legend(frameon=False, fontsize=8)
