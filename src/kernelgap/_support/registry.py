"""Registry of what `kernelgap.save` can write, filled in beside the definition of each class.

A class is written as its name and a dict of fields. A NamedTuple needs `@saveable()` only. What is
described by less than its attributes, as a `Model` is by its spec, calls `register`; a class with
several such forms, as `Kernel`, names the kind of each.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

_C = TypeVar("_C", bound=type)
Axes = Mapping[str, Any]


class Form(NamedTuple):
    """One way to write the values of a class.

    Attributes:
        cls: The class.
        fields: The function from a value to the dict of its fields, or to None if the value does
            not have this form.
        build: The function that takes the fields and returns the value.
        axes: The axes of some fields, to be checked when they are read.
    """

    cls: type
    fields: Callable[[Any], dict[str, Any] | None]
    build: Callable[..., Any]
    axes: Axes


_FORMS: dict[str, dict[str | None, Form]] = {}  # by the name of the class and by kind
_READERS: dict[str, Callable[..., Any]] = {}


def saveable(
    fields: Callable[[Any], dict[str, Any]] | None = None, /, **axes: str | tuple[str, ...]
) -> Callable[[_C], _C]:
    """Return a decorator that makes a NamedTuple saveable, field by field.

    Args:
        fields: The dict of fields to write; by default `_asdict()`.
        **axes: Axes of the fields that must fit together, a letter each: `x="nd", y="n"`. Axes in
            brackets may be missing, `"n[k]"`. A tuple of strings is for a tuple of arrays.

    Example:
        >>> from typing import NamedTuple
        >>> from kernelgap._support import registry
        >>> @registry.saveable(x="nd", y="n")
        ... class Sample(NamedTuple):
        ...     x: list
        ...     y: list
        >>> name, fields = registry.describe(Sample([[1.0]], [2.0]))
        >>> name, registry.rebuild(name, fields)
        ('Sample', Sample(x=[[1.0]], y=[2.0]))
    """

    def decorate(cls: _C) -> _C:
        as_dict = fields or (lambda value: value._asdict())
        _add(Form(cls, as_dict, cls, axes), None)
        return cls

    return decorate


def register(
    cls: type,
    fields: Callable[[Any], dict[str, Any] | None],
    build: Callable[..., Any],
    *,
    kind: str | None = None,
) -> None:
    """Add a form to a class that is not a NamedTuple: functions to its fields and back."""
    _add(Form(cls, fields, build, {}), kind)


def register_reader(kind: str, read: Callable[..., Any]) -> None:
    """Add the function that reads results of a kind, such as those of studies."""
    _READERS[kind] = read


def reader(kind: str) -> Callable[..., Any]:
    """Return the function that `register_reader` got."""
    return _READERS[kind]


def _add(form: Form, kind: str | None) -> None:
    name, module = form.cls.__name__, form.cls.__module__
    forms = _FORMS.setdefault(name, {})
    for other in forms.values():
        if other.cls.__module__ != module:
            raise ValueError(f"`cls` must have a name of its own: {module} and "
                             f"{other.cls.__module__} define a saveable {name}")  # fmt: skip
    forms[kind] = form


def is_registered(name: str) -> bool:
    """Return True if a class of this name is saveable."""
    return name in _FORMS


def describe(value: Any) -> tuple[str, dict[str, Any]] | None:
    """Return the name of the value's class and its fields; None if the class is not registered.

    Raises:
        TypeError: If its fields build another value, one with other functions.
    """
    cls = type(value)
    forms = _FORMS.get(cls.__name__, {})
    if all(form.cls is not cls for form in forms.values()):
        return None
    for kind, form in forms.items():
        fields = form.fields(value)
        if fields is None or (form.build is not cls and not _alike(form.build(**fields), value)):
            continue
        return cls.__name__, fields if kind is None else {"kind": kind} | fields
    raise TypeError(f"`obj` holds a {cls.__name__} with functions of your own, which cannot be "
                    f"saved: {value!r:.80}. Save its parameters, and build it from them "
                    "again")  # fmt: skip


def _alike(built: Any, value: Any) -> bool:
    # Static parts decide: arrays are among the fields, and a copy of them would not be equal.
    return jax.tree.structure(built) == jax.tree.structure(value)


def rebuild(name: str, fields: dict[str, Any]) -> Any:
    """Return the value of a registered class that the fields describe; refuse what does not fit."""
    forms = _FORMS.get(name)
    if forms is None:
        raise ValueError(f"it holds a {name!r:.60}, which this version does not know")
    kind = None if None in forms else fields.pop("kind", None)
    if not isinstance(kind, str | None) or kind not in forms:
        raise ValueError(f"it holds a {name} of the kind {kind!r:.40}, which this version does not "
                         f"know; known are {sorted(map(str, forms))}")  # fmt: skip
    return from_fields(forms[kind].build, name, fields, forms[kind].axes)


def from_fields(build: Callable[..., Any], name: str, fields: dict[str, Any], axes: Axes) -> Any:
    """Return `build(**fields)`; refuse fields that are not its arguments or lack the axes.

    Files written before an argument was added may lack it if it has a default.
    """
    parameters = inspect.signature(build).parameters
    expected = list(parameters)
    required = {name for name, p in parameters.items() if p.default is p.empty}
    if not required <= set(fields) <= set(expected):
        raise ValueError(f"its {name} has the fields {sorted(fields)}; this version has "
                         f"{sorted(expected)}")  # fmt: skip
    sizes: dict[str, int | None] = {}
    try:
        for field, letters in axes.items():
            single = isinstance(letters, str)
            arrays = (fields[field],) if single else fields[field]
            for array, names in zip(arrays, (letters,) if single else letters, strict=True):
                _check_axes(field, array, names, sizes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its {name} is inconsistent: {error}") from error
    return build(**fields)


def _check_axes(field: str, array: Any, letters: str, sizes: dict[str, int | None]) -> None:
    if not jax.numpy.issubdtype(np.asarray(array).dtype, np.number):
        raise ValueError(f"`{field}` does not hold numbers")
    shape = np.shape(array)
    required, _, optional = letters.rstrip("]").partition("[")
    if len(shape) == len(required):  # a size that is missing here is not to come later
        sizes |= {axis: sizes.get(axis) for axis in optional}
    else:
        required += optional
    expected = tuple(sizes.setdefault(a, s) for a, s in zip(required, shape, strict=False))
    if len(shape) != len(required) or shape != expected:
        raise ValueError(f"`{field}` has shape {shape}, which does not fit ({', '.join(required)}) "
                         f"with {sizes}")  # fmt: skip
