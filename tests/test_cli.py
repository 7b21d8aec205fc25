import pytest

from kernelgap import cli

TINY = ["--dims", "4", "--net-ratios", "2", "--svm-ratios", "2", "--span-ratios", "2",
        "--seeds", "2", "--n-test", "100", "--width", "8", "--steps", "20"]  # fmt: skip


def test_list_and_info(capsys):
    assert cli.main(["list"]) == 0
    assert "gap" in capsys.readouterr().out
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    for word in ("jaxlib", "device", "extra studies", "tensorflow"):
        assert word in out


def test_run(capsys, tmp_path):
    assert cli.main(["run", "gap", "--out", str(tmp_path), *TINY]) == 0
    captured = capsys.readouterr()
    assert "samples at 10% test error" in captured.out
    assert "gap.png" in captured.out
    assert "3/3" in captured.err  # the progress bar
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
        (["--data", "digits", "--classes", "3", "3"], "--classes must be two different digits"),
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
