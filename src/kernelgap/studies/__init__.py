"""Experiments that can be resumed, loaded and compared, and the classes to write your own.

A study is a module with its configuration and its `STUDY`, and a command, `kernelgap run NAME`:

- `gap`: test error against the number of samples, network against kernel;
- `margin_path`: margins as the regularisation vanishes, against the largest;
- `width`: margin, test error and bound against the width;
- `regularization`: the same large start, with weight decay and without;
- `noisy_gd`: gradient descent against the perturbed flow and Langevin dynamics;
- `teacher`: network against kernels on labels from a small network;
- `diversity`: the spectrum of the kernel of diverse units, their training and test errors;
- `wide_mlp`: gradient descent on deep networks of growing width;
- `lr_transfer`: the best learning rate as networks widen, in three parameterizations.

`STUDIES` has them by name. `run` returns a `Result`, `kernelgap.load` reads it from its files, and
`compare` puts two side by side. To write your
own, declare a `Config` with an `option` for each field, and describe a `Study` by its `Cell`s,
`Estimate`s, `Table`s and `Panel`s of `Curve`s; `over_seeds` and `means` do the work for all seeds.
"""

import os

from kernelgap._support.registry import register_reader
from kernelgap.studies import (
    diversity,
    gap,
    lr_transfer,
    margin_path,
    noisy_gd,
    regularization,
    study,
    teacher,
    wide_mlp,
    width,
)
from kernelgap.studies.comparison import Comparison as Comparison, compare
from kernelgap.studies.estimates import Estimate, means
from kernelgap.studies.execution import Cell
from kernelgap.studies.options import Config, option
from kernelgap.studies.panels import Curve, Panel
from kernelgap.studies.seeds import over_seeds
from kernelgap.studies.study import Result, Study
from kernelgap.studies.tables import Table

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (
        gap,
        margin_path,
        width,
        regularization,
        noisy_gd,
        teacher,
        diversity,
        wide_mlp,
        lr_transfer,
    )
}
"""All studies by name, as the command line lists them."""


def _load(path: str | os.PathLike, own: Study | None) -> Result:
    if own is not None and not isinstance(own, Study):
        raise TypeError(f"`study` must be a Study, or None; got {type(own).__name__}")
    return study.load(path, STUDIES if own is None else {own.name: own})


register_reader("study", _load)


__all__ = [
    "STUDIES",
    "Cell",
    "Config",
    "Curve",
    "Estimate",
    "Panel",
    "Result",
    "Study",
    "Table",
    "compare",
    "means",
    "option",
    "over_seeds",
]
