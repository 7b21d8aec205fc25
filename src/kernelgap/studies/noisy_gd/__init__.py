"""Excess loss against time: gradient descent, the perturbed flow, Langevin dynamics.

Paper A proves that a Wasserstein gradient flow in which a small share of the neurons is re-drawn
all the time comes near the global minimum of the regularised loss, whatever the start. The study
measures the excess loss L - L* of the best iterate, at several widths and from two starts:

- random: neurons uniform on their sphere;
- trapped: all output weights positive with w_j = ||u_j||. The gradient flow keeps w_j^2 - ||u_j||^2
  up to a factor, and with it the sign of w_j: it never finds a negative output, and negative
  samples cannot be fitted. Re-draws bring negative units in.

`run` returns a `Result` with a row per method, start, width, seed and recorded step.

Example:
    >>> from kernelgap.studies import noisy_gd
    >>> tiny = noisy_gd.NoisyGDConfig(d=3, n=10, widths=(4,), steps=10, records=2, seeds=2)
    >>> result = noisy_gd.run(tiny)
    >>> len(result.rows)  # 3 methods, 2 starts, 2 seeds, start and 2 records; 2 references
    38

References:
    Paper A, the perturbed Wasserstein gradient flow: global convergence of the best iterate in
    polynomial time. Problem, widths, rates and starts are ours.
"""

from kernelgap.studies.noisy_gd import cells, figure, summary
from kernelgap.studies.noisy_gd.config import PRESETS, NoisyGDConfig
from kernelgap.studies.study import Study

__all__ = ["PRESETS", "NoisyGDConfig", "run"]


STUDY = Study(
    name="noisy-gd",
    title="excess loss of gradient descent, the perturbed flow and Langevin dynamics",
    config=NoisyGDConfig,
    presets=PRESETS,
    cells=cells.cells,
    run_cell=cells.run_cell,
    summarize=summary.summarize,
    table=summary.table,
    figure=figure.figure,
)

run = STUDY.run
