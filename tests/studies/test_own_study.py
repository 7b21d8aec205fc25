"""The study of the page *Write your own study*: complete, resumable after a kill, on the command line."""

import csv
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kernelgap as kg
from kernelgap import cli

PAGE = Path(__file__).parents[2] / "docs" / "own-study.md"
QUICK = ["--preset", "quick", "--no-progress", "--workers", "1"]


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The folder with `shells.py` as the page prints it, as the current one."""
    first, second = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(first.splitlines()) <= 150
    (tmp_path / "shells.py").write_text(first)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shells", raising=False)
    importlib.invalidate_caches()
    yield importlib.import_module("shells"), second
    sys.modules.pop("shells", None)


def test_the_page_in_python(module, capsys):
    shells, block = module
    names = vars(shells)
    exec(block, names)
    assert "test error" in capsys.readouterr().out
    result = names["result"]
    errors = result.select("error", {"features": 256})
    assert all(0 <= e.low <= e.value <= e.high <= 1 for e in errors)
    assert errors[1].value < errors[0].value < 0.6
    assert {p.name for p in Path("shells").iterdir()} == {
        "shells.csv", "shells.json", "shells.png", "shells.journal.jsonl"}  # fmt: skip
    rows = list(csv.DictReader(Path("shells/shells.csv").read_text().splitlines()))
    assert [float(r["error"]) for r in rows] == [r["error"] for r in result.rows]
    assert kg.studies.compare(result, names["again"]).only_first == []


def test_options_and_commands(module, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "shells:STUDY", "--sizes", "40", "10"])
    assert stop.value.code == 2
    assert "--sizes must increase strictly; got (40, 10)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["run", "shells:STUDY", "--help"])
    assert "--features X [X ...]" in capsys.readouterr().out


def test_killed_and_resumed_to_the_same_bytes(module):
    command = [sys.executable, "-m", "kernelgap", "run", "shells:STUDY", *QUICK]
    journal = Path("cut/shells.journal.jsonl")
    process = subprocess.Popen([*command, "--out", "cut"], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= 2:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait(timeout=500)
    done = journal.read_bytes()
    if Path("cut/shells.csv").exists():  # it ended before the signal arrived
        Path("cut/shells.csv").unlink()
        journal.write_bytes(done[: len(done) // 2])
    assert cli.main([*command[3:], "--out", "cut", "--resume"]) == 0
    assert cli.main([*command[3:], "--out", "whole"]) == 0
    cut, whole = (Path(folder, "shells.csv").read_bytes() for folder in ("cut", "whole"))
    assert cut == whole
    a, b = (json.loads(Path(f, "shells.json").read_text())["estimates"] for f in ("cut", "whole"))
    assert a == b
