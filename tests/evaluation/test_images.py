"""Which images a model is evaluated on: those that it was not trained on."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from hwnas.data.datasets import VALID_SHARE, load_dataset
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.errors import InvalidFile
from hwnas.evaluation.images import find_images, fitted_images
from hwnas.report.schema import DatasetSummary
from tests.support.data import colours
from tests.support.data.photos import noise_folder

SHAPE = (3, 8, 8)
PETS = DatasetSummary(
    name="pets", digest="", classes=2, train=40, valid=9, test=11, input_shape=SHAPE
)


@pytest.fixture
def pets(tmp_path: Path) -> str:
    return str(noise_folder(tmp_path / "pets"))


def test_a_folder_gives_the_test_images_of_a_training(pets: str) -> None:
    images, dataset = find_images(pets, None, SHAPE, None), load_dataset(pets, input_shape=SHAPE)
    assert images.choice == (
        "the test images of pets, 15 % of each class; --split all takes every image"
    )
    rows = dict(fitted_images(images, SHAPE, ReadingOptions()))
    np.testing.assert_array_equal(np.stack(list(rows.values())), dataset.test.images[:])
    np.testing.assert_array_equal(images.labels, dataset.test.labels)
    assert Path(images.pictures.name(0)).is_file()


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_split_can_be_named(pets: str, split: str) -> None:
    images = find_images(pets, split, SHAPE, None)  # type: ignore[arg-type]
    part = getattr(load_dataset(pets, input_shape=SHAPE), split)
    np.testing.assert_array_equal(images.labels, part.labels)


def test_all_images_are_taken_if_asked(pets: str) -> None:
    images = find_images(pets, "all", SHAPE, PETS)
    assert len(images.labels) == 60 and images.choice == "all images of pets"


def test_all_images_of_a_folder_that_the_run_did_not_use_are_taken(pets: str) -> None:
    other = msgspec.structs.replace(PETS, name="zoo", train=500)
    images = find_images(pets, None, SHAPE, other)
    assert len(images.labels) == 60
    assert images.choice == "all images of pets, as the model was trained on zoo"
    for same in (PETS, msgspec.structs.replace(PETS, name="moved")):
        assert len(find_images(pets, None, SHAPE, same).labels) < 20


def test_all_images_are_taken_where_a_class_has_too_few_to_be_divided(tmp_path: Path) -> None:
    few = colours.colour_folder(tmp_path / "few", {"red": [colours.RED] * 2})
    images = find_images(str(few), None, SHAPE, None)
    assert images.choice == "all images of few, which are too few to be divided"
    assert images.classes == ("red",) and len(images.labels) == 2
    with pytest.raises(InvalidFile, match="expected at least 2"):
        find_images(str(few), "test", SHAPE, None)


def test_a_folder_with_test_images_gives_these(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("test", 2)):
        images = {"red": [colours.RED] * count, "blue": [colours.BLUE] * count}
        colours.colour_folder(tmp_path / "data" / part, images)
    other = msgspec.structs.replace(PETS, name="zoo")
    images = find_images(str(tmp_path / "data"), None, SHAPE, other)
    assert len(images.labels) == 4 and images.choice == "the test images of data"


def test_arrays_have_numbers_for_names(tmp_path: Path) -> None:
    images = find_images("fashion-mnist-6k", "all", (1, 28, 28), None)
    dataset = load_dataset("fashion-mnist-6k", valid_share=VALID_SHARE)
    assert len(images.labels) == 6000 and images.pictures.name(5999) == "test image 999"
    np.testing.assert_array_equal(
        np.asarray(images.pictures.picture(5999)), dataset.test.images[999:][0, 0]
    )
