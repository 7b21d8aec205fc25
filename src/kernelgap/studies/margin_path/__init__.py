"""Weak regularisation leads to the largest margin, seen with certificates.

As lambda falls, minimisers of the regularised loss have normalised margins that tend to the largest
one. For two layers that one lies in a certified band, for any width; deeper nets and ten classes
show their own margins, and how well they satisfy its first-order conditions.

`run` returns a `Result` with a row per data set, depth, seed and l2.

Example:
    >>> from kernelgap.studies import margin_path
    >>> tiny = margin_path.MarginPathConfig(
    ...     parts=("line",), line_n=4, depths=(2,), width=8, l2s=(1e-2, 1e-4), steps=50,
    ...     seeds=2)
    >>> result = margin_path.run(tiny)
    >>> len(result.rows)
    4

References:
    Paper A, the theorem on weak regularisation; the data, nets and path of lambda are ours.
"""

from kernelgap.studies.margin_path import cells, figure, summary
from kernelgap.studies.margin_path.config import PRESETS, MarginPathConfig
from kernelgap.studies.study import Study

__all__ = ["PRESETS", "MarginPathConfig", "run"]


STUDY = Study(
    name="margin-path",
    title="margins of nets as the weight decay vanishes, with certified bounds",
    config=MarginPathConfig,
    presets=PRESETS,
    cells=cells.cells,
    run_cell=cells.run_cell,
    summarize=summary.summarize,
    table=summary.table,
    figure=figure.figure,
)

run = STUDY.run
