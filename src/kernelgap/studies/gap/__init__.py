"""The headline study: test error against the number of samples, network against kernel.

Paper A separates a weakly regularised ReLU net, which learns the XOR distribution with n = O(d)
samples, from its neural tangent kernel, for which every predictor in the span of the n training
inputs fails while n << d^2. The study measures both, on fresh data, for three learners:

- net: a two-layer ReLU net with annealed weak l2 regularisation;
- svm: the hard-margin SVM of its NTK;
- span: the best predictor in the span of the n kernel functions, fitted on a population sample.

On `data="digits"` it draws the learning curves of net and svm on two classes of real digits.
"""

import os

from kernelgap.studies.gap import cells, figure, summary
from kernelgap.studies.gap.config import PRESETS, GapConfig
from kernelgap.studies.study import Result, Study, execute

__all__ = ["PRESETS", "STUDY", "GapConfig", "run"]


def run(
    config: GapConfig | None = None,
    *,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    workers: int | None = None,
) -> Result:
    """Run the gap study.

    Args:
        config: what to run; `GapConfig()` when None. `GapConfig(**PRESETS["quick"])` is quick.
        out: folder for gap.csv, gap.json, gap.png and the journal; nothing is written when None.
        resume: go on from the journal of an interrupted run of the same configuration.
        overwrite: start anew in a folder that holds a run.
        progress: show a bar on stderr.
        workers: threads that compile and run cells; as many as cores, at most 2, when None:
            linear algebra within a cell uses all cores by itself. What JAX's context managers
            set belongs to the calling thread, and reaches the cells for workers=1 only.

    Returns:
        A `Result`, with `rows`, `summary`, `table()`, `plot()`, `to_pandas()` and `save(out)`.

    Raises:
        TypeError, ValueError: if the configuration or an option is wrong.
        FileExistsError: if `out` holds a run and neither `resume` nor `overwrite` is set.
        NotADirectoryError, PermissionError: if `out` cannot be written.
        ImportError: if matplotlib or tqdm is needed and missing (extra `studies`).

    Example:
        >>> from kernelgap.studies import gap
        >>> tiny = gap.GapConfig(dims=(4, 6), net_ratios=(2, 8), svm_ratios=(0.5, 4),
        ...                      span_ratios=(0.5, 4), seeds=2, n_test=500, width=16, steps=100)
        >>> result = gap.run(tiny)
        >>> len(result.rows)
        24

    References:
        Paper A, the separation between a regularised net and its NTK. The exact protocol of the
        paper's experiments is unknown to us; grids, optimiser and regularisation path are ours.
    """
    return execute(
        STUDY,
        GapConfig() if config is None else config,
        out=out,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        workers=workers,
    )


STUDY = Study(
    name="gap",
    title="samples a net and its tangent kernel need on XOR (paper A), or on two digits",
    config=GapConfig,
    presets=PRESETS,
    cells=cells.cells,
    run_cell=cells.run_cell,
    summarize=summary.summarize,
    table=summary.table,
    figure=figure.figure,
)
