"""Files of format 1 with numbers that the tree of commit 63379cd wrote: today reads what was saved."""

import json
from pathlib import Path

import numpy as np
import pytest

import kernelgap as kg
from helpers import assert_close

FILES = sorted((Path(__file__).parent / "golden").glob("*.npz"))
KERNEL = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))


def _read(path):
    given = {"kernel": lambda a, b=None: KERNEL(a, b)} if path.stem == "own_kernel" else {}
    return kg.load(path, **given)


def _contents(path):
    with np.load(path, allow_pickle=False) as file:
        document = json.loads(file["kernelgap.json"])
        arrays = {name: file[name] for name in file.files if name != "kernelgap.json"}
    return document, arrays


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_number_comes_back(path, tmp_path):
    """What was read is saved again: the same arrays under the same names, and the same numbers."""
    kg.save(tmp_path / "again.npz", _read(path))
    (document, arrays), (again, copies) = _contents(path), _contents(tmp_path / "again.npz")
    assert list(arrays) == list(copies)
    for name, array in arrays.items():
        assert (array.dtype, array.shape) == (copies[name].dtype, copies[name].shape)
        if name == "kernel.values":  # of a plain function, evaluated again
            np.testing.assert_allclose(copies[name], array, rtol=1e-5)
        else:
            assert array.tobytes() == copies[name].tobytes(), name
    if path.stem != "own_kernel":  # whose kernel is another function today
        assert _is_part(document["content"], again["content"])


def _is_part(old, new):
    """Return True if all of `old` is in `new`, which may have fields that were added since."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and _is_part(part, new[name]) for name, part in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_is_part, old, new))
    return old == new


def test_nets_compute_what_they_did():
    saved = _read(FILES[0].with_stem("models"))
    assert set(saved["nets"]) == {"relu", "deep", "smooth", "fixed", "powers"}
    for net in saved["nets"].values():
        assert_close(net["model"].apply(net["params"], saved["x"]), net["outputs"], scale=1)


def test_kernels_compute_what_they_did():
    saved = _read(FILES[0].with_stem("kernels"))
    assert len(saved["kernels"]) == 7
    for entry in saved["kernels"].values():
        assert_close(
            entry["kernel"](saved["x"]), entry["gram"], factor=1e3
        )  # versions of JAX differ


def test_predictors_compute_what_they_did():
    saved = _read(FILES[0].with_stem("predictors"))
    for entry in saved["predictors"].values():
        found = entry["predictor"].decision_function(saved["x"])
        assert_close(found, entry["outputs"], factor=1e3, scale=1)
