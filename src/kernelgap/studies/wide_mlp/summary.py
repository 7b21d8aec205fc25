"""What the wide-mlp study reports: means over seeds, exponents of the width, stable steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kernelgap.studies import statistics
from kernelgap.studies.journal import Row
from kernelgap.studies.statistics import interval_text
from kernelgap.studies.wide_mlp.config import WideMLPConfig

_POSITIVE = (
    "train_loss", "path_length", "displacement", "path_bound", "min_norm_distance",
    "linear_displacement", "relative_displacement", "linearization_error", "activation_change",
    "kernel_change", "kernel_distance", "lambda_max", "nonlinearity", "nonlinearity_of_run",
    "decrease", "loss_ratio", "path_ratio", "bound", "bound_if_linear",
)  # fmt: skip
_SHARES = ("test_loss", "test_error", "train_clipped", "test_clipped", "lambda_min")
_OTHER = ("kernel_alignment", "target_alignment", "fourth_moment", "lambda_min_limit")
SCALING = (
    "relative_displacement", "linearization_error", "activation_change", "kernel_change",
    "kernel_distance", "nonlinearity", "nonlinearity_of_run",
)  # fmt: skip
_PROBLEM = ("data", "loss", "depth", "width")


def summarize(config: WideMLPConfig, rows: list[Row]) -> dict[str, Any]:
    """Means with intervals of each part; exponents by bootstrap over seeds."""
    parts = {part: [r for r in rows if r["part"] == part] for part in config.parts}
    rng = np.random.default_rng(config.seed)
    found: dict[str, Any] = {}
    if runs := parts.get("train"):
        ends = _ends(config, runs)
        found["curves"] = _geometric(runs, (*_PROBLEM, "time"), ("train_loss", "certified_loss"))
        found["ends"] = _means(ends, _PROBLEM)
        found["exponents"] = _exponents(ends, ("data", "loss", "depth"), SCALING, rng)
        found["diverged"] = _diverged(runs)
    if proofs := parts.get("proof"):
        found["proof"] = _means(_ends(config, proofs), ("width",))
    if laws := parts.get("moments"):
        found["moments"] = _means(_ends(config, laws), ("data", "depth"))
    if tries := parts.get("steps"):
        found["steps"] = _geometric(
            [r for r in tries if r["diverged_at"] < 0],
            ("parameterization", "width", "step_size"), ("train_loss",),
        )  # fmt: skip
        found["stable"] = _stable(tries)
        found["stable_exponents"] = _stable_exponents(found["stable"])
    if spectra := parts.get("spectrum"):
        spectra = [
            r | {"deviation": abs(r["lambda_min"] / r["lambda_min_limit"] - 1)} for r in spectra
        ]
        found["spectrum"] = statistics.group_means(
            spectra, ("depth", "width"), ("lambda_min", "deviation", "lambda_min_limit")
        )
        for p in found["spectrum"]:
            mine = [r["lambda_min"] for r in spectra
                    if (r["depth"], r["width"]) == (p["depth"], p["width"])]  # fmt: skip
            p["spread"] = float(np.std(mine, ddof=1) / np.mean(mine))
            p["lowest"], p["highest"] = float(min(mine)), float(max(mine))
        found["spectrum_exponents"] = _exponents(spectra, ("depth",), ("deviation",), rng)
    return found


def _ends(config: WideMLPConfig, rows: Sequence[Row]) -> list[Row]:
    """The last time of each run that came to its end."""
    return [r for r in rows if r["time"] == config.steps and r["diverged_at"] < 0]


def _means(rows: Sequence[Row], by: tuple[str, ...]) -> list[dict[str, Any]]:
    """Means over seeds, geometric ones for what spans decades; for how many a rate is claimed."""
    rows = [
        r
        | {"claimed": float(np.isfinite(r["decrease"]))}
        | {"kept": float(r["loss_ratio"] <= 1 and r["path_ratio"] <= 1)}
        for r in rows
    ]
    points = _geometric(rows, by, _POSITIVE)
    for p, other in zip(points, statistics.group_means(rows, by, _SHARES, _OTHER), strict=True):
        p.update(other)
        mine = [r for r in rows if all(r[name] == p[name] for name in by)]
        p.update({name: int(sum(r[name] for r in mine)) for name in ("claimed", "kept")})
    return points


def _geometric(
    rows: Sequence[Row], by: tuple[str, ...], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Geometric means with intervals over the seeds that have a value."""
    points = []
    for group, mine in statistics.grouped(rows, by).items():
        point: dict[str, Any] = dict(zip(by, group, strict=True)) | {"seeds": len(mine)}
        for name in names:
            logs = np.log([r[name] for r in mine if r[name] > 0])
            found = statistics.mean_interval(logs) if len(logs) else (np.nan,) * 3
            point[name] = statistics.Estimate(*map(float, np.exp(found)))._asdict()
        points.append(point)
    return points


