"""Lazy imports of optional dependencies: figures, data frames and progress bars."""

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
    """Build the error for a missing optional dependency."""
    return ImportError(f"{who_needs} {package}: pip install 'kernelgap[{extra}]'")


def get_axes(ax: Any) -> "Axes":
    """Return `ax`, or the axes of a new pyplot figure if it is None."""
    if ax is None:
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise missing_extra("figures need", "matplotlib") from error
        return pyplot.subplots(layout="constrained")[1]
    if not hasattr(ax, "set_xlabel"):
        raise TypeError(
            f"`ax` must be a matplotlib Axes, or None for a new one; got {type(ax).__name__}"
        )
    return ax


def plot_curves(ax: "Axes", x: np.ndarray, y: np.ndarray, style: dict[str, Any]) -> None:
    """Plot each curve of y, of shape (..., len), against x of shape (..., len)."""
    x, y = np.broadcast_arrays(x, y)
    lines = zip(x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]), strict=True)
    for abscissae, values in lines:
        ax.plot(abscissae, values, **style)


def data_frame(columns: Mapping[str, Any], axis: str = "seed") -> "DataFrame":
    """Return columns of one shape, (len,) or (batch, len), as a DataFrame with a row per entry.

    The column `axis` holds the batch index; if there are several batch axes, `axis0`, `axis1`, ...
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


def progress_bar(total: int, name: str, *, unit: str, done: int = 0, enabled: bool) -> Any:
    """Return a progress bar on stderr, for use in `with`; it prints nothing unless `enabled`."""
    if not enabled:
        return _Silent()
    return _tqdm()(total=total, initial=done, desc=name, unit=unit, file=sys.stderr)


def _tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise missing_extra("progress bars need", "tqdm") from error
    return tqdm


def heartbeat(total: int, name: str, *, unit: str, enabled: bool) -> Callable[[jax.Array], None]:
    """Return a progress bar for compiled loops, to be called with the number of rounds done.

    Under vmap that number is the same for the whole batch, so that a single bar shows the loop. The
    bar moves about a hundred times. Unless `enabled`, nothing is traced.
    """
    if not enabled:
        return lambda done: None
    every = max(1, total // 100)
    host = _HostBar(total, name, unit)

    def beat(done: jax.Array) -> None:
        due = (done % every == 0) | (done == total)
        jax.lax.cond(due, lambda: jax.debug.callback(host, done), lambda: None)

    return beat


class _HostBar:
    """The bar of a compiled loop, which may run again or restart after an interruption."""

    def __init__(self, total: int, name: str, unit: str) -> None:
        self._open = partial(progress_bar, total, name, unit=unit, enabled=True)
        _tqdm()  # raise now if it is missing
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
        """Do nothing."""

    def __exit__(self, *exception: object) -> None:
        """Do nothing."""
