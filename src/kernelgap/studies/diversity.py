"""Diverse units: the spectrum of their kernel, s_min against discrepancy, training, test errors.

Four parts on the claims of paper B (B. Xie, Y. Liang, L. Song, AISTATS 2017), by our protocol:

- spectrum: eigenvalues of the limit kernel g on the sphere, population against Gram matrix;
- discrepancy: s_min^2 of the extended feature matrix against the discrepancy of the units;
- training: loss, gradient, s_min and discrepancy, with the loss that s_min certifies;
- error: test errors of nets trained with no penalty, weight decay, or the diversity penalty.

The presets paper and paper-short repeat the experiments of the paper itself, whose numbers stand
beside ours: its Figures 1 and 2 (spectrum) and 4 (discrepancy), and

- trained: discrepancy of nets of several widths after SGD (Figure 3);
- losses: training and test loss with and without the penalty (Table 1);
- orthant: smallest eigenvalues for inputs of the positive orthant (Table 2);
- images: errors on MNIST (Table 3), which needs the files.

All rows have the columns of all parts, which are empty where they do not apply.

References:
    Paper B and its supplement. What they leave open is stated in the documentation of the study.
"""

from itertools import product
from typing import Any

from kernelgap.studies import diversity_paper
from kernelgap.studies.diversity_errors import check_data, error_cells, error_rows
from kernelgap.studies.diversity_options import DiversityConfig
from kernelgap.studies.diversity_orthant import orthant_rows
from kernelgap.studies.diversity_panels import panels, tables
from kernelgap.studies.diversity_parts import (
    TRAINING,
    discrepancy_rows,
    spectrum_rows,
    training_rows,
)
from kernelgap.studies.diversity_sgd import images_rows, losses_rows, trained_rows
from kernelgap.studies.diversity_summary import summarize
from kernelgap.studies.estimates import NAN, Row
from kernelgap.studies.execution import Cell
from kernelgap.studies.study import Study

__all__ = ["STUDY", "DiversityConfig"]

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
        "sgd_seeds": 2,
        "trained_units": (20, 40),
        "trained_steps": 1000,
        "losses_units": (100,),
        "losses_steps": 3000,
        "losses_records": 10,
        "strengths": (0.01, 0.1),
        "orthant_dims": (4, 5),
        "orthant_units": 10_000,
        "images_units": (64,),
        "epochs": 2,
    },
    "default": {},
    **diversity_paper.PRESETS,
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
    "trained": trained_rows,
    "losses": losses_rows,
    "orthant": orthant_rows,
    "images": images_rows,
}
_SHARED = ("error", "trained", "losses", "images")  # parts whose cells can run side by side


def _check(config: DiversityConfig) -> None:
    check_data(config)


def _cells(config: DiversityConfig) -> list[Cell]:
    seeds = range(config.sgd_seeds)
    places = {
        "spectrum": [(d,) for d in config.dims],
        "discrepancy": [()],
        "training": [(case,) for case in TRAINING],
        "error": error_cells(config),
        "trained": [(m,) for m in config.trained_units],
        "losses": [*product(config.readings, config.losses_units, seeds)],
        "orthant": [*product(config.orthant_dims, seeds)],
        "images": [*product(config.images_readings, config.images_units, seeds)],
    }
    return [
        Cell((part, *place), alone=part not in _SHARED)
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
    tables=tables,
    panels=panels,
    caption="{seeds} seeds; bands: 95% intervals, quartiles in training",
)
"""The study; `STUDY.run(config)` runs it."""
