"""The file itself: a zip archive of `.npy` arrays and one JSON document.

The same contents make the same bytes. What was cut short, changed on its way, or holds pickled
objects is refused.
"""

import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from kernelgap._support.files import atomic_write

DOCUMENT = "kernelgap.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the time in all archives: when it was saved makes no difference
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError,
)  # fmt: skip

# Dtypes that NumPy's format does not know, and the ones of their bits.
FOREIGN = {
    np.dtype(getattr(jnp, name)): np.dtype(bits)
    for name, bits in (
        ("bfloat16", np.uint16),
        ("float8_e4m3fn", np.uint8),
        ("float8_e5m2", np.uint8),
    )
}


def write(path: Path, document: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """The document and the arrays as one file, atomically."""
    text = json.dumps(document, indent=1, allow_nan=False).encode() + b"\n"
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(_member(DOCUMENT), "w") as member:
            member.write(text)
        for name, array in arrays.items():
            bits = FOREIGN.get(array.dtype)
            with archive.open(_member(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(
                    member, array if bits is None else array.view(bits), allow_pickle=False
                )


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.external_attr = 0o644 << 16
    return member


def read(
    path: Path, check: Callable[[dict[str, Any]], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The document, once `check` accepts it, and all arrays, foreign dtypes as their bits.

    Raises:
        ValueError: if it is no such file, or is damaged.
    """
    with path.open("rb") as file:
        try:
            archive = zipfile.ZipFile(file)
        except _UNREADABLE as error:
            raise ValueError(f"{str(path)!r} is no file of kernelgap.save, or was cut short: it is "
                             f"no whole zip archive ({error})") from error  # fmt: skip
        with archive:
            names = archive.namelist()
            if DOCUMENT not in names:
                raise ValueError(f"{str(path)!r} is no file of kernelgap.save: it holds no "
                                 f"{DOCUMENT!r}. numpy.load may read it")  # fmt: skip
            document = _decoded(path, archive)
            check(document)
            arrays = {}
            for name in names:
                if name == DOCUMENT:
                    continue
                if not name.endswith(".npy") or name.removesuffix(".npy") in arrays:
                    raise ValueError(f"{str(path)!r} holds {name!r}, which kernelgap.save does not "
                                     "write")  # fmt: skip
                arrays[name.removesuffix(".npy")] = _array(path, archive, name)
    return document, arrays


def _decoded(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        document = json.loads(archive.read(DOCUMENT))
    except (*_UNREADABLE, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged: its {DOCUMENT} cannot be read "
                         f"({error})") from error  # fmt: skip
    if not isinstance(document, dict):
        raise ValueError(f"{str(path)!r} is no file of kernelgap.save: its {DOCUMENT} must hold an "
                         f"object; got {type(document).__name__}")  # fmt: skip
    return document


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    try:
        with archive.open(name) as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
            if member.read(1):
                raise ValueError("it goes on after its last entry")
    except _UNREADABLE as error:
        raise ValueError(f"{str(path)!r} is damaged, or not of kernelgap.save: its array {name!r} "
                         f"cannot be read ({error})") from error  # fmt: skip
    return array
