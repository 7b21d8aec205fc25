"""One self-contained HTML page for the results of many studies, which opens offline.

Figures are embedded as data URIs, texts are escaped, and there is no script.
"""

import base64
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kernelgap._support.display import Html, escape, table
from kernelgap._support.files import write_atomically
from kernelgap.studies import panels
from kernelgap.studies.estimates import Estimate, plain
from kernelgap.studies.store import prepare_folder
from kernelgap.studies.study import Result
from kernelgap.studies.tables import interval_text

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; }
h2 { border-top: 1px solid #8886; padding-top: 1.5rem; margin-top: 2.5rem; }
img { max-width: 100%; height: auto; background: white; }
pre, .wide { overflow-x: auto; }
pre { font-size: .8rem; padding: .6rem; background: #8881; }
.about { white-space: pre-line; }
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
    """Write `report.html` into a folder, atomically, and return its path.

    Args:
        out: The folder, created if it does not exist.
        results: One result of each study, in the order of the page.
        missing: Studies without a result, with the reason.
        title: Heading of the page.
    """
    path = prepare_folder(out) / "report.html"
    write_atomically(path, page(results, missing=missing or {}, title=title).encode())
    return path


def page(results: Sequence[Result], *, missing: Mapping[str, str], title: str) -> str:
    """Return the whole page as text."""
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
    study, name = result.study, escape(result.study.name)
    image = base64.b64encode(panels.png(panels.figure(result), dpi=130)).decode()
    return "\n".join(
        [
            f'<section id="{name}">',
            f"<h2>{name}: {escape(study.title)}</h2>",
            *(f'<p class="about">{escape(text)}</p>' for text in study.about.split("\n\n")),
            f'<p><img alt="Figure of the study {name}" src="data:image/png;base64,{image}"></p>',
            f"<pre>{escape(result.table())}</pre>",
            _folded("All numbers", *_numbers(result.estimates), style="wide numbers"),
            _folded("Configuration", _configuration(result)),
            _folded("Provenance", table(_flat(result.provenance))),
            "</section>",
        ]
    )


def _folded(title: str, *parts: str, style: str = "wide") -> str:
    inside = "\n".join(f'<div class="{style}">{part}</div>' for part in parts)
    return f"<details><summary>{escape(title)}</summary>\n{inside}\n</details>"


def _configuration(result: Result) -> Html:
    """Return every option with its value and its help text."""
    rows = [
        (field.name, _text(getattr(result.config, field.name)), field.metadata.get("help", ""))
        for field in dataclasses.fields(result.config)
    ]
    return table(rows, head=("option", "value", "meaning"))


def _numbers(estimates: Sequence[Estimate]) -> Iterator[Html]:
    """Yield a table for each set of keys: a row per place, a column per metric."""
    families: dict[tuple, dict[tuple, dict[str, str]]] = {}
    for e in estimates:
        line = families.setdefault(tuple(e.keys), {}).setdefault(tuple(e.keys.values()), {})
        line[e.metric] = interval_text(e, ".4g")
    for keys, lines in families.items():
        metrics = dict.fromkeys(metric for line in lines.values() for metric in line)
        head = [*keys, *(metric.replace("_", " ") for metric in metrics)]
        rows = [
            [*map(plain, place), *(line.get(metric, "") for metric in metrics)]
            for place, line in lines.items()
        ]
        yield table(rows, head=head, caption="by " + ", ".join(keys) if keys else "overall")


def _flat(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in provenance.items():
        if isinstance(value, dict):
            for key, entry in value.items():
                yield f"{name}: {key.replace('_', ' ')}", _text(entry)
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple | list):
        return " ".join(map(_text, value))
    return "none" if value is None else str(value)
