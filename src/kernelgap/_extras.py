"""What of the extra `studies` is needed in many rooms, imported on use: axes, data frames, bars."""

import contextlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


def missing_extra(what: str, package: str) -> ImportError:
    """The error for an optional dependency that is not there."""
    return ImportError(f"{what} need {package}: pip install 'kernelgap[studies]'")


def axes(ax: Any) -> "Axes":
    """The axes that were given, or those of a new pyplot figure, which notebooks display."""
    if ax is None:
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise missing_extra("figures", "matplotlib") from error
        return pyplot.subplots(layout="constrained")[1]
    if not hasattr(ax, "set_xlabel"):
        raise TypeError(f"`ax` must be a matplotlib Axes, or None for a new one; "
                        f"got {type(ax).__name__}")  # fmt: skip
    return ax


def curves(ax: "Axes", x: np.ndarray, y: np.ndarray, **look: Any) -> None:
    """One line for each curve of y, of shape (..., len), against x of shape (..., len)."""
    x, y = np.broadcast_arrays(x, y)
    lines = zip(x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]), strict=True)
    for k, (along, values) in enumerate(lines):
        ax.plot(along, values, **look | ({"label": None} if k else {}))


def data_frame(columns: Mapping[str, Any], axis: str = "seed") -> "DataFrame":
    """Columns of one shape, (len,) or (batch, len), as a pandas DataFrame.

    A row per entry; batches are told apart by the columns `axis`, or `axis0`, `axis1`, ... .
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise missing_extra("data frames", "pandas") from error
    arrays = [np.asarray(column) for column in columns.values()]
    arrays = dict(zip(columns, np.broadcast_arrays(*arrays), strict=True))
    *batch, _ = shape = next(iter(arrays.values())).shape
    names = [axis] if len(batch) == 1 else [f"{axis}{k}" for k in range(len(batch))]
    indices = np.indices(shape)
    labels = {name: indices[k].ravel() for k, name in enumerate(names)}
    return DataFrame(labels | {name: array.ravel() for name, array in arrays.items()})


def bar(total: int, name: str, *, unit: str, done: int = 0, shown: bool) -> Any:
    """A progress bar on stderr, to be used in `with`; unless `shown`, one that prints nothing."""
    if not shown:
        return _Silent()
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise missing_extra("progress bars", "tqdm") from error
    return tqdm(total=total, initial=done, desc=name, unit=unit, file=sys.stderr)


class _Silent(contextlib.AbstractContextManager):
    def update(self, n: int = 1) -> None:
        """Nothing to show."""

    def __exit__(self, *exception: object) -> None:
        """Nothing to close."""
