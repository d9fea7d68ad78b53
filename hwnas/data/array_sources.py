"""Data sets that come as arrays: the embedded one, Fashion-MNIST, CIFAR-10 and ``.npz`` files."""

from __future__ import annotations

import gzip
import os
import tarfile
import zipfile
import zlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from hwnas.data.arrays import PREFIXES, check_keys, source_of_arrays
from hwnas.data.images import MEMORY_BYTES
from hwnas.data.splits import Source, Split
from hwnas.errors import HwnasError, InvalidFile, first_line
from hwnas.files import home

FASHION_MNIST_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Folder of the four files of Debian's package ``dataset-fashion-mnist``."""

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
# The binary form of the data set: records of a label byte and 3 x 32 x 32 pixels. The form that
# torchvision reads is a pickle. The checksum is the one on the authors' page.
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_RECORD_BYTES = 1 + 3 * 32 * 32

UNREADABLE = (
    *(OSError, EOFError, ValueError, RuntimeError, MemoryError),
    *(zlib.error, zipfile.BadZipFile, tarfile.TarError),
)
"""Exceptions of numpy, zipfile, gzip and tarfile for files that are damaged or of another kind."""


def read_embedded() -> Source:
    """Read the 5,000 + 1,000 images of Fashion-MNIST that come with hwnas."""
    return read_npz(files("hwnas.data") / "embedded" / "fashion-mnist-6k.npz")


def read_fashion_mnist() -> Source:
    """Read the official 60,000 + 10,000 images, from Debian's package or by download."""
    folder = DEBIAN_FASHION_MNIST
    if not folder.is_dir():
        folder = _download_fashion_mnist()
    train, test = (
        Split(
            read_idx(folder / f"{part}-images-idx3-ubyte.gz", 3)[:, None],
            read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 1).astype(np.int64),
        )
        for part in ("train", "t10k")
    )
    return Source("fashion-mnist", FASHION_MNIST_CLASSES, train, test)


def read_cifar10() -> Source:
    """Read the official 50,000 + 10,000 images.

    From the packed file that ``$HWNAS_CIFAR10`` names or ``data/cifar10.npz`` in hwnas's home,
    else by download. The two have the same images in different orders.
    """
    named = os.environ.get("HWNAS_CIFAR10")
    packed = Path(named) if named else home() / "data" / "cifar10.npz"
    if named and not packed.is_file():
        raise InvalidFile(named, "no such file, expected the packed CIFAR-10 ($HWNAS_CIFAR10)")
    source = read_npz(packed) if packed.is_file() else _download_cifar10()
    return source._replace(name="cifar10")


def read_npz(file: Path | Traversable) -> Source:
    """Read ``x_train, y_train, x_test, y_test`` and optional ``x_valid, y_valid, classes``.

    `hwnas.data.arrays` has their shapes. Everything else raises an `InvalidFile` that says what was
    found and expected; pickled objects are never loaded.
    """
    return source_of_arrays(str(file), _arrays(file), file.name.removesuffix(".npz"))


def read_idx(file: Path, axes: int) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes with that many axes.

    The header is two zero bytes, the type (8: unsigned byte), the number of axes, and the length
    of each axis as a big-endian 32-bit number.
    """
    try:
        content = gzip.decompress(file.read_bytes())
    except UNREADABLE as error:
        raise InvalidFile(str(file), f"not a readable IDX file ({error})") from None
    shape = tuple(np.frombuffer(content[4 : 4 + 4 * axes], dtype=">u4").tolist())
    values = np.frombuffer(content[4 + 4 * axes :], dtype=np.uint8)
    if content[:4] != bytes([0, 0, 8, axes]) or values.size != np.prod(shape):
        raise InvalidFile(str(file), f"not an IDX file of unsigned bytes with {axes} axes")
    return values.reshape(shape).copy()


def _arrays(file: Path | Traversable) -> dict[str, np.ndarray]:
    """Return the arrays of the file that make the data set; a misspelt name is an error."""
    expected = "expected an .npz of plain arrays"
    try:
        with file.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise InvalidFile(str(file), f"not a zip archive, or not all of one, {expected}")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as archive:
                check_keys(str(file), archive.files)
                _check_size(str(file), archive.zip)
                known = [key for key in archive.files if key == "classes" or key[:2] in PREFIXES]
                return {key: archive[key] for key in known}
    except UNREADABLE as error:
        why = "holds Python objects" if "allow_pickle" in str(error) else f"unreadable ({error})"
        raise InvalidFile(str(file), f"{why}, {expected}") from None


def _check_size(where: str, archive: zipfile.ZipFile | None) -> None:
    size = sum(member.file_size for member in archive.infolist()) if archive else 0
    if size > MEMORY_BYTES:
        limit = f"expected at most {MEMORY_BYTES / 1e9:g} GB"
        raise InvalidFile(where, f"{size / 1e9:.1f} GB of arrays, {limit}")


def _download_fashion_mnist() -> Path:
    from torchvision.datasets import FashionMNIST

    folder = home() / "data" / "fashion-mnist"
    for name, md5 in FashionMNIST.resources:
        way = "install Debian's package dataset-fashion-mnist"
        _download(FashionMNIST.mirrors[0] + name, folder / name, md5, way)
    return folder


def _download_cifar10() -> Source:
    file = home() / "data" / "cifar-10-binary.tar.gz"
    way = f"name its packed form in HWNAS_CIFAR10 or put it at {home() / 'data' / 'cifar10.npz'}"
    _download(CIFAR10_URL, file, CIFAR10_MD5, way)
    try:
        with tarfile.open(file) as archive:
            train = [_cifar10_batch(archive, f"data_batch_{part}") for part in range(1, 6)]
            test = _cifar10_batch(archive, "test_batch")
    except (*UNREADABLE, KeyError) as error:
        raise InvalidFile(str(file), f"not the CIFAR-10 archive ({error})") from None
    images, labels = (np.concatenate(column) for column in zip(*train, strict=True))
    return Source("cifar10", CIFAR10_CLASSES, Split(images, labels), test)


def _cifar10_batch(archive: tarfile.TarFile, name: str) -> Split:
    member = archive.extractfile(f"cifar-10-batches-bin/{name}.bin")
    content = member.read() if member else b""
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, CIFAR10_RECORD_BYTES)
    return Split(records[:, 1:].reshape(-1, 3, 32, 32).copy(), records[:, 0].astype(np.int64))


def _download(url: str, file: Path, md5: str, other_way: str) -> None:
    """Fetch a file unless it is there with this checksum; a failure names both ways to get it."""
    from torchvision.datasets import utils

    try:
        utils.download_url(url, str(file.parent), filename=file.name, md5=md5)
    except (OSError, RuntimeError) as error:
        both = f"go online and try again, or {other_way}"
        raise HwnasError(
            f"{file.name} is not here and its download failed ({first_line(error)}): {both}"
        ) from None
