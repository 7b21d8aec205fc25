"""Results on disk: a journal that survives a kill."""

import contextlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Row = dict[str, Any]


class CellResult(NamedTuple):
    """The rows of a cell, and the seconds it took to compile and to run."""

    rows: list[Row]
    compile_s: float
    run_s: float


class Journal(contextlib.AbstractContextManager):
    """Finished cells of a run, a line each, synced to disk one by one.

    A killed run loses the cells under way and nothing else: a last line cut short is dropped. The
    first line is the header, which names the study and its configuration.

    Args:
        out: the folder, made if need be; None keeps the journal in memory.
        header: JSON-able, with a dict under "config".
        resume: go on from a journal with the same header, if there is one.
        overwrite: start anew over an existing journal.

    Raises:
        FileExistsError: if the folder holds a journal and neither flag is given.
        NotADirectoryError, PermissionError: if the folder cannot be made or written.
        ValueError: if the journal to resume is another configuration's, or unreadable.
    """

    def __init__(
        self,
        out: str | os.PathLike | None,
        header: dict[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
    ):
        self.done: dict[tuple, CellResult] = {}
        self._file: Any = None
        if out is None:
            return
        path = prepare_folder(out) / f"{header['study']}.journal.jsonl"
        if path.exists() and not (resume or overwrite):
            raise FileExistsError(
                f"`out` {os.fspath(out)!r} holds a {header['study']} run already: "
                "`resume` it, `overwrite` it, or choose another folder"
            )
        if resume and path.exists() and self._read(path, header):
            self._file = path.open("ab")
        else:
            self._file = path.open("wb")
            self._append(header)

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, identity: tuple, result: CellResult) -> None:
        """Remember a finished cell, on disk first."""
        self._append({"cell": list(identity)} | result._asdict())
        self.done[identity] = result

    def _append(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def _read(self, path: Path, header: dict[str, Any]) -> bool:
        """Take over what `path` holds; False if it was killed before its first line was whole."""
        *lines, tail = path.read_bytes().split(b"\n")
        if not lines:
            return False
        try:
            found, *entries = (json.loads(line) for line in lines)
            done = {
                tuple(e["cell"]): CellResult(e["rows"], e["compile_s"], e["run_s"]) for e in entries
            }
            differences = _differences(found, header)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{str(path)!r} is no journal that this version can read ({error!r}); "
                "overwrite it, or choose another folder"
            ) from error
        if differences:
            raise ValueError(
                f"`out` {str(path.parent)!r} holds a run of another configuration: "
                + "; ".join(differences)
            )
        if tail:
            os.truncate(path, path.stat().st_size - len(tail))
        self.done = done
        return True


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    there = {k: v for k, v in found.items() if k != "config"} | found["config"]
    here = {k: v for k, v in wanted.items() if k != "config"} | wanted["config"]
    return [
        f"{k} is {there.get(k)!r} there and {here.get(k)!r} here"
        for k in sorted(there.keys() | here.keys())
        if there.get(k) != here.get(k)
    ]


def prepare_folder(out: str | os.PathLike) -> Path:
    """The folder, made if need be, and shown to be writable by writing to it."""
    if not isinstance(out, str | os.PathLike):
        raise TypeError(f"`out` must be the name of a folder; got {type(out).__name__}")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"`out` must be a folder; {str(folder)!r} is a file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(f"`out` {str(folder)!r} cannot be written: {error}") from error
    return folder


def jsonable(value: Any) -> Any:
    """Plain JSON: tuples as lists, NumPy scalars as numbers, NaN as null, inf as "Infinity"."""
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
