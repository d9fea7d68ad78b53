"""Photos without labels, and the answers of a network in their place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas.data.datasets import load_dataset
from hwnas.data.photos.sources.answers import Answers, is_unlabelled, unlabelled_photos
from hwnas.errors import InvalidFile
from hwnas.files import write_json
from tests.support.data.photos import noise_folder, noise_image

CLASSES = ("crane", "owl", "crane", "cat", "dog")
"""Of which two have the same name, as in ImageNet, and two never occur."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for row in range(40):
        noise_image(row, 24, 20).save(photos / f"{row:03}.png")
    return photos


@pytest.fixture
def answers(folder: Path, tmp_path: Path) -> Path:
    labels = {f"{row:03}.png": row % 3 for row in range(40)}
    path = tmp_path / "photos.answers"
    write_json(path, Answers(str(folder), "net", CLASSES, labels))
    return path


def test_photos_outside_of_class_folders_have_no_labels(folder: Path, tmp_path: Path) -> None:
    assert is_unlabelled(str(folder))
    assert not is_unlabelled(str(noise_folder(tmp_path / "labelled")))
    assert not is_unlabelled("fashion-mnist-6k")
    noise_folder(folder)
    assert not is_unlabelled(str(folder))


def test_the_labels_are_the_answers_and_the_classes_those_of_the_network(answers: Path) -> None:
    dataset = load_dataset(str(answers), input_shape=(3, 16, 16))
    assert dataset.classes == CLASSES and dataset.answers_of == "net"
    counts = [len(split.labels) for split in (dataset.train, dataset.valid, dataset.test)]
    assert sum(counts) == 40 and min(counts) >= 1
    labels = np.concatenate([s.labels for s in (dataset.train, dataset.valid, dataset.test)])
    assert np.bincount(labels).tolist() == [14, 13, 13]


def test_each_photo_has_its_own_answer(answers: Path, folder: Path) -> None:
    dataset = load_dataset(str(answers), input_shape=(3, 20, 20))
    images = {noise_image(row, 24, 20).crop((2, 0, 22, 20)).tobytes(): row for row in range(40)}
    for image, label in zip(dataset.test.images[:], dataset.test.labels, strict=True):
        assert images[image.transpose(1, 2, 0).tobytes()] % 3 == label


def test_too_few_photos_are_named(tmp_path: Path) -> None:
    noise_image(0).save(tmp_path / "only.png")
    with pytest.raises(InvalidFile, match="has 1 images without labels, expected at least 20"):
        unlabelled_photos(tmp_path)


def test_a_photo_that_is_gone_is_named(answers: Path, folder: Path) -> None:
    (folder / "007.png").unlink()
    with pytest.raises(InvalidFile, match=r"007.png: cannot be read"):
        load_dataset(str(answers), input_shape=(3, 16, 16))


def test_labelled_data_without_class_folders_says_what_is_possible(folder: Path) -> None:
    with pytest.raises(InvalidFile, match="without labels, `--from NETWORK` cuts a network for"):
        load_dataset(str(folder))
