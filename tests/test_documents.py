"""The README's code and the examples run as printed."""

import ast
import contextlib
import importlib.util
import inspect
import itertools
import re
import types
from collections import Counter
from pathlib import Path

import pytest

import kernelgap as kg
from helpers import returned

ROOT = Path(__file__).parent.parent


def test_readme_code_runs_as_printed(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 3
    assert len(blocks[0].strip().splitlines()) == 5
    names = {}
    for block in blocks:
        exec(block, names)
    out = capsys.readouterr().out
    assert "margin 0.0" in out
    assert float(out.splitlines()[1].split()[0]) > 0.05
    lower, upper = re.findall(r"0\.\d+", out.splitlines()[2])
    assert 0.12 < float(lower) <= float(upper) < 0.13


def _example(name):
    path = ROOT / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_own_network(monkeypatch):
    module = _example("own_network")
    monkeypatch.setattr(module, "WIDTH", 64)
    found = module.main(n=32, d=4, steps=1000)
    start, after, best = (
        found[name]
        for name in ("normalised margin at the start", "after training", "of any width, at most")
    )
    assert start < 0.6 * best < after < best * (1 + 1e-5)
    assert found["margin of the kernel's SVM"] > 0


def test_large_regression(tmp_path, capsys):
    found = _example("large_regression").main(n=600, d=5, out=str(tmp_path / "gram.npy"))
    assert found["error"] < 0.2
    assert found["residual"] < 1e-4
    fitted, label = re.findall(r"-?\d+\.\d+", capsys.readouterr().out.splitlines()[-1])
    assert abs(float(fitted) - float(label)) < 0.01


def test_quickstart():
    errors = _example("quickstart").main()
    assert errors["net"] < 0.01
    assert errors["kernel"] > 0.3
    assert errors["noisy"] < 0.1


DOCUMENTS = [path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))]


@pytest.mark.parametrize("name", DOCUMENTS, ids=str)
def test_links_inside_the_repository_exist(name):
    document = ROOT / name
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


def _python_blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [path.stem for path in sorted(ROOT.glob("docs/*.md")) if _python_blocks(path)]
)
def test_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # pages write files
    monkeypatch.setattr("sys.argv", [page])
    names = {}
    for number, block in enumerate(_python_blocks(ROOT / "docs" / f"{page}.md")):
        exec(compile(block, f"{page}.md, block {number}", "exec"), names)


def _public():
    """Every public name, by its module: the rooms, each study, and the names for types."""
    rooms = [name for name in kg.__all__ if isinstance(getattr(kg, name), types.ModuleType)]
    studies = [f"studies.{name.replace('-', '_')}" for name in kg.studies.STUDIES]
    for name in (*rooms, *studies, "sklearn", "typing"):
        module = importlib.import_module(f"kernelgap.{name}")
        yield module.__name__, list(module.__all__)
    yield "kernelgap", ["load", "save"]


def _described(module_name):
    """Names of a module for which autodoc has a docstring."""
    module = importlib.import_module(module_name)
    body = ast.parse(inspect.getsource(module)).body
    below = set()  # data with a docstring below it
    for statement, following in itertools.pairwise(body):
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            targets = getattr(statement, "targets", [getattr(statement, "target", None)])
            below |= {target.id for target in targets if isinstance(target, ast.Name)}
    for name in module.__all__:
        value = getattr(module, name)
        own = inspect.isclass(value) or inspect.isroutine(value)
        if name in below or isinstance(value, types.ModuleType) or (own and value.__doc__):
            yield name


def _on_the_api_pages():
    """Names that the directives of docs/api document, with how often they do."""
    found = Counter()
    for page in (ROOT / "docs" / "api").glob("*.md"):
        text = page.read_text("utf-8")
        for module, options in re.findall(r"\.\. automodule:: (\S+)\n((?: +:.*\n)*)", text):
            assert set(re.findall(r":([\w-]+):", options)) <= {
                "no-members", "no-value", "exclude-members",
            }, page  # fmt: skip
            if ":no-members:" not in options:
                excluded = re.findall(
                    r"[\w]+", "".join(re.findall(r"exclude-members:(.*)", options))
                )
                found.update(f"{module}.{n}" for n in _described(module) if n not in excluded)
        found.update(re.findall(r"\.\. auto(?:function|class):: (\S+)", text))
        for name, module in re.findall(r"\.\. py:data:: (\S+)\n   :module: (\S+)", text):
            found[f"{module}.{name}"] += 1
    return found


def test_every_public_name_is_on_the_api_pages_once():
    found = _on_the_api_pages()
    names = [f"{module}.{name}" for module, names in _public() for name in names]
    assert len(names) > 100
    assert {name: found[name] for name in names if found[name] != 1} == {}


def test_every_result_is_on_the_page_of_its_function_once():
    """Classes that only functions return are attributes of their modules, but not in `__all__`."""
    rooms = [getattr(kg, name) for name in kg.__all__]
    kinds = returned(*[room for room in rooms if isinstance(room, types.ModuleType)])
    assert len(kinds) > 20
    found = _on_the_api_pages()
    for kind in kinds:
        room = importlib.import_module(".".join(kind.__module__.split(".")[:2]))
        assert getattr(room, kind.__name__) is kind
        assert found[f"{room.__name__}.{kind.__name__}"] == 1, kind


@pytest.mark.parametrize(
    "room", [room for room in kg.__all__ if room not in ("__version__", "load", "save")]
)
def test_help_names_everything_on_one_screen(room):
    module = getattr(kg, room)
    text = inspect.getdoc(module)
    assert len(text.splitlines()) <= 40
    assert [name for name in module.__all__ if f"`{name}" not in text] == []


def test_every_room_has_an_api_page():
    toctree = (ROOT / "docs" / "api.md").read_text("utf-8")
    for page in (ROOT / "docs" / "api").glob("*.md"):
        assert f"\napi/{page.stem}\n" in toctree
    for module, _ in _public():
        if module == "kernelgap":
            continue
        room = module.split(".")[1]
        page = ROOT / "docs" / "api" / f"{room}.md"
        assert f".. automodule:: {module}\n" in page.read_text("utf-8")


ROOMS = "bounds|datasets|diversity|kernels|lazy|margins|metrics|models|objectives|optim|predictors|proofs|studies|testing"
NAMES = re.compile(rf"(?:`|\bkg\.|\bkernelgap\.)((?:{ROOMS})(?:\.[a-zA-Z_]\w*)+)(?!\w*\.(?:py|md))")


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.name != "CHANGELOG.md"], ids=str)
def test_names_of_the_library_in_documents_exist(document):
    for dotted in NAMES.findall((ROOT / document).read_text("utf-8")):
        value = kg
        for part in dotted.split("."):
            if not isinstance(value, types.ModuleType):
                break  # what objects have is another matter
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(f"{value.__name__}.{part}")
            value = getattr(value, part)
