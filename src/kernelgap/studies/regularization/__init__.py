"""With and without weight decay from the same large initialisation.

From a large initialisation gradient descent stays lazy: the activation patterns hardly change and
the net behaves as its tangent kernel does. Weak l2 regularisation ends that regime however the net
started: the weights shrink, patterns change, the normalised margin grows. Both nets start from the
same weights; units come in pairs that cancel, so that the output starts at 0.

`run` returns a `Result` with a row per net, seed and recorded step, and per seed of the NTK's
predictor.

Example:
    >>> from kernelgap.studies import regularization
    >>> tiny = regularization.RegularizationConfig(
    ...     d=4, n=20, width=16, seeds=2, n_test=200, steps=20, records=4)
    >>> result = regularization.run(tiny)
    >>> len(result.rows)  # two nets, two seeds, start and four records; the kernel's two
    22

References:
    Paper A (regularisation takes the net out of the kernel's regime). The protocol is ours:
    doubled initialisation (L. Chizat, E. Oyallon, F. Bach, NeurIPS 2019), gradient descent
    with momentum, which stays linear in the lazy regime.
"""

from kernelgap.studies.regularization import cells, figure, summary
from kernelgap.studies.regularization.config import PRESETS, RegularizationConfig
from kernelgap.studies.study import Study

__all__ = ["PRESETS", "RegularizationConfig", "run"]


STUDY = Study(
    name="regularization",
    title="with and without weight decay from the same lazy start, against the tangent kernel",
    config=RegularizationConfig,
    presets=PRESETS,
    cells=cells.cells,
    run_cell=cells.run_cell,
    summarize=summary.summarize,
    table=summary.table,
    figure=figure.figure,
)

run = STUDY.run
