"""Experiments, a room each: configuration, cells, summary, figure.

Every study has a `run(config, *, out=None, ...) -> Result` and a command, `kernelgap run NAME`.
"""

import os

from kernelgap.studies import (
    diversity,
    gap,
    margin_path,
    noisy_gd,
    regularization,
    saved,
    teacher,
    wide_mlp,
    width,
)
from kernelgap.studies.comparison import Comparison, compare
from kernelgap.studies.study import Result
from kernelgap.studies.study import Study as Study

STUDIES: dict[str, Study] = {
    room.STUDY.name: room.STUDY
    for room in (gap, margin_path, width, regularization, noisy_gd, teacher, diversity, wide_mlp)
}
"""All studies by name, as the command line lists them."""


def load(path: str | os.PathLike) -> Result:
    """A result of any study, read from where it was written; nothing is run.

    Args:
        path: the folder that was `out`, or the file NAME.json in it.

    Returns:
        The `Result`, with rows, summary and provenance as written; None in a summary is NaN.

    Raises:
        FileNotFoundError: if there is no such file or folder, or NAME.csv is missing beside
            NAME.json.
        TypeError: if `path` is no name.
        ValueError: if there is no result, or there are several; if a file is broken, of an unknown
            study, of a newer version, or the two files are not of the same run.

    Example:
        >>> import tempfile
        >>> from kernelgap.studies import load, noisy_gd
        >>> tiny = noisy_gd.NoisyGDConfig(
        ...     d=3, n=10, widths=(4,), steps=10, records=2, seeds=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = noisy_gd.run(tiny, out=folder)
        ...     load(folder).table() == result.table()
        True
    """
    return saved.load(path, STUDIES)


__all__ = [
    "STUDIES",
    "Comparison",
    "Result",
    "compare",
    "diversity",
    "gap",
    "load",
    "margin_path",
    "noisy_gd",
    "regularization",
    "teacher",
    "wide_mlp",
    "width",
]
