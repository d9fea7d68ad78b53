"""What is a class, a split, or neither, in folders as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from hwnas.data.datasets import Dataset, load_dataset
from hwnas.data.photos.sources.find import find_undivided
from hwnas.errors import UsageError


def fill(folder: Path, count: int = 4, start: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for value in range(start, start + count):
        Image.new("RGB", (8, 8), (value, 0, 0)).save(folder / f"{value:03}.png")


def sizes(dataset: Dataset) -> tuple[int, ...]:
    splits = dataset.train, dataset.valid, dataset.test
    return tuple(len(split.labels) for split in splits)


def test_what_file_managers_and_archives_leave_is_passed_over_by_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill(tmp_path / name)
        fill(tmp_path / name / ".ipynb_checkpoints")
        (tmp_path / "__MACOSX" / name).mkdir(parents=True)
        (tmp_path / "__MACOSX" / name / "._000.png").write_bytes(b"\0\5\x16\7")
        (tmp_path / name / "._000.png").write_bytes(b"\0\5\x16\7")
        (tmp_path / name / "Thumbs.db").write_bytes(b"")
    (tmp_path / ".DS_Store").write_bytes(b"")
    (tmp_path / "desktop.ini").write_text("")
    dataset = load_dataset(str(tmp_path))
    assert dataset.classes == ("a", "b") and sum(sizes(dataset)) == 8
    assert dataset.notes == (
        "passed over: 2 ._*, .DS_Store, 2 .ipynb_checkpoints, __MACOSX, desktop.ini, 2 Thumbs.db",
    )


def test_images_in_sub_folders_of_a_class_belong_to_the_class(tmp_path: Path) -> None:
    fill(tmp_path / "cat")
    fill(tmp_path / "cat" / "indoor", 3)
    fill(tmp_path / "dog" / "x" / "y", 5)
    dataset = load_dataset(str(tmp_path))
    assert dataset.classes == ("cat", "dog") and sum(sizes(dataset)) == 12
    assert dataset.notes == (
        "8 images in sub-folders of the classes (3 indoor/, 5 y/) belong to these classes",
    )


def test_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    fill(tmp_path / "b")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "all").symlink_to("..")
    assert sum(sizes(load_dataset(str(tmp_path)))) == 8


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_a_class_may_have_the_name_of_a_split(tmp_path: Path, name: str) -> None:
    fill(tmp_path / name)
    fill(tmp_path / "car" / "red")
    assert load_dataset(str(tmp_path)).classes == ("car", name)


def test_a_class_called_train_may_have_sub_folders(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "steam")
    fill(tmp_path / "train" / "diesel")
    fill(tmp_path / "bus")
    assert load_dataset(str(tmp_path)).classes == ("bus", "train")


def test_a_class_of_the_training_images_may_be_called_test(tmp_path: Path) -> None:
    for part in ("train", "val"):
        fill(tmp_path / part / "test")
        fill(tmp_path / part / "control")
    dataset = load_dataset(str(tmp_path))
    assert dataset.classes == ("control", "test") and sizes(dataset)[2] == 8


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "dev", "test", "Testing"])
def test_train_and_one_other_split_is_enough(tmp_path: Path, name: str) -> None:
    for part, count in (("Train", 10), (name, 4)):
        for kind in "ab":
            fill(tmp_path / part / kind, count)
    dataset = load_dataset(str(tmp_path))
    assert sizes(dataset)[2] == 8 and sum(sizes(dataset)) == 28
    stated = f"the images of {name}/ are the test images, as there is no test/" in dataset.notes
    assert stated == (not name.lower().startswith("test"))


def test_a_train_folder_alone_is_divided(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "a", 20)
    fill(tmp_path / "train" / "b", 20)
    dataset = load_dataset(str(tmp_path))
    assert min(sizes(dataset)) > 0 and sum(sizes(dataset)) == 40
    assert dataset.notes == ("train/ is divided, as no other images are labelled",)


def test_unlabelled_test_images_are_ignored_aloud(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "a")
    fill(tmp_path / "train" / "b")
    fill(tmp_path / "test", 7)
    dataset = load_dataset(str(tmp_path))
    assert sum(sizes(dataset)) == 8
    assert "test/ ignored: 7 images without class folders" in dataset.notes


def test_splits_without_class_folders_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test")
    with pytest.raises(UsageError, match=r"no class folders in test/, train/, expected train/CLAS"):
        load_dataset(str(tmp_path))


def test_splits_without_training_images_are_refused(tmp_path: Path) -> None:
    for part in ("val", "test"):
        fill(tmp_path / part / "a")
        fill(tmp_path / part / "b")
    with pytest.raises(UsageError, match=r"no folder 'train' beside test/, val/"):
        load_dataset(str(tmp_path))


def test_other_folders_beside_the_splits_are_named(tmp_path: Path) -> None:
    for part in ("train", "test", "extra"):
        fill(tmp_path / part / "a")
        fill(tmp_path / part / "b")
    assert "ignored beside train/: extra/" in load_dataset(str(tmp_path)).notes


def test_the_only_folder_is_the_data_set(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / "pets" / name)
    (tmp_path / "__MACOSX").mkdir()
    dataset = load_dataset(str(tmp_path))
    assert dataset.classes == ("a", "b")
    assert dataset.notes == ("pets/, the only folder, is the data set", "passed over: __MACOSX")


def test_classes_that_are_numbers_are_in_numeric_order(tmp_path: Path) -> None:
    for number in range(1, 13):
        fill(tmp_path / str(number), 3, start=10 * number)
    dataset = load_dataset(str(tmp_path))
    assert dataset.classes == tuple(map(str, range(1, 13)))
    for split in (dataset.train, dataset.valid, dataset.test):
        assert (split.images[:][:, 0, 0, 0] // 10 == split.labels + 1).all()
    undivided = find_undivided(str(tmp_path))
    assert undivided is not None and undivided.classes == dataset.classes


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train2017", "val2017"),
        ("train/train", "test"),
    ],
)
def test_names_with_the_word_of_a_split_are_splits_if_their_classes_agree(
    tmp_path: Path, train: str, test: str
) -> None:
    for part, count in ((train, 10), (test, 4)):
        for kind in "ab":
            fill(tmp_path / part / kind, count)
    dataset = load_dataset(str(tmp_path))
    assert dataset.classes == ("a", "b")
    assert sizes(dataset)[2] == 8 and sum(sizes(dataset)) == 28


def test_classes_with_such_words_stay_classes(tmp_path: Path) -> None:
    for name in ("steam train", "test tube", "train_val"):
        fill(tmp_path / name)
    fill(tmp_path / "steam train" / "old")
    assert load_dataset(str(tmp_path)).classes == ("steam train", "test tube", "train_val")


def test_splits_with_plain_names_come_before_others(tmp_path: Path) -> None:
    for part in ("train", "test", "train_extra"):
        for kind in "ab":
            fill(tmp_path / part / kind)
    assert "ignored beside train/: train_extra/" in load_dataset(str(tmp_path)).notes


def test_numbers_with_signs_and_points_are_in_their_order(tmp_path: Path) -> None:
    names = ("-10", "-9", "-0.5", "0", "2.5", "11.5", "100")
    for number, name in enumerate(names):
        fill(tmp_path / name, 3, start=10 * number)
    assert load_dataset(str(tmp_path)).classes == names


def test_a_link_to_itself_is_passed_over(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / name)
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "gone").symlink_to("nowhere")
    dataset = load_dataset(str(tmp_path))
    assert dataset.classes == ("a", "b") and sum(sizes(dataset)) == 8


def test_an_archive_beside_the_folders_that_it_held_is_ignored_aloud(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / name)
    (tmp_path / "photos.tar").write_bytes(b"")
    (tmp_path / "photos.zip").write_bytes(b"")
    dataset = load_dataset(str(tmp_path))
    assert dataset.classes == ("a", "b")
    assert dataset.notes == ("2 files that are no images ignored (.tar, .zip)",)


@pytest.mark.parametrize("pair", [("Cat", "cat"), ("caf\u00e9", "cafe\u0301"), ("cat", "cat ")])
def test_classes_whose_names_look_alike_are_named(tmp_path: Path, pair: tuple[str, str]) -> None:
    for name in (*pair, "dog"):
        fill(tmp_path / name)
    dataset = load_dataset(str(tmp_path))
    listed = ", ".join(map(repr, sorted(pair)))
    assert dataset.num_classes == 3
    assert dataset.notes == (f"almost the same name, and yet separate classes: {listed}",)


def test_a_class_that_another_split_writes_differently_is_named(tmp_path: Path) -> None:
    for part, names in (("train", ("Ant", "Bee")), ("test", ("ant", "bee"))):
        for name in names:
            fill(tmp_path / part / name)
    with pytest.raises(
        UsageError, match=r"test: no class 'Ant', 'Bee', .*; rename 'ant' to 'Ant'\?$"
    ):
        load_dataset(str(tmp_path))


def test_all_classes_without_images_or_with_too_few_are_named(tmp_path: Path) -> None:
    for name, count in (("a", 5), ("b", 2), ("c", 1)):
        fill(tmp_path / name, count)
    few = r"2 classes have too few images for 3 splits: 'b' \(2\), 'c' \(1\); expected at least 3"
    with pytest.raises(UsageError, match=few):
        load_dataset(str(tmp_path))
    for name in ("docs", "labels"):
        (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=r"no images in docs/, labels/, .*remove folders"):
        load_dataset(str(tmp_path))
