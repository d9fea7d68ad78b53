"""Data sets that are folders of image files."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.data.datasets import Dataset, Split, load_dataset
from hwnas.errors import UsageError


def write(file: Path, value: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> None:
    """Write an image of one grey value; ``size`` is width, height."""
    file.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode in ("L", "I;16") else (value,) * len(mode)
    Image.new(mode, size, colour).save(file)


def fill(folder: Path, values: Iterable[int], mode: str = "RGB") -> None:
    for value in values:
        write(folder / f"{value:03}.png", value, mode=mode)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Two classes of 20 images: values 0 to 19 are cats, 100 to 119 dogs."""
    fill(tmp_path / "pets" / "cat", range(20))
    fill(tmp_path / "pets" / "dog", range(100, 120))
    return tmp_path / "pets"


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """The same with train/ and test/: of each class 10 and 5 images."""
    for part, start, count in (("train", 0, 10), ("test", 10, 5)):
        fill(tmp_path / "pets" / part / "cat", range(start, start + count))
        fill(tmp_path / "pets" / part / "dog", range(start + 100, start + 100 + count))
    return tmp_path / "pets"


def values(split: Split) -> list[int]:
    return sorted(split.images[:][:, 0, 0, 0].tolist())


def places(dataset: Dataset) -> dict[int, str]:
    """Return the split that each image (its value) is in."""
    parts = {"train": dataset.train, "valid": dataset.valid, "test": dataset.test}
    return {value: part for part, split in parts.items() for value in values(split)}


def load(folder: Path, input_shape: tuple[int, int, int] | None = None) -> Dataset:
    return load_dataset(str(folder), input_shape=input_shape)


def test_class_folders_are_the_classes_and_give_the_labels(flat: Path) -> None:
    dataset = load(flat)
    assert dataset.name == "pets"
    assert dataset.classes == ("cat", "dog")
    for split in (dataset.train, dataset.valid, dataset.test):
        assert (split.labels == (split.images[:][:, 0, 0, 0] >= 100)).all()


def test_every_image_of_a_flat_folder_is_in_exactly_one_split(flat: Path) -> None:
    dataset = load(flat)
    splits = (dataset.train, dataset.valid, dataset.test)
    pixels = [value for split in splits for value in values(split)]
    assert sorted(pixels) == [*range(20), *range(100, 120)]
    assert all(set(split.labels) == {0, 1} for split in splits)


def test_a_new_file_does_not_move_the_others(flat: Path) -> None:
    before = load(flat)
    fill(flat / "cat", range(50, 60))
    after = load(flat)
    assert places(after).items() >= places(before).items()
    assert len(places(after)) == 50
    assert after.digest != before.digest


def test_the_same_folder_gives_the_same_digest_wherever_it_is(flat: Path) -> None:
    digest = load(flat).digest
    assert load(flat).digest == digest
    moved = flat.rename(flat.parent / "moved")
    assert load(moved).digest == digest


def test_images_come_shuffled_so_that_a_prefix_holds_both_classes(flat: Path) -> None:
    assert set(load(flat).train.labels[:10]) == {0, 1}


def test_three_images_of_a_class_are_enough(tmp_path: Path) -> None:
    fill(tmp_path / "a", (1, 2, 3))
    fill(tmp_path / "b", (4, 5, 6))
    dataset = load(tmp_path)
    assert [len(split.labels) for split in (dataset.train, dataset.valid, dataset.test)] == [2] * 3


def test_given_test_images_stay_the_test_images(cut: Path) -> None:
    dataset = load(cut)
    assert values(dataset.test) == [*range(10, 15), *range(110, 115)]
    assert sorted(values(dataset.train) + values(dataset.valid)) == [*range(10), *range(100, 110)]
    assert set(dataset.train.labels) == set(dataset.valid.labels) == {0, 1}


@pytest.mark.parametrize("name", ["valid", "val", "VAL"])
def test_given_validation_images_are_used(cut: Path, name: str) -> None:
    fill(cut / name / "cat", [50])
    fill(cut / name / "dog", [150])
    dataset = load(cut)
    assert values(dataset.valid) == [50, 150]
    assert len(dataset.train.labels) == 20


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "webp", "gif", "ppm", "PNG"])
def test_each_kind_of_file_is_read(flat: Path, suffix: str) -> None:
    write(flat / "cat" / f"new.{suffix}", 60)
    assert any(abs(value - 60) <= 2 for value in places(load(flat)))


