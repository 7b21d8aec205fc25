"""Results read back from disk, and what is refused."""

import json

import numpy as np
import pytest

import coins
from kernelgap import studies
from kernelgap.studies import STUDIES, saved, study


@pytest.fixture
def folder(monkeypatch, tmp_path):
    coins.register(monkeypatch, coins.COINS)
    coins.COINS.run(out=tmp_path)
    return tmp_path


def test_a_result_comes_back_whole(folder):
    result = coins.COINS.run()
    for path in (folder, folder / "coins.json", str(folder)):
        found = studies.load(path)
        assert found.config == result.config
        np.testing.assert_equal(found.rows, result.rows)
        np.testing.assert_equal(found.summary, result.summary)
        assert [[type(v) for v in row.values()] for row in found.rows] == [
            [type(v) for v in row.values()] for row in result.rows
        ]
        assert found.table() == result.table()
        assert found.provenance["versions"] == result.provenance["versions"]
        assert len(found.plot().axes) == 1


def test_files_may_be_renamed_together(folder):
    for end in ("json", "csv"):
        (folder / f"coins.{end}").rename(folder / f"old.{end}")
    assert studies.load(folder / "old.json").study is coins.COINS


def test_nothing_is_run(folder, monkeypatch):
    monkeypatch.setattr(coins.COINS.run_cell, "__code__", (lambda config, identity: 1 / 0).__code__)
    assert len(studies.load(folder).rows) == 8


def test_columns_keep_their_types(folder):
    text = "seed,share,name,flag,few\n0,0.5,3,True,\n1,1e-3,x,False,2\n"
    (folder / "coins.csv").write_text(text)
    first, second = saved._rows(folder / "coins.csv")
    np.testing.assert_equal(
        first, {"seed": 0, "share": 0.5, "name": "3", "flag": True, "few": float("nan")}
    )
    assert second == {"seed": 1, "share": 1e-3, "name": "x", "flag": False, "few": 2}
    assert [type(v) for v in first.values()] == [int, float, str, bool, float]


def _edit(folder, **changes):
    file = folder / "coins.json"
    document = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in document.items() if v is not ...}))


def test_results_from_before_there_were_formats(folder):
    _edit(folder, format=..., rows=...)
    assert len(studies.load(folder).rows) == 8


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": 2}, "coins.json' has format 2, of a newer version of kernelgap.*up to 1"),
        ({"study": "dice"}, "of a study 'dice', which this version does not know; it has coins"),
        ({"study": 3}, "no result of a study: it lacks study"),
        ({"config": ...}, "no result of a study: it lacks config"),
        ({"summary": [], "provenance": None}, "it lacks summary, provenance"),
        ({"config": {"sides": 6}}, "configuration in .* does not fit this version: .*'sides'"),
        ({"config": {"seeds": 0}}, "does not fit this version: `seeds` must be an integer >= 1"),
        ({"rows": 9}, "about 9 rows, its CSV file has 8"),
    ],
)
def test_documents_that_are_refused(folder, changes, match):
    _edit(folder, **changes)
    with pytest.raises(ValueError, match=match):
        studies.load(folder)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[1]", b"3"])
def test_broken_json(folder, content):
    (folder / "coins.json").write_bytes(content)
    with pytest.raises(ValueError, match="is broken, not JSON|is no result of a study"):
        studies.load(folder)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("a,b\n1\n", "lines differ in length"),
        ("a,b\n1,2,3\n", "lines differ in length"),
        ('a,b\n"1,2\n', "is broken"),
        ("a\n1\n", "about 8 rows, its CSV file has 1"),
        ("", "about 8 rows, its CSV file has 0"),
    ],
)
def test_broken_csv(folder, content, match):
    (folder / "coins.csv").write_text(content)
    with pytest.raises(ValueError, match=match):
        studies.load(folder)


def test_what_is_no_result(folder, monkeypatch, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match="there is no result 'nowhere'"):
        studies.load("nowhere")
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(ValueError, match=r"holds no result of a study: expected NAME.json.*coins"):
        studies.load(empty)
    (empty / "coins.journal.jsonl").write_text("")
    with pytest.raises(ValueError, match="unfinished run of coins, which can be resumed"):
        studies.load(empty)
    (folder / "coins.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"rows of the result are missing: no .*coins.csv"):
        studies.load(folder)


def test_several_results_in_a_folder(monkeypatch, tmp_path):
    dice = coins.COINS._replace(name="dice")
    coins.register(monkeypatch, coins.COINS, dice)
    for one in STUDIES.values():
        study.execute(one, coins.CoinsConfig(), out=tmp_path / one.name)
    found = saved.find_results(tmp_path, STUDIES)
    assert found == {n: tmp_path / n / f"{n}.json" for n in ("coins", "dice")}
    with pytest.raises(ValueError, match="results of several studies, coins, dice: name the JSON"):
        studies.load(tmp_path)
    assert studies.load(tmp_path / "dice").study.name == "dice"
