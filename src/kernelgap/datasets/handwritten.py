"""Handwritten digits: scikit-learn's 8x8 images, and MNIST from local files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.extras import missing_extra
from kernelgap._support.registry import saveable
from kernelgap.datasets import idx
from kernelgap.datasets.dataset import Dataset
from kernelgap.typing import DTypeLike


def digits(classes: Sequence[int] = tuple(range(10)), *, dtype: DTypeLike | None = None) -> Dataset:
    """Load scikit-learn's 8x8 handwritten digits (extra `sklearn`), or some classes of them.

    Pixels are divided by 16, so that they lie in [0, 1]. If there are two classes, the first is
    labelled +1 and the second -1; otherwise the labels are 0, 1, 2, ... in the order of `classes`.
    Samples come in scikit-learn's order; shuffle and split them yourself.

    Args:
        classes: Two or more different digits 0..9.
        dtype: Floating dtype; JAX's default when None.

    Returns:
        `Dataset(x, y)` with x of shape (n, 64), about 180 samples per class. y is floating-point
        for two classes and integer for more.

    Example:
        >>> import kernelgap as kg
        >>> x, y = kg.datasets.digits((3, 8))
        >>> x.shape
        (357, 64)
        >>> x, y = kg.datasets.digits()
        >>> x.shape, int(y.max())
        ((1797, 64), 9)
    """
    classes = _checked_classes(classes)
    dtype = array_checks.floating_dtype(dtype)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing_extra("datasets.digits needs", "scikit-learn", "sklearn") from error
    images, labels = map(np.asarray, load_digits(return_X_y=True))
    keep = np.isin(labels, classes)
    return _labelled(images[keep] / 16, labels[keep], classes, dtype)


@saveable()
class Split(NamedTuple):
    """A data set in two parts.

    Attributes:
        train: Samples for training and validation.
        test: Samples for the final test error.
    """

    train: Dataset
    test: Dataset

    __repr__ = compact_repr
    _repr_html_ = html_repr


def mnist(
    path: str | os.PathLike,
    *,
    classes: Sequence[int] = tuple(range(10)),
    pixels: Literal["unit", "centered"] = "unit",
    dtype: DTypeLike | None = None,
) -> Split:
    """Load MNIST, or a data set published in the same format, from four files in a folder.

    The files are train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
    t10k-labels-idx1-ubyte, with or without .gz; .idx3 and .idx1 in place of -idx3 and -idx1 are
    accepted too. Nothing is downloaded.

    Args:
        path: The folder.
        classes: Two or more different digits 0..9, labelled as in `digits`.
        pixels: `"unit"` divides pixels by 255, so that they lie in [0, 1]; `"centered"` also
            subtracts the mean image of the training set (of these classes) from both parts.
        dtype: Floating dtype; JAX's default when None.

    Returns:
        `Split(train, test)` of `Dataset(x, y)` with x of shape (n, 784), in the order of the files.
        All classes of MNIST itself have n = 60000 and 10000.

    Raises:
        NotADirectoryError: If `path` is not a folder.
        FileNotFoundError: If one of the four files is missing.
        ValueError: If a file is damaged, or images and labels are not those of 28 x 28 digits.

    Example:
        >>> import kernelgap as kg
        >>> train, test = kg.datasets.mnist("mnist", classes=(3, 8))  # doctest: +SKIP

    References:
        Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Proceedings of the IEEE 86(11), 1998.
    """
    classes = _checked_classes(classes)
    checks.choice(pixels, "pixels", ("unit", "centered"))
    dtype = array_checks.floating_dtype(dtype)
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` must be the name of a folder; got {type(path).__name__}")
    folder = Path(path)
    if not folder.is_dir():
        raise NotADirectoryError(
            f"`path` must be the folder of the MNIST files; {str(folder)!r} is not a folder"
        )
    files = [  # locate all files before reading the first
        (idx.find(folder, f"{part}-images", 3), idx.find(folder, f"{part}-labels", 1))
        for part in ("train", "t10k")
    ]
    shades = (np.arange(256) / 255).astype(dtype)
    mean, parts = None, []
    for images_path, labels_path in files:
        images, labels = _images_and_labels(images_path, labels_path)
        keep = np.isin(labels, classes)
        if not keep.any():
            raise ValueError(f"{str(labels_path)!r} has no image of the classes {classes}")
        x = shades[images[keep].reshape(-1, 28 * 28)]
        if pixels == "centered":
            mean = np.mean(x, axis=0, dtype=float).astype(dtype) if mean is None else mean
            x -= mean
        parts.append(_labelled(x, labels[keep], classes, dtype))
    return Split(*parts)


def _images_and_labels(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = idx.read(images_path, 3), idx.read(labels_path, 1)
    if images.shape[1:] != (28, 28):
        raise ValueError(
            f"{str(images_path)!r} must hold images of 28 x 28 pixels; got shape {images.shape}"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{str(labels_path)!r} must hold a label for each image; "
            f"got {len(labels)} labels for {len(images)} images"
        )
    if labels.size and labels.max() > 9:
        raise ValueError(f"{str(labels_path)!r} must hold labels 0..9; got {labels.max()}")
    return images, labels


def _checked_classes(classes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise TypeError(f"`classes` must be a sequence of digits; got {classes!r:.40}")
    for digit in classes:
        if checks.integer(digit, "classes", minimum=0) > 9:
            raise ValueError(f"`classes` must be digits 0..9; got {digit}")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"`classes` must be two or more different digits; got {classes}")
    return tuple(classes)


def _labelled(
    x: np.ndarray, digits: np.ndarray, classes: tuple[int, ...], dtype: np.dtype
) -> Dataset:
    """Label two classes +1 and -1; label more by their positions in `classes`."""
    if len(classes) == 2:
        return Dataset(
            jnp.asarray(x, dtype), jnp.asarray(np.where(digits == classes[0], 1, -1), dtype)
        )
    labels = {digit: k for k, digit in enumerate(classes)}
    return Dataset(jnp.asarray(x, dtype), jnp.asarray([labels[digit] for digit in digits.tolist()]))
