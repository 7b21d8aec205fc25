"""Experiments, a room each: configuration, cells, summary, figure.

Every study has a `run(config, *, out=None, ...) -> Result` and a command, `kernelgap run NAME`.
"""

from kernelgap.studies import gap, noisy_gd, regularization, teacher, width
from kernelgap.studies.study import Result, Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (gap.STUDY, teacher.STUDY, regularization.STUDY, noisy_gd.STUDY, width.STUDY)
}
"""All studies by name, as the command line lists them."""

__all__ = ["STUDIES", "Result", "Study", "gap", "noisy_gd", "regularization", "teacher", "width"]
