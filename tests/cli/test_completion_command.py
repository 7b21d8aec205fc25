"""`kernelgap completion`: the script of bash is tried in bash, the others are read."""

import shutil
import subprocess
import sys

import pytest

from kernelgap import cli
from kernelgap.studies import STUDIES

pytest.importorskip("shtab")


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "kernelgap"
    done = subprocess.run(
        [sys.executable, "-m", "kernelgap", "completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
    )
    path.write_text(done.stdout)
    return path


def _completed(script, line):
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    code = (
        f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
        "$(complete -p kernelgap | sed 's/.*-F \\([^ ]*\\).*/\\1/'); printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return {word.strip() for word in done.stdout.split("\n") if word.strip()}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes(bash_script, tmp_path):
    commands = {"list", "info", "run", "show", "compare", "verify", "completion"}
    assert _completed(bash_script, "kernelgap ") >= commands
    assert _completed(bash_script, "kernelgap co") == {"compare", "completion"}
    assert _completed(bash_script, "kernelgap run ") >= {*STUDIES, "all"}
    assert _completed(bash_script, "kernelgap run tea") == {"teacher"}
    assert _completed(bash_script, "kernelgap run teacher --pres") == {"--preset"}
    presets = set(STUDIES["teacher"].presets)
    assert _completed(bash_script, "kernelgap run teacher --preset ") == presets
    assert _completed(bash_script, "kernelgap completion ") >= {"bash", "zsh", "fish"}
    (tmp_path / "result.json").write_text("")
    assert _completed(bash_script, f"kernelgap show {tmp_path}/res") == {f"{tmp_path}/result.json"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_the_commands(capsys, shell):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef kernelgap" if shell == "zsh" else "#")
    for word in (*STUDIES, "compare", "preset", "resume"):
        assert word in script


def test_errors(capsys, monkeypatch):
    with pytest.raises(SystemExit):
        cli.main(["completion", "cmd"])
    assert "invalid choice: 'cmd'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit):
        cli.main(["completion", "bash"])
    assert "completions need shtab: pip install 'kernelgap[studies]'" in capsys.readouterr().err
