"""Real handwritten digits, of two classes or more: scikit-learn's, and MNIST from files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from kernelgap import _checks
from kernelgap._display import shown
from kernelgap._extras import missing_extra
from kernelgap.datasets import idx
from kernelgap.datasets.dataset import Dataset
from kernelgap.typing import DTypeLike


def digits(classes: Sequence[int] = tuple(range(10)), *, dtype: DTypeLike | None = None) -> Dataset:
    """Some classes of scikit-learn's 8x8 handwritten digits, as a first real data set.

    Pixels are divided by 16, so that they lie in [0, 1]. Of two classes the first is labelled +1
    and the second -1; of more the labels are 0, 1, 2, ... in the order of `classes`. The order of
    samples is scikit-learn's; shuffle and split them yourself.

    Args:
        classes: two or more different digits 0..9, as in `mnist`.
        dtype: floating dtype; JAX's default when None.

    Returns:
        `Dataset(x, y)` with x of shape (n, 64); n is about 180 for each class. y is floating for
        two classes, integer for more.

    Raises:
        ImportError: if scikit-learn is missing (extra `sklearn`).
        TypeError: if a class is not an integer, `classes` no sequence, or `dtype` not floating.
        ValueError: if a class is outside 0..9, there are fewer than two, or two are equal.

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
    dtype = _checks.floating_dtype(dtype)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing_extra("datasets.digits needs", "scikit-learn", "sklearn") from error
    images, labels = map(np.asarray, load_digits(return_X_y=True))
    keep = np.isin(labels, classes)
    return _labelled(images[keep] / 16, labels[keep], classes, dtype)


@shown
class Split(NamedTuple):
    """A data set that comes in two parts.

    Attributes:
        train: for training and validation.
        test: for the final error only.
    """

    train: Dataset
    test: Dataset


def mnist(
    path: str | os.PathLike,
    *,
    classes: Sequence[int] = tuple(range(10)),
    pixels: Literal["unit", "centered"] = "unit",
    dtype: DTypeLike | None = None,
) -> Split:
    """MNIST, or a data set published in the same form, from the four files in a folder of yours.

    The files are train-images-idx3-ubyte, train-labels-idx1-ubyte and the same with t10k; with or
    without .gz, and with .idx3 and .idx1 for -idx3 and -idx1. Nothing is downloaded.

    Args:
        path: the folder.
        classes: two or more different digits 0..9. As in `digits`, of two the first is
            labelled +1 and the second -1; of more the labels are their places 0, 1, 2, ....
        pixels: `"unit"` for pixels / 255, in [0, 1]; `"centered"` to subtract from these the mean
            image of the training set (of these classes) in both parts.
        dtype: floating dtype; JAX's default when None.

    Returns:
        `Split(train, test)` of `Dataset(x, y)`, x of shape (n, 784), in the order of the files: n
        is 60000 and 10000 for all classes of MNIST itself.

    Raises:
        TypeError: if `path` is no name, a class no integer, `classes` no sequence, or `dtype` not
            floating.
        NotADirectoryError: if `path` is no folder.
        FileNotFoundError: if one of the files is missing.
        ValueError: if a file is truncated, damaged, of another kind, has images of another size
            than 28 x 28, labels outside 0..9, or another number of labels than images; if
            `classes` are wrong or without an image, or `pixels` is unknown.

    Example:
        >>> import kernelgap as kg
        >>> train, test = kg.datasets.mnist("mnist", classes=(3, 8))  # doctest: +SKIP

    References:
        Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Proceedings of the IEEE 86(11), 1998.
    """
    classes = _checked_classes(classes)
    _checks.choice(pixels, "pixels", ("unit", "centered"))
    dtype = _checks.floating_dtype(dtype)
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` must be the name of a folder; got {type(path).__name__}")
    folder = Path(path)
    if not folder.is_dir():
        raise NotADirectoryError(f"`path` must be the folder of the MNIST files; {str(folder)!r} "
                                 "is no folder")  # fmt: skip
    files = [  # all of them are found before the first is read
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
        raise ValueError(f"{str(images_path)!r} must hold images of 28 x 28 pixels; "
                         f"got shape {images.shape}")  # fmt: skip
    if len(images) != len(labels):
        raise ValueError(f"{str(labels_path)!r} must hold a label for each image; "
                         f"got {len(labels)} labels for {len(images)} images")  # fmt: skip
    if labels.size and labels.max() > 9:
        raise ValueError(f"{str(labels_path)!r} must hold labels 0..9; got {labels.max()}")
    return images, labels


def _checked_classes(classes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise TypeError(f"`classes` must be a sequence of digits; got {classes!r:.40}")
    for digit in classes:
        if _checks.integer(digit, "classes", minimum=0) > 9:
            raise ValueError(f"`classes` must be digits 0..9; got {digit}")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"`classes` must be two or more different digits; got {classes}")
    return tuple(classes)


def _labelled(
    x: np.ndarray, digits: np.ndarray, classes: tuple[int, ...], dtype: np.dtype
) -> Dataset:
    """-1 and +1 for two classes, the first being +1; places among `classes` for more."""
    if len(classes) == 2:
        return Dataset(
            jnp.asarray(x, dtype), jnp.asarray(np.where(digits == classes[0], 1, -1), dtype)
        )
    place = {digit: k for k, digit in enumerate(classes)}
    return Dataset(jnp.asarray(x, dtype), jnp.asarray([place[digit] for digit in digits.tolist()]))
