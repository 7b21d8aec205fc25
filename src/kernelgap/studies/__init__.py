"""Experiments, a room each: configuration, cells, summary, figure.

Every study has a `run(config, *, out=None, ...) -> Result` and a command, `kernelgap run NAME`.
"""

from kernelgap.studies import gap, margin_path, regularization, teacher
from kernelgap.studies.study import Result, Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (gap.STUDY, margin_path.STUDY, teacher.STUDY, regularization.STUDY)
}
"""All studies by name, as the command line lists them."""

__all__ = ["STUDIES", "Result", "Study", "gap", "margin_path", "regularization", "teacher"]
