"""The figure of the wide-mlp study: a panel for each question that its parts answer."""

from typing import TYPE_CHECKING, Any

import numpy as np

from kernelgap.studies import figures
from kernelgap.studies.wide_mlp.config import WideMLPConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = (figures.ORANGE, figures.YELLOW, figures.SKY, figures.BLUE, figures.PURPLE, figures.GREEN)
_MARKERS = ("o", "s", "D", "v", "^", "P")
_PANEL = {
    "kernel_change": (figures.BLUE, "o", "kernel change"),
    "kernel_distance": (figures.SKY, "s", "kernel distance"),
    "linearization_error": (figures.ORANGE, "D", "linearisation error"),
    "activation_change": (figures.GREEN, "v", "activation change"),
    "relative_displacement": (figures.PURPLE, "^", "relative displacement"),
}


def figure(config: WideMLPConfig, rows: list[dict[str, Any]], summary: dict[str, Any]) -> "Figure":
    """Up to nine panels, those of the parts that were run."""
    from matplotlib.figure import Figure

    panels = []
    if "curves" in summary:
        panels += [_rates, _rates_of_depths]
    if summary.get("ends"):  # empty if all runs diverged
        panels += [_lengths, _gaps, _laziness]
    if summary.get("ends") or summary.get("proof"):
        panels += [_nonlinearity]
    if "steps" in summary:
        panels += [_steps]
    if "spectrum" in summary:
        panels += [_spectrum]
    if summary.get("moments"):
        panels += [_moments]
    columns = min(3, max(1, len(panels)))
    lines = max(1, -(-len(panels) // columns))
    made = Figure(figsize=(4.7 * columns, 3.9 * lines + 0.3), layout="constrained")
    axes = np.atleast_1d(made.subplots(lines, columns)).ravel()
    for ax, panel in zip(axes, panels, strict=False):
        panel(ax, config, rows, summary)
        ax.title.set_fontsize(10)
    for ax in axes[len(panels) :]:
        ax.remove()
    made.suptitle(
        f"{config.activation} nets, n = {config.n}, {config.seeds} seeds; bands: 95% intervals",
        fontsize=10,
    )
    return made


def _rates(ax: "Axes", config: WideMLPConfig, rows: list, summary: dict[str, Any]) -> None:
    """Loss against time at one depth, with the rate measured along the run."""
    data, loss, depth = _shown(config, summary)
    for k, width in enumerate(config.widths):
        curve = _pick(summary["curves"], data=data, loss=loss, depth=depth, width=width)
        _curve_with_rate(ax, curve, k, f"width {width}")
    _label_rates(ax, f"loss, {data}, {loss}, depth {depth}")


def _rates_of_depths(ax: "Axes", config: WideMLPConfig, rows: list, summary: dict) -> None:
    """The same at the largest width, for each depth."""
    data, loss, _ = _shown(config, summary)
    width = config.widths[-1]
    depths = {p["depth"] for p in _pick(summary["curves"], data=data, loss=loss)}
    for k, depth in enumerate(sorted(depths)):
        curve = _pick(summary["curves"], data=data, loss=loss, depth=depth, width=width)
        _curve_with_rate(ax, curve, k + 2, f"depth {depth}")
    _label_rates(ax, f"loss, {data}, {loss}, width {width}")


def _curve_with_rate(ax: "Axes", curve: list[dict], k: int, label: str) -> None:
    color, times = _COLORS[k % len(_COLORS)], [p["time"] for p in curve]
    figures.band(ax, times, curve, "train_loss", color=color, marker=_MARKERS[k % 6], label=label)
    ax.plot(times, [p["certified_loss"]["value"] for p in curve], color=color, ls="--", lw=1)


def _label_rates(ax: "Axes", title: str) -> None:
    ax.plot([], [], color=figures.GREY, ls="--", lw=1, label="at most, by constants of the run")
    _log_axis(ax)
    ax.set_xlabel("steps of gradient descent")
    ax.set_ylabel("training loss")
    ax.set_title(title)
    ax.legend(frameon=False, fontsize=8)


def _lengths(ax: "Axes", config: WideMLPConfig, rows: list, summary: dict[str, Any]) -> None:
    data, loss, depth = _shown(config, summary)
    curve = _pick(summary["ends"], data=data, loss=loss, depth=depth)
    widths = [p["width"] for p in curve]
    for name, label, color, marker, style in (
        ("path_bound", "bound on the path, by constants of the run", figures.GREY, "_", "--"),
        ("path_length", "length of the path", figures.BLUE, "o", "-"),
        ("displacement", "distance from the start", figures.ORANGE, "s", "-"),
        ("linear_displacement", "the same, linearised net", figures.SKY, "D", ":"),
        ("min_norm_distance", "nearest optimum, linearised net", figures.GREEN, "v", "-"),
    ):
        if np.isfinite([p[name]["value"] for p in curve]).any():
            figures.band(
                ax, widths, curve, name, color=color, marker=marker, style=style, label=label
            )
    _log_axis(ax, below=1.5, above=8)
    figures.grid_ticks(ax, widths)
    ax.set_xlabel("width")
    ax.set_ylabel("length in parameters")
    ax.set_title(f"how far it goes, {data}, {loss}, depth {depth}")
    ax.legend(frameon=False, fontsize=8)


def _gaps(ax: "Axes", config: WideMLPConfig, rows: list, summary: dict[str, Any]) -> None:
    """Clipped test loss with its bounds, all problems at one depth."""
    depth = _shown(config, summary)[2]
    for k, (data, loss) in enumerate(
        dict.fromkeys((p["data"], p["loss"]) for p in summary["ends"])
    ):
        curve = _pick(summary["ends"], data=data, loss=loss, depth=depth)
        widths = [p["width"] for p in curve]
        look: dict[str, Any] = {"color": _COLORS[(k + 2) % 6], "marker": _MARKERS[k]}
        figures.band(ax, widths, curve, "test_clipped", label=f"{data}, {loss}", **look)
        figures.band(ax, widths, curve, "bound", style="--", **look)
        figures.band(ax, widths, curve, "bound_if_linear", style=":", **look)
    for style, label in (("-", "test loss"), ("--", "bound"), (":", "bound, were the net linear")):
        ax.plot([], [], color=figures.GREY, ls=style, label=label)
    _log_axis(ax, above=1e4)
    top = ax.get_ylim()[1]
    ax.axhspan(1, top, color=figures.GREY, alpha=0.12, lw=0)
    ax.set_ylim(top=top)
    figures.grid_ticks(ax, config.widths)
    ax.set_xlabel("width")
    ax.set_ylabel("loss clipped to [0, 1]")
    ax.set_title(f"fresh data, depth {depth}; grey: bounds say nothing")
    ax.legend(frameon=False, fontsize=8)


def _laziness(ax: "Axes", config: WideMLPConfig, rows: list, summary: dict[str, Any]) -> None:
    data, loss, depth = _shown(config, summary)
    curve = _pick(summary["ends"], data=data, loss=loss, depth=depth)
    widths = [p["width"] for p in curve]
    for name, (color, marker, label) in _PANEL.items():
        for e in _pick(summary["exponents"], data=data, loss=loss, depth=depth, of=name):
            label += f", {e['value']:+.2f}"
        figures.band(ax, widths, curve, name, color=color, marker=marker, label=label)
    _log_axis(ax, below=60)
    figures.grid_ticks(ax, widths)
    ax.set_xlabel("width")
    ax.set_ylabel(f"after {config.steps} steps")
    ax.set_title(f"laziness and exponents, {data}, {loss}, depth {depth}")
    ax.legend(frameon=False, fontsize=8, loc="lower left")


def _nonlinearity(ax: "Axes", config: WideMLPConfig, rows: list, summary: dict) -> None:
    """What must be below 1 for a proof, against the width."""
    ticks: set[int] = set()
    if summary.get("ends"):
        data, loss, depth = _shown(config, summary)
        curve = _pick(summary["ends"], data=data, loss=loss, depth=depth)
        widths = [p["width"] for p in curve]
        ticks |= set(widths)
        look: dict[str, Any] = {"color": figures.ORANGE, "marker": "s"}
        figures.band(ax, widths, curve, "nonlinearity", label=f"{data}, {loss}: proven L", **look)
        figures.band(
            ax, widths, curve, "nonlinearity_of_run", style=":", label="L of the run", **look
        )
    if summary.get("proof"):
        curve = summary["proof"]
        widths = [p["width"] for p in curve]
        ticks |= set(widths)
        look = {"color": figures.BLUE, "marker": "o"}
        figures.band(ax, widths, curve, "nonlinearity", label="tiny problem: proven L", **look)
        figures.band(
            ax, widths, curve, "nonlinearity_of_run", style=":", label="L of the run", **look
        )
    _log_axis(ax, above=30)
    low = min(ax.get_ylim()[0], 0.1)
    ax.axhspan(low, 1, color=figures.GREEN, alpha=0.12, lw=0)
    ax.set_ylim(bottom=low)
    figures.grid_ticks(ax, sorted(ticks))
    ax.tick_params(axis="x", labelsize=8)
    ax.set_xlabel("width")
    ax.set_ylabel("nonlinearity")
    ax.set_title("what a proof asks: green, below 1")
    ax.legend(frameon=False, fontsize=8)


def _steps(ax: "Axes", config: WideMLPConfig, rows: list, summary: dict[str, Any]) -> None:
    """Loss against step size; a cross at the largest stable one."""
    for k, width in enumerate(config.transfer_widths):
        for form, style in (("ntk", "-"), ("standard", ":")):
            end = _pick(summary["stable"], parameterization=form, width=width)[0]
            curve = [
                p
                for p in _pick(summary["steps"], parameterization=form, width=width)
                if end["largest"] is not None and p["step_size"] <= end["largest"]
            ]
            if not curve:
                continue
            x, y = [p["step_size"] for p in curve], [p["train_loss"]["value"] for p in curve]
            color = _COLORS[k % 6]
            ax.plot(x, y, color=color, ls=style, lw=1.3, label=f"{form}, {width}")
            if end["next"] is not None:
                ax.plot(x[-1:], y[-1:], color=color, marker="X", ms=8, mec="black", ls="")
    ax.plot([], [], color=figures.GREY, marker="X", mec="black", ls="", label="twice this diverges")
    ax.set_xscale("log", base=2)
    _log_axis(ax, below=40)
    ax.set_xlabel("step size")
    ax.set_ylabel(f"loss after {config.transfer_steps} steps")
    ax.set_title(f"step sizes across widths, depth {config.depth}")
    ax.legend(frameon=False, fontsize=7, ncols=2, loc="lower left")


def _spectrum(ax: "Axes", config: WideMLPConfig, rows: list, summary: dict[str, Any]) -> None:
    """Each lambda_min of K_0, means, and limits."""
    for k, depth in enumerate(dict.fromkeys(p["depth"] for p in summary["spectrum"])):
        color, marker = _COLORS[(k + 1) % 6], _MARKERS[k % 6]
        curve = _pick(summary["spectrum"], depth=depth)
        mine = [r for r in rows if r["part"] == "spectrum" and r["depth"] == depth]
        x, y = [r["width"] for r in mine], [r["lambda_min"] for r in mine]
        ax.plot(x, y, color=color, ls="", marker=".", ms=3, alpha=0.6)
        widths = [p["width"] for p in curve]
        figures.band(
            ax, widths, curve, "lambda_min", color=color, marker=marker, label=f"depth {depth}"
        )
        ax.axhline(curve[0]["lambda_min_limit"]["value"], color=color, ls="--", lw=1)
    ax.plot([], [], color=figures.GREY, ls="--", lw=1, label="infinite width")
    ax.set_ylim(bottom=0)
    figures.grid_ticks(ax, config.spectrum_widths)
    ax.set_xlabel("width")
    ax.set_ylabel("smallest eigenvalue of the NTK")
    ax.set_title("at the start, each initialisation a dot")
    ax.legend(frameon=False, fontsize=8)


def _moments(ax: "Axes", config: WideMLPConfig, rows: list, summary: dict[str, Any]) -> None:
    """lambda_min of infinite nets against the fourth moment."""
    for k, depth in enumerate(dict.fromkeys(p["depth"] for p in summary["moments"])):
        curve = sorted(
            _pick(summary["moments"], depth=depth), key=lambda p: p["fourth_moment"]["value"]
        )
        # Not joined by lines: the fourth moment is not all that laws differ in.
        color, ends = _COLORS[(k + 1) % 6], [p["lambda_min_limit"] for p in curve]
        ax.errorbar(
            [p["fourth_moment"]["value"] for p in curve],
            [e["value"] for e in ends],
            yerr=[[e["value"] - e["low"] for e in ends], [e["high"] - e["value"] for e in ends]],
            color=color, marker=_MARKERS[k % 6], ls="", lw=1.3, ms=5, label=f"depth {depth}",
        )  # fmt: skip
        for p, name in zip(curve, (p["data"] for p in curve), strict=True):
            if k == 0:
                ax.annotate(
                    name, (p["fourth_moment"]["value"], 0.98), fontsize=8, rotation=90,
                    xycoords=("data", "axes fraction"), color=figures.GREY, ha="center", va="top",
                )  # fmt: skip
    ax.set_ylim(0, 1.35 * ax.get_ylim()[1])
    ax.set_xlabel("fourth moment of a coordinate, variance 1")
    ax.set_ylabel("smallest eigenvalue, infinite width")
    ax.set_title("laws of the inputs")
    ax.legend(frameon=False, fontsize=8)


def _log_axis(ax: "Axes", *, below: float = 2, above: float = 2) -> None:
    """A logarithmic axis for the lines: bands of few seeds may reach down to 0."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    values = values[np.isfinite(values) & (values > 0)]
    ax.set_yscale("log")
    if len(values):
        ax.set_ylim(values.min() / below, values.max() * above)


def _shown(config: WideMLPConfig, summary: dict[str, Any]) -> tuple[str, str, int]:
    """The problem shown in detail: the first, at the common depth where it was run."""
    first = summary["curves"][0]
    depths = [p["depth"] for p in _pick(summary["curves"], data=first["data"], loss=first["loss"])]
    depth = config.depth if config.depth in depths else depths[0]
    return first["data"], first["loss"], depth


def _pick(points: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [p for p in points if all(p[name] == value for name, value in wanted.items())]
