"""Gradient descent on deep multi-layer perceptrons of growing width.

Five parts: runs of gradient descent with their rates, paths, gaps and laziness (train); a tiny
problem where linear convergence is proven (proof); input distributions of equal variance (moments);
step sizes across widths in two parameterizations (steps); the smallest eigenvalue of the tangent
kernel at the start (spectrum).

References:
    Paper C, second version (D. Terjek, D. Gonzalez-Sanchez, arXiv 2205.13507v2, 2023), of which we
    know the abstract; the protocol is this project's. The best learning rates are measured by the
    lr-transfer study.
"""

import dataclasses
from typing import Any, Literal

from kernelgap.studies import seeds
from kernelgap.studies.execution import Cell
from kernelgap.studies.options import Config, option
from kernelgap.studies.study import Study
from kernelgap.studies.tables import Table
from kernelgap.studies.wide_mlp_panels import panels
from kernelgap.studies.wide_mlp_parts import LAWS, PARTS, run_cell
from kernelgap.studies.wide_mlp_summary import summarize

__all__ = ["STUDY", "WideMLPConfig"]

_ALONE_FROM = 2000  # width from which a net of several layers must run alone


@dataclasses.dataclass(frozen=True)
class WideMLPConfig(Config):
    """Options of the wide-mlp study; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import wide_mlp
        >>> tiny = wide_mlp.WideMLPConfig(
        ...     parts=("spectrum",), n=6, d=4, depths=(2,), spectrum_widths=(16, 64),
        ...     spectrum_seeds=2, seeds=2)
        >>> len(wide_mlp.STUDY.run(tiny).rows)
        4
    """

    parts: tuple[Literal["train", "proof", "moments", "steps", "spectrum"], ...] = option(
        PARTS,
        "subset of: train (rates, paths, gaps, laziness), proof (tiny problem with a proven rate), "
        "moments (input distributions), steps (step size against width), spectrum (lambda_min)",
    )
    activation: Literal["gelu", "silu", "tanh", "erf"] = option("gelu", "gelu, silu, tanh or erf")
    seeds: int = option(5, "repetitions, each with its own sample and start", minimum=2)
    seed: int = option(0, "base of all random keys", minimum=0)
    n: int = option(32, "training samples", minimum=2)
    d: int = option(10, "input dimension on the sphere of radius sqrt(d)", minimum=2)
    units: int = option(6, "ReLU units of the teacher", minimum=2)
    n_test: int = option(2000, "fresh test samples on the sphere", minimum=1)
    classes: tuple[int, ...] = option(
        (3, 8), "two digits to tell apart", minimum=0, maximum=9, length=2
    )
    data: tuple[Literal["sphere", "digits"], ...] = option(
        ("sphere", "digits"), "subset of: sphere (teacher), digits"
    )
    losses: tuple[Literal["squared", "logistic"], ...] = option(
        ("squared", "logistic"), "subset of: squared, logistic"
    )
    widths: tuple[int, ...] = option(
        (16, 64, 256, 1024), "units of each hidden layer", minimum=1, increasing=True
    )
    depths: tuple[int, ...] = option((2, 3, 4), "layers of the nets", minimum=2, increasing=True)
    depth: int = option(3, "layers for problems that are run at one depth only", minimum=2)
    steps: int = option(1000, "steps of gradient descent", minimum=1)
    records: int = option(
        10, "number of times at which kernels are recorded", minimum=1, divides="steps"
    )
    step_share: float = option(0.5, "step size over 1 / (Lambda lambda_max(K_0))", above=0)
    target: float = option(0.1, "logistic loss down to which a rate is claimed", above=0)
    delta: float = option(
        0.05, "probability with which a generalisation bound may fail", minimum=1e-12, maximum=0.5
    )
    proof_n: int = option(6, "samples of the tiny problem (proof)", minimum=2)
    proof_residual: float = option(0.05, "standard deviation of y - f_0 (proof)", above=0)
    proof_widths: tuple[int, ...] = option(
        (64, 256, 1024, 4096, 16384),
        "units of the nets of two layers (proof)",
        minimum=1,
        increasing=True,
    )
    laws: tuple[Literal["sign", "uniform", "gaussian", "mixture", "student_t"], ...] = option(
        LAWS, "distributions of the coordinates of inputs (moments)"
    )
    law_d: int = option(20, "input dimension (moments)", minimum=2)
    law_width: int = option(256, "units of each hidden layer (moments)", minimum=1)
    freedom: float = option(5.0, "degrees of freedom of student_t (moments)", above=2)
    fourth: float = option(6.0, "fourth moment of mixture (moments)", minimum=1)
    transfer_widths: tuple[int, ...] = option(
        (64, 256, 1024, 4096), "units of each hidden layer (steps)", minimum=1, increasing=True
    )
    transfer_steps: int = option(30, "gradient steps with each step size (steps)", minimum=1)
    transfer_seeds: int = option(
        2, "number of initial parameters (steps)", minimum=1, at_most="seeds"
    )
    largest_step: float = option(512.0, "largest step size to try (steps)", above=0)
    smallest_step: float = option(
        0.25,
        "first step size, doubled each time; 64 times lower in the standard form (steps)",
        above=0,
        at_most="largest_step",
    )
    spectrum_widths: tuple[int, ...] = option(
        (16, 64, 256, 1024), "units of each hidden layer (spectrum)", minimum=1, increasing=True
    )
    spectrum_seeds: int = option(10, "number of initial parameters (spectrum)", minimum=2)


