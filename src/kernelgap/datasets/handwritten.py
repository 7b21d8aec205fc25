"""Real handwritten digits, of two classes or more."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from kernelgap import _checks
from kernelgap.datasets.dataset import Dataset, floating_dtype


def digits(*classes: int, dtype: DTypeLike | None = None) -> Dataset:
    """Some classes of scikit-learn's 8x8 handwritten digits, as a first real data set.

    Pixels are divided by 16, so that they lie in [0, 1]. Of two classes the first is labelled +1
    and the second -1; of more the labels are 0, 1, 2, ... in the order of `classes`. The order of
    samples is scikit-learn's; shuffle and split them yourself.

    Args:
        *classes: two or more different digits 0..9.
        dtype: floating dtype; JAX's default when None.

    Returns:
        `Dataset(x, y)` with x of shape (n, 64); n is about 180 for each class. y is floating for
        two classes, integer for more.

    Raises:
        ImportError: if scikit-learn is missing (extra `sklearn`).
        TypeError: if a class is not an integer.
        ValueError: if a class is outside 0..9, there are fewer than two, or two are equal.

    Example:
        >>> import kernelgap as kg
        >>> x, y = kg.datasets.digits(3, 8)
        >>> x.shape
        (357, 64)
        >>> x, y = kg.datasets.digits(*range(10))
        >>> x.shape, int(y.max())
        ((1797, 64), 9)
    """
    for digit in classes:
        if _checks.integer(digit, "classes", minimum=0) > 9:
            raise ValueError(f"`classes` must be digits 0..9; got {digit}")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"`classes` must be two or more different digits; got {classes}")
    dtype = floating_dtype(dtype)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "datasets.digits needs scikit-learn: pip install 'kernelgap[sklearn]'"
        ) from error
    images, labels = load_digits(return_X_y=True)
    keep = np.isin(labels, classes)
    x = jnp.asarray(images[keep] / 16, dtype)
    if len(classes) == 2:
        return Dataset(x, jnp.asarray(np.where(labels[keep] == classes[0], 1, -1), dtype))
    place = {digit: k for k, digit in enumerate(classes)}
    return Dataset(x, jnp.asarray([place[digit] for digit in labels[keep]]))
