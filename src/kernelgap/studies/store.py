"""Results on disk: a journal that survives a kill, and the files of a finished run.

NAME.journal.jsonl has the typed rows, one line per finished cell; NAME.json has the configuration,
the estimates and the provenance; NAME.csv and NAME.png are exports that are never read back.
"""

import contextlib
import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernelgap.studies.estimates import Row
from kernelgap.studies.options import about_options

FORMAT = 2  # of all files; increased when readers of the last format would misread them
_SPECIAL = {None: math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_PARTS = {"study": str, "config": dict, "estimates": list, "provenance": dict}


class CellResult(NamedTuple):
    """The rows of a cell, and the seconds that it took."""

    rows: list[Row]
    seconds: float


def encode(value: Any) -> Any:
    """Return plain JSON: NumPy scalars are numbers, NaN is null, infinity is "Infinity"."""
    if isinstance(value, dict):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def decode(value: Any) -> Any:
    """Invert `encode`, up to tuples, which become lists."""
    if isinstance(value, dict):
        return {k: decode(v) for k, v in value.items()}
    if isinstance(value, list):
        return [decode(v) for v in value]
    return _SPECIAL.get(value, value) if value is None or isinstance(value, str) else value


def journal_header(study: str, config: dict[str, Any], x64: bool) -> dict[str, Any]:
    """Return the first line of a journal: everything that must be equal to resume a run."""
    return {"format": FORMAT, "study": study, "x64": x64, "config": encode(config)}


def journal_text(header: dict[str, Any], cells: Iterable[tuple[tuple, CellResult]]) -> bytes:
    """Return a whole journal."""
    return b"".join([_line(header), *(_line(_entry(*cell)) for cell in cells)])


def _entry(identity: tuple, result: CellResult) -> dict[str, Any]:
    return {"cell": list(identity)} | result._asdict()


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(encode(entry), allow_nan=False).encode() + b"\n"


def document_text(document: dict[str, Any]) -> bytes:
    """Return the content of NAME.json, with an estimate on each line."""
    lines = ",\n    ".join(json.dumps(estimate) for estimate in document["estimates"])
    text = json.dumps(document | {"estimates": []}, indent=2)
    return text.replace('"estimates": []', f'"estimates": [\n    {lines}\n  ]').encode() + b"\n"


def csv_text(rows: Sequence[Row]) -> bytes:
    """Return the content of NAME.csv, in which NaN is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: "" if v != v else v for k, v in row.items()})  # NaN != NaN
    return text.getvalue().encode()


class Journal(contextlib.AbstractContextManager):
    """Finished cells of a run, a line each, synced to disk one by one.

    A killed run loses only the cells that were running; an incomplete last line is dropped.

    Args:
        out: The folder, created if it does not exist; None keeps the journal in memory.
        header: From `journal_header`.
        resume: Continue a journal with the same header, if there is one.
        overwrite: Replace an existing journal.

    Raises:
        FileExistsError: If the folder holds a journal and neither flag is given.
        ValueError: If the journal to resume has another configuration, or is unreadable.
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
            error = FileExistsError(
                f"`out` {os.fspath(out)!r} holds a {header['study']} run already: "
                "`resume` it, `overwrite` it, or choose another folder"
            )
            raise about_options(error, "out", "resume", "overwrite")
        if resume and path.exists() and self._take_over(path, header):
            self._file = path.open("ab")
        else:
            self._file = path.open("wb")
            self._append(_line(header))

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, identity: tuple, result: CellResult) -> None:
        """Store a finished cell, first on disk and then in memory."""
        self._append(_line(_entry(identity, result)))
        self.done[identity] = result

    def _append(self, line: bytes) -> None:
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())

    def _take_over(self, path: Path, header: dict[str, Any]) -> bool:
        """Load the cells of a journal; return False if its first line is incomplete."""
        stored, done, tail = read_journal(path)
        if stored is None:
            return False
        if differences := _differences(stored, header):
            raise about_options(
                ValueError(f"`out` {str(path.parent)!r} holds a run of another configuration: "
                           + "; ".join(differences)), "out"
            )  # fmt: skip
        if tail:
            os.truncate(path, path.stat().st_size - tail)
        self.done = done
        return True


