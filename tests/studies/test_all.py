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
import kernelgap as kg
from kernelgap import cli, studies
from kernelgap.studies import STUDIES, report
from kernelgap.studies.store import encode

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
    "lr-transfer": {
        "optimizers": ("sgd",), "parameterizations": ("mup",), "widths": (2, 4),
        "depths": (2,), "n": 6, "d": 3, "steps": 4, "last": 2, "batch": 3, "seeds": 2,
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
    return chosen, chosen.run(config, out=out), out


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
    assert document["estimates"] == encode([e._asdict() for e in result.estimates])
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
    resumed = chosen.run(result.config, out=tmp_path, resume=True)
    np.testing.assert_equal(resumed.rows, result.rows)
    np.testing.assert_equal(resumed.estimates, result.estimates)
    written = [(folder / f"{chosen.name}.csv").read_bytes() for folder in (out, tmp_path)]
    assert written[0] == written[1]


def test_table_and_figure(finished):
    _, result, _ = finished
    assert len(result.table().splitlines()) >= 3
    assert result.table() in repr(result)
    for ax in result.plot().axes:
        assert ax.get_title() or ax.get_ylabel()
        assert ax.lines or ax.collections or ax.patches


def test_it_comes_back_from_disk(finished):
    _, result, out = finished
    found = kg.load(out)
    assert found.config == result.config
    np.testing.assert_equal(found.rows, result.rows)
    assert found.table() == result.table()
    np.testing.assert_equal(found.estimates, result.estimates)
    assert len(found.plot().axes) == len(result.plot().axes)


def test_estimates_have_names_of_their_own_and_are_shown(finished):
    chosen, result, _ = finished
    assert result.table().splitlines()[0] in html.unescape(result._repr_html_())
    names = [e.name for e in result.estimates]
    assert len(set(names)) == len(names) > 3  # told apart by what they are of
    for e in result.estimates:
        assert not e.low > e.value + 1e-12
        assert not e.high < e.value - 1e-12
    page = report.page([result], missing={}, title="page")
    assert page.count("data:image/png;base64,") == 1
    assert html.escape(chosen.title) in page


def test_shares_and_errors_stay_in_their_range(finished):
    _, result, _ = finished
    for e in result.estimates:
        if e.metric in ("error", "train_error", "of_upper", "of_lower", "activation_change"):
            if "data" in e.keys and e.keys["data"] == "teacher":
                continue  # the squared error of the diversity study
            assert not e.high > 1, e
            assert not (e.low < 0 and "of_" not in e.metric), e


@pytest.mark.parametrize("name", list(STUDIES))
def test_the_text_of_a_study(name):
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
        assert set(module.__all__) == {"STUDY", STUDIES[name].config.__name__}
    cli.main(["list"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in STUDIES)


def test_runs_refuse_what_they_cannot_work_with(tmp_path):
    with pytest.raises(TypeError, match="`config` must be a CoinsConfig; got dict"):
        coins.COINS.run({"seeds": 2})
    with pytest.raises(ValueError, match="exclude each other"):
        coins.COINS.run(out=tmp_path, resume=True, overwrite=True)
    with pytest.raises(ValueError, match="need `out`"):
        coins.COINS.run(resume=True)
    with pytest.raises(ValueError, match="`workers` must be an integer >= 1"):
        coins.COINS.run(workers=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "given", "match"),
    [
        ("regularization", {"data": "digits", "n": 357}, "`n` must stay below the 357 images"),
        ("width", {"data": "digits", "n": 357}, "`n` must stay below the 357 images"),
        ("wide-mlp", {"parts": ("train",), "n": 357}, "`n` must stay below the 357 images"),
        ("gap", {"data": "digits", "sizes": (20, 357)}, "`sizes` must stay below the 357 images"),
    ],
)
def test_digits_leave_some_for_testing(name, given, match):
    config = STUDIES[name].config(**given)
    with pytest.raises(ValueError, match=f"{match}.*; got 357"):
        STUDIES[name].run(config)


def test_the_example_saves_the_figure_of_any_study(tmp_path):
    path = Path(__file__).parents[2] / "examples" / "study_figure.py"
    spec = importlib.util.spec_from_file_location("study_figure", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("margin-path", "noisy-gd"):
        result = module.main(name, str(tmp_path), **TINY[name])
        assert result.study is STUDIES[name]
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
