"""One HTML page for the results of many studies, which opens offline: nothing in it is elsewhere.

Figures are embedded as data URIs, texts are escaped, and there is no script.
"""

import base64
import dataclasses
import html
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kernelgap._display import Html, escape, table
from kernelgap._files import write_atomically
from kernelgap.studies import figures
from kernelgap.studies.journal import prepare_folder
from kernelgap.studies.statistics import interval_text
from kernelgap.studies.study import Result, Study

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; }
h2 { border-top: 1px solid #8886; padding-top: 1.5rem; margin-top: 2.5rem; }
img { max-width: 100%; height: auto; background: white; }
pre, .wide { overflow-x: auto; }
pre { font-size: .8rem; padding: .6rem; background: #8881; }
table { border-collapse: collapse; font-size: .85rem; margin: .5rem 0; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .15rem .7rem .15rem 0; vertical-align: top; font-variant-numeric: tabular-nums; }
tbody th { font-weight: normal; }
.numbers td { white-space: nowrap; }
summary { cursor: pointer; }
.failed { color: #c33; }
"""


def write_report(
    out: str | os.PathLike,
    results: Sequence[Result],
    *,
    missing: Mapping[str, str] | None = None,
    title: str = "kernelgap",
) -> Path:
    """Write `report.html` into a folder, atomically.

    Args:
        out: the folder, made if need be.
        results: of one study each, in the order of the page.
        missing: studies without a result, and why.
        title: heading of the page.

    Returns:
        The path of the page.

    Raises:
        NotADirectoryError, PermissionError: if `out` cannot be written.
        ImportError: if matplotlib is missing (extra `studies`).
    """
    path = prepare_folder(out) / "report.html"
    write_atomically(path, page(results, missing=missing or {}, title=title).encode())
    return path


def page(results: Sequence[Result], *, missing: Mapping[str, str], title: str) -> str:
    """The whole page as text."""
    links = [f'<li><a href="#{escape(r.study.name)}">{escape(r.study.name)}</a>: '
             f"{escape(r.study.title)}</li>" for r in results]  # fmt: skip
    links += [f'<li class="failed">{escape(name)}: {escape(why)}</li>'
              for name, why in missing.items()]  # fmt: skip
    sections = "\n".join(_section(result) for result in results)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<ul>\n{chr(10).join(links)}\n</ul>\n{sections}\n"
        "</body>\n</html>\n"
    )


def _section(result: Result) -> str:
    study, provenance = result.study, result.provenance
    name = escape(study.name)
    return "\n".join(
        [
            f'<section id="{name}">',
            f"<h2>{name}: {escape(study.title)}</h2>",
            *_paragraphs(study),
            f'<p><img alt="Figure of the study {name}" src="{_image(result)}"></p>',
            f"<pre>{escape(result.table())}</pre>",
            _folded("All numbers", *_numbers(result.summary), style="wide numbers"),
            _folded("Configuration", _configuration(result)),
            _folded("Provenance", table(_flat(provenance))),
            "</section>",
        ]
    )


def _paragraphs(study: Study) -> Iterator[str]:
    """The text of a study: paragraphs, lists, and code between backquotes."""
    for paragraph in study.about.split("\n\n"):
        if paragraph.startswith("- "):
            items = re.split(r"^- ", paragraph, flags=re.MULTILINE)[1:]
            yield f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</ul>"
        else:
            yield f"<p>{_inline(paragraph)}</p>"


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text.strip()))


def _image(result: Result) -> str:
    image = base64.b64encode(figures.png(result.plot(), dpi=130))
    return f"data:image/png;base64,{image.decode()}"


def _folded(title: str, *parts: str, style: str = "wide") -> str:
    inside = "\n".join(f'<div class="{style}">{part}</div>' for part in parts)
    return f"<details><summary>{escape(title)}</summary>\n{inside}\n</details>"


def _configuration(result: Result) -> Html:
    """Every option with its value and what it is."""
    rows = [
        (field.name, _text(getattr(result.config, field.name)), field.metadata.get("help", ""))
        for field in dataclasses.fields(result.config)
    ]
    return table(rows, head=("option", "value", "meaning"))


def _numbers(summary: Mapping[str, Any], name: str = "") -> Iterator[Html]:
    """Tables of all numbers: one for each list of a summary, however deep, and one for the rest."""
    single = []
    for key, value in summary.items():
        caption = f"{name} {key}".strip().replace("_", " ")
        if _is_nest(value) and isinstance(value, dict):
            if all(isinstance(column, list) for column in value.values()):
                rows = zip(*(map(_text, column) for column in value.values()), strict=False)
                yield table(rows, head=list(value), caption=caption)
            else:
                yield from _numbers(value, caption)
        elif _is_nest(value) and all(isinstance(entry, dict) for entry in value):
            columns = list(
                dict.fromkeys(k for entry in value for k in entry if not _is_nest(entry[k]))
            )
            rows = [[_text(entry.get(column, "")) for column in columns] for entry in value]
            yield table(rows, head=columns, caption=caption)
            for k, entry in enumerate(value):
                deeper = {column: entry[column] for column in entry if _is_nest(entry[column])}
                yield from _numbers(deeper, f"{caption} {k + 1}")
        else:
            single.append((key.replace("_", " "), _text(value)))
    if single:
        yield table(single, caption=name)


def _is_nest(value: Any) -> bool:
    """Whether it is more than a cell of a table holds."""
    if isinstance(value, dict):
        return not {"value", "low", "high"} <= set(value)
    return isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value)


def _flat(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in provenance.items():
        if isinstance(value, dict):
            for key, entry in value.items():
                yield f"{name}: {key.replace('_', ' ')}", _text(entry)
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, dict) and {"value", "low", "high"} <= set(value):
        return _text(value["value"]) if _unknown(value["value"]) else interval_text(value, ".4g")
    if _unknown(value):
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple | list):
        return " ".join(map(_text, value))
    return "none" if value is None else str(value)


def _unknown(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
