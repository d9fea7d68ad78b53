"""Data sets made from arrays and from data sets in the style of torchvision."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hwnas.data.datasets import load_dataset, make_dataset
from hwnas.data.photos.flat import packed_path
from hwnas.errors import InvalidFile, UsageError
from tests.support.data.photos import noise_image


def arrays(count: int = 20, size: int = 6, classes: int = 2) -> dict[str, np.ndarray]:
    """Return random RGB images ``[N, H, W, C]`` with labels 0, 1, … in turn."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    return {
        "x_train": rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
        "y_train": labels,
        "x_test": rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
        "y_test": labels,
    }


class Pairs:
    """A data set in the style of torchvision."""

    def __init__(self, images: list[Any], labels: list[int], classes: list[str] | None) -> None:
        self.samples = list(zip(images, labels, strict=True))
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.samples[index]


def pairs(part: str, convert: Any = Image.fromarray, classes: list[str] | None = None) -> Pairs:
    images, labels = arrays()[f"x_{part}"], arrays()[f"y_{part}"]
    return Pairs([convert(image) for image in images], labels.tolist(), classes)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """As `torchvision.transforms.ToTensor`: floats from 0 to 1, channels first."""
    return torch.from_numpy(image.transpose(2, 0, 1)).float() / 255


def test_arrays_give_the_data_set_of_an_npz_file(tmp_path: Path) -> None:
    file = tmp_path / "arrays.npz"
    np.savez(file, **arrays())  # type: ignore[arg-type]
    read, made = load_dataset(str(file)), make_dataset(arrays())
    assert (made.name, made.digest, made.classes) == ("arrays", read.digest, ("0", "1"))
    assert make_dataset(tuple(arrays().values()), name="mine").digest == read.digest
    assert make_dataset(arrays(), name="mine").name == "mine"


def test_tensors_are_taken_as_arrays() -> None:
    tensors = {key: torch.from_numpy(array) for key, array in arrays().items()}
    assert make_dataset(tensors).digest == make_dataset(arrays()).digest


@pytest.mark.parametrize("convert", [Image.fromarray, np.asarray, torch.from_numpy, to_tensor])
def test_images_of_any_kind_give_the_same_data_set(convert: Any) -> None:
    made = make_dataset((pairs("train", convert), pairs("test", convert)))
    assert (made.name, made.digest) == ("Pairs", make_dataset(arrays()).digest)


def test_class_names_come_from_the_training_set() -> None:
    classes = ["cat", "dog"]
    parts = {name: pairs(name, classes=classes) for name in ("train", "test")}
    made = make_dataset({**parts, "valid": pairs("test")})
    assert made.classes == ("cat", "dog")
    assert len(made.train.labels) == 20 and (made.valid.images[:] == made.test.images[:]).all()


def test_a_single_data_set_is_split_by_class_whatever_its_order() -> None:
    made = make_dataset(pairs("train"))
    splits = (made.train, made.valid, made.test)
    assert [np.bincount(split.labels).tolist() for split in splits] == [[6, 6], [2, 2], [2, 2]]
    backwards = pairs("train")
    backwards.samples.reverse()
    other = make_dataset(backwards)
    for split, expected in zip((other.train, other.valid, other.test), splits, strict=True):
        assert {image.tobytes() for image in split.images[:]} == {
            image.tobytes() for image in expected.images[:]
        }


def test_images_of_several_sizes_become_squares_or_the_given_shape() -> None:
    images = [Image.new("L", (10 + n % 2, 10), 20 * n) for n in range(12)]
    samples = Pairs(images, [n % 2 for n in range(12)], None)
    assert make_dataset(samples).input_shape == (1, 32, 32)
    assert make_dataset(samples, input_shape=(3, 8, 8)).input_shape == (3, 8, 8)


def test_a_torchvision_data_set_is_read_with_its_class_names() -> None:
    from torchvision.datasets import FakeData

    made = make_dataset(FakeData(12, (3, 8, 8), num_classes=2))
    assert (made.name, made.num_classes, made.input_shape) == ("FakeData", 2, (3, 8, 8))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "train is a int, expected arrays"),
        ((1, 2, 3), "data is a tuple of 3, expected arrays"),
        ({**arrays(), "x_tset": 1}, "unknown array 'x_tset'"),
        ({**arrays(), "x_train": arrays()["x_train"] / 255}, "x_train is float64, expected uint8"),
        (Pairs([], [], None), "train is empty"),
        ({"train": pairs("train"), "val": pairs("test")}, "data has 'val', expected"),
        (pairs("train", lambda image: to_tensor(image) - 0.5), "expected 0 to 1 or uint8: leave"),
        (pairs("train", lambda image: image[:, :, :2]), "expected 1 or 3 channels"),
        (pairs("train", classes=["cat"]), "the classes are .'cat'., expected at least 2"),
        (pairs("train", classes=["cat", "dog", "cow"]), "train has no 'cow'"),
        ((pairs("train"), Pairs([np.zeros((6, 6), np.uint8)], [2], None)), "test has labels 2 to"),
        ([np.zeros((6, 6))], "a ndarray, expected an .image, class. pair"),
    ],
)
def test_wrong_data_is_refused_with_what_was_expected(data: object, message: str) -> None:
    with pytest.raises((InvalidFile, UsageError), match=message):
        make_dataset(data)


def test_making_a_data_set_does_not_load_torch() -> None:
    code = (
        "import sys, numpy as np; from hwnas.data.datasets import make_dataset\n"
        "images = np.random.default_rng(0).integers(0, 256, (9, 4, 4), dtype=np.uint8)\n"
        "make_dataset((images, np.arange(9) % 2, images, np.arange(9) % 2))\n"
        "make_dataset([(image, n % 2) for n, image in enumerate(images)])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_large_data_set_is_packed_and_can_be_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    monkeypatch.setattr("hwnas.data.objects.memory_limit_bytes", lambda: 0)
    monkeypatch.setattr("hwnas.data.photos.tiers.memory_limit_bytes", lambda: 0)
    samples = [(noise_image(row, 16 + row % 7), row % 2) for row in range(40)]
    made = make_dataset(samples, input_shape=(3, 7, 7), name="noise")
    assert not isinstance(made.train.images, np.ndarray)
    path = packed_path(made.train.images)
    assert path is not None and load_dataset(str(path)).digest == made.digest
    assert made.classes == ("0", "1")
    assert len(made.train.labels) + len(made.valid.labels) + len(made.test.labels) == 40
