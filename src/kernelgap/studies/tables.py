"""Text tables of estimates: one line per grid point, one column per metric."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from kernelgap.studies.estimates import Estimate, plain


class Table(NamedTuple):
    """A text table.

    Attributes:
        metrics: Metrics to show, each with the format of its numbers, such as ".3f".
        title: Line above the table.
        across: Key whose values become columns; only for a single metric, named in the title.
        where: Function of the keys that selects the estimates to show; None shows all.
    """

    metrics: Mapping[str, str]
    title: str = ""
    across: str = ""
    where: Callable[[Mapping[str, Any]], bool] | None = None


def text(estimates: Iterable[Estimate], table: Table) -> str:
    """Return a table as text; empty if none of its metrics was estimated.

    Example:
        >>> from kernelgap.studies import Estimate, Table
        >>> from kernelgap.studies.tables import text
        >>> errors = [Estimate("error", {"n": n}, 1 / n, 0, 2 / n) for n in (5, 10)]
        >>> print(text(errors, Table({"error": ".2f"})))
         n              error
         5  0.20 [0.00, 0.40]
        10  0.10 [0.00, 0.20]
    """
    lines: dict[tuple, dict[str, str]] = {}
    keys: dict[str, bool] = {}  # True for columns of numbers
    columns: dict[str, list[str]] = {metric: [] for metric in table.metrics}
    for e in estimates:
        if e.metric not in table.metrics or not (table.where is None or table.where(e.keys)):
            continue
        place = {k: v for k, v in e.keys.items() if k != table.across}
        head = e.metric.replace("_", " ")
        if table.across in e.keys:
            head = f"{table.across}={plain(e.keys[table.across])}"
        columns[e.metric] += [] if head in columns[e.metric] else [head]
        keys |= {k: not isinstance(v, str) and keys.get(k, True) for k, v in place.items()}
        line = lines.setdefault(tuple(place.items()), {k: plain(v) for k, v in place.items()})
        line[head] = interval_text(e, table.metrics[e.metric])
    if not lines:
        return ""
    heads = [*keys, *(head for heads in columns.values() for head in heads)]
    grid = [heads, *([line.get(head, "") for head in heads] for line in lines.values())]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    left = [head in keys and not keys[head] for head in heads]
    return "\n".join([
        *([table.title] if table.title else []),
        *("  ".join(cell.ljust(width) if is_left else cell.rjust(width)
                    for cell, width, is_left in zip(line, widths, left, strict=True)).rstrip()
          for line in grid),
    ])  # fmt: skip


def interval_text(estimate: Any, form: str) -> str:
    """Return a value with its interval, as tables show them.

    Example:
        >>> from kernelgap.studies import Estimate
        >>> from kernelgap.studies.tables import interval_text
        >>> interval_text(Estimate("error", {}, 0.5, 0.4, 0.6), ".2f")
        '0.50 [0.40, 0.60]'
    """
    value, low, high = (float(end) for end in (estimate.value, estimate.low, estimate.high))
    if np.isnan(value):
        return "-"
    form = f"{form[:1]}z{form[1:]}" if form[:1] == "+" else f"z{form}"  # z: no -0.00
    if np.isnan(low) and np.isnan(high):
        return f"{value:{form}}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
