"""How results show themselves: a short repr, and a table in notebooks.

`@shown` gives a NamedTuple both. Arrays appear as dtype, shape and range, never entry by entry; a
traced array has no range, and one of more than 2^20 entries is not read for its own.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

Class = TypeVar("Class", bound=type)

_READ = 2**20  # entries that are read for their range
_LINE = 100  # characters of a repr on one line
_LONG = 300  # characters of one value
_ITEMS = 5  # entries of a tuple or dict that are shown one by one


def shown(cls: Class) -> Class:
    """A class decorator: a short repr and `_repr_html_` for a NamedTuple.

    The entries are the fields, or what the method `_entries() -> dict` of the class returns. A
    `__repr__` or `_repr_html_` that the class writes itself stays.
    """
    if getattr(cls.__repr__, "__module__", None) != cls.__module__:
        setattr(cls, "__repr__", _repr)  # noqa: B010, the type of a class is not settable
    if not hasattr(cls, "_repr_html_"):
        setattr(cls, "_repr_html_", _repr_html)  # noqa: B010
    return cls


def _entries(self: Any) -> Mapping[str, Any]:
    if not hasattr(self, "_entries"):
        return self._asdict()
    try:
        return self._entries()
    except Exception:  # JAX makes such tuples of shardings, axes, None: anything may be a field
        return self._asdict()


def _repr(self: Any) -> str:
    parts = [f"{name}={short(value)}" for name, value in _entries(self).items()]
    name, line = type(self).__name__, ", ".join(parts)
    if len(name) + len(line) + 2 <= _LINE:
        return f"{name}({line})"
    inside = ",\n".join(parts).replace("\n", "\n    ")
    return f"{name}(\n    {inside},\n)"


def _repr_html(self: Any) -> str:
    return table(_entries(self).items(), caption=type(self).__name__)


def short(value: Any) -> str:
    """A value in a few words.

    Example:
        >>> import numpy as np
        >>> from kernelgap._display import short
        >>> print(short(np.linspace(-1, 1, 12).reshape(3, 4)), short(0.1 + 0.2), sep="; ")
        float64[3, 4] -1..1; 0.3
    """
    if hasattr(type(value), "_repr_html_"):
        return repr(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _array(value)
    if isinstance(value, tuple | list | dict):
        return _nest(value)
    return _cut(repr(value))


def _array(value: Any) -> str:
    form = f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        form += " deleted" if value.is_deleted() else ""
    if not _readable(value):
        return form
    values = np.asarray(value)
    if values.dtype == bool:
        return str(values[()]) if values.ndim == 0 else f"{form} {values.sum()} true"
    if values.dtype.kind in "fV":  # V: bfloat16 and its like
        values = values.astype(float)
    elif values.dtype.kind not in "iu":
        return form
    if values.ndim == 0:
        return f"{values[()]:.6g}" if values.dtype.kind == "f" else str(values[()])
    missing = int(np.sum(values != values))
    if missing == values.size:
        return f"{form} all NaN"
    low, high = np.nanmin(values), np.nanmax(values)
    span = f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"
    return f"{form} {span}" + (f", {missing} NaN" if missing else "")


def _readable(value: Any) -> bool:
    """Whether the entries can be read now, here, and for little."""
    if isinstance(value, jax.core.Tracer) or not 0 < value.size <= _READ:
        return False
    if isinstance(value, jax.Array):
        special = jnp.issubdtype(value.dtype, jax.dtypes.extended)  # random keys
        return value.is_fully_addressable and not value.is_deleted() and not special
    return isinstance(value, np.generic | np.ndarray)


def _nest(value: Any) -> str:
    leaves = jax.tree.leaves(value)
    inner = list(value.values() if isinstance(value, dict) else value)
    plain = not any(isinstance(item, tuple | list | dict) for item in inner)
    arrays = [leaf for leaf in leaves if hasattr(leaf, "shape")]
    if hasattr(value, "_fields") and not arrays:  # a description, whose fields have names
        return _cut(repr(value))
    if plain and len(inner) <= _ITEMS:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k}: {short(v)}" for k, v in value.items()) + "}"
        return "(" + ", ".join(map(short, inner)) + ")"
    if plain and not arrays:
        return "(" + ", ".join(map(short, inner[: _ITEMS - 2])) + f", ... {len(inner)} in all)"
    if not arrays:
        return _cut(repr(value))
    entries = sum(int(np.prod(array.shape)) for array in arrays)
    return f"tree of {len(arrays)} arrays, {entries} entries"


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."


class Html(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


def escaped(value: Any) -> Html:
    """A value as HTML text: what is HTML already stays, results become tables, the rest text."""
    if isinstance(value, Html):
        return value
    if hasattr(type(value), "_repr_html_"):
        return Html(value._repr_html_())
    return Html(html.escape(value if isinstance(value, str) else short(value)))


def table(rows: Iterable[Sequence[Any]], *, head: Sequence[str] = (), caption: str = "") -> Html:
    """An HTML table without any style but its alignment; the first column names the rows.

    Example:
        >>> from kernelgap._display import table
        >>> table([("loss", "< 1")]).count("&lt; 1")
        1
    """
    left = ' style="text-align: left"'
    parts = [f"<caption{left}>{escaped(caption)}</caption>"] if caption else []
    if head:
        cells = "".join(f'<th scope="col"{left}>{escaped(name)}</th>' for name in head)
        parts.append(f"<thead><tr>{cells}</tr></thead>")
    parts.append("<tbody>")
    for first, *rest in rows:
        cells = "".join(f"<td{left}>{escaped(value)}</td>" for value in rest)
        parts.append(f'<tr><th scope="row"{left}>{escaped(first)}</th>{cells}</tr>')
    return Html(f"<table>{''.join(parts)}</tbody></table>")
