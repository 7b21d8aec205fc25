"""Diverse units: the spectrum of their kernel, s_min against discrepancy, training, test errors.

Four parts, after the claims of paper B (B. Xie, Y. Liang, L. Song, AISTATS 2017):

- spectrum: eigenvalues of the limit kernel g on the sphere, population against Gram matrix;
- discrepancy: s_min^2 of the extended feature matrix against the discrepancy of the units;
- training: loss, gradient, s_min and discrepancy, with the loss that s_min certifies;
- error: test errors of nets trained with no penalty, weight decay, or the diversity penalty.

All rows have the columns of all parts, which are empty where they do not apply.

References:
    In the style of paper B's experiments; their settings are not known to us, and the protocol
    is this project's.
"""

import dataclasses
from typing import Any, Literal

from kernelgap.studies.diversity_errors import LEAST_UNITS, check_data, error_cells, error_rows
from kernelgap.studies.diversity_parts import (
    TRAINING,
    discrepancy_rows,
    spectrum_rows,
    training_rows,
)
from kernelgap.studies.diversity_summary import panels, summarize
from kernelgap.studies.estimates import NAN, Row
from kernelgap.studies.execution import Cell
from kernelgap.studies.options import Config, about_options, option
from kernelgap.studies.study import Study
from kernelgap.studies.tables import Table

__all__ = ["STUDY", "DiversityConfig"]

_PARTS = ("spectrum", "discrepancy", "training", "error")


@dataclasses.dataclass(frozen=True)
class DiversityConfig(Config):
    """Options of the diversity study; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import diversity
        >>> tiny = diversity.DiversityConfig(
        ...     parts=("training",), units=12, n=20, steps=20, records=4, seeds=2)
        >>> result = diversity.STUDY.run(tiny)
        >>> all(row["loss"] <= row["certificate"] for row in result.rows)
        True
    """

    parts: tuple[Literal["spectrum", "discrepancy", "training", "error"], ...] = option(
        _PARTS, "subset of: spectrum, discrepancy, training, error"
    )
    seeds: int = option(20, "repetitions, each with its own sample and units", minimum=2)
    seed: int = option(0, "base of all random keys", minimum=0)
    dims: tuple[int, ...] = option((15, 1500), "dimensions of the spectra", minimum=2)
    gram_n: int = option(3000, "samples of the Gram matrices of the spectra", minimum=2)
    gram_seeds: int = option(2, "number of these Gram matrices for each dimension", minimum=1)
    d: int = option(10, "input dimension of discrepancy and training", minimum=2)
    n: int = option(150, "samples of discrepancy and training", minimum=2)
    units: int = option(60, "units of discrepancy and training", minimum=2)
    clusters: int = option(5, "directions around which clustered units lie", minimum=1)
    spreads: tuple[float, ...] = option(
        (1.0, 0.5, 0.25, 0.1),
        "sizes of the clusters relative to their directions (discrepancy)",
        above=0,
    )
    spread: float = option(0.25, "size of the clusters (training, error)", above=0)
    draws: int = option(24, "random arrangements for each sample (discrepancy)", minimum=3)
    spreading: int = option(
        300, "Adam steps that minimise the penalty of optimised units", minimum=1
    )
    steps: int = option(2000, "steps of gradient descent (training)", minimum=1)
    records: int = option(40, "number of recorded times (training)", minimum=1, divides="steps")
    learning_rate: float = option(
        5.0, "learning rate of gradient descent with momentum .9 (training)", above=0
    )
    penalty: float = option(0.1, "strength of the diversity penalty (training)", above=0)
    data: tuple[Literal["teacher", "digits"], ...] = option(
        ("teacher", "digits"), "subset of: teacher, digits (error)"
    )
    mnist: str = option("", "folder with the four MNIST files, to include MNIST (error)")
    starts: tuple[Literal["random", "clustered"], ...] = option(
        ("random", "clustered"), "initial units, subset of: random, clustered (error)"
    )
    widths: tuple[int, ...] = option(
        (8, 16, 32, 64, 128),
        "units of the nets (error); images use widths of at least 16",
        minimum=1,
        increasing=True,
    )
    penalties: tuple[float, ...] = option(
        (0.03, 0.3, 1.0, 3.0),
        "strengths of the diversity penalty to choose from",
        above=0,
        increasing=True,
    )
    l2s: tuple[float, ...] = option(
        (3e-5, 1e-4, 3e-4, 1e-3),
        "strengths of the weight decay to choose from",
        above=0,
        increasing=True,
    )
    teacher_d: int = option(20, "input dimension of the teacher", minimum=1)
    teacher_units: int = option(6, "hidden units of the teacher", minimum=2)
    noise: float = option(
        0.0, "standard deviation of the training labels' noise (teacher)", minimum=0
    )
    n_train: int = option(300, "training samples (error)", minimum=2)
    n_validation: int = option(
        400, "samples on which strength and number of steps are chosen", minimum=1
    )
    n_test: int = option(4000, "fresh test samples for each seed (teacher)", minimum=2)
    adam_steps: int = option(1000, "full-batch Adam steps (error)", minimum=1)
    stops: int = option(10, "numbers of steps to choose from", minimum=1, divides="adam_steps")
    adam_rate: float = option(0.01, "Adam learning rate (error)", above=0)

    def check(self) -> None:
        """Raise if all nets are too narrow for images."""
        images = "digits" in self.data or self.mnist
        if "error" in self.parts and images and self.widths[-1] < LEAST_UNITS:
            error = f"`widths` must include 16 or more for ten classes; got {self.widths}"
            raise about_options(ValueError(error), "widths")


