import json
import os

import numpy as np
import pytest

from kernelgap._files import write_atomically
from kernelgap.studies.journal import (
    CellResult,
    Journal,
    jsonable,
    prepare_folder,
)

HEADER = {"study": "demo", "x64": False, "config": {"d": [1, 2], "seeds": 3}}
RESULT = CellResult([{"a": 0.1, "b": float("nan")}], 1.0, 2.0)


def _filled(folder, cells=3):
    with Journal(folder, HEADER) as journal:
        for i in range(cells):
            journal.add(("net", i), RESULT)
    return folder / "demo.journal.jsonl"


def test_what_was_added_is_found_again(tmp_path):
    _filled(tmp_path)
    with Journal(tmp_path, HEADER, resume=True) as journal:
        assert set(journal.done) == {("net", 0), ("net", 1), ("net", 2)}
        row = journal.done["net", 1].rows[0]
        assert row["a"] == 0.1
        assert np.isnan(row["b"])
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


@pytest.mark.parametrize("content", [b"no json\n", b"[1]\n", b'{"study": "demo"}\n{"rows": 1}\n'])
def test_refuses_what_is_no_journal(tmp_path, content):
    (tmp_path / "demo.journal.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match="no journal that this version can read"):
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


def test_jsonable():
    value = {"a": (1, np.float32(0.5)), 2: [np.int64(3), float("nan"), np.float64("inf")]}
    assert jsonable(value) == {"a": [1, 0.5], "2": [3, None, "Infinity"]}
