"""Data sets that come as arrays: the embedded one, Fashion-MNIST, CIFAR-10 and ``.npz`` files."""

from __future__ import annotations

import gzip
import os
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from hwnas.data.images import MEMORY_BYTES
from hwnas.data.splits import Source, Split
from hwnas.errors import HwnasError, InvalidFile
from hwnas.files import home

FASHION_MNIST_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package ``dataset-fashion-mnist`` puts the four files."""

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
# The binary form of the data set: records of a label byte and 3 x 32 x 32 pixels. The form that
# torchvision reads is a pickle. The checksum is the one on the authors' page.
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_RECORD_BYTES = 1 + 3 * 32 * 32

PREFIXES = ("x_", "y_", "z_")
"""Arrays of an ``.npz`` that are called so must be ones we know; others are the user's own."""

UNREADABLE = (
    *(OSError, EOFError, ValueError, RuntimeError, MemoryError),
    *(zlib.error, zipfile.BadZipFile, tarfile.TarError),
)
"""What numpy, zipfile, gzip and tarfile raise on files that are broken or of another kind."""


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

    Images are uint8 ``[N, H, W]``, ``[N, H, W, C]`` or ``[N, C, H, W]`` with 1 or 3 channels. In
    the packed form ``z_*`` takes the place of ``x_*`` (see `unpack`). Everything else is an
    `InvalidFile` that says what was found and expected; pickled objects are never loaded.
    """
    arrays = _arrays(file)
    name = file.name.removesuffix(".npz")
    packed = "z_train" in arrays
    parts = ["train", "test"] + ["valid"] * ("x_valid" in arrays or "z_valid" in arrays)
    images = {part: _images(str(file), arrays, part, packed) for part in parts}
    _check_one_shape(str(file), images)
    labels = {part: _labels(str(file), arrays, part, len(images[part])) for part in parts}
    classes = _classes(str(file), arrays, labels)
    splits = {part: Split(images[part], labels[part]) for part in parts}
    return Source(name, classes, splits["train"], splits["test"], splits.get("valid"))


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


def unpack(planes: np.ndarray) -> np.ndarray:
    """Return RGB images ``[N, 3, H, W]`` of the packed form.

    Packed are green and the differences red - green and blue - green, each as the difference to
    its left neighbour, all modulo 256.
    """
    images = np.cumsum(planes, axis=3, dtype=np.uint8)
    images[:, 0] += images[:, 1]
    images[:, 2] += images[:, 1]
    return images


def _arrays(file: Path | Traversable) -> dict[str, np.ndarray]:
    """Return the arrays of the file that concern us; a misspelt key is an error."""
    expected = "expected an .npz of plain arrays"
    try:
        with file.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise InvalidFile(str(file), f"not a zip archive, or not all of one, {expected}")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as archive:
                _check_keys(str(file), archive.files)
                _check_size(str(file), archive.zip)
                known = [key for key in archive.files if key == "classes" or key[:2] in PREFIXES]
                return {key: archive[key] for key in known}
    except UNREADABLE as error:
        why = "holds Python objects" if "allow_pickle" in str(error) else f"unreadable ({error})"
        raise InvalidFile(str(file), f"{why}, {expected}") from None


def _check_size(where: str, archive: zipfile.ZipFile | None) -> None:
    found = sum(member.file_size for member in archive.infolist()) if archive else 0
    if found > MEMORY_BYTES:
        limit = f"expected at most {MEMORY_BYTES / 1e9:g} GB"
        raise InvalidFile(where, f"{found / 1e9:.1f} GB of arrays, {limit}")


def _check_keys(where: str, found: list[str]) -> None:
    kind = "z" if "z_train" in found else "x"
    needed = [f"{kind}_train", "y_train", f"{kind}_test", "y_test"]
    known = {*needed, f"{kind}_valid", "y_valid"}
    odd = sorted(key for key in found if key[:2] in PREFIXES and key not in known)
    missing = [key for key in needed if key not in found]
    if (f"{kind}_valid" in found) != ("y_valid" in found):
        missing.append("y_valid" if "y_valid" not in found else f"{kind}_valid")
    if missing or odd:
        what = f"no array {missing[0]!r}" if missing else f"unknown array {odd[0]!r}"
        expected = f"expected {', '.join(needed)} and perhaps {kind}_valid, y_valid, classes"
        raise InvalidFile(where, f"{what} (found {', '.join(sorted(found))}), {expected}")


def _images(where: str, arrays: Mapping[str, np.ndarray], part: str, packed: bool) -> np.ndarray:
    """Return the images of one part as uint8 ``[N, C, H, W]``."""
    key = f"{'z' if packed else 'x'}_{part}"
    images = arrays[key]
    if images.dtype != np.uint8:
        raise InvalidFile(where, f"{key} is {images.dtype}, expected uint8 (0 to 255)")
    if images.ndim not in (3, 4) or 0 in images.shape:
        shapes = "[N, H, W], [N, H, W, C] or [N, C, H, W] without a zero"
        raise InvalidFile(where, f"{key} is {_listed(images.shape)}, expected {shapes}")
    if packed:
        if images.ndim != 4 or images.shape[1] != 3:
            raise InvalidFile(where, f"{key} is {_listed(images.shape)}, expected [N, 3, H, W]")
        return unpack(images)
    return _channels_first(where, key, images)


def _channels_first(where: str, key: str, images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    first, last = (images.shape[axis] in (1, 3) for axis in (1, 3))
    if first and last:
        why = "either axis may be the channels, expected [N, H, W] or an image size other than 1, 3"
        raise InvalidFile(where, f"{key} is {_listed(images.shape)}: {why}")
    if not first and not last:
        why = "expected 1 or 3 channels on axis 1 or on the last axis"
        raise InvalidFile(where, f"{key} is {_listed(images.shape)}, {why}")
    return images if first else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _check_one_shape(where: str, images: Mapping[str, np.ndarray]) -> None:
    expected = images["train"].shape[1:]
    for part, found in images.items():
        if found.shape[1:] != expected:
            why = f"{part} images are {_listed(found.shape[1:])}, training images"
            raise InvalidFile(where, f"{why} {_listed(expected)}; expected one shape")


def _labels(where: str, arrays: Mapping[str, np.ndarray], part: str, count: int) -> np.ndarray:
    """Return the labels of one part as int64 ``[N]``."""
    key = f"y_{part}"
    labels = arrays[key]
    if labels.dtype.kind not in "iu":
        raise InvalidFile(where, f"{key} is {labels.dtype}, expected integer class numbers")
    if labels.shape not in ((count,), (count, 1)):
        expected = f"expected [{count}], one for each image"
        raise InvalidFile(where, f"{key} is {_listed(labels.shape)}, {expected}")
    return labels.reshape(-1).astype(np.int64)


def _classes(
    where: str, arrays: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """Return the classes' names (without ``classes``: their numbers), and check all labels."""
    names = arrays.get("classes", np.arange(labels["train"].max() + 1).astype(str))
    if names.ndim != 1 or names.dtype.kind != "U" or len(names) < 2:
        found = f"{names.dtype} {_listed(names.shape)}"
        raise InvalidFile(where, f"classes is {found}, expected 2 or more names [K]")
    for part, found in labels.items():
        if found.min() < 0 or found.max() >= len(names):
            span = f"{found.min()} to {found.max()}"
            raise InvalidFile(where, f"y_{part} is {span}, expected 0 to {len(names) - 1}")
    absent = np.setdiff1d(np.arange(len(names)), labels["train"])
    if absent.size:
        raise InvalidFile(where, f"y_train has no {absent[0]}, expected images of every class")
    return tuple(names.tolist())


def _listed(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


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
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        both = f"go online and try again, or {other_way}"
        raise HwnasError(
            f"{file.name} is not here and its download failed ({why}): {both}"
        ) from None
