"""A Gram matrix on disk while it is being written.

`K.npy` is written as `K.npy.part`; `K.npy.part.json` says what it will be and how many rows (and,
of a symmetric matrix, columns) are done. A run that was killed goes on from there, and the name
`K.npy` appears only when all is there.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kernelgap.kernels.functions import KernelFunction
from kernelgap.kernels.kernel import Kernel


def describe(kernel: KernelFunction, x1: jax.Array, x2: jax.Array | None) -> dict[str, Any]:
    """What a Gram matrix is: shape, dtype, and a digest of the kernel and its inputs."""
    # A function's repr holds its address, which another process does not know.
    name = repr(kernel) if isinstance(kernel, Kernel) else _name(kernel)
    digest = hashlib.sha256(name.encode())
    for array in (*jax.tree.leaves(kernel), x1, *([] if x2 is None else [x2])):
        digest.update(np.ascontiguousarray(array).tobytes())
    return {
        "shape": [x1.shape[0], (x1 if x2 is None else x2).shape[0]],
        "dtype": str(x1.dtype),
        "symmetric": x2 is None,
        "inputs": digest.hexdigest(),
    }


def _name(function: Any) -> str:
    while hasattr(function, "func"):  # partials
        function = function.func
    return getattr(function, "__qualname__", type(function).__qualname__)


class GramArray:
    """A user's array, filled in place."""

    def __init__(self, array: np.ndarray, about: dict[str, Any], file_options: bool) -> None:
        if list(array.shape) != about["shape"] or array.dtype != about["dtype"]:
            raise ValueError(f"`out` must have shape {tuple(about['shape'])} and dtype "
                             f"{about['dtype']}; got {array.shape}, {array.dtype}")  # fmt: skip
        if not array.flags.writeable:
            raise ValueError("`out` must be writable; got a read-only array")
        if file_options:
            raise ValueError("`resume` and `overwrite` are about files; got an array as `out`")
        self.array, self.done = array, 0

    def open(self) -> np.ndarray:
        """The array to write a panel to."""
        return self.array

    def close(self, array: np.ndarray, done: int) -> None:
        """Note that `done` rows are written."""

    def finish(self) -> np.ndarray:
        """The whole matrix."""
        return self.array


class GramFile:
    """A `.npy` file with a note of what is done."""

    def __init__(
        self, out: str | os.PathLike, about: dict[str, Any], resume: bool, overwrite: bool
    ) -> None:
        self.path, self.about, self.done = Path(out), about, 0
        if self.path.suffix != ".npy":
            raise ValueError(f"`out` must be the name of a .npy file; got {str(out)!r}")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"the folder {str(self.path.parent)!r} of `out` does not exist")
        if self.path.exists() and not overwrite:
            raise FileExistsError(f"{str(self.path)!r} exists; pass overwrite=True to replace it")
        self._part = self.path.with_name(self.path.name + ".part")
        self._note = self.path.with_name(self.path.name + ".part.json")
        if self._note.exists() and resume:
            self._read()
        elif self._note.exists() and not overwrite:
            raise FileExistsError(f"{str(self._part)!r} is unfinished: pass resume=True to go on, "
                                  "or overwrite=True to start anew")  # fmt: skip
        else:
            self._note.unlink(missing_ok=True)
            shape = tuple(about["shape"])
            np.lib.format.open_memmap(self._part, "w+", np.dtype(about["dtype"]), shape)
            self._save(0)

    def _read(self) -> None:
        noted = json.loads(self._note.read_text())
        found = {name: noted.get(name) for name in self.about}
        if found != self.about:
            raise ValueError(f"the unfinished file {str(self._part)!r} belongs to another run; "
                             f"expected {self.about}, got {found}")  # fmt: skip
        held = np.load(self._part, mmap_mode="r")
        if list(held.shape) != self.about["shape"] or held.dtype != self.about["dtype"]:
            raise ValueError(
                f"{str(self._part)!r} must have shape {tuple(self.about['shape'])} and dtype "
                f"{self.about['dtype']}; got {held.shape}, {held.dtype}"
            )
        self.done = noted["done"]

    def open(self) -> np.ndarray:
        """The file, mapped anew for each panel: pages of a closed map no longer count as ours."""
        return np.load(self._part, mmap_mode="r+")

    def close(self, array: np.ndarray, done: int) -> None:
        """Put a panel on disk and note it."""
        assert isinstance(array, np.memmap)
        array.flush()
        self._save(done)

    def finish(self) -> np.ndarray:
        """Give the file its name."""
        os.replace(self._part, self.path)
        self._note.unlink()
        return np.load(self.path, mmap_mode="r")

    def _save(self, done: int) -> None:
        temporary = self._note.with_name(self._note.name + ".tmp")
        temporary.write_text(json.dumps(self.about | {"done": done}))
        os.replace(temporary, self._note)
