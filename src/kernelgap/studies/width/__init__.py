"""Margin, test error and bound against the width.

Paper A shows that the largest normalised margin does not fall with the width, and that for two
layers it is the same for all widths from the number of samples on: wider nets are no worse for
generalisation bounds, which depend on the margin and not on the width. The study trains nets along
a path of weak regularisation, and bounds the best margin of any width from both sides.

`run` returns a `Result` with a row per width and seed, and one per certified seed, of width 0.

Example:
    >>> from kernelgap.studies import width
    >>> tiny = width.WidthConfig(d=4, n=8, widths=(2, 16), seeds=2, restarts=1, n_test=100,
    ...                          steps=10, certified=0)
    >>> result = width.run(tiny)
    >>> len(result.rows)
    4

References:
    Paper A: the margin against the width, constant from n on for two layers, and the bound.
    Teacher, samples and training are ours.
"""

from kernelgap.studies.study import Study
from kernelgap.studies.width import cells, figure, summary
from kernelgap.studies.width.config import PRESETS, WidthConfig

__all__ = ["PRESETS", "WidthConfig", "run"]


STUDY = Study(
    name="width",
    title="margin, test error and bound against the width, with the best margin of any width",
    config=WidthConfig,
    presets=PRESETS,
    cells=cells.cells,
    run_cell=cells.run_cell,
    summarize=summary.summarize,
    table=summary.table,
    figure=figure.figure,
)

run = STUDY.run
