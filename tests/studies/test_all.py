"""What holds for every study: files, resuming, presets, the command line."""

import csv
import dataclasses
import html
import importlib.util
import json
import signal
from pathlib import Path

import numpy as np
import pytest

import coins
from kernelgap import cli, studies
from kernelgap.studies import STUDIES, report, study

TINY = {
    "gap": {
        "dims": (4,), "net_ratios": (2, 8), "svm_ratios": (2,), "span_ratios": (2,), "seeds": 2,
        "n_test": 100, "width": 8, "steps": 10,
    },
    "margin-path": {
        "parts": ("line",), "line_n": 4, "depths": (2, 3), "width": 8, "l2s": (1e-2, 1e-4),
        "steps": 20, "seeds": 2,
    },
    "teacher": {"d": 4, "sizes": (10, 20), "seeds": 2, "n_test": 100, "width": 8, "steps": 10},
    "regularization": {
        "d": 4, "n": 20, "width": 8, "seeds": 2, "n_test": 100, "steps": 20, "records": 4,
    },
    "noisy-gd": {"d": 3, "n": 10, "widths": (4,), "steps": 10, "records": 2, "seeds": 2},
    "wide-mlp": {
        "parts": ("train", "spectrum"), "data": ("sphere",), "losses": ("squared",), "n": 5,
        "d": 4, "seeds": 2, "n_test": 20, "widths": (4, 16), "depths": (2,), "steps": 4,
        "records": 2, "spectrum_widths": (4, 16), "spectrum_seeds": 2,
    },
    "width": {
        "d": 3, "n": 8, "widths": (2, 16), "seeds": 2, "restarts": 2, "n_test": 100, "steps": 10,
        "certified": 0,
    },
    "diversity": {
        "seeds": 2, "dims": (3,), "gram_n": 30, "gram_seeds": 1, "d": 3, "n": 8, "units": 6,
        "spreads": (0.5,), "draws": 3, "spreading": 5, "steps": 10, "records": 2,
        "data": ("teacher",), "widths": (4,), "penalties": (0.1,), "l2s": (1e-4,), "teacher_d": 3,
        "n_train": 10, "n_validation": 5, "n_test": 20, "adam_steps": 10, "stops": 2,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=[name for name in STUDIES if name != "gap"])
def finished(request, tmp_path_factory):
    """(study, its result, the folder it was written to)."""
    chosen = STUDIES[request.param]
    out = tmp_path_factory.mktemp(chosen.name)
    config = chosen.config(**TINY[chosen.name])
    return chosen, study.execute(chosen, config, out=out), out


def test_files_hold_the_rows_and_the_summary(finished):
    chosen, result, out = finished
    assert {p.name for p in out.iterdir()} == {
        f"{chosen.name}.{end}" for end in ("csv", "json", "png", "journal.jsonl")
    }
    with (out / f"{chosen.name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.rows) > 0
    for written, row in zip(rows, result.rows, strict=True):
        for name, value in row.items():
            number = isinstance(value, float)
            assert (float(written[name] or "nan") if number else written[name]) == (
                pytest.approx(value, rel=0, abs=0, nan_ok=True) if number else str(value)
            )
    document = json.loads((out / f"{chosen.name}.json").read_text(), parse_constant=pytest.fail)
    assert document["summary"] == study.jsonable(result.summary)
    assert (out / f"{chosen.name}.png").read_bytes().startswith(b"\x89PNG")


def test_rows_have_the_same_columns_and_a_seed(finished):
    _, result, _ = finished
    assert len({tuple(row) for row in result.rows}) == 1
    assert {row["seed"] for row in result.rows} == {0, 1}


def test_an_interrupted_run_goes_on_to_the_same_rows(finished, tmp_path):
    chosen, result, out = finished
    name = f"{chosen.name}.journal.jsonl"
    lines = (out / name).read_bytes().splitlines(keepends=True)
    half = len(lines) // 2 + 1
    (tmp_path / name).write_bytes(b"".join(lines[:half]) + lines[-1][:20])  # cut in a line
    resumed = study.execute(chosen, result.config, out=tmp_path, resume=True)
    np.testing.assert_equal(resumed.rows, result.rows)
    np.testing.assert_equal(resumed.summary, result.summary)


def test_table_and_figure(finished):
    _, result, _ = finished
    assert len(result.table().splitlines()) >= 3
    assert result.table() in repr(result)
    for ax in result.plot().axes:
        assert ax.get_title() or ax.get_ylabel()
        assert ax.lines or ax.collections


def test_it_comes_back_from_disk(finished):
    _, result, out = finished
    found = studies.load(out)
    assert found.config == result.config
    np.testing.assert_equal(found.rows, result.rows)
    assert found.table() == result.table()
    np.testing.assert_equal(study.jsonable(found.summary), study.jsonable(result.summary))
    assert len(found.plot().axes) == len(result.plot().axes)


def test_it_shows_and_compares_itself(finished):
    chosen, result, _ = finished
    assert result.table().splitlines()[0] in html.unescape(result._repr_html_())
    comparison = studies.compare(result, result)
    assert {pair.verdict for pair in comparison.numbers} == {"same"}
    names = [pair.name for pair in comparison.numbers]
    assert len(set(names)) == len(names) > 3  # told apart by what they are of
    page = report.page([result], missing={}, title="page")
    assert page.count("data:image/png;base64,") == 1
    assert html.escape(chosen.title) in page


@pytest.mark.parametrize("name", list(STUDIES))
def test_what_a_study_is_about(name):
    about = STUDIES[name].about
    assert "References:" in about
    assert ">>>" not in about
    assert len(about.split("\n\n")) >= 2


@pytest.mark.parametrize(("out", "match"), [(True, "1 of 2 cells are safe in"), (False, "1 of 2 cells were finished and are lost: runs with `out`")])  # fmt: skip
def test_ctrl_c_says_what_is_kept(tmp_path, out, match):
    config = coins.CoinsConfig(word="stop")
    with pytest.raises(KeyboardInterrupt) as stop:
        coins.COINS.run(config, out=tmp_path if out else None, workers=1)
    (note,) = stop.value.__notes__
    assert note.startswith(match)
    assert len(list(tmp_path.glob("coins.journal.jsonl"))) == out


def test_ctrl_c_that_python_drops_stops_the_run_all_the_same(tmp_path):
    """As it does with what is raised within the callback of a weak reference."""
    before = signal.getsignal(signal.SIGINT)
    config = coins.CoinsConfig(word="dropped", flips=(5, 50, 500))
    with pytest.raises(KeyboardInterrupt) as stop:
        coins.COINS.run(config, out=tmp_path, workers=1)
    assert "1 of 3 cells are safe in" in stop.value.__notes__[0]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("name", list(STUDIES))
def test_presets_are_configurations_and_options_explain_themselves(name, capsys):
    chosen = STUDIES[name]
    assert {"quick", "default"} <= set(chosen.presets)
    assert chosen.presets["default"] == {}
    for preset in chosen.presets.values():
        chosen.config(**preset)
    for field in dataclasses.fields(chosen.config):
        assert field.metadata["help"]
        assert isinstance(field.default, int | float | str | tuple)
        assert not isinstance(field.default, bool)
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", name, "--help"])
    assert stop.value.code == 0
    assert "--seeds" in capsys.readouterr().out


def test_every_study_is_public_and_listed(capsys):
    assert set(TINY) == set(STUDIES)
    for name in STUDIES:
        module = getattr(studies, name.replace("-", "_"))
        assert module.STUDY is STUDIES[name]
        assert set(module.__all__) >= {"PRESETS", "run"}
    cli.main(["list"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in STUDIES)


@pytest.mark.parametrize(
    ("name", "change", "error", "match"),
    [
        ("teacher", {"inputs": "cube"}, ValueError, "`inputs` must be one of 'sphere', 'gaussian'"),
        ("teacher", {"sizes": (20, 10)}, ValueError, "`sizes` must increase; got"),
        ("teacher", {"sizes": 20}, TypeError, "`sizes` must be a non-empty tuple"),
        ("teacher", {"units": 1}, ValueError, "`units` must be an integer >= 2"),
        ("teacher", {"delta": 0.0}, ValueError, "`delta`"),
        ("teacher", {"target": 0.7}, ValueError, "`target`"),
        ("teacher", {"learning_rate": 0.0}, ValueError, "`learning_rate`"),
        ("teacher", {"l2s": (0.0,)}, ValueError, "`l2s`"),
        ("regularization", {"data": "mnist"}, ValueError, "`data` must be one of 'xor', 'digits'"),
        ("regularization", {"signal": "line"}, ValueError, "`signal`"),
        ("regularization", {"noise": "pink"}, ValueError, "`noise`"),
        ("regularization", {"classes": (3, 3)}, ValueError, "two different digits"),
        ("regularization", {"width": 7}, ValueError, "`width` must be even.*got 7"),
        ("regularization", {"records": 7}, ValueError, "`records` must divide `steps`"),
        ("regularization", {"momentum": 1.0}, ValueError, "`momentum`"),
        ("regularization", {"l2": 0.0}, ValueError, "`l2`"),
        ("regularization", {"d": 1}, ValueError, "`d` must be an integer >= 2"),
        ("noisy-gd", {"widths": (8, 4)}, ValueError, "`widths` must increase"),
        ("noisy-gd", {"records": 7}, ValueError, "`records` must divide `steps`"),
        ("noisy-gd", {"resample_rate": 1e3}, ValueError, "learning_rate \\* resample_rate"),
        ("noisy-gd", {"temperature": -1.0}, ValueError, "`temperature`"),
        ("noisy-gd", {"l2": 0.0}, ValueError, "`l2`"),
        ("noisy-gd", {"seeds": 1}, ValueError, "`seeds` must be an integer >= 2"),
        ("width", {"data": "xor"}, ValueError, "`data` must be one of 'teacher', 'digits'"),
        ("width", {"widths": ()}, TypeError, "`widths` must be a non-empty tuple"),
        ("width", {"l2s": (1e-3, 1e-2)}, ValueError, "`l2s` must decrease"),
        ("gap", {"l2s": (1e-4, 1e-2)}, ValueError, "`l2s` must decrease strictly"),
        ("gap", {"l2s": (1e-2, 1e-2)}, ValueError, "`l2s` must not repeat an entry"),
        ("teacher", {"l2s": (1e-4, 1e-2)}, ValueError, "`l2s` must decrease strictly"),
        ("teacher", {"l2s": (True,)}, TypeError, "`l2s` must be a finite number > 0"),
        ("margin-path", {"depths": (2, 2)}, ValueError, "`depths` must not repeat an entry"),
        ("wide-mlp", {"parts": ("train", "train")}, ValueError, "`parts` must not repeat"),
        ("width", {"classes": (3, 11)}, ValueError, "two different digits"),
        ("width", {"certified": -1}, ValueError, "`certified` must be an integer >= 0"),
        ("width", {"delta": 0.9}, ValueError, "`delta`"),
        ("width", {"learning_rate": -1.0}, ValueError, "`learning_rate`"),
        ("diversity", {"parts": ("loss",)}, ValueError, "`parts` must be one of 'spectrum'"),
        (
            "diversity",
            {"data": ("mnist",)},
            ValueError,
            "`data` must be one of 'teacher', 'digits'",
        ),
        ("diversity", {"starts": ("zero",)}, ValueError, "`starts` must be one of 'random'"),
        ("diversity", {"dims": (1,)}, ValueError, "`dims` must be an integer >= 2"),
        ("diversity", {"widths": (16, 8)}, ValueError, "`widths` must increase"),
        ("diversity", {"widths": (8,)}, ValueError, "`widths` must go to 16 or more for ten"),
        ("diversity", {"penalties": (1.0, 0.1)}, ValueError, "`penalties` must increase"),
        ("diversity", {"l2s": (0.0,)}, ValueError, "`l2s` must be a finite number > 0"),
        ("diversity", {"records": 7}, ValueError, "`records` must divide `steps`; got 7 and 2000"),
        ("diversity", {"stops": 7}, ValueError, "`stops` must divide `adam_steps`"),
        ("diversity", {"spread": 0.0}, ValueError, "`spread`"),
        ("diversity", {"noise": -1.0}, ValueError, "`noise`"),
        ("diversity", {"draws": 2}, ValueError, "`draws` must be an integer >= 3"),
        ("diversity", {"mnist": 5}, TypeError, "`mnist` must be the name of a folder; got 5"),
    ],
)
def test_configurations_refuse(name, change, error, match):
    with pytest.raises(error, match=match):
        STUDIES[name].config(**change)


@pytest.mark.parametrize("name", ["regularization", "width"])
def test_digits_leave_some_for_testing(name):
    config = STUDIES[name].config(data="digits", n=357)
    with pytest.raises(ValueError, match="`n` must stay below the 357 images"):
        study.execute(STUDIES[name], config)


def test_the_example_saves_the_figure_of_any_study(tmp_path):
    path = Path(__file__).parents[2] / "examples" / "study_figure.py"
    spec = importlib.util.spec_from_file_location("study_figure", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("margin-path", "noisy-gd"):
        result = module.main(name, str(tmp_path), **TINY[name])
        assert result.study is STUDIES[name]
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
