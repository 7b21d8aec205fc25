"""Options of a study: each declares its default, its help text and the values it accepts."""

import dataclasses
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, TypeVar, get_args, get_origin

from kernelgap import _checks

Error = TypeVar("Error", bound=Exception)


def option(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    length: int | None = None,
    increasing: bool = False,
    decreasing: bool = False,
    multiple_of: int = 1,
    divides: str = "",
    at_most: str = "",
) -> Any:
    """Declare one field of a `Config`, with the values that it accepts.

    Values have the type of the default: a string, an integer, a float (integers are accepted), or
    a non-empty tuple of distinct entries of one of these types. An annotation `Literal[...]`, or
    `tuple[Literal[...], ...]`, says which strings are accepted. Constraints on the value hold for
    every entry of a tuple.

    Args:
        default: value of the preset "default".
        help: text that `kernelgap run NAME --help` shows.
        minimum: smallest value.
        maximum: largest value.
        above: number that the value must exceed.
        length: number of entries of a tuple.
        increasing: a tuple must increase strictly.
        decreasing: a tuple must decrease strictly.
        multiple_of: number that must divide the value.
        divides: name of another option, which must be a multiple of this one.
        at_most: name of another option, which this one must not exceed.

    Example:
        >>> import dataclasses
        >>> from kernelgap.studies import Config, option
        >>> @dataclasses.dataclass(frozen=True)
        ... class Coins(Config):
        ...     throws: tuple[int, ...] = option((5, 50), "throws of a coin", minimum=1)
        >>> Coins(throws=(5, 0))
        Traceback (most recent call last):
        ValueError: `throws` must be an integer >= 1; got 0
    """
    rules = {
        "minimum": minimum, "maximum": maximum, "above": above,
        "length": length, "increasing": increasing, "decreasing": decreasing,
        "multiple_of": multiple_of, "divides": divides, "at_most": at_most,
    }  # fmt: skip
    unset = option.__kwdefaults__
    declared = {k: v for k, v in rules.items() if v != unset[k]}
    return dataclasses.field(default=default, metadata={"help": help, **declared})


@dataclasses.dataclass(frozen=True)
class Config:
    """Base class of the configurations of studies: frozen dataclasses whose fields are `option`s.

    Creating one checks every option against what it declares. Overwrite `check` for what cannot be
    declared, and raise the error that `about_options` returns.
    """

    def __post_init__(self) -> None:
        """Check all options."""
        for field in dataclasses.fields(self):
            try:
                _check(field, getattr(self, field.name))
            except (TypeError, ValueError) as error:
                raise about_options(error, field.name) from None
        for field in dataclasses.fields(self):
            _check_against(self, field)
        self.check()

    def check(self) -> None:
        """Refuse combinations of options that cannot be run."""


def about_options(error: Error, *names: str) -> Error:
    """Return the error with the names of the options that its message has between backquotes.

    The command line writes them the way its users type them.

    Example:
        >>> from kernelgap.studies import about_options
        >>> about_options(ValueError("`n_test` is too small"), "n_test").options
        ('n_test',)
    """
    vars(error)["options"] = names
    return error


def kind(field: dataclasses.Field) -> type:
    """Return the type of an option's value, or of the entries of its tuple."""
    entries = field.default if isinstance(field.default, tuple) else (field.default,)
    return float if any(isinstance(entry, float) for entry in entries) else type(entries[0])


def choices(field: dataclasses.Field) -> tuple[str, ...]:
    """Return the strings that the annotation of an option allows; any are when it is empty."""
    annotation = get_args(field.type)[0] if isinstance(field.default, tuple) else field.type
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def from_json(config: type[Any], values: Mapping[str, Any]) -> Any:
    """Create a configuration from JSON, in which tuples are lists."""
    return config(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _check(field: dataclasses.Field, value: Any) -> None:
    name, rules = field.name, field.metadata
    if not isinstance(field.default, tuple):
        _check_entry(field, value)
        return
    if not isinstance(value, tuple) or not value:
        example = ", ".join(map(repr, field.default[:3]))
        raise TypeError(
            f"`{name}` must be a non-empty tuple such as ({example}); got {value!r:.40}"
        )
    for entry in value:
        _check_entry(field, entry)
    if len(set(value)) < len(value):
        raise ValueError(f"`{name}` must not repeat an entry; got {value}")
    if len(value) != rules.get("length", len(value)):
        raise ValueError(f"`{name}` must have {rules['length']} entries; got {value}")
    if rules.get("increasing") and any(b <= a for a, b in pairwise(value)):
        raise ValueError(f"`{name}` must increase strictly; got {value}")
    if rules.get("decreasing") and any(b >= a for a, b in pairwise(value)):
        raise ValueError(f"`{name}` must decrease strictly; got {value}")


def _check_entry(field: dataclasses.Field, value: Any) -> None:
    name, rules = field.name, field.metadata
    if kind(field) is str:
        if allowed := choices(field):
            _checks.choice(value, name, allowed)
        elif not isinstance(value, str):
            raise TypeError(f"`{name}` must be a string; got {value!r:.40}")
        return
    if kind(field) is int:
        _checks.integer(value, name, minimum=rules["minimum"])
        if value > (maximum := rules.get("maximum", value)):
            raise ValueError(f"`{name}` must be an integer <= {maximum}; got {value}")
        if value % (factor := rules.get("multiple_of", 1)):
            raise ValueError(f"`{name}` must be a multiple of {factor}; got {value}")
        return
    ends = {"maximum": rules["maximum"]} if "maximum" in rules else {}
    if "above" in rules:
        _checks.number(value, name, minimum=rules["above"], exclusive=True, **ends)
    else:
        _checks.number(value, name, minimum=rules.get("minimum", -float("inf")), **ends)


def _check_against(config: Config, field: dataclasses.Field) -> None:
    """Check an option against the other option that its declaration names."""
    name, value = field.name, getattr(config, field.name)
    if (whole := field.metadata.get("divides")) and getattr(config, whole) % value:
        error = f"`{name}` must divide `{whole}`; got {value} and {getattr(config, whole)}"
        raise about_options(ValueError(error), name, whole)
    if (limit := field.metadata.get("at_most")) and value > getattr(config, limit):
        error = f"`{name}` must be at most `{limit}`; got {value} and {getattr(config, limit)}"
        raise about_options(ValueError(error), name, limit)
