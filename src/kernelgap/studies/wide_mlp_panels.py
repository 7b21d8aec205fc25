"""Panels of the wide-mlp study, one for each question that its parts answer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kernelgap.studies.estimates import grouped
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


def panels(result: "Result") -> list[Panel]:
    """Return up to nine panels, those of the parts that were run."""
    config, selected = result.config, []
    if runs := result.select("loss_at"):
        # Show the first problem in detail, at the common depth if it was run there.
        problem = {name: runs[0].keys[name] for name in ("data", "loss")}
        depths = list(dict.fromkeys(e.keys["depth"] for e in result.select("loss_at", problem)))
        depth = config.depth if config.depth in depths else depths[0]
        shown = problem | {"depth": depth}
        what = f"{problem['data']}, {problem['loss']}"
        selected += [
            _rates(f"loss, {what}, depth {depth}", shown, "width", config.widths),
            _rates(f"loss, {what}, width {config.widths[-1]}",
                   problem | {"width": config.widths[-1]}, "depth", depths),
        ]  # fmt: skip
        if result.select("train_loss"):  # none if all runs diverged
            selected += [
                _lengths(what, shown),
                _gaps(result, depth),
                _laziness(result, what, shown),
            ]
            selected.append(_nonlinearity(result, what, shown))
    elif result.select("nonlinearity_of_proof"):
        selected.append(_nonlinearity(result, "", {}))
    if steps := result.select("loss_of_step"):
        selected.append(_step_sizes(result, sorted({e.keys["width"] for e in steps})))
    for metric, panel in (
        ("lambda_min_at_the_start", _spectra),
        ("lambda_min_limit_of_law", _laws),
    ):
        if points := result.select(metric):
            selected.append(panel(list(dict.fromkeys(e.keys["depth"] for e in points)), config))
    return selected


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
    """Show the clipped test loss with its bounds for all problems at one depth."""
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
    """Show the quantity that must be below 1 for a proof, against the width."""
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
    how: dict[str, Any] = {"draw": _fit} | look
    return Panel(title, "width", curves, "width", ylabel, "x", **how)


def _step_sizes(result: "Result", widths: list[int]) -> Panel:
    """Show the loss against the step size, up to the first at which a seed diverged."""
    curves = [
        Curve("loss_of_step", {"width": width, "parameterization": form}, f"{form}, {width}",
              COLORS[k % 6], style=style, intervals="none")
        for k, width in enumerate(widths) for form, style in (("ntk", "-"), ("standard", ":"))
    ]  # fmt: skip
    config = result.config
    title = f"step sizes across widths, depth {config.depth}"
    after = f"loss after {config.transfer_steps} steps"
    return Panel(title, "step_size", curves, "step size", after, draw=_crosses, legend="lower left")


def _spectra(depths: list[int], config: "WideMLPConfig") -> Panel:
    curves = [
        Curve("lambda_min_at_the_start", {"depth": depth}, f"depth {depth}", COLORS[(k + 1) % 6],
              MARKERS[k % 6])
        for k, depth in enumerate(depths)
    ]  # fmt: skip
    return Panel("at the start, each initialisation a dot", "width", curves, "width",
                 "smallest eigenvalue of the NTK", "x", bottom=0, draw=_dots)  # fmt: skip


def _laws(depths: list[int], config: "WideMLPConfig") -> Panel:
    """Show lambda_min against the fourth moment, one of the differences between distributions."""
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
        place = keys["fourth_moment"], 0.98
        look: dict[str, Any] = {"fontsize": 8, "rotation": 90}
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
