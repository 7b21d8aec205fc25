"""Proof files of bounds for Gram matrices: the margin of a kernel machine, the spectrum."""

import math
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from kernelgap._numerics import array_checks
from kernelgap.bounds import EigenvalueEnclosure
from kernelgap.predictors import KernelPredictor
from kernelgap.proofs.exact import exactly
from kernelgap.proofs.verdict import Verdict, checked_path, write_first_proved
from kernelgap.typing import ArrayLike

_LOSSES = (1e-15, 1e-14, 1e-12, 1e-9)  # of float64 in sums of n terms, relatively


def write_svm(
    path: str | os.PathLike,
    predictor: KernelPredictor,
    y: ArrayLike,
    *,
    overwrite: bool = False,
) -> Verdict:
    """Write a file that proves both ends of the largest margin of a kernel machine.

    The claim is about the Gram matrix as the kernel evaluates it, symmetrised, which the file
    holds: for every f in the span of the kernel at the inputs, min_i y_i f(x_i) / ||f|| is at most
    `upper`, and the machine reaches `lower`. It assumes that this matrix is positive semidefinite,
    as that of an exact kernel is; `write_eigenvalues` can prove that it is.

    Args:
        path: Name of the file, ending in `.json`.
        predictor: The result of `predictors.hard_margin_svm` for labels -1 and +1.
        y: The labels (n,).
        overwrite: Replace a file of that name.

    Returns:
        The `Verdict` of the checker on the file.

    Raises:
        ValueError: If the predictor has several machines, or is one without a margin.
        FileExistsError: If the file exists and `overwrite` is False.
        RuntimeError: If the checker refuses the file, as where the labels are not those of the
            machine. No file is left then.

    Example:
        >>> import tempfile, pathlib, jax, kernelgap as kg
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 60, 6)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
        >>> svm = kg.predictors.hard_margin_svm(kernel, x, y)
        >>> verdict = kg.proofs.write_svm(folder / "svm.json", svm, y)
        >>> bool(1 <= verdict.upper / verdict.lower < 1.001)
        True

    References:
        Weak duality of the hard-margin SVM (recalled).
    """
    path = checked_path(path, overwrite)
    if not isinstance(predictor, KernelPredictor):
        raise TypeError(f"`predictor` must be a KernelPredictor; got {type(predictor).__name__}")
    x, coef = np.asarray(predictor.x), np.asarray(predictor.coef, np.float64)
    if coef.ndim != 1 or not np.isfinite(coef).all() or not coef.any():
        raise ValueError("`predictor` must be one machine with finite coefficients; its `coef` has "
                         f"shape {coef.shape}. For several classes write one file for each, with "
                         "predictor._replace(coef=predictor.coef[:, k])")  # fmt: skip
    y = np.asarray(array_checks.signs(y, len(x)), np.float64)
    gram = np.asarray(predictor.kernel(jax.numpy.asarray(x)), np.float64)
    gram = (gram + gram.T) / 2
    p, image = np.maximum(y * coef, 0), gram @ coef
    lower = max(float(np.min(y * image)), 0.0) / math.sqrt(max(coef @ image, 1e-300))
    upper = math.sqrt(max((y * p) @ gram @ (y * p), 0.0)) / max(p.sum(), 1e-300)

    def claims() -> Iterator[dict[str, Any]]:
        data = {"gram": exactly(gram), "y": {"exponent": 0, "entries": y.astype(int).tolist()}}
        for loss in _LOSSES:
            yield data | {
                "lower": {"value": exactly(lower * (1 - loss)), "coef": exactly(coef)},
                "upper": {"value": exactly(upper * (1 + loss)), "coef": exactly(y * p)},
            }

    return write_first_proved(path, "svm", claims())


def write_eigenvalues(
    path: str | os.PathLike,
    enclosure: EigenvalueEnclosure,
    gram: ArrayLike,
    *,
    overwrite: bool = False,
) -> Verdict:
    """Write a file that proves both ends of the spectrum of a Gram matrix.

    The file holds the matrix, symmetrised, and is about it alone. `enclosure` is about all matrices
    within `gram_error` of it, so the ends in the file are its ends without that error; by Weyl's
    inequality the latter follow. The checker factorises the matrix in integers, which takes it
    about a second for n = 400.

    Args:
        path: Name of the file, ending in `.json`.
        enclosure: The result of `bounds.eigenvalue_enclosure`.
        gram: The matrix (n, n), or (n, n, k, k), that it is about.
        overwrite: Replace a file of that name.

    Returns:
        The `Verdict` of the checker on the file.

    Raises:
        FileExistsError: If the file exists and `overwrite` is False.
        RuntimeError: If the checker refuses the file, as where the matrix is not that of the
            enclosure. No file is left then.

    Example:
        >>> import tempfile, pathlib, numpy as np, kernelgap as kg
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "spectrum.json"
        >>> gram = np.array([[2.0, 1.0], [1.0, 2.0]])
        >>> verdict = kg.proofs.write_eigenvalues(path, kg.bounds.eigenvalue_enclosure(gram), gram)
        >>> print(f"{verdict.lower:.6f} {verdict.upper:.6f}")
        1.000000 3.000000
    """
    path = checked_path(path, overwrite)
    if not isinstance(enclosure, EigenvalueEnclosure):
        raise TypeError("`enclosure` must be an EigenvalueEnclosure; "
                        f"got {type(enclosure).__name__}")  # fmt: skip
    array_checks.gram(gram)
    matrix = np.asarray(gram, np.float64)
    if matrix.ndim == 4:
        n, _, k, _ = matrix.shape
        matrix = matrix.transpose(0, 2, 1, 3).reshape(n * k, n * k)
    matrix = (matrix + matrix.T) / 2
    lower = math.nextafter(enclosure.lower + enclosure.gram_error, -math.inf)
    upper = math.nextafter(enclosure.upper - enclosure.gram_error, math.inf)
    ends = {"lower": {"value": exactly(lower)}, "upper": {"value": exactly(upper)}}
    return write_first_proved(path, "eigenvalues", [{"gram": exactly(matrix)} | ends])
