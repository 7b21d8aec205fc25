"""Network against kernels on labels that a small ReLU network gives.

The labels are the signs of a random two-layer teacher. Three learners see the same n samples:

- net: a two-layer ReLU net with annealed weak l2 regularisation, all layers trained;
- ntk: the hard-margin SVM of its neural tangent kernel: both layers, linearised;
- last: the hard-margin SVM of its last-layer (NNGP) kernel: random features, readout trained.

`run` returns a `Result` with a row per learner, n and seed.

Example:
    >>> from kernelgap.studies import teacher
    >>> tiny = teacher.TeacherConfig(
    ...     d=4, sizes=(10, 20), seeds=2, n_test=200, width=8, steps=20)
    >>> result = teacher.run(tiny)
    >>> len(result.rows)
    12

References:
    In the style of paper A's experiments on a planted network with 6 units and d = 20; their
    settings are not known to us, and the protocol is ours.
"""

from kernelgap.studies.study import Study
from kernelgap.studies.teacher import cells, figure, summary
from kernelgap.studies.teacher.config import PRESETS, TeacherConfig

__all__ = ["PRESETS", "TeacherConfig", "run"]


STUDY = Study(
    name="teacher",
    title="a net, its tangent kernel and its last-layer kernel on a small ReLU teacher",
    config=TeacherConfig,
    presets=PRESETS,
    cells=cells.cells,
    run_cell=cells.run_cell,
    summarize=summary.summarize,
    table=summary.table,
    figure=figure.figure,
)

run = STUDY.run
