"""What of the extra `studies` is needed in many rooms, imported on use: axes, data frames, bars."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


def missing_extra(who_needs: str, package: str, extra: str = "studies") -> ImportError:
    """The error for an optional dependency that is not there."""
    return ImportError(f"{who_needs} {package}: pip install 'kernelgap[{extra}]'")


def axes(ax: Any) -> "Axes":
    """The axes that were given, or those of a new pyplot figure, which notebooks display."""
    if ax is None:
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise missing_extra("figures need", "matplotlib") from error
        return pyplot.subplots(layout="constrained")[1]
    if not hasattr(ax, "set_xlabel"):
        raise TypeError(f"`ax` must be a matplotlib Axes, or None for a new one; "
                        f"got {type(ax).__name__}")  # fmt: skip
    return ax


def curves(ax: "Axes", x: np.ndarray, y: np.ndarray, look: dict[str, Any]) -> None:
    """One line for each curve of y, of shape (..., len), against x of shape (..., len)."""
    x, y = np.broadcast_arrays(x, y)
    lines = zip(x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]), strict=True)
    for along, values in lines:
        ax.plot(along, values, **look)


def data_frame(columns: Mapping[str, Any], axis: str = "seed") -> "DataFrame":
    """Columns of one shape, (len,) or (batch, len), as a pandas DataFrame.

    A row per entry; batches are told apart by the columns `axis`, or `axis0`, `axis1`, ... .
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise missing_extra("data frames need", "pandas") from error
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
    return _tqdm()(total=total, initial=done, desc=name, unit=unit, file=sys.stderr)


def _tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise missing_extra("progress bars need", "tqdm") from error
    return tqdm


def heartbeat(total: int, name: str, *, unit: str, shown: bool) -> Callable[[jax.Array], None]:
    """A progress bar for compiled loops: call it in the loop with the number of rounds done.

    Under vmap that number is the same for the whole batch, so that one bar shows the loop, once.
    It moves about a hundred times. Unless `shown`, nothing is traced.
    """
    if not shown:
        return lambda done: None
    every = max(1, total // 100)
    host = _HostBar(total, name, unit)

    def beat(done: jax.Array) -> None:
        due = (done % every == 0) | (done == total)
        jax.lax.cond(due, lambda: jax.debug.callback(host, done), lambda: None)

    return beat


class _HostBar:
    """The bar of a compiled loop, which may run again, or anew after it was interrupted."""

    def __init__(self, total: int, name: str, unit: str) -> None:
        self._open = partial(bar, total, name, unit=unit, shown=True)
        _tqdm()  # if it is missing, say so now
        self._total, self._bar, self._done = total, None, 0

    def __call__(self, done: Any) -> None:
        done = int(done)
        if self._bar is not None and done <= self._done:
            self._bar.close()
            self._bar = None
        if self._bar is None:
            self._bar, self._done = self._open(), 0
        self._bar.update(done - self._done)
        self._done = done
        if done >= self._total:
            self._bar.close()
            self._bar = None


class _Silent(contextlib.AbstractContextManager):
    def update(self, n: int = 1) -> None:
        """Nothing to show."""

    def __exit__(self, *exception: object) -> None:
        """Nothing to close."""
