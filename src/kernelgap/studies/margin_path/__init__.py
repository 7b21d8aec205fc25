"""Weak regularisation leads to the largest margin, seen with certificates.

As lambda falls, minimisers of the regularised loss have normalised margins that tend to the largest
one. For two layers that one lies in a certified band, for any width; deeper nets and ten classes
show their own margins, and how well they satisfy its first-order conditions.
"""

import os

from kernelgap.studies.margin_path import cells, figure, summary
from kernelgap.studies.margin_path.config import PRESETS, MarginPathConfig
from kernelgap.studies.study import Result, Study, execute

__all__ = ["PRESETS", "STUDY", "MarginPathConfig", "run"]


def run(
    config: MarginPathConfig | None = None,
    *,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    workers: int | None = None,
) -> Result:
    """Run the margin-path study.

    Args:
        config: what to run; `MarginPathConfig()` when None.
        out: folder for margin-path.csv, .json, .png and the journal, or None.
        resume: go on from the journal of an interrupted run; see `studies.gap.run`.
        overwrite: start anew in a folder that holds a run.
        progress: show a bar on stderr.
        workers: threads that compile and run cells; see `studies.gap.run`.

    Returns:
        A `Result`, with a row per data set, depth, seed and l2.

    Raises:
        TypeError, ValueError, OSError, ImportError: as in `studies.gap.run`.

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
    return execute(
        STUDY,
        MarginPathConfig() if config is None else config,
        out=out,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        workers=workers,
    )


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
