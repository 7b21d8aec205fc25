"""Floating-point numbers as integers times powers of two."""

from typing import Any

import numpy as np


def exactly(values: Any) -> dict[str, Any]:
    """Return an array of finite floats as nested lists of integers and an exponent of two."""
    array = np.asarray(values, np.float64)
    mantissas, exponents = np.frexp(array)
    integers = np.ldexp(mantissas, 53).astype(np.int64).ravel().tolist()
    powers = (exponents - 53).ravel().tolist()
    used = [power for integer, power in zip(integers, powers, strict=True) if integer]
    least = min(used, default=0)
    shifted = [i << p - least if i else 0 for i, p in zip(integers, powers, strict=True)]
    together = 0
    for integer in shifted:
        together |= abs(integer)
    spare = max((together & -together).bit_length() - 1, 0)
    entries = np.empty(array.size, object)
    entries[:] = [integer >> spare for integer in shifted]
    return {"exponent": least + spare, "entries": entries.reshape(array.shape).tolist()}


def truncated(values: np.ndarray, exponent: int) -> list[int]:
    """Return a vector in units of 2^exponent, rounded toward zero; 0 where it is not finite."""
    mantissas, exponents = np.frexp(np.where(np.isfinite(values), values, 0.0))
    integers = np.ldexp(mantissas, 53).astype(np.int64).tolist()
    shifts = (exponents - 53 - exponent).tolist()
    moved = zip(integers, shifts, strict=True)
    return [i << s if s >= 0 else (abs(i) >> -s) * (1 if i > 0 else -1) for i, s in moved]
