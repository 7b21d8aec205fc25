"""Options of a study: each declares its default, its help text and the values it accepts."""

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from kernelgap._numerics import checks

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
    multiple_of: int | None = None,
    divides: str | None = None,
    at_most: str | None = None,
) -> Any:
    """Declare one field of a `Config`, with the values that it accepts.

    The annotation declares its type: `str`, one of the strings of a `Literal`, `int`, `float`, or
    `tuple[T, ...]`, a non-empty tuple of distinct entries of one of these types. Constraints on the
    value hold for every entry of a tuple.

    Args:
        default: Value of the preset "default".
        help: Text shown by `kernelgap run NAME --help`.
        minimum: Smallest value; 0 for integers unless another one is given.
        maximum: Largest value.
        above: Number that the value must exceed.
        length: Number of entries of a tuple.
        increasing: A tuple must increase strictly.
        decreasing: A tuple must decrease strictly.
        multiple_of: Number that must divide the value.
        divides: Name of another option, which must be a multiple of this one.
        at_most: Name of another option, which this one must not exceed.

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
    entries = default if isinstance(default, tuple) else (default,)
    if not entries or not all(isinstance(entry, str | int | float) for entry in entries):
        raise TypeError(f"`default` must be a string, a number, or a tuple; got {default!r:.40}")
    if not isinstance(help, str):
        raise TypeError(f"`help` must be a string; got {help!r:.40}")
    numbers = {"minimum": minimum, "maximum": maximum, "above": above}
    for name, value in (numbers | {"length": length, "multiple_of": multiple_of}).items():
        if value is not None:
            checks.number(value, name)
    for name, value in {"divides": divides, "at_most": at_most}.items():
        if not isinstance(value, str | None):
            raise TypeError(f"`{name}` must be the name of an option; got {value!r:.40}")
    rules = {
        "minimum": minimum,
        "maximum": maximum,
        "above": above,
        "length": length,
        "increasing": increasing or None,
        "decreasing": decreasing or None,
        "multiple_of": multiple_of,
        "divides": divides,
        "at_most": at_most,
    }
    declared = {name: rule for name, rule in rules.items() if rule is not None}
    return dataclasses.field(default=default, metadata={"help": help, **declared})


@dataclasses.dataclass(frozen=True)
class Config:
    """Base class of configurations: frozen dataclasses with an `option` for each field.

    Creating one checks every option against its declaration. Override `check` for conditions that
    cannot be declared.
    """

    def __post_init__(self) -> None:
        """Check all options."""
        for field in dataclasses.fields(self):
            try:
                _check(field, annotations(type(self))[field.name], getattr(self, field.name))
            except (TypeError, ValueError) as error:
                raise about_options(error, field.name) from None
        for field in dataclasses.fields(self):
            _check_against(self, field)
        self.check()

    def check(self) -> None:
        """Refuse combinations of options that cannot be run."""


def about_options(error: Error, *names: str) -> Error:
    """Return the error with the names of the options that its message puts between backquotes.

    The command line writes them the way its users type them.

    Example:
        >>> from kernelgap.studies.options import about_options
        >>> about_options(ValueError("`n_test` is too small"), "n_test").options
        ('n_test',)
    """
    vars(error)["options"] = names
    return error


@lru_cache(maxsize=64)
def annotations(config: type) -> dict[str, Any]:
    """Return the annotated type of each option, or of the entries if it is a tuple."""
    hints, fields = get_type_hints(config), dataclasses.fields(config)
    return {
        field.name: get_args(hints[field.name])[0]
        if isinstance(field.default, tuple)
        else hints[field.name]
        for field in fields
    }


def choices(annotation: Any) -> tuple[str, ...]:
    """Return the strings that an annotation allows; empty if it allows any."""
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def from_json(config: type[Any], values: Mapping[str, Any]) -> Any:
    """Create a configuration from JSON, in which tuples are lists."""
    return config(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _check(field: dataclasses.Field, annotation: Any, value: Any) -> None:
    name, rules = field.name, field.metadata
    if not isinstance(field.default, tuple):
        _check_entry(field, annotation, value)
        return
    if not isinstance(value, tuple) or not value:
        example = ", ".join(map(repr, field.default[:3]))
        raise TypeError(
            f"`{name}` must be a non-empty tuple such as ({example}); got {value!r:.40}"
        )
    for entry in value:
        _check_entry(field, annotation, entry)
    if len(set(value)) < len(value):
        raise ValueError(f"`{name}` must not repeat an entry; got {value}")
    if len(value) != rules.get("length", len(value)):
        raise ValueError(f"`{name}` must have {rules['length']} entries; got {value}")
    if rules.get("increasing") and any(b <= a for a, b in pairwise(value)):
        raise ValueError(f"`{name}` must increase strictly; got {value}")
    if rules.get("decreasing") and any(b >= a for a, b in pairwise(value)):
        raise ValueError(f"`{name}` must decrease strictly; got {value}")


def _check_entry(field: dataclasses.Field, annotation: Any, value: Any) -> None:
    name, rules = field.name, field.metadata
    if allowed := choices(annotation):
        checks.choice(value, name, allowed)
    elif annotation is str:
        if not isinstance(value, str):
            raise TypeError(f"`{name}` must be a string; got {value!r:.40}")
    elif annotation is int:
        checks.integer(value, name, minimum=rules.get("minimum", 0))
        if value > (maximum := rules.get("maximum", value)):
            raise ValueError(f"`{name}` must be an integer <= {maximum}; got {value}")
        if value % (factor := rules.get("multiple_of", 1)):
            raise ValueError(f"`{name}` must be a multiple of {factor}; got {value}")
    else:
        exclusive, maximum = "above" in rules, rules.get("maximum", float("inf"))
        minimum = rules["above"] if exclusive else rules.get("minimum", -float("inf"))
        checks.number(value, name, minimum=minimum, maximum=maximum, exclusive=exclusive)


def _check_against(config: Config, field: dataclasses.Field) -> None:
    """Check an option against the other option that its declaration names."""
    name, value = field.name, getattr(config, field.name)
    if (whole := field.metadata.get("divides")) and getattr(config, whole) % value:
        error = f"`{name}` must divide `{whole}`; got {value} and {getattr(config, whole)}"
        raise about_options(ValueError(error), name, whole)
    if (limit := field.metadata.get("at_most")) and value > getattr(config, limit):
        error = f"`{name}` must be at most `{limit}`; got {value} and {getattr(config, limit)}"
        raise about_options(ValueError(error), name, limit)