_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "seeds": 5,
        "gram_n": 800,
        "gram_seeds": 1,
        "n": 80,
        "units": 30,
        "draws": 8,
        "steps": 800,
        "records": 20,
        "widths": (8, 32),
        "starts": ("random",),
        "penalties": (0.1, 1.0),
        "l2s": (1e-5, 1e-4),
        "adam_steps": 400,
        "n_test": 2000,
    },
    "default": {},
    "large": {"seeds": 40, "draws": 50, "widths": (8, 16, 32, 64, 128, 256), "n_train": 600},
}
_TEXT = ("part", "data", "start", "case")
_NUMBERS = (
    "d", "width", "spread", "draw", "rank", "strength", "step",
    "eigenvalue", "population", "s_min", "discrepancy", "loss", "gradient", "certificate",
    "validation", "error",
)  # fmt: skip
_ROWS = {
    "spectrum": spectrum_rows,
    "discrepancy": discrepancy_rows,
    "training": training_rows,
    "error": error_rows,
}


def _check(config: DiversityConfig) -> None:
    if "error" in config.parts:
        check_data(config)


def _cells(config: DiversityConfig) -> list[Cell]:
    places = {
        "spectrum": [(d,) for d in config.dims],
        "discrepancy": [()],
        "training": [(case,) for case in TRAINING],
        "error": error_cells(config),
    }
    return [
        Cell((part, *place), alone=part != "error")
        for part in config.parts
        for place in places[part]
    ]


def _run_cell(config: DiversityConfig, identity: tuple) -> list[Row]:
    part, *place = identity
    return [_row(part, row) for row in _ROWS[part](config, *place)]


def _row(part: str, known: dict[str, Any]) -> Row:
    """Return a row with the columns of all parts."""
    text = dict.fromkeys(_TEXT, "") | {"seed": 0}
    row = text | dict.fromkeys(_NUMBERS, NAN) | known | {"part": part}
    return {
        k: int(v) if k == "seed" else v if isinstance(v, str) else float(v) for k, v in row.items()
    }


def _tables(config: DiversityConfig) -> list[Table]:
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
            {"s_min_squared": ".3f", "discrepancy": ".4f"},
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
    ]


STUDY = Study(
    name="diversity",
    title="diverse units: spectrum, singular values, certificates, test errors",
    about=__doc__ or "",
    config=DiversityConfig,
    presets=_PRESETS,
    check=_check,
    cells=_cells,
    run_cell=_run_cell,
    summarize=summarize,
    tables=_tables,
    panels=panels,
    caption="{seeds} seeds; bands: 95% intervals, quartiles in training",
)
"""The study; `STUDY.run(config)` runs it."""
