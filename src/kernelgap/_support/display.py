"""Compact reprs and HTML tables for result objects.

A NamedTuple opts in with `__repr__ = compact_repr` and `_repr_html_ = html_repr`. Both list its
fields, or the dict returned by its method `_entries` if it has one. Arrays appear as dtype, shape
and range, never entry by entry; traced arrays and arrays of more than 2^20 entries have no range.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

_READ = 2**20  # largest number of entries that is read to find the range
_LINE = 100  # largest number of characters of a repr on one line
_LONG = 300  # largest number of characters of one value
_ITEMS = 5  # largest number of entries of a tuple or dict that are all listed


def _entries(self: Any) -> Mapping[str, Any]:
    if not hasattr(self, "_entries"):
        return self._asdict()
    try:
        return self._entries()
    except Exception:  # JAX makes such tuples of shardings, axes, None: anything may be a field
        return self._asdict()


def compact_repr(self: Any) -> str:
    """Return a repr of a NamedTuple, on one line if it fits."""
    parts = [f"{name}={short(value)}" for name, value in _entries(self).items()]
    name, line = type(self).__name__, ", ".join(parts)
    if len(name) + len(line) + 2 <= _LINE:
        return f"{name}({line})"
    inside = ",\n".join(parts).replace("\n", "\n    ")
    return f"{name}(\n    {inside},\n)"


def html_repr(self: Any) -> str:
    """Return the fields of a NamedTuple as an HTML table."""
    return table(_entries(self).items(), caption=type(self).__name__)


def short(value: Any) -> str:
    """Describe a value in a few words.

    Example:
        >>> import numpy as np
        >>> from kernelgap._support.display import short
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
    if hasattr(value, "_fields") and not arrays:  # a spec, whose fields have names
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
    """A string of HTML, which must not be escaped again."""

    __slots__ = ()


def escape(value: Any) -> Html:
    """Convert a value to HTML: results become tables, anything else but `Html` escaped text."""
    if isinstance(value, Html):
        return value
    if hasattr(type(value), "_repr_html_"):
        return Html(value._repr_html_())
    return Html(html.escape(value if isinstance(value, str) else short(value)))


def table(rows: Iterable[Sequence[Any]], *, head: Sequence[str] = (), caption: str = "") -> Html:
    """Return an HTML table, styled only by its alignment; the first column holds row headers.

    Example:
        >>> from kernelgap._support.display import table
        >>> table([("loss", "< 1")]).count("&lt; 1")
        1
    """
    left = ' style="text-align: left"'
    parts = [f"<caption{left}>{escape(caption)}</caption>"] if caption else []
    if head:
        cells = "".join(f'<th scope="col"{left}>{escape(name)}</th>' for name in head)
        parts.append(f"<thead><tr>{cells}</tr></thead>")
    parts.append("<tbody>")
    for header, *values in rows:
        cells = "".join(f"<td{left}>{escape(value)}</td>" for value in values)
        parts.append(f'<tr><th scope="row"{left}>{escape(header)}</th>{cells}</tr>')
    return Html(f"<table>{''.join(parts)}</tbody></table>")
