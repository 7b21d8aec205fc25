"""`save` and `load`: a value with its arrays in one file."""

import os
from pathlib import Path
from typing import Any

from kernelgap._numerics import checks
from kernelgap._support.version import __version__
from kernelgap.kernels.functions import KernelFunction
from kernelgap.saving import archive
from kernelgap.saving.encoding import Decoder, encode

FORMAT = 1
"""Raised when a file can no longer be read by older versions; files of lower formats are read."""


def save(path: str | os.PathLike, obj: Any, *, overwrite: bool = False) -> None:
    """Write a predictor, a net, a certificate, or a nest of them to one `.npz` file.

    A trained net is its model and its parameters: ``kg.save("net.npz", (model, params))``. What
    can be saved: arrays of numbers with their dtype (NumPy's and JAX's, bfloat16 and random keys
    too), numbers, strings, None; models; kernels of models (`ntk`, `nngp`, `empirical_ntk`); the
    results of this library (`KernelPredictor`, `MarginCertificate`, `UpperBound`, `DualityGap`,
    `RegularizationPath`, `Trained` with the state of its optimiser, ...); and tuples, lists and
    dicts with strings as keys of all these. The result of a study has a `save` of its own.

    The same value makes the same bytes. The file appears at once and whole, or not at all.

    Args:
        path: name of the file, ending in `.npz`.
        obj: what to write.
        overwrite: replace a file of that name.

    Raises:
        TypeError: if `obj` holds something else, such as a function, a model with an `apply` of
            your own, an array of objects, or a traced array.
        ValueError: if `path` does not end in `.npz`, or an array lies on devices of other
            processes.
        FileExistsError: if the file exists and `overwrite` is False.
        FileNotFoundError: if its folder does not exist.

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
    arrays: dict = {}
    content = encode(obj, arrays)
    document = {"format": FORMAT, "kernelgap": __version__, "content": content}
    archive.write(path, document, arrays)


def load(path: str | os.PathLike, *, kernel: KernelFunction | None = None) -> Any:
    """Read what `save` wrote.

    Values come back as they were, to the last bit and with their dtypes; JAX's arrays on the
    default device.

    Args:
        path: name of the file.
        kernel: where the kernel of a predictor was a plain function, which no file can hold, that
            function. It is compared with the one that was saved at some inputs.

    Returns:
        What was saved.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no file of `save`, was cut short or changed, is of a newer format,
            holds what this version does not know or what does not fit together, holds float64
            arrays of JAX while `jax_enable_x64` is off, or `kernel` is missing, is not what was
            saved, or is not needed.
        TypeError: if `kernel` is not callable.

    Example:
        >>> import tempfile, pathlib, jax, kernelgap as kg
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "net.npz"
        >>> model = kg.models.homogeneous_mlp((8,))
        >>> kg.save(path, (model, model.init(jax.random.key(0), 3)))
        >>> model, params = kg.load(path)
        >>> model.apply(params, jax.numpy.ones((2, 3))).shape
        (2,)
    """
    path = _checked_path(path)
    if kernel is not None:
        checks.function(kernel, "kernel", "kernel(x1, x2=None)")
    document, arrays = archive.read(path, lambda found: _check_format(path, found))
    decoder = Decoder(arrays, kernel)
    try:
        value = decoder.decode(document["content"])
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from error
    if decoder.arrays:
        raise ValueError(f"{str(path)!r} holds arrays that belong to nothing: "
                         f"{sorted(decoder.arrays)[:3]}")  # fmt: skip
    if decoder.kernel is not None:
        raise ValueError(f"`kernel` is for predictors whose kernel is a plain function; "
                         f"{str(path)!r} says itself what its kernel is")  # fmt: skip
    return value


def _checked_path(path: str | os.PathLike) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` must be the name of a file; got {type(path).__name__}")
    if not os.fspath(path).endswith(".npz"):
        raise ValueError(f"`path` must end in .npz; got {os.fspath(path)!r} "
                         "(the result of a study is read by studies.load)")  # fmt: skip
    return Path(path)


def _check_format(path: Path, document: dict[str, Any]) -> None:
    number = document.get("format")
    if isinstance(number, bool) or not isinstance(number, int) or "content" not in document:
        raise ValueError(f"{str(path)!r} is no file of kernelgap.save: it names no format")
    if not 1 <= number <= FORMAT:
        raise ValueError(
            f"{str(path)!r} is of format {number}, written by kernelgap "
            f"{document.get('kernelgap')!r:.20}; this version reads formats 1 to {FORMAT}. "
            "Upgrade kernelgap"
        )
