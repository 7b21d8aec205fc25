"""`kernelgap list` and `kernelgap info`."""

import json
import os
import subprocess
import sys

import pytest

from kernelgap import cli
from kernelgap.studies import STUDIES


def test_list_and_info(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(STUDIES)
    assert all("presets: quick, default" in line for line in lines)
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    for word in ("python", "jaxlib", "device", "extra studies", "tensorflow"):
        assert word in out


def test_json(capsys):
    assert cli.main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [study["name"] for study in listed] == list(STUDIES)
    for study in listed:
        assert study["presets"]["default"] == {}
        assert all({"name", "default", "help"} <= set(option) for option in study["options"])
        (seeds,) = (option for option in study["options"] if option["name"] == "seeds")
        assert seeds["minimum"] in (1, 2)
        assert len(study["about"].splitlines()) > 3
    assert cli.main(["info", "--json"]) == 0
    info = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert info["versions"]["jax"]
    assert info["missing"]["test"] == []
    assert "tensorflow" in info


def test_missing_packages_are_named(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tqdm" else 1)
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "missing tqdm: pip install 'kernelgap[studies]'" in out
    assert cli.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"]["studies"] == ["tqdm"]


def test_a_reader_that_has_seen_enough():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-u", "-m", "kernelgap", "list"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == ""


def test_no_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([])
    assert stop.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
