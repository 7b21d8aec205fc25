"""`save` and `load`: a zip archive of `.npy` arrays and a JSON document that describes them."""

import json
import os
import zipfile
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from kernelgap._numerics import checks
from kernelgap._support import registry
from kernelgap._support.files import atomic_write
from kernelgap._support.version import __version__
from kernelgap.kernels.functions import KernelFunction
from kernelgap.saving.encoding import Arrays, Decoder, encode

FORMAT = 1
"""Raised when older versions can no longer read a file; files of lower formats are still read."""

_DOCUMENT = "kernelgap.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the time in every archive: the same contents make the same bytes
_UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError)


def save(path: str | os.PathLike, obj: Any, *, overwrite: bool = False) -> None:
    """Write a predictor, a network, a certificate, or a nest of them to one `.npz` file.

    A trained network is its model and its parameters: ``kg.save("net.npz", (model, params))``.
    What can be saved: arrays of numbers with their dtype (NumPy's and JAX's, bfloat16 and random
    keys too), numbers, strings, None; models; kernels of models (`ntk`, `nngp`, `empirical_ntk`)
    and their conversions, sums, products and multiples; the results of this library
    (`KernelPredictor`, `MarginCertificate`, `UpperBound`, `DualityGap`, `RegularizationPath`,
    `Trained` with the state of its optimizer, ...); and tuples, lists and dicts with strings as
    keys of all these. The result of a study has a `save` method of its own.

    The same value makes the same bytes. The file appears at once and whole, or not at all.

    Args:
        path: Name of the file, ending in `.npz`.
        obj: The value to write.
        overwrite: Replace a file of that name.

    Raises:
        TypeError: If `obj` holds anything else, such as a function, a model with an `apply` of
            your own, an array of objects, or a traced array.
        ValueError: If an array lies on devices of other processes.
        FileExistsError: If the file exists and `overwrite` is False.

    Example:
        >>> import tempfile, pathlib, jax, kernelgap as kg
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 60, 6)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
        >>> svm = kg.predictors.hard_margin_svm(kernel, x, y)
        >>> kg.save(folder / "svm.npz", svm)
        >>> again = kg.load(folder / "svm.npz")
        >>> bool((again.predict(x) == svm.predict(x)).all()), again.kernel == kernel
        (True, True)
    """
    path = _checked_path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists: choose another name, or overwrite=True")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {str(path.parent)!r} does not exist")
    arrays: Arrays = {}
    document = {"format": FORMAT, "kernelgap": __version__, "content": encode(obj, arrays)}
    text = json.dumps(document, indent=1, allow_nan=False).encode() + b"\n"
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_member(_DOCUMENT), text)
        for name, array in arrays.items():
            with archive.open(_member(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load(
    path: str | os.PathLike, *, kernel: KernelFunction | None = None, study: Any = None
) -> Any:
    """Read a file of `save`, or the result of a study.

    Values come back to the last bit and with their dtypes, JAX's arrays on the default device.
    Nothing is run.

    Args:
        path: Name of the file. For a study, the folder `out` of the run, or the file NAME.json in
            it.
        kernel: The kernel of a predictor, if it is a plain function, which no file can hold. It is
            compared with the one that was saved at four inputs.
        study: The `studies.Study` of the result, if it is not one of `studies.STUDIES`.

    Returns:
        The value that was saved; a `studies.Result` for a study.

    Raises:
        FileNotFoundError: If there is no such file; if NAME.journal.jsonl is missing beside
            NAME.json.
        ValueError: If the file was not written by `save`, is truncated or changed, has a newer
            format, holds classes that this version does not know or parts that do not fit together,
            or holds float64 arrays of JAX while `jax_enable_x64` is off; or if `kernel` is missing,
            differs from the one that was saved, or is not needed. If the folder holds no result or
            several, or files of an unknown study, of a newer version or of different runs.

    Example:
        >>> import tempfile, pathlib, jax, kernelgap as kg
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "net.npz"
        >>> model = kg.models.homogeneous_mlp((8,))
        >>> kg.save(path, (model, model.init(jax.random.key(0), 3)))
        >>> model, params = kg.load(path)
        >>> model.apply(params, jax.numpy.ones((2, 3))).shape
        (2,)
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` must be the name of a file or folder; got {type(path).__name__}")
    if os.path.isdir(path) or Path(path).suffix == ".json":
        if kernel is not None:
            raise ValueError("`kernel` is for predictors; the result of a study has none")
        import_module("kernelgap.studies")  # registers the reader
        return registry.reader("study")(path, study)
    path = _checked_path(path, " or be the folder of a study's result, or a JSON file in it")
    if study is not None:
        raise ValueError(f"`study` is for results of studies, which {str(path)!r} is not")
    if kernel is not None:
        checks.function(kernel, "kernel", "kernel(x1, x2=None)")
    try:
        content, arrays = _read(path)
        decoder = Decoder(arrays, kernel)
        value = decoder.decode(content)
        if decoder.arrays:
            raise ValueError(f"the arrays {sorted(decoder.arrays)[:3]} belong to nothing")
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from error
    if kernel is not None and not decoder.kernel_used:
        raise ValueError(f"`kernel` is for predictors whose kernel is a plain function; "
                         f"{str(path)!r} describes its kernel itself")  # fmt: skip
    return value


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.external_attr = 0o644 << 16
    return member


def _checked_path(path: str | os.PathLike, otherwise: str = "") -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` must be the name of a file; got {type(path).__name__}")
    if not os.fspath(path).endswith(".npz"):
        raise ValueError(f"`path` must end in .npz{otherwise}; got {os.fspath(path)!r}")
    return Path(path)


def _read(path: Path) -> tuple[Any, Arrays]:
    """Return the content of the document, and all arrays."""
    try:
        archive = zipfile.ZipFile(path)
    except _UNREADABLE as error:
        raise ValueError(
            f"kernelgap.save did not write it, or it is truncated ({error})"
        ) from error
    with archive:
        members = archive.namelist()
        if _DOCUMENT not in members:
            raise ValueError(f"it holds no {_DOCUMENT!r}. numpy.load may read it")
        document = _read_member(archive, _DOCUMENT, json.load)
        form = document if isinstance(document, dict) else {}
        version = form.get("format")
        if type(version) is not int or "content" not in form:
            raise ValueError(f"its {_DOCUMENT!r} does not name a format and a content")
        if not 1 <= version <= FORMAT:
            writer = form.get("kernelgap")
            raise ValueError(f"kernelgap {writer!r:.20} wrote it in format {version}; this version "
                             f"reads formats 1 to {FORMAT}. Upgrade kernelgap")  # fmt: skip
        arrays: Arrays = {}
        for member in members:
            name = member.removesuffix(".npy")
            if member != _DOCUMENT and (name == member or name in arrays):
                raise ValueError(f"it holds {member!r}, which kernelgap.save does not write")
            if member != _DOCUMENT:
                arrays[name] = _read_member(archive, member, np.lib.format.read_array)
    return form["content"], arrays


def _read_member(archive: zipfile.ZipFile, name: str, parse: Callable[[Any], Any]) -> Any:
    try:
        if archive.getinfo(name).header_offset < 0:  # zipfile lets the OSError of `seek` through
            raise ValueError("it starts before the file")
        with archive.open(name) as member:
            value = parse(member)
            if member.read(1):
                raise ValueError("it continues after its last entry")
    except _UNREADABLE as error:
        raise ValueError(f"its {name!r} is damaged: {error}") from error
    return value
