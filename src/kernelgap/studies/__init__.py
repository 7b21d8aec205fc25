"""Experiments, one module each: configuration, rows, intervals, table, figure, files.

Every study has a `run(config, *, out=None, ...) -> Result` and a command, `kernelgap run NAME`.
"""

from kernelgap.studies import gap
from kernelgap.studies.study import Result, Study

STUDIES: dict[str, Study] = {study.name: study for study in (gap.STUDY,)}

__all__ = ["STUDIES", "Result", "Study", "gap"]
