"""What happens to gradient descent on deep multi-layer perceptrons as they widen.

Five parts: runs of gradient descent with their rates, paths, gaps and laziness (train); a tiny
problem where linear convergence is proven (proof); input laws of equal variance (moments); step
sizes across widths in two parameterizations (steps); the smallest eigenvalue of the tangent kernel
at the start (spectrum).

`run` returns a `Result` with a row per part, problem, depth, width, seed, and time or step size.

Example:
    >>> from kernelgap.studies import wide_mlp
    >>> tiny = wide_mlp.WideMLPConfig(
    ...     parts=("spectrum",), n=6, d=4, depths=(2,), spectrum_widths=(16, 64),
    ...     spectrum_seeds=2, seeds=2)
    >>> result = wide_mlp.run(tiny)
    >>> len(result.rows)
    4

References:
    Paper C (D. Terjek, D. Gonzalez-Sanchez, arXiv 2205.13507), of which we know the abstract; the
    protocol is ours.
"""

from kernelgap.studies.study import Study
from kernelgap.studies.wide_mlp import cells, figure, summary
from kernelgap.studies.wide_mlp.config import PRESETS, WideMLPConfig

__all__ = ["PRESETS", "WideMLPConfig", "run"]


STUDY = Study(
    name="wide-mlp",
    title="rates, paths, laziness and step sizes of deep nets as they widen",
    config=WideMLPConfig,
    presets=PRESETS,
    cells=cells.cells,
    run_cell=cells.run_cell,
    summarize=summary.summarize,
    table=summary.table,
    figure=figure.figure,
)

run = STUDY.run
