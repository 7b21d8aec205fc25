"""Verdicts on proof files, and their writing: no file is kept that the checker refuses."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.files import write_atomically
from kernelgap.proofs import checker


class Verdict(NamedTuple):
    """The claim of a proof file, which its numbers prove.

    Attributes:
        statement: The claim in words, with both ends rounded outward.
        lower: The lower end, rounded down; None if the file claims none.
        upper: The upper end, rounded up; None if the file claims none.
    """

    statement: str
    lower: float | None
    upper: float | None

    __repr__ = compact_repr
    _repr_html_ = html_repr


def verify(path: str | os.PathLike) -> Verdict:
    """Derive the claim of a proof file again, from the file alone and in exact arithmetic.

    Args:
        path: Name of the file.

    Returns:
        A `Verdict`.

    Raises:
        ValueError: If the numbers of the file do not prove its claim (a `proofs.checker.Unproved`),
            or if it is not a proof file.

    Example:
        >>> import tempfile, pathlib, jax, kernelgap as kg
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "margin.json"
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 64, 4)
        >>> _ = kg.proofs.write_margin(path, kg.margins.upper_bound(x, y), x, y)
        >>> print(f"{kg.proofs.verify(path).upper:.3f}")
        0.125
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` must be the name of a file; got {type(path).__name__}")
    name = os.fspath(path)
    try:
        statement, *ends = checker.check(name)
    except checker.Unproved as error:
        raise checker.Unproved(f"{name!r} does not prove its claim: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name!r} is not a proof file: {error}") from error
    low, high = (_outward(end, way) for end, way in zip(ends, (-1, 1), strict=True))
    return Verdict(statement, low, high)


def _outward(end: Any, way: int) -> float | None:
    if end is None:
        return None
    near = float(end)
    return near if (near - end) * way >= 0 else math.nextafter(near, way * math.inf)


def checked_path(path: str | os.PathLike, overwrite: bool) -> Path:
    """Return the path of a proof file that can be written."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` must be the name of a file; got {type(path).__name__}")
    path = Path(path)
    if path.suffix != ".json":
        raise ValueError(f"`path` must end in .json; got {str(path)!r}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists: choose another name, or overwrite=True")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {str(path.parent)!r} does not exist")
    return path


def write_first_proved(path: Path, kind: str, contents: Iterable[dict[str, Any]]) -> Verdict:
    """Write the first of some claims, the sharpest one first, that the checker accepts."""
    refusal, checked = None, path.with_name(f".{path.name}.{os.getpid()}")
    try:
        for content in contents:
            document = {"format": checker.FILE["format"][0], "claim": {"kind": kind} | content}
            write_atomically(checked, _lines(document, 0).encode() + b"\n")
            try:
                verdict = verify(checked)
            except checker.Unproved as error:
                refusal = error
                continue
            os.replace(checked, path)
            return verdict
    finally:
        checked.unlink(missing_ok=True)
    raise RuntimeError("no proof was written, which is a bug of kernelgap unless arguments do not "
                       f"belong together: {refusal}")  # fmt: skip


def _lines(value: Any, depth: int) -> str:
    """JSON with one line for each array."""
    if not isinstance(value, dict) or set(value) == {"entries", "exponent"}:
        return json.dumps(value, separators=(",", ":"))
    space = " " * (depth + 1)
    fields = [f"{space}{json.dumps(k)}: {_lines(v, depth + 1)}" for k, v in value.items()]
    return "{\n" + ",\n".join(fields) + f"\n{space[1:]}}}"
