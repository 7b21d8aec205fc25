"""The parts of the sheet of English in CONTRIBUTING that a test can hold."""

import ast
import re
import textwrap
from pathlib import Path

import pytest

import kernelgap as kg

ROOT = Path(__file__).parent.parent
SOURCE = Path(kg.__file__).parent

HEADLESS = re.compile(r"(What|Whether|How|Where|Which)\b")
# "is no integer" for "is not an integer"; the lookarounds allow what is good English.
NO_ARTICLE = re.compile(
    r"(?<!\bthere )\b(?:is|are) no (?!(?:longer|more|less|fewer|greater|larger|smaller|better)\b)",
    re.IGNORECASE,
)
METAPHOR = re.compile(r"\b(?:houses?|wings?|rooms?)\b(?! for\b)", re.IGNORECASE)
SECTION = re.compile(r"^( *)(?:Args|Attributes):\n((?:\1 +.*\n?|\n)+)", re.MULTILINE)
# An entry that begins with a word; symbols such as `lambda >= 0` and `f(x)` may begin one.
LOWER_CASE = re.compile(
    r"^    \*{0,2}\w+: (?!(?:[b-z]|eps|eta|gamma|lambda|log|mu|rho|tau|tr) )([a-z]+) (?![<>=])"
)
EMPTY_NAMES = {"found", "made", "some", "one", "rest", "told", "there"}


def _violations(source):
    """Yield (line, complaint) for every breach of the sheet in a Python source."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node) or ""
            line = getattr(node, "lineno", 1)
            if HEADLESS.match(text):
                yield line, f"summary is a headless clause: {text.splitlines()[0]!r}"
            for _, entries in SECTION.findall(text):
                for entry in textwrap.dedent(entries).splitlines():
                    if LOWER_CASE.match(f"    {entry}"):
                        yield line, f"description begins in lower case: {entry!r}"
            if METAPHOR.search(text):
                yield line, f"docstring calls a module {METAPHOR.search(text).group()!r}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for match in NO_ARTICLE.finditer(re.sub(r"\s+", " ", node.value)):
                yield node.lineno, f"{match.string[match.start() :][:40]!r}: write 'not a'"
        name = node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None
        name = node.arg if isinstance(node, ast.arg) else name
        name = node.name if isinstance(node, ast.FunctionDef) else name
        if name in EMPTY_NAMES:
            yield node.lineno, f"the name {name!r} does not say what it is"


def _complaints(paths):
    return [
        f"{path.relative_to(SOURCE)}:{line}: {complaint}"
        for path in sorted(paths)
        for line, complaint in _violations(path.read_text("utf-8"))
    ]


def test_source():
    assert _complaints(p for p in SOURCE.rglob("*.py")) == []


PAGES = [ROOT / "README.md", ROOT / "benchmarks/README.md", *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_speak_of_modules_and_layers(page):
    lines = page.read_text("utf-8").splitlines()
    assert [f"{n}: {line}" for n, line in enumerate(lines, 1) if METAPHOR.search(line)] == []


@pytest.mark.parametrize(
    "source",
    [
        '"""Whether it is so."""',
        'def f():\n    """What is needed."""',
        'class A:\n    """How a room looks."""',
        '"""Return.\n\nArgs:\n    n: number of samples.\n"""',
        '"""Helpers for more than one room."""',
        'raise TypeError("`n` is no integer")',
        'raise TypeError(f"`{name}` is no "\n                "integer")',
        'raise ValueError(f"{name}: labels are no signs")',
        "found = 1",
        "def f(rest): pass",
        "def one(key): pass",
        "for some in range(3): pass",
    ],
)
def test_breaches_are_seen(source):
    assert list(_violations(source)) != []


@pytest.mark.parametrize(
    "source",
    [
        '"""Return a value."""',
        '"""A tile has room for rounding."""',
        'raise ValueError("there is no result; it is no longer used and is no more than 1")',
        'raise TypeError("`n` is not an integer")',
        '"""Return.\n\nArgs:\n    n: Number of\n        samples.\n    l2: lambda >= 0; may be traced.\n"""',
        "foundation = someone = 1",
    ],
)
def test_good_english_passes(source):
    assert list(_violations(source)) == []
