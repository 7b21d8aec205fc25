"""`kernelgap show` and `kernelgap compare`."""

import json
from pathlib import Path

import pytest

import coins
from kernelgap import cli


@pytest.fixture
def two(monkeypatch, tmp_path):
    """Folders of two runs of one study, and of another study."""
    dice = coins.COINS._replace(name="dice")
    coins.register(monkeypatch, coins.COINS, dice)
    folders = [tmp_path / name for name in ("fair", "forged", "dice")]
    coins.COINS.run(out=folders[0])
    coins.COINS.run(coins.CoinsConfig(bias=0.99, flips=(5, 400)), out=folders[1])
    dice.run(out=folders[2])
    return list(map(str, folders))


def test_show(two, capsys):
    result = coins.COINS.run()
    for path in (two[0], two[0] + "/coins.json"):
        assert cli.main(["show", path]) == 0
        out = capsys.readouterr().out
        assert result.table() in out
        assert "8 rows; cells took 0 s on" in out
        assert "float32" in out or "float64" in out
    assert cli.main(["show", two[0], "--json"]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert document == json.loads(Path(two[0], "coins.json").read_text())


def test_show_a_folder_of_all(monkeypatch, tmp_path, capsys):
    dice = coins.COINS._replace(name="dice")
    coins.register(monkeypatch, coins.COINS, dice)
    for study in (coins.COINS, dice):
        study.run(out=tmp_path / study.name)
    assert cli.main(["show", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "coins: throws" in out
    assert "dice: throws" in out
    assert cli.main(["show", str(tmp_path), "--json"]) == 0
    assert [d["study"] for d in json.loads(capsys.readouterr().out)] == ["coins", "dice"]
    assert cli.main(["compare", str(tmp_path), str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("configuration: the same") == 2


def test_provenance_that_says_little(two, capsys):
    file = Path(two[0], "coins.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"provenance": {}}))
    assert cli.main(["show", two[0]]) == 0
    assert "cells took ? s on ? threads, ? s in all" in capsys.readouterr().out


def test_compare(two, capsys):
    assert cli.main(["compare", *two[:2]]) == 0
    out = capsys.readouterr().out
    assert f"first: {two[0]}\nsecond: {two[1]}\n" in out
    assert "bias: 0.5 | 0.99" in out
    assert "heads kind=a<b flips=5" in out
    assert "only in the second: 2, such as heads kind=a<b flips=400" in out
    assert cli.main(["compare", *two[:2], "--json"]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert document["study"] == "coins"
    assert document["config"]["bias"] == [0.5, 0.99]


@pytest.mark.parametrize(
    ("command", "match"),
    [
        (["show", "nowhere"], "kernelgap show: error: there is no result 'nowhere'"),
        (["compare", 0, "nowhere"], "kernelgap compare: error: there is no result 'nowhere'"),
        (["compare", 0, 2], "results of one study can be compared; got coins and dice"),
        (["show", "empty"], "does not hold a result of a study"),
    ],
)
def test_errors(two, capsys, tmp_path, monkeypatch, command, match):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as stop:
        cli.main([two[word] if isinstance(word, int) else word for word in command])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert match in captured.err
    assert captured.out == ""
