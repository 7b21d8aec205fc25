"""Diverse units: the spectrum of their kernel, s_min against discrepancy, training, test errors.

Four parts, after the claims of paper B (B. Xie, Y. Liang, L. Song, AISTATS 2017):

- spectrum: eigenvalues of the limit kernel g on the sphere, population against Gram matrix;
- discrepancy: s_min^2 of the extended feature matrix against the discrepancy of the units;
- training: loss, gradient, s_min and discrepancy, with the loss that s_min certifies;
- error: test errors of nets trained with no penalty, weight decay, or the diversity penalty.

`run` returns a `Result`; its rows have the columns of all parts, empty where they do not apply.

Example:
    >>> from kernelgap.studies import diversity
    >>> tiny = diversity.DiversityConfig(
    ...     parts=("training",), units=12, n=20, steps=20, records=4, seeds=2)
    >>> result = diversity.run(tiny)
    >>> all(row["loss"] <= row["certificate"] for row in result.rows)
    True

References:
    In the style of paper B's experiments; their settings are not known to us, and the protocol
    is ours.
"""

from kernelgap.studies.diversity import cells, figure, summary
from kernelgap.studies.diversity.config import PRESETS, DiversityConfig
from kernelgap.studies.study import Study

__all__ = ["PRESETS", "DiversityConfig", "run"]


STUDY = Study(
    name="diversity",
    title="diverse units: spectrum, singular values, certificates, test errors",
    config=DiversityConfig,
    presets=PRESETS,
    cells=cells.cells,
    run_cell=cells.run_cell,
    summarize=summary.summarize,
    table=summary.table,
    figure=figure.figure,
)

run = STUDY.run
