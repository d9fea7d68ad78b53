"""Data sets that come as arrays: .npz files, Fashion-MNIST, CIFAR-10."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.data import array_sources
from hwnas.data.array_sources import DEBIAN_FASHION_MNIST, FASHION_MNIST_CLASSES, read_idx
from hwnas.data.arrays import unpack
from hwnas.data.datasets import Dataset, load_dataset
from hwnas.errors import HwnasError, UsageError
from tests.support.paths import SHARED_DATA

CIFAR10 = SHARED_DATA / "cifar10" / "cifar10.npz"
CIFAR10_TEST_SHA256 = "714f4d5b175fccafc7746e0fce50f66c0c30933431acd5aca79f396c21d9d556"

Arrays = dict[str, Any]
Write = Callable[[Arrays], str]

needs_debian = pytest.mark.skipif(
    not DEBIAN_FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)


@pytest.fixture
def arrays() -> Arrays:
    """A good file's arrays: 20 + 6 grey 8 x 8 images of two classes."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (20, 8, 8), dtype=np.uint8),
        "y_train": np.arange(20, dtype=np.uint8) % 2,
        "x_test": rng.integers(0, 256, (6, 8, 8), dtype=np.uint8),
        "y_test": np.arange(6, dtype=np.uint8) % 2,
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_npz(arrays: Arrays) -> str:
        np.savez(tmp_path / "own.npz", **arrays)
        return str(tmp_path / "own.npz")

    return write_npz


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty home of hwnas, with every download failing."""

    def fail(*args: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)
    monkeypatch.setattr(array_sources, "DEBIAN_FASHION_MNIST", tmp_path / "not-installed")
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    monkeypatch.delenv("HWNAS_CIFAR10", raising=False)
    return tmp_path


def pack(images: np.ndarray) -> np.ndarray:
    """Return ``[N, 3, H, W]`` in the packed form, the inverse of `unpack`."""
    planes = images.copy()
    planes[:, 0] -= images[:, 1]
    planes[:, 2] -= images[:, 1]
    return np.diff(planes, axis=3, prepend=np.zeros_like(planes[..., :1]))


def test_an_npz_gives_its_images_and_20_percent_for_validation(
    arrays: Arrays, write: Write
) -> None:
    dataset = load_dataset(write(arrays))
    assert dataset.name == "own"
    assert dataset.classes == ("0", "1")
    assert np.bincount(dataset.train.labels).tolist() == [8, 8]
    assert np.bincount(dataset.valid.labels).tolist() == [2, 2]
    np.testing.assert_array_equal(dataset.test.images[:][:, 0], arrays["x_test"])
    np.testing.assert_array_equal(dataset.test.labels, arrays["y_test"])


def test_own_validation_images_and_class_names_are_used(arrays: Arrays, write: Write) -> None:
    arrays |= {"x_valid": arrays["x_test"], "y_valid": arrays["y_test"]}
    dataset = load_dataset(write(arrays | {"classes": np.array(["cat", "dog"])}))
    assert dataset.classes == ("cat", "dog")
    np.testing.assert_array_equal(dataset.train.images[:][:, 0], arrays["x_train"])
    np.testing.assert_array_equal(dataset.valid.images[:][:, 0], arrays["x_test"])


def test_channels_may_be_first_or_last(arrays: Arrays, write: Write) -> None:
    last = {key: np.stack([value] * 3, -1) for key, value in arrays.items() if key[0] == "x"}
    first = {key: value.transpose(0, 3, 1, 2) for key, value in last.items()}
    dataset = load_dataset(write(arrays | last))
    other = load_dataset(write(arrays | first))
    assert dataset.input_shape == (3, 8, 8)
    assert dataset.digest == other.digest


def test_labels_may_be_a_column_and_other_arrays_are_ignored(arrays: Arrays, write: Write) -> None:
    plain = load_dataset(write(arrays)).digest
    arrays |= {"y_test": arrays["y_test"][:, None].astype(np.int32), "mine": np.zeros(3)}
    assert load_dataset(write(arrays)).digest == plain


def replaced(key: str, value: np.ndarray) -> Callable[[Arrays], Arrays]:
    return lambda arrays: arrays | {key: value}


def without(key: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {name: value for name, value in arrays.items() if name != key}


def images(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("y_test"), r"no array 'y_test' \(found x_test, x_train, y_train\), expected x_tr"),
        (replaced("x_valid", images(2, 8, 8)), "no array 'y_valid'"),
        (replaced("x_val", images(2, 8, 8)), "unknown array 'x_val' .* optionally x_valid"),
        (replaced("x_train", np.zeros((20, 8, 8))), "x_train is float64, expected uint8"),
        (replaced("x_train", images(20, 64)), r"x_train is \[20, 64\], expected \[N, H, W\]"),
        (replaced("x_test", images(0, 8, 8)), r"x_test is \[0, 8, 8\], expected .* without a zero"),
        (replaced("x_train", images(20, 8, 8, 4)), "expected 1 or 3 channels on axis 1 or on"),
        (replaced("x_train", images(20, 3, 8, 3)), r"\[20, 3, 8, 3\]: either axis may be the chan"),
        (replaced("x_test", images(6, 9, 8)), r"test images are \[1, 9, 8\], training .*\[1, 8, 8"),
        (replaced("y_train", np.zeros(20)), "y_train is float64, expected integer class numbers"),
        (replaced("y_train", images(19)), r"y_train is \[19\], expected \[20\], one for each"),
        (replaced("y_test", images(6) + 2), "y_test is 2 to 2, expected 0 to 1"),
        (replaced("y_test", np.full(6, -1)), "y_test is -1 to -1, expected 0 to 1"),
        (replaced("y_train", images(20) + 2), "y_train has no 0, expected images of every class"),
        (replaced("y_train", images(20)), "classes is .*, expected 2 or more names"),
        (replaced("classes", np.arange(2)), r"classes is int64 \[2\], expected 2 or more names"),
        (replaced("classes", np.array(["a", "b", "c"])), "y_train has no 2, expected images of ev"),
        (replaced("x_train", np.array([None] * 20)), "holds Python objects, expected an .npz of"),
        (replaced("classes", np.array(["a", None])), "holds Python objects, expected an .npz of"),
        (replaced("y_train", np.arange(20) % 19), "class '1' has 1 image .* expected at least 2"),
    ],
)
def test_a_wrong_npz_is_told_in_one_line(
    arrays: Arrays, write: Write, change: Callable[[Arrays], Arrays], message: str
) -> None:
    file = write(change(arrays))
    with pytest.raises(UsageError, match=message) as caught:
        load_dataset(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 60])
def test_a_file_that_is_no_npz_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"own\.npz: not a zip archive, .* expected an \.npz of"):
        load_dataset(str(tmp_path / "own.npz"))


def test_an_npz_with_a_wrong_byte_or_half_of_one_is_told(arrays: Arrays, write: Write) -> None:
    file = Path(write(arrays))
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[400] ^= 1
    for broken in (bytes(flipped), whole[: len(whole) // 2]):
        file.write_bytes(broken)
        with pytest.raises(
            UsageError,
            match=r"own\.npz: (unreadable \(Bad CRC|not a zip archive).* expected an \.npz",
        ):
            load_dataset(str(file))


def test_a_single_array_is_not_a_data_set(tmp_path: Path) -> None:
    with (tmp_path / "own.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UsageError, match=r"own\.npz: not a zip archive"):
        load_dataset(str(tmp_path / "own.npz"))


def test_arrays_too_large_for_memory_are_refused_before_they_are_read(
    arrays: Arrays, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_sources, "MEMORY_BYTES", 1000)
    with pytest.raises(UsageError, match=r"0\.0 GB of arrays, expected at most"):
        load_dataset(write(arrays))


def test_unpacking_undoes_packing() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    np.testing.assert_array_equal(unpack(pack(rgb)), rgb)


def test_unpacking_a_pixel_made_by_hand() -> None:
    planes = np.array([[[[246, 0]], [[20, 5]], [[10, 0]]]], dtype=np.uint8)
    red, green, blue = [[10, 15]], [[20, 25]], [[30, 35]]
    assert unpack(planes).tolist() == [[red, green, blue]]


def test_the_packed_form_is_read_where_the_environment_names_it(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 2
    file = offline / "data" / "cifar10.npz"
    file.parent.mkdir()
    names = np.array(["cat", "dog"])
    z = pack(rgb)
    np.savez(file, z_train=z, y_train=labels, z_test=z[:4], y_test=labels[:4], classes=names)
    by_home = load_dataset("cifar10")
    np.testing.assert_array_equal(by_home.test.images, rgb[:4])
    assert by_home.name == "cifar10"
    file = file.rename(offline / "elsewhere.npz")
    monkeypatch.setenv("HWNAS_CIFAR10", str(file))
    assert load_dataset("cifar10").digest == by_home.digest


def test_a_packed_form_of_grey_images_is_refused(arrays: Arrays, write: Write) -> None:
    packed = {key.replace("x_", "z_"): value for key, value in arrays.items()}
    with pytest.raises(UsageError, match=r"z_train is \[20, 8, 8\], expected \[N, 3, H, W\]"):
        load_dataset(write(packed))


def test_a_packed_file_that_the_environment_names_must_be_there(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_CIFAR10", str(offline / "missing.npz"))
    with pytest.raises(UsageError, match=r"missing\.npz: no such file, .*\$HWNAS_CIFAR10"):
        load_dataset("cifar10")


@pytest.mark.parametrize(
    ("name", "other_way"),
    [
        ("fashion-mnist", "dataset-fashion-mnist$"),
        ("cifar10", r"HWNAS_CIFAR10 or put it at .*npz$"),
    ],
)
def test_a_failed_download_names_both_ways_to_get_the_data(
    offline: Path, name: str, other_way: str
) -> None:
    expected = rf"download failed \(no network\): go online and try again, or .*{other_way}"
    with pytest.raises(HwnasError, match=expected) as caught:
        load_dataset(name)
    assert "\n" not in str(caught.value)


def test_downloaded_fashion_mnist_is_read(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, root: str, filename: str, md5: str) -> None:
        count = 40 if filename.startswith("train") else 10
        shape = (count, 28, 28) if "images" in filename else (count,)
        values = np.arange(np.prod(shape)) % 251 if "images" in filename else np.arange(count) % 10
        write_idx(Path(root) / filename, values.reshape(shape).astype(np.uint8))

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    dataset = load_dataset("fashion-mnist")
    assert dataset.classes == FASHION_MNIST_CLASSES
    assert dataset.input_shape == (1, 28, 28)
    assert [len(split.labels) for split in (dataset.train, dataset.valid, dataset.test)] == [
        *(30, 10, 10),
    ]


def test_downloaded_cifar10_is_read_from_its_binary_form(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = np.zeros((10, array_sources.CIFAR10_RECORD_BYTES), dtype=np.uint8)
    records[:, 0] = np.arange(10)
    records[:, 1] = np.arange(10) + 50  # red of the upper left pixel
    records[:, -1] = np.arange(10) + 90  # blue of the lower right pixel

    def download(url: str, root: str, filename: str, md5: str) -> None:
        Path(root).mkdir(parents=True)
        with tarfile.open(Path(root) / filename, "w:gz") as archive:
            for name in [*(f"data_batch_{part}" for part in range(1, 6)), "test_batch"]:
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
                member.size = records.size
                archive.addfile(member, io.BytesIO(records.tobytes()))

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    dataset = load_dataset("cifar10")
    assert len(dataset.train.labels) + len(dataset.valid.labels) == 50
    assert dataset.test.labels.tolist() == list(range(10))
    assert dataset.test.images[:][:, 0, 0, 0].tolist() == list(range(50, 60))
    assert dataset.test.images[:][:, 2, 31, 31].tolist() == list(range(90, 100))


def test_a_broken_cifar10_archive_is_named(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, root: str, filename: str, md5: str) -> None:
        Path(root).mkdir(parents=True)
        (Path(root) / filename).write_bytes(b"nothing")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    with pytest.raises(UsageError, match=r"binary\.tar\.gz: not the CIFAR-10 archive"):
        load_dataset("cifar10")


def write_idx(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    file.write_bytes(gzip.compress(header + array.tobytes()))


def test_an_idx_file_that_is_broken_or_has_other_axes_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.gz"
    write_idx(file, images(2, 3, 4))
    assert read_idx(file, 3).shape == (2, 3, 4)
    with pytest.raises(UsageError, match=r"x\.gz: not an IDX file of unsigned bytes with 1 axes"):
        read_idx(file, 1)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UsageError, match=r"x\.gz: not a readable IDX file"):
        read_idx(file, 3)


def test_the_embedded_file_is_small_and_names_its_source() -> None:
    file = Path(str(files("hwnas.data") / "embedded" / "fashion-mnist-6k.npz"))
    assert file.stat().st_size <= 3_000_000
    with np.load(file) as archive:
        assert len(archive["source_sha256"]) == 4
        for part, count in (("train", 5000), ("test", 1000)):
            assert len(set(archive[f"index_{part}"].tolist())) == count


@needs_debian
def test_the_embedded_images_are_the_official_ones_at_their_positions() -> None:
    with np.load(Path(str(files("hwnas.data") / "embedded" / "fashion-mnist-6k.npz"))) as archive:
        for source, part in (("train", "train"), ("t10k", "test")):
            official = read_idx(DEBIAN_FASHION_MNIST / f"{source}-images-idx3-ubyte.gz", 3)
            labels = read_idx(DEBIAN_FASHION_MNIST / f"{source}-labels-idx1-ubyte.gz", 1)
            index = archive[f"index_{part}"]
            np.testing.assert_array_equal(archive[f"x_{part}"], official[index])
            np.testing.assert_array_equal(archive[f"y_{part}"], labels[index])


@needs_debian
def test_full_fashion_mnist_has_50000_and_10000_and_10000_balanced_images() -> None:
    dataset = load_dataset("fashion-mnist")
    for split, each in ((dataset.train, 5000), (dataset.valid, 1000), (dataset.test, 1000)):
        assert set(np.bincount(split.labels)) == {each}
    assert len(distinct(dataset)) == 70_000


def distinct(dataset: Dataset) -> set[bytes]:
    splits = (dataset.train, dataset.valid, dataset.test)
    return {image.tobytes() for split in splits for image in split.images[:]}


@pytest.mark.skipif(not CIFAR10.is_file(), reason="shared/data/cifar10/cifar10.npz is not here")
def test_the_packed_cifar10_unpacks_to_the_known_test_images() -> None:
    with np.load(CIFAR10) as archive:
        test = unpack(archive["z_test"])
    assert hashlib.sha256(test.data).hexdigest() == CIFAR10_TEST_SHA256


def test_arrays_that_are_fitted_to_another_shape_say_what_changes(
    arrays: Arrays, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    for part in ("x_train", "x_test"):
        count = len(arrays[part])
        arrays[part] = rng.integers(0, 256, (count, 8, 12, 3), dtype=np.uint8)
    file = tmp_path / "photos.npz"
    np.savez(file, **arrays)
    assert load_dataset(str(file)).notes == ()
    assert load_dataset(str(file), input_shape=(3, 8, 12)).notes == ()
    assert load_dataset(str(file), input_shape=(3, 16, 24)).notes == (
        "the images have 1 size, 8x12, and are resized to 16x24",
    )
    assert load_dataset(str(file), input_shape=(1, 8, 8)).notes == (
        "the images have 1 size, 8x12, and are cropped and resized to 8x8",
        "the images are in colour, and become grey: the network takes one channel",
    )
