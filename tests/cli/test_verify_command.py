"""`kernelgap verify`."""

import json

import numpy as np
import pytest

import kernelgap as kg
from kernelgap import cli


@pytest.fixture
def files(tmp_path):
    """Names of a file that proves its claim, of one that does not, and of something else."""
    gram = np.diag([1.0, 2.0])
    good, bad, other = (tmp_path / f"{name}.json" for name in ("good", "bad", "other"))
    kg.proofs.write_eigenvalues(good, kg.bounds.eigenvalue_enclosure(gram), gram)
    claim = json.loads(good.read_text())
    claim["claim"]["lower"]["value"] = {"entries": 2, "exponent": 0}
    bad.write_text(json.dumps(claim))
    other.write_text("{}")
    return list(map(str, (good, bad, other)))


def test_verify(files, capsys):
    good, bad, other = files
    assert cli.main(["verify", good]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{good}: proved: 0.99")
    assert "spectrum of a symmetric matrix (2 x 2 data) <= 2.00" in out
    assert cli.main(["verify", good, bad]) == 1
    assert f"{bad!r} does not prove its claim" in capsys.readouterr().out
    assert cli.main(["verify", other, good, bad]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{other!r} is not a proof file: ")
    assert len(lines) == 3
    assert cli.main(["verify", f"{good}.no"]) == 2
    assert "No such file" in capsys.readouterr().out


def test_json(files, capsys):
    assert cli.main(["verify", *files, "--json"]) == 2
    good, bad, other = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (good["file"], good["proved"]) == (files[0], True)
    assert 0.99 < good["lower"] <= 1 <= 2 <= good["upper"] < 2.01
    assert (bad["proved"], bad["lower"]) == (False, None)
    assert "does not prove" in bad["error"]
    assert "is not a proof file" in other["error"]
