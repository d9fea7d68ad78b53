"""Lists of image files with labels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.data.datasets import Dataset, load_dataset
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.errors import InvalidFile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 grey images, called after their value."""
    for value in range(20):
        Image.new("L", (8, 8), value).save(tmp_path / f"{value}.png")
    return tmp_path


def write(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def load(path: Path) -> Dataset:
    return load_dataset(str(path))


def labels(dataset: Dataset) -> dict[int, str]:
    """Return the class of each image, which is known by its value."""
    return {
        int(image[0, 0, 0]): dataset.classes[label]
        for split in (dataset.train, dataset.valid, dataset.test)
        for image, label in zip(split.images[:], split.labels, strict=True)
    }


def values(images: np.ndarray) -> list[int]:
    return sorted(images[:, 0, 0, 0].tolist())


@pytest.mark.parametrize(("suffix", "between"), [("csv", ","), ("tsv", "\t"), ("txt", " ")])
@pytest.mark.parametrize("header", [True, False])
def test_each_line_gives_a_path_and_a_label(
    folder: Path, suffix: str, between: str, header: bool
) -> None:
    lines = [f"{value}.png{between}{'even' if value % 2 == 0 else 'odd'}" for value in range(20)]
    dataset = load(write(folder / f"all.{suffix}", [f"path{between}label"] * header + lines))
    assert dataset.classes == ("even", "odd") and dataset.name == "all"
    assert labels(dataset) == {value: ("even", "odd")[value % 2] for value in range(20)}


def test_a_third_column_gives_the_split(folder: Path) -> None:
    parts = ["train"] * 10 + ["val"] * 4 + ["test"] * 6
    lines = [f"{value}.png,{value % 2},{part}" for value, part in enumerate(parts)]
    dataset = load(write(folder / "all.csv", lines))
    assert values(dataset.train.images[:]) == [*range(10)]
    assert values(dataset.valid.images[:]) == [*range(10, 14)]
    assert values(dataset.test.images[:]) == [*range(14, 20)]


def test_columns_are_found_by_their_names(folder: Path) -> None:
    lines = ["id,label,path", *(f"x{value},{value % 2},{value}.png" for value in range(20))]
    assert labels(load(write(folder / "all.csv", lines)))[3] == "1"


def test_classes_that_are_numbers_are_in_their_order(folder: Path) -> None:
    lines = [f"{value}.png,{8 + value // 5}" for value in range(20)]
    assert load(write(folder / "all.csv", lines)).classes == ("8", "9", "10", "11")


def test_quoted_paths_may_have_commas(folder: Path) -> None:
    (folder / "3.png").rename(folder / "a, b.png")
    names = ['"a, b.png"' if value == 3 else f"{value}.png" for value in range(20)]
    lines = [f"{name},{value % 2}" for value, name in enumerate(names)]
    assert labels(load(write(folder / "all.csv", lines)))[3] == "1"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("missing.png,0,train", r"all\.csv:22: no file 'missing\.png' in "),
        ("0.png,0,train", r"all\.csv:22: '0\.png' is in line 2 already"),
        ("19.png,,train", r"all\.csv:22: '19\.png' has no label"),
        ("19.png,0,holdout", r"all\.csv:22: split 'holdout', expected train, valid or test"),
        ("19.png,7,test", r"all\.csv:22: label '7' of a test image, expected .*\(0, 1\)"),
        ("19.png", r"all\.csv:22: 1 fields, expected path, label and maybe split"),
        ("19.png,0,test,x", r"all\.csv:22: 4 fields, expected path"),
        ("19.png,0", r"all\.csv:22: has no split, which other lines have"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(folder: Path, line: str, why: str) -> None:
    lines = [f"{value}.png,{value % 2},{'test' if value > 14 else 'train'}" for value in range(19)]
    path = write(folder / "all.csv", ["# pets", *lines, "", line])
    with pytest.raises(InvalidFile, match=why):
        load(path)


def test_a_list_without_lines_or_labels_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidFile, match=r"has no lines, expected path,label"):
        load(write(folder / "all.csv", []))
    with pytest.raises(InvalidFile, match=r"all\.csv:1: no column 'label'"):
        load(write(folder / "all.csv", ["path,colour", "0.png,red"]))


def even_and_odd(names: Iterable[str]) -> list[str]:
    return [f"{name},{('even', 'odd')[value % 2]}" for value, name in enumerate(names)]


@pytest.mark.parametrize("form", ["{folder}/{value}.png", "./{value}.png", "x/../{value}.png"])
def test_paths_may_be_absolute_or_lead_through_other_folders(folder: Path, form: str) -> None:
    (folder / "x").mkdir()
    names = [form.format(folder=folder, value=value) for value in range(20)]
    dataset = load(write(folder / "all.csv", even_and_odd(names)))
    assert labels(dataset) == {value: ("even", "odd")[value % 2] for value in range(20)}


def test_backslashes_of_windows_are_slashes(folder: Path) -> None:
    (folder / "img").mkdir()
    for value in range(20):
        (folder / f"{value}.png").rename(folder / "img" / f"{value}.png")
    lines = even_and_odd(f"img\\{value}.png" for value in range(20))
    windows = load(write(folder / "all.csv", lines))
    plain = load(write(folder / "all.csv", [line.replace("\\", "/") for line in lines]))
    assert windows.digest == plain.digest


def test_a_file_in_two_lines_is_found_however_it_is_written(folder: Path) -> None:
    lines = even_and_odd(f"{value}.png" for value in range(20))
    for again in ("./0.png", f"{folder}/0.png"):
        with pytest.raises(InvalidFile, match=rf"all\.csv:21: '{again}' is in line 1 already"):
            load(write(folder / "all.csv", [*lines, f"{again},even"]))


def test_all_missing_files_are_named_at_once(folder: Path) -> None:
    lines = even_and_odd(f"{value}.png" for value in range(27))
    with pytest.raises(
        InvalidFile,
        match=rf"^{folder}/all\.csv: 7 of 27 files are not in {folder}: line 21 '20\.png', line 22 "
        r".*, line 25 '24\.png', … 2 more$",
    ):
        load(write(folder / "all.csv", lines))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("3.PNG", r"no file '3\.PNG' in .*; did you mean '3\.png'\?$"),
        ("3", r"no file '3' in .*; did you mean '3\.png'\?$"),
        ("https://example.org/3.png", "it is an address: download the images$"),
        ("C:\\photos\\3.png", "write paths relative to the list"),
        ("folder", r"no file 'folder' in [^;]*$"),
    ],
)
def test_what_may_be_meant_by_a_missing_file_is_said(folder: Path, name: str, hint: str) -> None:
    (folder / "folder").mkdir()
    names = [name if value == 3 else f"{value}.png" for value in range(20)]
    with pytest.raises(InvalidFile, match=hint):
        load(write(folder / "all.csv", even_and_odd(names)))


def test_unknown_names_of_columns_are_no_image(folder: Path) -> None:
    lines = ["id_code,diagnosis", *even_and_odd(f"{value}.png" for value in range(20))]
    with pytest.raises(InvalidFile, match=r"all\.csv:1: .*; .* call them path and label$"):
        load(write(folder / "all.csv", lines))


@pytest.mark.parametrize("header", ["image_path,Class Name", "File Name,category", "img,labels"])
def test_columns_have_the_names_that_people_give_them(folder: Path, header: str) -> None:
    lines = [header, *even_and_odd(f"{value}.png" for value in range(20))]
    assert labels(load(write(folder / "all.csv", lines)))[3] == "odd"


def test_columns_that_are_ignored_are_named(folder: Path) -> None:
    lines = [f"{value}.png,{value % 2},{value // 3},1" for value in range(20)]
    path = write(folder / "all.csv", ["path,label,patient,is_train", *lines])
    assert load(path).notes == ("columns of all.csv ignored: patient, is_train",)
    grouped = load_dataset(str(path), options=ReadingOptions(group_by="patient"))
    assert grouped.notes == ("columns of all.csv ignored: is_train",)
