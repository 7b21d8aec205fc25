"""Experiments, a room each: configuration, cells, summary, figure.

Every study has a `run(config, *, out=None, ...) -> Result` and a command, `kernelgap run NAME`.
"""

from kernelgap.studies import gap, margin_path, noisy_gd, regularization, teacher, wide_mlp, width
from kernelgap.studies.study import Result, Study

STUDIES: dict[str, Study] = {
    room.STUDY.name: room.STUDY
    for room in (gap, margin_path, width, regularization, noisy_gd, teacher, wide_mlp)
}
"""All studies by name, as the command line lists them."""

__all__ = [
    "STUDIES",
    "Result",
    "Study",
    "gap",
    "margin_path",
    "noisy_gd",
    "regularization",
    "teacher",
    "wide_mlp",
    "width",
]
