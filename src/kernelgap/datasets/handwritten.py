"""Real handwritten digits, two classes at a time."""

import jax.numpy as jnp
from jax.typing import DTypeLike

from kernelgap import _checks
from kernelgap.datasets.dataset import Dataset, floating_dtype


def digits(a: int, b: int, *, dtype: DTypeLike | None = None) -> Dataset:
    """Two classes of scikit-learn's 8x8 handwritten digits, as a first real data set.

    Pixels are divided by 16, so that they lie in [0, 1]; class `a` is +1 and class `b` is -1.
    The order is scikit-learn's; shuffle and split it yourself.

    Args:
        a: the digit labelled +1, in 0..9.
        b: the digit labelled -1, in 0..9 and different from `a`.
        dtype: floating dtype; JAX's default when None.

    Returns:
        `Dataset(x, y)` with x of shape (n, 64); n is about 360.

    Raises:
        ImportError: if scikit-learn is missing (extra `sklearn`).
        TypeError: if `a` or `b` is not an integer.
        ValueError: if `a` or `b` is outside 0..9, or they are equal.

    Example:
        >>> import kernelgap as kg
        >>> x, y = kg.datasets.digits(3, 8)
        >>> x.shape
        (357, 64)
    """
    for name, digit in (("a", a), ("b", b)):
        if _checks.integer(digit, name, minimum=0) > 9:
            raise ValueError(f"`{name}` must be a digit 0..9; got {digit}")
    if a == b:
        raise ValueError(f"`a` and `b` must be two different digits; got {a} twice")
    dtype = floating_dtype(dtype)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "datasets.digits needs scikit-learn: pip install 'kernelgap[sklearn]'"
        ) from error
    images, labels = load_digits(return_X_y=True)
    keep = (labels == a) | (labels == b)
    x = jnp.asarray(images[keep] / 16, dtype)
    return Dataset(x, jnp.where(jnp.asarray(labels[keep] == a), 1, -1).astype(dtype))
