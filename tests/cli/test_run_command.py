"""`kernelgap run STUDY` and `kernelgap run all`."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import coins
import kernelgap as kg
from kernelgap import cli

TINY = ["--dims", "4", "--net-ratios", "2", "--svm-ratios", "2", "--span-ratios", "2",
        "--margin-ratios", "2", "--rounds", "0",
        "--seeds", "2", "--n-test", "100", "--width", "8", "--steps", "20"]  # fmt: skip


def test_run(capsys, tmp_path):
    assert cli.main(["run", "gap", "--out", str(tmp_path), *TINY]) == 0
    captured = capsys.readouterr()
    assert "samples at 10% test error" in captured.out
    assert "gap.png" in captured.out
    assert "4/4" in captured.err  # the progress bar
    assert {p.name for p in tmp_path.iterdir()} == {
        "gap.csv", "gap.json", "gap.png", "gap.journal.jsonl"}  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "gap", "--out", str(tmp_path), *TINY])
    assert stop.value.code == 2
    assert "--resume it, --overwrite it" in capsys.readouterr().err
    assert cli.main(["run", "gap", "--out", str(tmp_path), *TINY, "--resume"]) == 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--preset", "enormous"], "argument --preset: invalid choice: 'enormous'"),
        (["--dims", "1"], "--dims must be an integer >= 2; got 1"),
        (["--dims", "ten"], "argument --dims: invalid int value: 'ten'"),
        (["--net-ratios", "0"], "--net-ratios must be a finite number > 0; got 0"),
        (["--data", "mnist"], "--data must be one of 'xor', 'digits'; got 'mnist'"),
        (["--data", "digits", "--classes", "3", "3"], "--classes must not repeat an entry"),
        (["--workers", "0"], "--workers must be an integer >= 1; got 0"),
        (["--resume", "--overwrite"], "--resume and --overwrite exclude each other"),
        (["--speed", "9"], "unrecognized arguments: --speed 9"),
    ],
)
def test_errors_name_the_option_and_what_it_accepts(capsys, tmp_path, options, match):
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "gap", "--out", str(tmp_path / "out"), *options])
    assert stop.value.code == 2
    assert match in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.json*"))  # before any work


def test_unwritable_out(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        cli.main(["run", "gap", "--out", str(tmp_path / "file"), *TINY])
    assert "--out must be a folder" in capsys.readouterr().err


def test_unknown_study(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "gaps"])
    assert "invalid choice: 'gaps' (choose from" in capsys.readouterr().err


def test_json_of_a_run(capsys, monkeypatch, tmp_path):
    coins.register(monkeypatch, coins.COINS)
    out = tmp_path / "out"
    assert cli.main(["run", "coins", "--out", str(out), "--bias", "0.25", "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out, parse_constant=pytest.fail)
    assert document["config"]["bias"] == 0.25
    assert {"metric": "never_seen", "keys": {}, "value": None, "low": None, "high": None} in (
        document["estimates"])  # fmt: skip
    assert [os.path.isfile(name) for name in document["files"]] == [True] * 3
    assert "2/2" in captured.err  # the bar is on stderr


@pytest.fixture
def three(monkeypatch):
    """Studies a, b and c: the second can be told to fail or to be interrupted."""
    calls = []

    def words(word):
        def run_cell(config, identity):
            calls.append((word, *identity))
            return coins.run_cell(config, identity)

        presets = {"quick": {"word": word}, "default": {}}
        return coins.COINS._replace(name=word, presets=presets, run_cell=run_cell)

    def make(*names):
        coins.register(monkeypatch, *(words(name) for name in names))
        return calls

    return make


def test_run_all(capsys, monkeypatch, tmp_path):
    dice = coins.COINS._replace(name="dice", presets={"default": {}, "quick": {"seeds": 2}})
    coins.register(monkeypatch, coins.COINS, dice)
    out = tmp_path / "out"
    arguments = ["run", "all", "--preset", "quick", "--out", str(out)]
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    assert f"wrote {out / 'report.html'}" in captured.out
    assert captured.out.count("coins <n>") == 2
    assert {path.name for path in out.iterdir()} == {"coins", "dice", "report.html"}
    assert kg.load(out / "coins").config.flips == (2, 3)  # each study's own preset
    assert kg.load(out / "dice").config.seeds == 2
    page = (out / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert "preset quick" in page
    assert "not run yet" not in page

    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "holds runs already (coins, dice): --resume them, --overwrite" in capsys.readouterr().err
    assert cli.main([*arguments, "--overwrite", "--no-progress", "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out, parse_constant=pytest.fail)
    assert [result["study"] for result in document["results"]] == ["coins", "dice"]
    assert document["failed"] == {}
    assert document["report"] == str(out / "report.html")
    assert captured.err == ""


def test_only_presets_that_every_study_has(capsys, monkeypatch):
    dice = coins.COINS._replace(name="dice", presets={"default": {}, "large": {}, "quick": {}})
    coins.register(monkeypatch, coins.COINS, dice)
    with pytest.raises(SystemExit):
        cli.main(["run", "all", "--preset", "own"])
    assert "choose from 'quick', 'default')" in capsys.readouterr().err.replace("quick, default", "'quick', 'default'")  # fmt: skip


def test_a_study_that_fails_leaves_the_others(capsys, three, tmp_path):
    three("calm", "fail", "late")
    arguments = ["run", "all", "--preset", "quick", "--out", str(tmp_path), "--no-progress"]
    assert cli.main(arguments) == 1
    assert "fail failed: RuntimeError: the <coin> rolled" in capsys.readouterr().err
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert "fail: failed: RuntimeError: the &lt;coin&gt; rolled under the sofa" in page
    assert cli.main([*arguments, "--resume", "--json"]) == 1
    assert list(json.loads(capsys.readouterr().out)["failed"]) == ["fail"]


def test_an_interrupted_run_of_all_goes_on(capsys, three, tmp_path):
    calls = three("calm", "stop", "late")
    arguments = ["run", "all", "--preset", "quick", "--out", str(tmp_path), "--no-progress"]
    arguments += ["--workers", "1"]
    assert cli.main(arguments) == 130
    captured = capsys.readouterr()
    assert f"finished cells are safe in {tmp_path}" in captured.err
    assert calls == [("calm", 5), ("calm", 50), ("stop", 5), ("stop", 50)]
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 1
    assert "stop: interrupted" in page
    assert "late: not run yet" in page

    calls = three("calm", "stop", "late")
    calls.clear()
    assert cli.main([*arguments, "--resume"]) == 130  # it stops at the same cell again
    assert calls == [("stop", 50)]


def test_errors_of_run_all_come_before_any_work(capsys, three, tmp_path):
    calls = three("calm", "late")
    (tmp_path / "file").write_text("")
    for options, match in (
        (["--workers", "0"], "--workers must be an integer >= 1; got 0"),
        (["--resume", "--overwrite"], "--resume and --overwrite exclude each other"),
        (["--out", str(tmp_path / "file")], "--out must be a folder"),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(["run", "all", "--out", str(tmp_path / "new"), *options])
        assert stop.value.code == 2
        assert match in capsys.readouterr().err
    assert calls == []


def test_ctrl_c_of_the_real_command(tmp_path):
    """SIGINT in a process of its own: status 130, and what was finished is on disk."""
    command = [sys.executable, "-m", "kernelgap", "run", "gap", "--out", str(tmp_path), *TINY,
               "--steps", "300000", "--workers", "1", "--no-progress"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "gap.journal.jsonl"
    while not journal.exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=500)
    assert process.returncode == 130, err
    assert "finished cells are safe in" in err
    assert "Traceback" not in err
    assert len(journal.read_text().splitlines()) >= 1


def test_a_study_of_ones_own_by_its_module(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "throws_of_mine.py").write_text(
        "import coins\nMINE = coins.COINS._replace(name='mine')\n"
    )
    assert cli.main(["run", "throws_of_mine:MINE", "--out", "mine", "--seeds", "3"]) == 0
    assert "mine: throws" in capsys.readouterr().out
    assert cli.main(["show", "mine", "--study", "throws_of_mine:MINE", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["seeds"] == 3
    compared = ["compare", "mine", "mine/mine.json", "--study", "throws_of_mine:MINE"]
    assert cli.main(compared) == 0
    assert "configuration: the same" in capsys.readouterr().out
    for words, match in (
        (["run", "nowhere_at_all:MINE"], "No module named 'nowhere_at_all'"),
        (["run", "coins:register"], "'coins:register' must name a kernelgap.studies.Study; got"),
        (["run", "throws_of_mine:MINE", "--seeds", "0"], "--seeds must be an integer >= 1; got 0"),
        (["show", "mine"], "does not hold a result of a study"),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
        assert stop.value.code == 2
        assert match in capsys.readouterr().err
