"""The README's code and the examples run as printed."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_readme_code_runs_as_printed(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
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


DOCUMENTS = [path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("name", DOCUMENTS, ids=str)
def test_links_inside_the_repository_exist(name):
    document = ROOT / name
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target
