"""Margin, test error and bound against the width.

Paper A shows that the largest normalised margin does not fall with the width, and that for two
layers it is the same for all widths from the number of samples on: wider nets are no worse for
generalisation bounds, which depend on the margin and not on the width. The study trains nets along
a path of weak regularisation, and bounds the best margin of any width from both sides.
"""

import os

from kernelgap.studies.study import Result, Study, execute
from kernelgap.studies.width import cells, figure, summary
from kernelgap.studies.width.config import PRESETS, WidthConfig

__all__ = ["PRESETS", "STUDY", "WidthConfig", "run"]


def run(
    config: WidthConfig | None = None,
    *,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    workers: int | None = None,
) -> Result:
    """Run the width study.

    Args:
        config: what to run; `WidthConfig()` when None.
        out: folder for width.csv, width.json, width.png and the journal, or None.
        resume: go on from the journal of an interrupted run; see `studies.gap.run`.
        overwrite: start anew in a folder that holds a run.
        progress: show a bar on stderr.
        workers: threads that compile and run cells; see `studies.gap.run`.

    Returns:
        A `Result`, with a row per width and seed, and one per certified seed, of width 0.

    Raises:
        TypeError, ValueError, OSError, ImportError: as in `studies.gap.run`.

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
    return execute(
        STUDY,
        WidthConfig() if config is None else config,
        out=out,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        workers=workers,
    )


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
