"""Files in the IDX format, in which MNIST and its relatives are published.

Four bytes of magic number, 0 0 8 k for unsigned bytes in k dimensions; the k sizes as big-endian
32-bit integers; then the entries. Files may be gzip-ed, whatever their name.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np


def find(folder: Path, name: str, ndim: int) -> Path:
    """The file of one of the names in use: `name-idx3-ubyte` or `name.idx3-ubyte`, with .gz or not.

    Raises:
        FileNotFoundError: if there is none.
    """
    names = [
        f"{name}{dot}idx{ndim}-ubyte{end}"
        for dot, end in (("-", ""), ("-", ".gz"), (".", ""), (".", ".gz"))
    ]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise FileNotFoundError(f"`path` {str(folder)!r} must hold {names[0]} or {names[1]}; "
                            "found neither")  # fmt: skip


def read(path: Path, ndim: int) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, plain or gzip-ed.

    Raises:
        ValueError: if the file is damaged, is no IDX file of unsigned bytes in `ndim` dimensions,
            or has fewer or more entries than it says.
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(
                f"{str(path)!r} is a truncated or damaged gzip file: {error}"
            ) from error
    start = 4 + 4 * ndim
    magic = bytes([0, 0, 8, ndim])
    if content[:4] != magic:
        raise ValueError(f"{str(path)!r} must begin with the magic number {magic.hex(' ')!r}, for "
                         f"unsigned bytes in {ndim} dimensions; "
                         f"got {content[:4].hex(' ')!r}")  # fmt: skip
    if len(content) < start:
        raise ValueError(
            f"{str(path)!r} is truncated: its header has {len(content)} of {start} bytes"
        )
    shape = tuple(np.frombuffer(content, ">u4", ndim, offset=4).tolist())
    found, wanted = len(content) - start, math.prod(shape)
    if found != wanted:
        what = "truncated" if found < wanted else "too long"
        raise ValueError(f"{str(path)!r} is {what}: shape {shape} takes {wanted} bytes after the "
                         f"header; got {found}")  # fmt: skip
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