def read_journal(path: Path) -> tuple[dict[str, Any] | None, dict[tuple, CellResult], int]:
    """Return the header (None if incomplete), the cells, and the bytes of an incomplete last line.

    Raises:
        FileNotFoundError: If there is no journal.
        ValueError: If this version cannot read the journal.
    """
    try:
        *lines, tail = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"the rows of the result are missing: there is no {str(path)!r}"
        ) from None
    if not lines:
        return None, {}, len(tail)
    try:
        header, *entries = (json.loads(line) for line in lines)
        if header["format"] != FORMAT or not isinstance(header["config"], dict):
            raise ValueError(f"format {header['format']}, not {FORMAT}")
        done = {tuple(e["cell"]): CellResult(decode(e["rows"]), e["seconds"]) for e in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{str(path)!r} is not a journal that this version can read ({error!r}); "
            "overwrite it, or choose another folder"
        ) from error
    return header, done, len(tail)


def _differences(stored: dict[str, Any], own: dict[str, Any]) -> list[str]:
    a, b = ({k: v for k, v in h.items() if k != "config"} | h["config"] for h in (stored, own))
    return [
        f"{k} is {a.get(k)!r} there and {b.get(k)!r} here"
        for k in sorted(a.keys() | b.keys())
        if a.get(k) != b.get(k)
    ]


def prepare_folder(out: str | os.PathLike) -> Path:
    """Create the folder if it does not exist, check that it is writable, and return it."""
    if not isinstance(out, str | os.PathLike):
        error = TypeError(f"`out` must be the name of a folder; got {type(out).__name__}")
        raise about_options(error, "out")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        error = NotADirectoryError(f"`out` must be a folder; {str(folder)!r} is a file")
        raise about_options(error, "out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        refusal = PermissionError(f"`out` {str(folder)!r} cannot be written: {error}")
        raise about_options(refusal, "out") from error
    return folder


def find_results(path: str | os.PathLike, names: Iterable[str]) -> dict[str, Path]:
    """Return the result files at a path, NAME.json or a folder of such files, by study name.

    A folder without results may hold folders NAME with one result each, as `kernelgap run all`
    writes them.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If there is no result, or only an unfinished one.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` must be the name of a file or folder; got {type(path).__name__}")
    path, names = Path(path), list(names)
    if path.is_file():
        return {path.stem: path}
    if not path.exists():
        raise FileNotFoundError(f"there is no result {str(path)!r}: no such file or folder")
    for folders in (dict.fromkeys(names, path), {name: path / name for name in names}):
        files = {name: folder / f"{name}.json" for name, folder in folders.items()}
        if existing := {name: file for name, file in files.items() if file.is_file()}:
            return existing
    begun = [name for name in names if (path / f"{name}.journal.jsonl").exists()]
    why = (
        f"it has an unfinished run of {', '.join(begun)}, which can be resumed"
        if begun
        else f"expected NAME.json, NAME one of {', '.join(names)}"
    )
    raise ValueError(f"{str(path)!r} does not hold a result of a study: {why}")


def read_document(file: Path) -> dict[str, Any]:
    """Return the content of NAME.json, with NaN and infinity restored."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # bad JSON, bad UTF-8
        raise ValueError(f"{str(file)!r} is broken, not JSON: {error}") from error
    if not isinstance(document, dict):
        document = {}
    newest = document.get("format", FORMAT)
    if isinstance(newest, int) and newest > FORMAT:
        raise ValueError(f"{str(file)!r} has format {newest}, of a newer version of kernelgap; "
                         f"this one reads formats up to {FORMAT}")  # fmt: skip
    wrong = [name for name, kind in _PARTS.items() if not isinstance(document.get(name), kind)]
    if wrong:
        raise ValueError(f"{str(file)!r} is not a result of a study: it lacks {', '.join(wrong)}")
    return document | {"estimates": decode(document["estimates"])}