def _diverged(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Runs that diverged, each with the step from which on its loss was above its start."""
    ends = {(*(r[name] for name in _PROBLEM), r["seed"]): r["diverged_at"] for r in rows}
    names = (*_PROBLEM, "seed", "diverged_at")
    return [dict(zip(names, (*k, v), strict=True)) for k, v in ends.items() if v >= 0]


def _exponents(
    rows: Sequence[Row], by: tuple[str, ...], names: Sequence[str], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Slopes of mean logarithms against log width, with seeds drawn anew for the interval."""
    found = []
    for group, mine in statistics.grouped(rows, by).items():
        widths = sorted({r["width"] for r in mine})
        seeds = sorted({r["seed"] for r in mine})
        if len(widths) < 2 or len(mine) != len(widths) * len(seeds):
            continue  # a run diverged
        drawn = rng.integers(len(seeds), size=(statistics.RESAMPLES, len(seeds)))
        for name in names:
            table = {(r["width"], r["seed"]): r[name] for r in mine}
            values = np.array([[table[w, s] for s in seeds] for w in widths])
            with np.errstate(invalid="ignore", divide="ignore"):
                logs = np.log(values)
                value = float(statistics.slope(np.array(widths), np.exp(logs.mean(axis=1))))
                again = statistics.slope(np.array(widths), np.exp(logs[:, drawn].mean(axis=2).T))
            estimate = statistics.percentile_interval(value, again)._asdict()
            found.append(dict(zip(by, group, strict=True)) | {"of": name} | estimate)
    return found


def _stable(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The largest step below the first that diverged for a seed, and the step with the least loss.

    `next` is that first one, with the earliest step at which it diverged; None if none did.
    """
    found = []
    for (form, width), mine in statistics.grouped(rows, ("parameterization", "width")).items():
        bad = [r for r in mine if r["diverged_at"] >= 0]
        first = min((r["step_size"] for r in bad), default=None)
        good = sorted({r["step_size"] for r in mine if first is None or r["step_size"] < first})
        losses = {
            s: float(np.mean([r["train_loss"] for r in mine if r["step_size"] == s])) for s in good
        }
        found.append({
            "parameterization": form, "width": width,
            "largest": good[-1] if good else None,
            "best": min(losses, key=lambda s: losses[s]) if losses else None,
            "next": first,
            "diverged_at": min((r["diverged_at"] for r in bad if r["step_size"] == first),
                               default=None),
        })  # fmt: skip
    return found


def _stable_exponents(stable: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Slope of log largest stable step against log width; each step is known up to a factor 2."""
    found = {}
    for form in dict.fromkeys(p["parameterization"] for p in stable):
        known = [p for p in stable if p["parameterization"] == form and p["largest"]]
        widths, steps = (np.array([p[k] for p in known], float) for k in ("width", "largest"))
        found[form] = float(statistics.slope(widths, steps)) if len(known) > 1 else None
    return found


def table(config: WideMLPConfig, summary: dict[str, Any]) -> str:
    """A few lines for each part."""
    lines = []
    if "ends" in summary:
        lines.append(f"after {config.steps} steps{'loss':>20}{'rate kept':>12}{'distance':>10}"
                     f"{'kernel change':>15}{'nonlinearity':>14}{'bound':>10}")  # fmt: skip
    for p in summary.get("ends", ()):
        kept = f"{p['kept']} of {p['claimed']}"
        name = f"{p['data']}-{p['loss']} {p['depth']}x{p['width']}"
        numbers = (p[k]["value"] for k in
                   ("displacement", "kernel_change", "nonlinearity", "bound"))  # fmt: skip
        lines.append(f"{name:24}{p['train_loss']['value']:>12.3g}{kept:>12}"
                     + "".join(f"{v:>{w}.3g}" for v, w in zip(numbers, (10, 15, 14, 10),
                                                              strict=True)))  # fmt: skip
    for e in summary.get("exponents", ()):
        if e["of"] in ("kernel_change", "linearization_error", "nonlinearity"):
            name = f"{e['data']}-{e['loss']} depth {e['depth']}"
            lines.append(f"{name:24} width exponent of {e['of']}: {interval_text(e, '.2f')}")
    for r in summary.get("diverged", ()):
        lines.append(f"diverged: {r['data']}-{r['loss']} {r['depth']}x{r['width']} seed "
                     f"{r['seed']} at step {r['diverged_at']}")  # fmt: skip
    for p in summary.get("proof", ()):
        lines.append(f"proof, width {p['width']:>6}: nonlinearity "
                     f"{p['nonlinearity']['value']:.3g}, rate proven for {p['claimed']} of "
                     f"{p['seeds']} seeds, kept by {p['kept']}")  # fmt: skip
    for p in summary.get("moments", ()):
        lines.append(f"{p['data']:10} depth {p['depth']}: lambda_min "
                     f"{interval_text(p['lambda_min_limit'], '.3g')} (limit), loss "
                     f"{interval_text(p['train_loss'], '.2g')}")  # fmt: skip
    for p in summary.get("stable", ()):
        after = "none diverged" if p["next"] is None else (
            f"{p['next']:g} diverged at step {p['diverged_at']}")  # fmt: skip
        largest = "none" if p["largest"] is None else f"{p['largest']:g}"
        lines.append(f"{p['parameterization']:9}width {p['width']:>5}: largest stable step "
                     f"{largest}; {after}")  # fmt: skip
    for p in summary.get("spectrum", ()):
        lines.append(f"lambda_min, {p['depth']}x{p['width']}: "
                     f"{interval_text(p['lambda_min'], '.4g')}, limit "
                     f"{p['lambda_min_limit']['value']:.4g}")  # fmt: skip
    return "\n".join(lines)