_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {  # parts that share shapes share compiled programs
        "seeds": 3,
        "n": 16,
        "n_test": 500,
        "data": ("sphere",),
        "losses": ("squared",),
        "widths": (32, 256),
        "depths": (3,),
        "steps": 400,
        "proof_widths": (16384,),
        "laws": ("student_t",),
        "law_d": 10,
        "law_width": 32,
        "transfer_widths": (32, 256),
        "transfer_steps": 20,
        "spectrum_widths": (32, 256),
        "spectrum_seeds": 3,
    },
    "default": {},
    "large": {
        "seeds": 8,
        "n": 64,
        "widths": (16, 64, 256, 1024, 2048),
        "steps": 4000,
        "transfer_widths": (64, 128, 256, 512, 1024, 2048, 4096),
        "spectrum_widths": (16, 64, 256, 1024, 4096),
        "spectrum_seeds": 20,
    },
}


def _check(config: WideMLPConfig) -> None:
    if "digits" in config.data and "train" in config.parts:
        seeds.leave_some(config.n, config.classes, "n")


def _cells(config: WideMLPConfig) -> list[Cell]:
    problems = [(data, loss) for data in config.data for loss in config.losses]
    places = {
        "train": [
            (*problem, depth, width)
            for problem in problems
            for depth in (config.depths if problem == ("sphere", "squared") else [config.depth])
            for width in config.widths
        ],
        "proof": [(width,) for width in config.proof_widths],
        "moments": [(depth,) for depth in config.depths],
        "steps": [
            (form, width) for form in ("ntk", "standard") for width in config.transfer_widths
        ],
        "spectrum": [(depth,) for depth in config.depths],
    }
    return [
        Cell((part, *place), alone=part in ("train", "steps") and place[-1] >= _ALONE_FROM)
        for part in config.parts
        for place in places[part]
    ]


def _tables(config: WideMLPConfig) -> list[Table]:
    ends = dict.fromkeys(("train_loss", "displacement", "kernel_change", "nonlinearity"), ".2g")
    rates = {"claimed": ".0f", "kept": ".0f"}
    steps = {"largest_stable_step": "g", "next_step": "g", "diverged_at_step": ".0f"}
    exponents = ("linearization_error", "kernel_change", "nonlinearity")
    return [
        Table(ends | {"bound": ".3g"} | rates, f"train, after {config.steps} steps"),
        Table({f"exponent_of_{name}": ".2f" for name in exponents}, "exponents of the width"),
        Table({"diverged_at": ".0f"}, "diverged, at step"),
        Table({"nonlinearity_of_proof": ".3g", "proven": ".0f", "kept_of_proven": ".0f"}, "proof"),
        Table({"lambda_min_limit_of_law": ".3g", "train_loss_of_law": ".2g"}, "moments"),
        Table(steps, "step sizes; twice the largest stable one diverges for some seed"),
        Table({"lambda_min_at_the_start": ".4g", "lambda_min_limit": ".4g"}, "spectrum"),
    ]


STUDY = Study(
    name="wide-mlp",
    title="rates, paths, laziness and step sizes of deep nets as they widen",
    about=__doc__ or "",
    config=WideMLPConfig,
    presets=_PRESETS,
    check=_check,
    cells=_cells,
    run_cell=run_cell,
    summarize=summarize,
    tables=_tables,
    panels=panels,
    caption="{activation} nets, n = {n}, {seeds} seeds; bands: 95% intervals",
)
"""The study; `STUDY.run(config)` runs it."""
