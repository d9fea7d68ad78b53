"""Tar shards in the layout of WebDataset."""

from __future__ import annotations

import os
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.data.datasets import Dataset, load_dataset
from hwnas.data.photos.sources.shards import shard_files
from hwnas.errors import InvalidFile


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, BytesIO(content))


def png(value: int) -> bytes:
    stream = BytesIO()
    Image.new("L", (8, 8), value).save(stream, "PNG")
    return stream.getvalue()


def write_shard(path: Path, values: range, label: str = "cls") -> Path:
    """Write grey images, called after their value; odd ones are of class 1."""
    with tarfile.open(path, "w") as archive:
        for value in values:
            text = str(value % 2) if label == "cls" else f'{{"label": {value % 2}}}'
            add(archive, f"{value:03}.png", png(value))
            add(archive, f"{value:03}.{label}", text.encode())
    return path


def labels(dataset: Dataset) -> dict[int, int]:
    return {
        int(image[0, 0, 0]): int(label)
        for split in (dataset.train, dataset.valid, dataset.test)
        for image, label in zip(split.images[:], split.labels, strict=True)
    }


@pytest.mark.parametrize("label", ["cls", "json"])
def test_a_pattern_of_shards_is_divided_by_class(tmp_path: Path, label: str) -> None:
    for shard in range(3):
        write_shard(tmp_path / f"pets-{shard:03}.tar", range(shard * 10, shard * 10 + 10), label)
    dataset = load_dataset(str(tmp_path / "pets-{000..002}.tar"))
    assert labels(dataset) == {value: value % 2 for value in range(30)}
    assert dataset.classes == ("0", "1")


def test_the_names_of_shards_in_a_folder_give_the_split(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.tar", range(20))
    write_shard(tmp_path / "val-0.tar", range(20, 26))
    write_shard(tmp_path / "test-0.tar", range(26, 30))
    dataset = load_dataset(str(tmp_path))
    assert sorted(dataset.test.images[:][:, 0, 0, 0].tolist()) == [26, 27, 28, 29]
    assert sorted(dataset.valid.images[:][:, 0, 0, 0].tolist()) == [*range(20, 26)]


def test_a_pattern_keeps_the_zeros_of_its_numbers() -> None:
    names = [path.name for path in shard_files("a-{08..11}.tar")]
    assert names == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8572])
def test_a_shard_that_is_cut_short_is_named(tmp_path: Path, share: float) -> None:
    path = write_shard(tmp_path / "pets.tar", range(30))
    os.truncate(path, int(path.stat().st_size * share) // 512 * 512)
    with pytest.raises(InvalidFile, match=r"pets\.tar: (is cut short|not a readable tar)"):
        load_dataset(str(path))


def test_an_image_without_a_label_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "pets.tar", "w") as archive:
        add(archive, "a/007.png", png(7))
    with pytest.raises(InvalidFile, match=r"pets\.tar: image 'a/007' has no label, expected a/007"):
        load_dataset(str(tmp_path / "pets.tar"))


def test_a_broken_image_is_named_with_its_shard(tmp_path: Path) -> None:
    with tarfile.open(write_shard(tmp_path / "pets.tar", range(30)), "a") as archive:
        add(archive, "bad.png", b"no image")
        add(archive, "bad.cls", b"1")
    with pytest.raises(InvalidFile, match=r"pets\.tar/bad: not a readable image"):
        load_dataset(str(tmp_path / "pets.tar"))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "pets-0.tar", range(30))
    with pytest.raises(InvalidFile, match=r"pets-1\.tar: not a readable tar file"):
        load_dataset(str(tmp_path / "pets-{0..1}.tar"))


def test_the_same_shards_give_the_same_digest(tmp_path: Path) -> None:
    path = str(write_shard(tmp_path / "pets.tar", range(30)))
    assert load_dataset(path).digest == load_dataset(path).digest
    assert np.bincount(load_dataset(path).train.labels).min() > 5
