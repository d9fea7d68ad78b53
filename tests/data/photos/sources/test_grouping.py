"""Photos of a group stay in one split."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.data.datasets import load_dataset, make_dataset
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.data.photos.sources.find import find_photos
from hwnas.data.photos.sources.grouping import Groups, divide_groups
from hwnas.errors import InvalidFile, UsageError

SHARES = (0.7, 0.15, 0.15)


def write(file: Path, value: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, 0, 0)).save(file)


def people(folder: Path, count: int = 10) -> Path:
    """Write three images of each person in each of two classes."""
    for kind in ("happy", "sad"):
        for person in range(count):
            for shot in range(3):
                write(folder / kind / f"person{person:02}_{shot}.png", 10 * person + shot)
    return folder


def groups_of(parts: Sequence[Mapping[str, Sequence[str]]], groups: Groups) -> list[set[str]]:
    return [{groups.of[name] for files in part.values() for name in files} for part in parts]


def test_no_group_is_in_two_splits_and_every_image_is_in_one(tmp_path: Path) -> None:
    people(tmp_path)
    photos = find_photos(str(tmp_path), 0.2, r"person(\d+)")
    assert photos is not None
    persons = [
        {photos.photos.name(row).rpartition("_")[0][-2:] for row in np.flatnonzero(rows).tolist()}
        for rows in (photos.parts == part for part in range(3))
    ]
    assert all(persons) and sum(map(len, persons)) == 10 == len(set.union(*persons))
    assert photos.split == (
        "70 % training, 15 % validation and 15 % test images, in whole groups, 10 groups by "
        r"'person(\d+)', none both in the test images and in others"
    )
    alone = find_photos(str(tmp_path), 0.2)
    assert alone is not None and (alone.parts != photos.parts).any()


@pytest.mark.parametrize("seed", range(20))
def test_every_class_is_in_every_part_and_the_shares_are_near(seed: int) -> None:
    rng = random.Random(seed)
    classes, groups = rng.randint(2, 6), rng.randint(12, 60)
    files: dict[str, list[str]] = {f"c{k}": [] for k in range(classes)}
    of: dict[str, str] = {}
    for group in range(groups):
        for number in range(rng.randint(1, 8)):
            kind = f"c{rng.randrange(classes)}"
            name = f"{kind}/{group}-{number}"
            files[kind].append(name)
            of[name] = str(group)
    kinds = {k: {of[n] for n in names} for k, names in files.items()}
    if min(map(len, kinds.values())) < 3:
        return
    by = Groups("g", of)
    parts = divide_groups("here", files, by, SHARES)
    assert all(part[kind] for part in parts for kind in files)
    assert sorted(n for part in parts for names in part.values() for n in names) == sorted(of)
    train, valid, test = groups_of(parts, by)
    assert not train & valid and not train & test and not valid & test
    assert parts == divide_groups("here", {k: files[k] for k in reversed(files)}, by, SHARES)
    if groups > 30:
        counts = [sum(map(len, part.values())) for part in parts]
        assert counts[0] / len(of) == pytest.approx(0.7, abs=0.12)


def test_a_class_of_two_groups_can_not_be_divided_into_three() -> None:
    files = {"a": ["a1", "a2", "a3"], "b": ["b1", "b2", "b3"]}
    of = {"a1": "x", "a2": "y", "a3": "y", "b1": "x", "b2": "y", "b3": "z"}
    with pytest.raises(InvalidFile, match=r"class 'a' has 2 groups by 'g' for 3 splits"):
        divide_groups("here", files, Groups("g", of), SHARES)


def test_given_test_images_stay_and_shared_groups_are_counted(tmp_path: Path) -> None:
    people(tmp_path / "train", 8)
    for kind in ("happy", "sad"):
        for person in (7, 8, 9):
            write(tmp_path / "test" / kind / f"person{person:02}_9.png", 200 + person)
    dataset = load_dataset(str(tmp_path), options=ReadingOptions(group_by=r"person(\d+)"))
    assert len(dataset.test.labels) == 6
    train, valid = (
        set(split.images[:][:, 0, 0, 0] // 10) for split in (dataset.train, dataset.valid)
    )
    assert not train & valid and len(train | valid) == 8
    assert (
        "10 groups by 'person(\\d+)', 1 of them both in the test images and in oth" in dataset.split
    )


def test_a_list_may_have_a_column_of_groups(tmp_path: Path) -> None:
    rows = ["path,label,Patient"]
    for number in range(40):
        write(tmp_path / f"{number}.png", number)
        rows.append(f"{number}.png,{'ab'[number % 2]},p{number // 5}")
    table = tmp_path / "list.csv"
    table.write_text("\n".join(rows) + "\n")
    dataset = load_dataset(str(table), options=ReadingOptions(group_by="patient"))
    splits = (dataset.train, dataset.valid, dataset.test)
    patients = [set(split.images[:][:, 0, 0, 0] // 5) for split in splits]
    assert sum(map(len, patients)) == 8 == len(set.union(*patients))
    table.write_text("\n".join([*rows[:-1], "39.png,b,"]) + "\n")
    with pytest.raises(InvalidFile, match=r"list\.csv:41: '39\.png' has no 'patient'"):
        load_dataset(str(table), options=ReadingOptions(group_by="patient"))


def test_wrong_patterns_are_refused(tmp_path: Path) -> None:
    people(tmp_path, 3)
    with pytest.raises(UsageError, match=r"--group-by '\(': .* expected a regular expression"):
        find_photos(str(tmp_path), 0.2, "(")
    with pytest.raises(
        InvalidFile, match=r"18 of 18 images do not match --group-by 'x', e\.g\. 'h"
    ):
        find_photos(str(tmp_path), 0.2, "x")
    with pytest.raises(UsageError, match="its images have no names, expected a folder"):
        load_dataset("fashion-mnist-6k", options=ReadingOptions(group_by="x"))


def test_data_sets_of_arrays_say_how_they_are_split() -> None:
    images = np.arange(12, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    labels = np.arange(12) % 2
    assert make_dataset((images, labels, images, labels)).split.startswith("as given; the valid")
