"""The headline study: test error against the number of samples, network against kernel.

Paper A separates a weakly regularised ReLU net, which learns the XOR distribution with n = O(d)
samples, from its neural tangent kernel, for which every predictor in the span of the n training
inputs fails while n << d^2. The study measures both, on fresh data, for three learners:

- net: a two-layer ReLU net with annealed weak l2 regularisation;
- svm: the hard-margin SVM of its NTK;
- span: the best predictor in the span of the n kernel functions, fitted on a population sample.

On `data="digits"` it draws the learning curves of net and svm on two classes of real digits.

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

from kernelgap.studies.gap import cells, figure, summary
from kernelgap.studies.gap.config import PRESETS, GapConfig
from kernelgap.studies.study import Study

__all__ = ["PRESETS", "GapConfig", "run"]


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

run = STUDY.run
