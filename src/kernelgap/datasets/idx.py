"""Read files in the IDX format, in which MNIST and similar data sets are published.

A file starts with a magic number of four bytes (0 0 8 k for unsigned bytes in k dimensions) and the
k sizes as big-endian 32-bit integers; the entries follow. Any file may be compressed with gzip.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np


def find(folder: Path, name: str, ndim: int) -> Path:
    """Return the path of `name-idx3-ubyte` or `name.idx3-ubyte`, with or without .gz."""
    names = [
        f"{name}{dot}idx{ndim}-ubyte{end}"
        for dot, end in (("-", ""), ("-", ".gz"), (".", ""), (".", ".gz"))
    ]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise FileNotFoundError(
        f"`path` {str(folder)!r} must hold {names[0]} or {names[1]}; found neither"
    )


def read(path: Path, ndim: int) -> np.ndarray:
    """Read an array of unsigned bytes; raise ValueError unless the file is intact."""
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
        raise ValueError(
            f"{str(path)!r} must begin with the magic number {magic.hex(' ')!r}, for "
            f"unsigned bytes in {ndim} dimensions; "
            f"got {content[:4].hex(' ')!r}"
        )
    if len(content) < start:
        raise ValueError(
            f"{str(path)!r} is truncated: its header has {len(content)} of {start} bytes"
        )
    shape = tuple(np.frombuffer(content, ">u4", ndim, offset=4).tolist())
    size, expected = len(content) - start, math.prod(shape)
    if size != expected:
        problem = "truncated" if size < expected else "too long"
        raise ValueError(
            f"{str(path)!r} is {problem}: shape {shape} takes {expected} bytes after the header; "
            f"got {size}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