def test_other_and_hidden_files_are_ignored_and_counted(flat: Path) -> None:
    (flat / "cat" / "notes.txt").write_text("hello")
    (flat / "cat" / ".hidden.png").write_bytes(b"")
    (flat / ".git").mkdir()
    (flat / "readme.md").write_text("hello")
    dataset = load(flat)
    assert len(places(dataset)) == 40
    assert dataset.notes == (
        "passed over: .git, .hidden.png",
        "2 files that are no images ignored (.md, .txt)",
    )


def test_images_of_one_small_size_keep_it(flat: Path) -> None:
    assert load(flat).input_shape == (3, 8, 8)


def test_images_of_one_size_that_is_not_square_keep_it(tmp_path: Path) -> None:
    for index in range(6):
        write(tmp_path / "ab"[index % 2] / f"{index}.png", index, size=(10, 6))
    assert load(tmp_path).input_shape == (3, 6, 10)


def test_a_few_odd_sizes_do_not_change_the_size_of_the_set(flat: Path) -> None:
    for number, size in enumerate([(1, 1), (2000, 1), (2, 3000)]):
        write(flat / "cat" / f"odd{number}.png", 60, size=size)
    dataset = load(flat)
    assert dataset.input_shape == (3, 8, 8) and len(places(dataset)) == 41
    assert dataset.notes == (
        "3 of 43 images have other sizes (3 sizes, 1x1 to 3000x2) and are cropped and resized to "
        "8x8 as the rest",
    )


def test_photos_for_a_network_of_another_shape_say_what_changes(flat: Path) -> None:
    assert load(flat, (1, 16, 16)).notes == (
        "the images have 1 size, 8x8, and are resized to 16x16",
        "the images are in colour, and become grey: the network takes one channel",
    )
    for number in range(2):
        write(flat / "cat" / f"wide{number}.png", 60, size=(10, 8))
    assert load(flat, (3, 8, 8)).notes == (
        "2 of 42 images have other sizes (1 size, 8x10) and are cropped and resized to 8x8 as the "
        "rest",
    )


