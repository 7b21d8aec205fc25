"""Experiments that can be resumed, loaded and compared, and the classes to write your own.

Every study is a `Study` with a `run`, and a command, `kernelgap run NAME`.
"""

import os

from kernelgap.studies import (
    diversity,
    gap,
    margin_path,
    noisy_gd,
    regularization,
    study,
    teacher,
    wide_mlp,
    width,
)
from kernelgap.studies.comparison import Comparison, compare
from kernelgap.studies.estimates import POSITIVE, REAL, SHARE, Estimate, means
from kernelgap.studies.execution import Cell
from kernelgap.studies.options import Config, option
from kernelgap.studies.panels import Curve, Panel
from kernelgap.studies.seeds import over_seeds
from kernelgap.studies.study import Result, Study
from kernelgap.studies.tables import Table

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (gap, margin_path, width, regularization, noisy_gd, teacher, diversity, wide_mlp)
}
"""All studies by name, as the command line lists them."""


def load(path: str | os.PathLike, own: Study | None = None) -> Result:
    """Load the result of a study from its files; nothing is run.

    Args:
        path: the folder `out` of the run, or the file NAME.json in it.
        own: the study, if it is not one of `STUDIES`.

    Raises:
        FileNotFoundError: If there is no such file or folder, or NAME.journal.jsonl is missing
            beside NAME.json.
        ValueError: If there is no result, or there are several; if a file is broken, belongs to an
            unknown study or a newer version, or the two files belong to different runs.

    Example:
        >>> import tempfile
        >>> from kernelgap.studies import load, noisy_gd
        >>> tiny = noisy_gd.NoisyGDConfig(
        ...     d=3, n=10, widths=(4,), steps=10, records=2, seeds=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = noisy_gd.STUDY.run(tiny, out=folder)
        ...     load(folder).table() == result.table()
        True
    """
    if own is not None and not isinstance(own, Study):
        raise TypeError(f"`own` must be a Study, or None; got {type(own).__name__}")
    return study.load(path, STUDIES if own is None else {own.name: own})


__all__ = [
    "POSITIVE",
    "REAL",
    "SHARE",
    "STUDIES",
    "Cell",
    "Comparison",
    "Config",
    "Curve",
    "Estimate",
    "Panel",
    "Result",
    "Study",
    "Table",
    "compare",
    "diversity",
    "gap",
    "load",
    "margin_path",
    "means",
    "noisy_gd",
    "option",
    "over_seeds",
    "regularization",
    "teacher",
    "wide_mlp",
    "width",
]
