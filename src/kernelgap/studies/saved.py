"""Results read back from the folder they were written to, without running anything."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kernelgap.studies.journal import Row
from kernelgap.studies.study import FORMAT, Result, Study

_SPECIAL = {None: float("nan"), "Infinity": float("inf"), "-Infinity": -float("inf")}
_PARTS = {"study": str, "config": dict, "summary": dict, "provenance": dict}


def find_results(path: str | os.PathLike, studies: Mapping[str, Study]) -> dict[str, Path]:
    """The results at a path, by the name of their study: NAME.json itself, or a folder with some.

    A folder without any may hold folders NAME with one each, as `kernelgap run all` makes them.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: if what is there is no result, or one that is not finished.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` must be the name of a file or folder; got {type(path).__name__}")
    path = Path(path)
    if path.is_file():
        return {path.stem: path}
    if not path.exists():
        raise FileNotFoundError(f"there is no result {str(path)!r}: no such file or folder")
    found = {name: path / f"{name}.json" for name in studies}
    found = {name: file for name, file in found.items() if file.is_file()}
    if not found:
        found = {name: path / name / f"{name}.json" for name in studies}
        found = {name: file for name, file in found.items() if file.is_file()}
    if not found:
        begun = [name for name in studies if (path / f"{name}.journal.jsonl").exists()]
        why = (
            f"it has an unfinished run of {', '.join(begun)}, which can be resumed"
            if begun
            else f"expected NAME.json, NAME one of {', '.join(studies)}"
        )
        raise ValueError(f"{str(path)!r} holds no result of a study: {why}")
    return found


def load(path: str | os.PathLike, studies: Mapping[str, Study]) -> Result:
    """The one result at a path; see `kernelgap.studies.load`."""
    found = find_results(path, studies)
    if len(found) > 1:
        raise ValueError(f"{os.fspath(path)!r} holds results of several studies, "
                         f"{', '.join(found)}: name the JSON file of one")  # fmt: skip
    (file,) = found.values()
    document = _document(file)
    name = document["study"]
    if name not in studies:
        raise ValueError(f"{str(file)!r} is of a study {name!r}, which this version does not know; "
                         f"it has {', '.join(studies)}")  # fmt: skip
    study = studies[name]
    try:
        config = study.config(**document["config"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the configuration in {str(file)!r} does not fit this version: {error}"
        ) from error
    rows = _rows(file.with_suffix(".csv"))
    if len(rows) != document.get("rows", len(rows)):
        raise ValueError(
            f"{str(file)!r} is about {document['rows']} rows, its CSV file has {len(rows)}: they "
            "are not of the same run, or the CSV file was cut"
        )
    return Result(study, config, rows, _numbers(document["summary"]), document["provenance"])


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # bad JSON, bad UTF-8
        raise ValueError(f"{str(file)!r} is broken, not JSON: {error}") from error
    newest = document.get("format", 1) if isinstance(document, dict) else 1
    if isinstance(newest, int) and newest > FORMAT:
        raise ValueError(f"{str(file)!r} has format {newest}, of a newer version of kernelgap; "
                         f"this one reads formats up to {FORMAT}")  # fmt: skip
    wrong = [
        name
        for name, kind in _PARTS.items()
        if not isinstance(document, dict) or not isinstance(document.get(name), kind)
    ]
    if wrong:
        raise ValueError(f"{str(file)!r} is no result of a study: it lacks {', '.join(wrong)}")
    return document


def _numbers(value: Any) -> Any:
    """A summary as it was before it became JSON, which has no NaN and no infinity."""
    if isinstance(value, dict):
        return {name: _numbers(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_numbers(entry) for entry in value]
    return _SPECIAL.get(value, value) if value is None or isinstance(value, str) else value


def _rows(file: Path) -> list[Row]:
    """The rows of a CSV file, with numbers where a whole column is numbers."""
    try:
        with file.open(newline="", encoding="utf-8") as text:
            reader = csv.DictReader(text, strict=True)
            names, rows = reader.fieldnames or [], list(reader)
    except FileNotFoundError:
        raise FileNotFoundError(f"the rows of the result are missing: no {str(file)!r}") from None
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{str(file)!r} is broken: {error}") from error
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{str(file)!r} is broken: its lines differ in length")
    columns = [_column([row[name] for row in rows]) for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _column(texts: Sequence[str]) -> list[Any]:
    try:
        return [_number(text) for text in texts]
    except ValueError:
        return list(texts)


def _number(text: str) -> float | bool:
    if text in ("True", "False"):
        return text == "True"
    try:
        return int(text)
    except ValueError:
        return float(text or "nan")