@pytest.mark.parametrize(("sides", "expected"), [((40, 50, 60), 64), ((30, 300, 400), 224)])
def test_mixed_sizes_become_squares_of_the_median_side(
    tmp_path: Path, sides: tuple[int, ...], expected: int
) -> None:
    for index in range(12):
        side = sides[index % 3]
        write(tmp_path / "ab"[index // 6] / f"{index}.png", index, size=(side, side + 1))
    dataset = load(tmp_path)
    assert dataset.input_shape == (3, expected, expected)
    assert dataset.notes[0].startswith("the images have 3 sizes, ")


def test_images_larger_than_224_become_224(tmp_path: Path) -> None:
    for index in range(6):
        write(tmp_path / "ab"[index % 2] / f"{index}.png", index, size=(225, 225))
    assert load(tmp_path).input_shape == (3, 224, 224)


def test_a_given_input_shape_is_used(flat: Path) -> None:
    dataset = load(flat, input_shape=(1, 5, 7))
    assert dataset.input_shape == (1, 5, 7)
    assert values(dataset.test)[0] < 20 <= values(dataset.test)[-1]


def test_one_channel_if_every_image_is_grey(tmp_path: Path) -> None:
    fill(tmp_path / "a", (1, 2, 3), mode="L")
    fill(tmp_path / "b", (4, 5, 6), mode="L")
    assert load(tmp_path).input_shape == (1, 8, 8)
    assert load(tmp_path, input_shape=(3, 8, 8)).input_shape == (3, 8, 8)
    write(tmp_path / "b" / "colour.png", 7)
    assert load(tmp_path).input_shape == (3, 8, 8)


def test_transparent_and_palette_images_become_rgb(flat: Path) -> None:
    Image.new("RGBA", (8, 8), (60, 0, 0, 128)).save(flat / "cat" / "rgba.png")
    Image.new("RGB", (8, 8), (61, 0, 0)).quantize().save(flat / "cat" / "palette.png")
    dataset = load(flat)
    assert dataset.input_shape == (3, 8, 8)
    assert {60, 61} <= places(dataset).keys()


def test_16_bit_grey_is_scaled_to_8_bits(flat: Path) -> None:
    write(flat / "cat" / "deep.png", 60 * 256 + 255, mode="I;16")
    assert 60 in places(load(flat))


def test_a_photo_is_turned_as_its_orientation_tag_says(flat: Path) -> None:
    photo = Image.new("RGB", (8, 8), (60, 60, 60))
    photo.paste((200, 200, 200), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view: the upper half becomes the right one
    photo.save(flat / "cat" / "photo.png", exif=exif)
    dataset = load(flat)
    stack = np.concatenate(
        [split.images[:] for split in (dataset.train, dataset.valid, dataset.test)]
    )
    turned = stack[(stack[:, 0] == 200).any(axis=(1, 2))][0, 0]
    assert turned[0].tolist() == [60] * 4 + [200] * 4


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no images in class folders \(none\), expected one fold"):
        load(tmp_path)
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    with pytest.raises(UsageError, match=r"no images in class folders \(none\)"):
        load(tmp_path)


def test_images_outside_class_folders_are_not_a_data_set(tmp_path: Path) -> None:
    fill(tmp_path, range(4))
    with pytest.raises(UsageError, match=r"no images in class folders \(4 outside class folders\)"):
        load(tmp_path)


def test_one_class_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "cat", range(4))
    with pytest.raises(UsageError, match=rf"^{tmp_path}: one class \('cat'\), expected at least 2"):
        load(tmp_path)


def test_an_empty_class_folder_is_named(flat: Path) -> None:
    (flat / "emu").mkdir()
    with pytest.raises(UsageError, match=rf"^{flat / 'emu'}: no images, expected \.png, \.jpg"):
        load(flat)


def test_a_class_of_two_images_cannot_be_cut_into_three(flat: Path) -> None:
    fill(flat / "emu", (1, 2))
    with pytest.raises(UsageError, match=r"emu: class 'emu' has 2 images .* expected at least 3"):
        load(flat)


def test_a_class_of_one_training_image_cannot_be_cut_into_two(cut: Path) -> None:
    fill(cut / "train" / "emu", [1])
    fill(cut / "test" / "emu", [2])
    with pytest.raises(UsageError, match=r"emu: class 'emu' has 1 image .* expected at least 2"):
        load(cut)


@pytest.mark.parametrize(("more", "less"), [("train", "test"), ("test", "train")])
def test_train_and_test_must_have_the_same_classes(cut: Path, more: str, less: str) -> None:
    fill(cut / more / "emu", [1, 2])
    expected = rf"^{cut / less}: no class 'emu', expected the classes of {cut / more}$"
    with pytest.raises(UsageError, match=expected):
        load(cut)


def test_validation_images_without_test_images_are_the_test_images(cut: Path) -> None:
    tested = values(load(cut).test)
    (cut / "test").rename(cut / "val")
    dataset = load(cut)
    assert values(dataset.test) == tested
    assert len(dataset.valid.labels) and len(dataset.train.labels) + len(dataset.valid.labels) == 20


def test_train_without_test_is_refused(cut: Path) -> None:
    (cut / "test").rename(cut / "tests")
    with pytest.raises(UsageError, match=r"no folder 'test' .* rename tests/ to test/$"):
        load(cut)


def test_two_validation_folders_are_refused(cut: Path) -> None:
    for name in ("valid", "val"):
        fill(cut / name / "cat", [50])
        fill(cut / name / "dog", [150])
    with pytest.raises(UsageError, match="has both val/ and valid/, expected one"):
        load(cut)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_an_unreadable_image_is_named(flat: Path, content: bytes) -> None:
    (flat / "dog" / "bad.png").write_bytes(content)
    for shape in (None, (3, 8, 8)):
        with pytest.raises(
            UsageError,
            match=r"^.*dog/bad\.png: not a readable image \(.+\); repair .* --skip-broken$",
        ):
            load(flat, shape)


def test_a_truncated_image_is_named(flat: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(flat / "dog" / "bad.png")
    whole = (flat / "dog" / "bad.png").read_bytes()
    (flat / "dog" / "bad.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"dog/bad\.png: not a readable image"):
        load(flat)


def test_warnings_of_pillow_are_ignored_and_no_others(flat: Path) -> None:
    def warn_as(module: str) -> None:
        warnings.warn_explicit("unusual", UserWarning, f"{module}.py", 1, module=module)

    load(flat)
    warn_as("PIL.Image")
    with pytest.raises(UserWarning, match="unusual"):
        warn_as("pilot")
