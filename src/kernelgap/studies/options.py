"""What the configurations of all studies are made of: options with a help text, and checks."""

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from kernelgap import _checks


def option(default: Any, text: str) -> Any:
    """A field of a configuration, with the text that `kernelgap run NAME --help` shows."""
    return dataclasses.field(default=default, metadata={"help": text})


def sequence(
    config: Any, name: str, check: Callable[[Any, str], Any], *, distinct: bool = True
) -> None:
    """Check every entry of a non-empty sequence, and make it a tuple."""
    values = getattr(config, name)
    if isinstance(values, str) or not isinstance(values, tuple | list) or not values:
        raise TypeError(f"`{name}` must be a non-empty tuple of numbers; got {values!r:.40}")
    for value in values:
        check(value, name)
    if distinct and len(set(values)) < len(values):
        raise ValueError(f"`{name}` must not repeat an entry; got {tuple(values)}")
    object.__setattr__(config, name, tuple(values))


def at_least(minimum: int) -> Callable[[Any, str], int]:
    """A check for integers of at least `minimum`."""
    return lambda value, name: _checks.integer(value, name, minimum=minimum)


def integers(config: Any, **minima: int) -> None:
    """Check integer fields against the least value of each."""
    for name, minimum in minima.items():
        _checks.integer(getattr(config, name), name, minimum=minimum)


def positive(value: Any, name: str) -> None:
    """A finite number above 0."""
    _checks.number(value, name, minimum=0, exclusive=True)


def not_negative(value: Any, name: str) -> None:
    """A finite number of at least 0."""
    _checks.number(value, name, minimum=0)


def increasing(config: Any, *names: str) -> None:
    """Refuse sequences that do not increase strictly."""
    for name in names:
        values = getattr(config, name)
        if any(b <= a for a, b in pairwise(values)):
            raise ValueError(f"`{name}` must increase; got {values}")


def decreasing(config: Any, *names: str) -> None:
    """Refuse sequences that are not of positive numbers that decrease strictly."""
    for name in names:
        sequence(config, name, positive)
        _checks.decreasing(getattr(config, name), name)


def two_digits(config: Any, name: str) -> None:
    """Two different digits 0..9."""
    sequence(config, name, at_least(0), distinct=False)
    classes = getattr(config, name)
    if len(classes) != 2 or classes[0] == classes[1] or max(classes) > 9:
        raise ValueError(f"`{name}` must be two different digits 0..9; got {classes}")
