import gzip
import struct

import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg
from helpers import write_mnist

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
         "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """(the folder, train images and labels, test images and labels)."""
    return tmp_path, *write_mnist(tmp_path, n_train=60, n_test=30)


def test_reads_what_was_written(folder):
    path, *written = folder
    for given in (path, str(path)):
        found = kg.datasets.mnist(given)
        for part, images, labels in zip(found, written[::2], written[1::2], strict=True):
            assert part.x.dtype == jnp.zeros(()).dtype
            assert jnp.issubdtype(part.y.dtype, jnp.integer)
            np.testing.assert_allclose(part.x, images.reshape(-1, 784) / 255, rtol=1e-6)
            np.testing.assert_array_equal(part.y, labels)
    assert found.train.x.shape == (60, 784)
    assert found.test.x.shape == (30, 784)
    assert float(found.train.x.max()) == 1


@pytest.mark.parametrize("kind", ["gz", "gz without its name", "dots", "dots, gz"])
def test_names_and_compression(folder, kind):
    path, *_ = folder
    expected = kg.datasets.mnist(path)
    for name in NAMES:
        content = (path / name).read_bytes()
        (path / name).unlink()
        name = name.replace("-idx", ".idx") if "dots" in kind else name
        name += ".gz" if kind.endswith("gz") else ""
        (path / name).write_bytes(gzip.compress(content) if "gz" in kind else content)
    for found, part in zip(kg.datasets.mnist(path), expected, strict=True):
        np.testing.assert_array_equal(found.x, part.x)
        np.testing.assert_array_equal(found.y, part.y)


def test_classes_and_centring(folder):
    path, images, labels, test_images, test_labels = folder
    train, test = kg.datasets.mnist(path, classes=(7, 2), pixels="centered", dtype=jnp.float16)
    keep, test_keep = (np.isin(y, (7, 2)) for y in (labels, test_labels))
    assert train.x.dtype == train.y.dtype == jnp.float16
    np.testing.assert_array_equal(train.y, np.where(labels[keep] == 7, 1, -1))
    mean = images[keep].mean(axis=0) / 255  # of the training images, for both parts
    for part, raw in ((train, images[keep]), (test, test_images[test_keep])):
        np.testing.assert_allclose(part.x, (raw / 255 - mean).reshape(-1, 784), atol=2e-3)
    train, _ = kg.datasets.mnist(path, classes=[5, 0, 9])
    keep = np.isin(labels, (5, 0, 9))
    np.testing.assert_array_equal(
        train.y, [{5: 0, 0: 1, 9: 2}[digit] for digit in labels[keep].tolist()]
    )


def _damage(path, name, change):
    (path / name).write_bytes(change((path / name).read_bytes()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c[:-1], "is truncated: shape .* after the header"),
        (lambda c: c + b"\0", "is too long: shape"),
        (lambda c: c[:6], "is truncated: its header has 6 of"),
        (lambda c: b"", "must begin with the magic number '00 00 08 0"),
        (lambda c: b"\0\0\x09" + c[3:], "must begin with the magic number.*got '00 00 09 0"),
        (lambda c: gzip.compress(c)[:-9], "is a truncated or damaged gzip file"),
        (lambda c: gzip.compress(c)[:5], "is a truncated or damaged gzip file"),
        (lambda c: gzip.compress(c)[:-6] + b"\0" * 6, "is a truncated or damaged gzip file"),
        (lambda c: b"\x1f\x8b" + c, "is a truncated or damaged gzip file"),
    ],
)
def test_damaged_files_are_named(folder, name, change, match):
    path, *_ = folder
    _damage(path, name, change)
    with pytest.raises(ValueError, match=match) as raised:
        kg.datasets.mnist(path)
    assert name in str(raised.value)


def test_wrong_dimensions_and_labels(folder):
    path, *_ = folder
    images, labels = NAMES[:2]
    saved = (path / images).read_bytes()
    _damage(path, images, lambda c: struct.pack(">4BIII", 0, 0, 8, 3, 60, 14, 56) + c[16:])
    with pytest.raises(ValueError, match=r"28 x 28 pixels; got shape \(60, 14, 56\)"):
        kg.datasets.mnist(path)
    (path / images).write_bytes((path / labels).read_bytes())  # labels where images should be
    with pytest.raises(ValueError, match="for unsigned bytes in 3 dimensions; got '00 00 08 01'"):
        kg.datasets.mnist(path)
    (path / images).write_bytes(saved)
    saved = (path / labels).read_bytes()
    (path / labels).write_bytes((path / NAMES[3]).read_bytes())
    with pytest.raises(ValueError, match="30 labels for 60 images"):
        kg.datasets.mnist(path)
    (path / labels).write_bytes(saved[:-1] + b"\x0b")
    with pytest.raises(ValueError, match="labels 0..9; got 11"):
        kg.datasets.mnist(path)
    (path / labels).write_bytes(saved[:8] + b"\x01" * 60)
    with pytest.raises(ValueError, match=r"no image of the classes \(3, 8\)"):
        kg.datasets.mnist(path, classes=(3, 8))


def test_missing_files_and_folders(folder):
    path, *_ = folder
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        kg.datasets.mnist(path / "nowhere")
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        kg.datasets.mnist(path / NAMES[0])
    for name in NAMES:
        (path / name).rename(path / "away")
        with pytest.raises(FileNotFoundError, match=f"must hold {name} or {name}.gz"):
            kg.datasets.mnist(path)
        (path / "away").rename(path / name)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"classes": (3,)}, ValueError, "two or more different digits"),
        ({"classes": (3, 3)}, ValueError, "two or more different digits"),
        ({"classes": (3, 10)}, ValueError, "must be digits 0..9; got 10"),
        ({"classes": (3, 1.5)}, TypeError, "`classes` must be an integer"),
        ({"classes": 3}, TypeError, "`classes` must be a sequence of digits"),
        ({"classes": "38"}, TypeError, "`classes` must be a sequence of digits"),
        ({"pixels": "raw"}, ValueError, "`pixels` must be one of 'unit', 'centered'"),
        ({"dtype": int}, TypeError, "`dtype`"),
    ],
)
def test_options_are_refused_before_anything_is_read(tmp_path, options, error, match):
    with pytest.raises(error, match=match):
        kg.datasets.mnist(tmp_path / "nowhere", **options)
