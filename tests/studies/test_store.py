"""Journals, results that come back from disk, golden files of every format, and refusals."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import coins
import kernelgap as kg
from kernelgap._support.files import write_atomically
from kernelgap.studies import STUDIES
from kernelgap.studies.execution import x64
from kernelgap.studies.store import (
    CellResult,
    Journal,
    decode,
    encode,
    find_results,
    journal_header,
    prepare_folder,
)

GOLDEN = Path(__file__).parent / "golden"
HEADER = journal_header("demo", {"d": (1, 2), "seeds": 3}, False)
RESULT = CellResult([{"a": 0.1, "b": float("nan"), "c": -np.inf, "d": "x", "e": 1}], 1.0)


def _filled(folder, cells=3):
    with Journal(folder, HEADER) as journal:
        for i in range(cells):
            journal.add(("net", i), RESULT)
    return folder / "demo.journal.jsonl"


def test_what_was_added_is_found_again(tmp_path):
    _filled(tmp_path)
    with Journal(tmp_path, HEADER, resume=True) as journal:
        assert set(journal.done) == {("net", 0), ("net", 1), ("net", 2)}
        (row,) = journal.done["net", 1].rows
        np.testing.assert_equal(row, RESULT.rows[0])
        assert [type(v) for v in row.values()] == [float, float, float, str, int]
        journal.add(("net", 3), RESULT)
    with Journal(tmp_path, HEADER, resume=True) as journal:
        assert len(journal.done) == 4


@pytest.mark.parametrize("lost", [1, 20, 60])
def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path, lost):
    path = _filled(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    with Journal(tmp_path, HEADER, resume=True) as journal:
        assert set(journal.done) == {("net", 0), ("net", 1)}
        journal.add(("net", 2), RESULT)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("kept", [0, 10])
def test_killed_before_the_header_was_whole(tmp_path, kept):
    path = _filled(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with Journal(tmp_path, HEADER, resume=True) as journal:
        assert not journal.done
    assert json.loads(path.read_text()) == HEADER


def test_every_line_is_on_disk_before_add_returns(tmp_path):
    with Journal(tmp_path, HEADER) as journal:
        journal.add(("net", 0), RESULT)
        assert len((tmp_path / "demo.journal.jsonl").read_text().splitlines()) == 2


def test_refuses_a_folder_with_a_run_unless_told(tmp_path):
    _filled(tmp_path)
    with pytest.raises(FileExistsError, match="holds a demo run already: `resume` it, `overwrite`"):
        Journal(tmp_path, HEADER)
    with Journal(tmp_path, HEADER, overwrite=True) as journal:
        assert not journal.done


def test_refuses_another_configuration_and_names_the_difference(tmp_path):
    path = _filled(tmp_path)
    before = path.read_bytes()
    other = HEADER | {"config": {"d": [1, 3], "seeds": 3}}
    with pytest.raises(
        ValueError, match="another configuration: d is \\[1, 2\\] there and \\[1, 3\\] here"
    ):
        Journal(tmp_path, other, resume=True)
    with pytest.raises(ValueError, match="x64 is False there and True here"):
        Journal(tmp_path, HEADER | {"x64": True}, resume=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"no json\n", b"[1]\n", b'{"study": "demo"}\n', json.dumps(HEADER).encode() + b"\n{}\n"],
)
def test_refuses_what_is_not_a_journal(tmp_path, content):
    (tmp_path / "demo.journal.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match="is not a journal that this version can read"):
        Journal(tmp_path, HEADER, resume=True)


def test_folders_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(NotADirectoryError, match="must be a folder"):
        prepare_folder(file)
    with pytest.raises(PermissionError, match="cannot be written"):
        prepare_folder(file / "below")
    assert prepare_folder(tmp_path / "a" / "b").is_dir()
    if os.geteuid():  # root writes anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(PermissionError, match="cannot be written"):
            prepare_folder(tmp_path / "locked")


def test_atomic_write_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_atomically(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_that_json_cannot_write():
    value = {"a": (1, np.float32(0.5)), 2: [np.int64(3), float("nan"), np.float64("inf"), -np.inf]}
    written = {"a": [1, 0.5], "2": [3, None, "Infinity", "-Infinity"]}
    assert encode(value) == written
    np.testing.assert_equal(decode(written)["2"], value[2])


@pytest.fixture
def folder(monkeypatch, tmp_path):
    coins.register(monkeypatch, coins.COINS)
    coins.COINS.run(out=tmp_path)
    return tmp_path


def _assert_equal(result, other):
    assert result.config == other.config
    np.testing.assert_equal(result.rows, other.rows)
    np.testing.assert_equal(result.estimates, other.estimates)
    types = [[[type(v) for v in row.values()] for row in r.rows] for r in (result, other)]
    assert types[0] == types[1]
    assert result.table() == other.table()


def test_a_result_comes_back_whole(folder, monkeypatch):
    result = coins.COINS.run()
    monkeypatch.setattr(coins, "run_cell", None)
    coins.CALLS.clear()
    for path in (folder, folder / "coins.json", str(folder)):
        loaded = kg.load(path)
        _assert_equal(loaded, result)
        assert loaded.provenance["versions"] == result.provenance["versions"]
        assert len(loaded.plot().axes) == 1
    assert coins.CALLS == []  # nothing is run


def test_a_saved_result_is_a_run_that_has_finished(tmp_path):
    result = coins.COINS.run()
    result.save(tmp_path)
    coins.CALLS.clear()
    _assert_equal(coins.COINS.run(out=tmp_path, resume=True), result)
    assert coins.CALLS == []


def test_files_may_be_renamed_together(folder):
    for end in ("json", "journal.jsonl"):
        (folder / f"coins.{end}").rename(folder / f"old.{end}")
    assert kg.load(folder / "old.json").study is coins.COINS


def test_golden_files_are_read_and_written_as_they_were(tmp_path):
    """Of the journal, JSON and CSV: what this version reads, older results are kept in."""
    result = kg.load(GOLDEN / "coins.json", study=coins.COINS)
    assert result.config == coins.CoinsConfig(flips=(2, 10), seeds=3, bias=0.25)
    assert result.rows[0] | {"odd": 0.0} == {
        "kind": "a<b", "flips": 2, "seed": 0, "heads": 0.0, "odd": 0.0}  # fmt: skip
    assert np.isnan(result.rows[0]["odd"])
    assert result.select("depth")[0].value == -np.inf
    assert np.isnan(result.select("never_seen")[0].value)
    (two, ten) = result.select("heads")
    assert two.keys == {"kind": "a<b", "flips": 2}
    assert 0 <= ten.low <= ten.value <= ten.high <= 1
    result.save(tmp_path)
    for end in ("journal.jsonl", "json", "csv"):
        assert (tmp_path / f"coins.{end}").read_bytes() == (GOLDEN / f"coins.{end}").read_bytes()
    coins.CALLS.clear()
    if x64() is False:  # as the golden run was
        coins.COINS.run(result.config, out=tmp_path, resume=True)
        assert coins.CALLS == []
        assert (tmp_path / "coins.csv").read_bytes() == (GOLDEN / "coins.csv").read_bytes()


def _edit(folder, **changes):
    file = folder / "coins.json"
    document = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in document.items() if v is not ...}))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": 3}, "coins.json' has format 3, of a newer version of kernelgap.*up to 2"),
        ({"study": "dice"}, "of a study 'dice', which this version does not know; it has coins"),
        ({"study": 3}, "is not a result of a study: it lacks study"),
        ({"config": ...}, "is not a result of a study: it lacks config"),
        ({"estimates": {}, "provenance": None}, "it lacks estimates, provenance"),
        ({"config": {"sides": 6}}, "configuration in .* does not fit this version: .*'sides'"),
        ({"config": {"seeds": 0}}, "does not fit this version: `seeds` must be an integer >= 1"),
        ({"config": {"flips": [5, 60]}}, r"are not of the same run: the cell \(60,\) is missing"),
    ],
)
def test_documents_that_are_refused(folder, changes, match):
    _edit(folder, **changes)
    with pytest.raises(ValueError, match=match):
        kg.load(folder)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[1]", b"3"])
def test_broken_json(folder, content):
    (folder / "coins.json").write_bytes(content)
    with pytest.raises(ValueError, match="is broken, not JSON|is not a result of a study"):
        kg.load(folder)


def test_what_is_not_a_result(folder, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match="there is no result 'nowhere.json'"):
        kg.load("nowhere.json")
    with pytest.raises(ValueError, match=r"must end in .npz or be the folder.*; got 'nowhere'"):
        kg.load("nowhere")
    with pytest.raises(TypeError, match="`study` must be a Study, or None; got str"):
        kg.load(folder, study="coins")
    with pytest.raises(ValueError, match="`kernel` is for predictors; the result of a study has"):
        kg.load(folder, kernel=lambda a, b=None: a)
    with pytest.raises(TypeError, match="`path` must be the name of a file or folder; got int"):
        kg.load(3)
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(ValueError, match=r"does not hold a result.*: expected NAME.json.*coins"):
        kg.load(empty)
    (empty / "coins.journal.jsonl").write_text("")
    with pytest.raises(ValueError, match="unfinished run of coins, which can be resumed"):
        kg.load(empty)
    (folder / "coins.journal.jsonl").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"rows of the result are missing: there is no .*coins"
    ):
        kg.load(folder)


def test_several_results_in_a_folder(monkeypatch, tmp_path):
    dice = coins.COINS._replace(name="dice")
    coins.register(monkeypatch, coins.COINS, dice)
    for study in STUDIES.values():
        study.run(out=tmp_path / study.name)
    files = {n: tmp_path / n / f"{n}.json" for n in ("coins", "dice")}
    assert find_results(tmp_path, STUDIES) == files
    with pytest.raises(ValueError, match="results of several studies, coins, dice: name the JSON"):
        kg.load(tmp_path)
    assert kg.load(tmp_path / "dice").study.name == "dice"
