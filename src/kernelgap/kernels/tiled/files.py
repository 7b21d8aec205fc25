"""A Gram matrix on disk while it is being written.

`K.npy` is written as `K.npy.part`; `K.npy.part.json` describes the matrix and states how many rows
(and columns, if it is symmetric) are done. A run that was killed can be resumed from there. The
file `K.npy` exists only once it is complete.
"""

import errno
import hashlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kernelgap.kernels.functions import KernelFunction, checked_block
from kernelgap.kernels.kernel import Kernel

_PROBES = 8  # inputs of each set at which two kernels are compared


def describe(
    kernel: KernelFunction, x1: jax.Array, x2: jax.Array | None, tile: int
) -> dict[str, Any]:
    """Describe a Gram matrix: shape, dtype, tile, a digest of the inputs, and sample values."""
    digest = hashlib.sha256(repr(kernel).encode() if isinstance(kernel, Kernel) else b"")
    for array in (*jax.tree.leaves(kernel), x1, *([] if x2 is None else [x2])):
        digest.update(np.ascontiguousarray(array).tobytes())
    # The name of a function does not identify it in another process, but its values do.
    rows, columns = (
        side[np.linspace(0, len(side) - 1, _PROBES).astype(int)]
        for side in (x1, x1 if x2 is None else x2)
    )
    values = np.asarray(checked_block(kernel, rows, columns))
    return {
        "shape": [x1.shape[0], (x1 if x2 is None else x2).shape[0]],
        "dtype": str(x1.dtype),
        "symmetric": x2 is None,
        "tile": tile,
        "inputs": digest.hexdigest(),
        "values": values.astype(float).ravel().tolist(),
    }


class GramArray:
    """A user's array, filled in place."""

    def __init__(
        self, array: np.ndarray, shape: tuple[int, int], dtype: np.dtype, file_options: bool
    ) -> None:
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"`out` must have shape {shape} and dtype {dtype}; "
                             f"got {array.shape}, {array.dtype}")  # fmt: skip
        if not array.flags.writeable:
            raise ValueError("`out` must be writable; got a read-only array")
        if file_options:
            raise ValueError("`resume` and `overwrite` need a file as `out`; got an array as `out`")
        self.array, self.done = array, 0

    def write(self, top: int, left: int, block: np.ndarray) -> None:
        """Put a block in its place."""
        _put(self.array, top, left, block)

    def keep(self, done: int) -> None:
        """Note that `done` rows are written."""
        self.done = done

    def what_is_kept(self) -> str:
        """Describe the state that an interrupted run leaves."""
        return f"rows 0 to {self.done} of `out` are filled"

    def finish(self) -> np.ndarray:
        """Return the whole matrix."""
        return self.array


class GramFile:
    """A `.npy` file with a note of the rows that are done."""

    def __init__(
        self, out: str | os.PathLike, about: dict[str, Any], *, resume: bool, overwrite: bool
    ) -> None:
        self.path, self.about, self.done = checked_path(out), about, 0
        if self.path.exists() and not overwrite:
            raise FileExistsError(f"{str(self.path)!r} exists; pass overwrite=True to replace it")
        self._part = self.path.with_name(self.path.name + ".part")
        self._note = self.path.with_name(self.path.name + ".part.json")
        unfinished = self._note.exists() and self._part.exists()
        if unfinished and resume:
            self._read()
        elif unfinished and not overwrite:
            raise FileExistsError(f"{str(self._part)!r} is unfinished: pass resume=True to go on, "
                                  "or overwrite=True to start anew")  # fmt: skip
        else:
            self._create()

    def _create(self) -> None:
        self._note.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)
        shape, dtype = tuple(self.about["shape"]), np.dtype(self.about["dtype"])
        # Writing to a memory-map on a full disk would kill the process without a message.
        needed, free = math.prod(shape) * dtype.itemsize, shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise OSError(errno.ENOSPC, f"{str(self.path)!r} takes {needed / 2**30:.2f} GiB and "
                                        f"{free / 2**30:.2f} GiB are free")  # fmt: skip
        np.lib.format.open_memmap(self._part, "w+", dtype, shape)
        self._save(0)

    def _read(self) -> None:
        noted = json.loads(self._note.read_text())
        wrong = [name for name in self.about if not _agree(name, noted.get(name), self.about[name])]
        if wrong:
            received, expected = ({n: note.get(n) for n in wrong} for note in (noted, self.about))
            raise ValueError(f"the unfinished file {str(self._part)!r} belongs to another run: "
                             f"it has {received}, this one {expected}")  # fmt: skip
        held = np.load(self._part, mmap_mode="r")
        if list(held.shape) != self.about["shape"] or held.dtype != self.about["dtype"]:
            raise ValueError(
                f"{str(self._part)!r} must have shape {tuple(self.about['shape'])} and dtype "
                f"{self.about['dtype']}; got {held.shape}, {held.dtype}"
            )
        self.done = noted["done"]

    def write(self, top: int, left: int, block: np.ndarray) -> None:
        """Put a block in its place, by a new memory-map: closing it releases its pages."""
        _put(np.load(self._part, mmap_mode="r+"), top, left, block)

    def keep(self, done: int) -> None:
        """Wait until all rows written are on disk, and note their number."""
        with self._part.open("rb+") as file:
            os.fsync(file.fileno())
        self._save(done)
        self.done = done

    def what_is_kept(self) -> str:
        """Describe the state that an interrupted run leaves."""
        rows = f"{self.done} of {self.about['shape'][0]} rows"
        return f"{rows} are safe in {str(self._part)!r}: call again with resume=True"

    def finish(self) -> np.ndarray:
        """Give the file its final name. A note that a kill leaves without its file is ignored."""
        os.replace(self._part, self.path)
        self._note.unlink()
        return np.load(self.path, mmap_mode="r")

    def _save(self, done: int) -> None:
        temporary = self._note.with_name(self._note.name + ".tmp")
        temporary.write_text(json.dumps(self.about | {"done": done}))
        os.replace(temporary, self._note)


def _put(array: np.ndarray, top: int, left: int, block: np.ndarray) -> None:
    array[top : top + block.shape[0], left : left + block.shape[1]] = block


def checked_path(out: str | os.PathLike) -> Path:
    """Return the path of a `.npy` file in a folder that exists."""
    if not isinstance(out, str | os.PathLike):
        raise TypeError(f"`out` must be the name of a .npy file or a NumPy array; "
                        f"got {type(out).__name__}")  # fmt: skip
    path = Path(out)
    if path.suffix != ".npy":
        raise ValueError(f"`out` must be the name of a .npy file; got {str(out)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {str(path.parent)!r} of `out` does not exist")
    return path


def _agree(name: str, noted: Any, own: Any) -> bool:
    if name != "values":
        return noted == own
    if not isinstance(noted, list) or len(noted) != len(own):
        return False
    # Rounding differs from run to run, because compilers choose the order of operations.
    return bool(np.allclose(noted, own, rtol=1e-4, atol=1e-6 * np.max(np.abs(own))))
