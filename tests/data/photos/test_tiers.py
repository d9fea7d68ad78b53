"""The tiers: where pixels are held changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from hwnas.data.datasets import READING, Dataset, load_dataset
from hwnas.data.images import fit_image
from hwnas.data.photos import packing, tiers
from hwnas.data.photos.decoding import DecodedImages
from hwnas.data.photos.flat import FileBytes, FlatImages, MemoryBytes
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.data.splits import Split
from hwnas.data.stored import StoredImages
from hwnas.errors import InvalidFile
from tests.support.data.photos import noise_folder, noise_image

SHAPE = (3, 7, 7)
TIERS = ["memory", "packed", "files"]
BOXES = np.array([[0.2, 0.25, 0.6, 1.0], [0, 0, 1, 1], [0.5, 0.5, 0.9, 0.8]], dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    return noise_folder(tmp_path / "pets")


def load(
    folder: Path,
    tier: str,
    monkeypatch: pytest.MonkeyPatch,
    options: ReadingOptions = READING,
) -> Dataset:
    with monkeypatch.context() as patch:
        if tier != "memory":
            patch.setattr(tiers, "MEMORY_SHARE", 0)
        if tier == "files":
            patch.setattr(packing, "SPARE_BYTES", 1 << 60)
        return load_dataset(str(folder), input_shape=SHAPE, options=options)


def pictures(folder: Path) -> Iterator[Image.Image]:
    for file in sorted(folder.glob("*/*.png")):
        with Image.open(file) as image:
            yield image


def stored(split: Split) -> StoredImages:
    assert not isinstance(split.images, np.ndarray)
    return split.images


def test_each_tier_is_chosen_by_size_and_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = stored(load(folder, "memory", monkeypatch).train)
    assert isinstance(images, FlatImages) and isinstance(images.pixels, MemoryBytes)
    assert isinstance(stored(load(folder, "files", monkeypatch).train), DecodedImages)
    images = stored(load(folder, "packed", monkeypatch).train)
    assert isinstance(images, FlatImages) and isinstance(images.pixels, FileBytes)
    again = stored(load(folder, "memory", monkeypatch).train)
    assert isinstance(again, FlatImages) and isinstance(again.pixels, FileBytes)


def test_the_tier_is_reported_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    options = ReadingOptions(say=lines.append)
    load(folder, "files", monkeypatch, options)
    assert len(lines) == 1 and "decoded each time" in lines[0]
    load(folder, "packed", monkeypatch, options)
    assert "are packed into" in lines[1] and str(folder) in lines[1]


@pytest.mark.parametrize("tier", ["packed", "files"])
def test_every_tier_gives_the_same_training_images(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    expected, dataset = (load(folder, name, monkeypatch) for name in ("memory", tier))
    images, others = stored(expected.train), stored(dataset.train)
    rows = np.array([5, 0, 17])
    np.testing.assert_array_equal(images.crops(rows, BOXES), others.crops(rows, BOXES))
    np.testing.assert_array_equal(images[:], others[:])
    np.testing.assert_array_equal(images.sizes, others.sizes)
    assert images.shape == others.shape == (len(dataset.train.labels), *SHAPE)
    assert expected.train.labels.tolist() == dataset.train.labels.tolist()
    np.testing.assert_allclose(expected.mean, dataset.mean, rtol=0.02)


def test_memory_and_packed_file_have_one_digest_and_one_mean(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, packed = (load(folder, tier, monkeypatch) for tier in ("memory", "packed"))
    assert memory.statistics == packed.statistics != None  # noqa: E711


def test_the_digest_changes_with_a_pixel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(folder, "packed", monkeypatch).digest
    noise_image(99, 16).save(folder / "cat" / "000.png")
    assert load(folder, "packed", monkeypatch).digest != before


def test_mean_and_std_are_those_of_the_copies(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load(folder, "packed", monkeypatch)
    images = dataset.train.images
    assert isinstance(images, FlatImages)
    pixels = np.concatenate(
        [
            np.frombuffer(images.pixels.read(*images.layout.span(row)), np.uint8).reshape(-1, 3)
            for row in images.rows.tolist()
        ]
    )
    np.testing.assert_allclose(dataset.mean, pixels.mean(axis=0) / 255, rtol=1e-12)
    np.testing.assert_allclose(dataset.std, pixels.std(axis=0) / 255, rtol=1e-9)


@pytest.mark.parametrize("tier", TIERS)
def test_a_crop_is_pillows_resize_of_that_box_of_the_copy(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    images = stored(load(folder, tier, monkeypatch).train)
    row = int(np.flatnonzero(images.sizes[:, 1] == 24)[0])
    fitted = images[np.array([row])][0]
    original = next(
        picture
        for picture in pictures(folder)
        if np.array_equal(fit_image(picture.resize((12, 8), Resampling.BILINEAR), SHAPE), fitted)
    )
    copy = original.resize((12, 8), Resampling.BILINEAR)
    shares = BOXES[0].astype(float).tolist()
    box = tuple(share * side for share, side in zip(shares, (12, 8, 12, 8), strict=True))
    expected = np.asarray(copy.resize((7, 7), Resampling.BILINEAR, box=box)).transpose(2, 0, 1)
    np.testing.assert_array_equal(images.crops(np.array([row]), BOXES[:1])[0], expected)


def test_test_images_in_memory_are_fitted_from_the_photos(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load(folder, "memory", monkeypatch)
    expected = {fit_image(picture, SHAPE).tobytes() for picture in pictures(folder)}
    assert {image.tobytes() for image in dataset.test.images[:]} <= expected


@pytest.mark.parametrize("tier", TIERS)
def test_a_subset_of_a_subset_has_the_rows_of_its_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    images = stored(load(folder, tier, monkeypatch).train)
    part = images.subset(np.array([4, 8, 12])).subset(np.array([2, 0]))
    np.testing.assert_array_equal(part[:], images[np.array([12, 4])])
    assert part.sizes.tolist() == images.sizes[[12, 4]].tolist()
    assert images[len(images) :].shape == (0, *SHAPE)


@pytest.mark.parametrize("tier", TIERS)
def test_threads_read_the_same_images(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    images = stored(load(folder, tier, monkeypatch).train)
    expected = images[:]
    with ThreadPoolExecutor(4) as pool:
        rows = [np.array([row]) for row in range(len(images))]
        np.testing.assert_array_equal(
            np.concatenate(list(pool.map(lambda r: images[r], rows))), expected
        )


def test_only_the_first_of_many_stored_images_are_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwnas.data.splits.MAX_LOADED", 3)
    split = load(folder, "memory", monkeypatch).train
    assert split.loaded().labels.tolist() == split.labels[:3].tolist()
    assert len(split.loaded().images) == 3


@pytest.mark.parametrize("tier", TIERS)
def test_a_broken_photo_is_named_or_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    broken = folder / "cat" / "000.png"
    broken.write_bytes(b"no image")
    with pytest.raises(InvalidFile, match=r"cat/000\.png: not a readable image .*--skip-broken"):
        load(folder, tier, monkeypatch)
    lines: list[str] = []
    dataset = load(folder, tier, monkeypatch, ReadingOptions(True, lines.append))
    assert sum(len(split.labels) for split in (dataset.train, dataset.valid, dataset.test)) == 59
    assert any("skipped: " in line and "cat/000.png" in line for line in lines)
    assert "1 image that could not be read was left out" in dataset.notes


def cut_short(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("tier", ["memory", "packed"])
def test_a_photo_whose_pixels_break_is_named_or_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    cut_short(folder / "cat" / "002.png")
    with pytest.raises(InvalidFile, match=r"cat/002\.png: not a readable image"):
        load(folder, tier, monkeypatch)
    dataset = load(folder, tier, monkeypatch, ReadingOptions(skip_broken=True))
    assert sum(len(split.labels) for split in (dataset.train, dataset.valid, dataset.test)) == 59
    assert "1 image that could not be read was left out" in dataset.notes


def test_a_photo_that_breaks_during_training_is_replaced_by_another_of_its_class(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    split = load(folder, "files", monkeypatch, ReadingOptions(True, lines.append)).train
    images = stored(split)
    assert isinstance(images, DecodedImages)
    before = images[:]
    cut_short(Path(images.every.photos.name(int(images.rows[0]))))
    next_of_class = int(np.flatnonzero(split.labels == split.labels[0])[1])
    np.testing.assert_array_equal(images[:1][0], before[next_of_class])
    assert len(lines) == 2 and "skipped: " in lines[1]
    strict = DecodedImages(images.every._replace(options=ReadingOptions()), images.rows)
    with pytest.raises(InvalidFile, match="not a readable image"):
        strict[:1]


def test_a_class_whose_photos_are_all_broken_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (folder / "dog").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(InvalidFile, match="class 'dog' has no readable train image"):
        load(folder, "memory", monkeypatch, ReadingOptions(skip_broken=True))


def test_photos_are_shrunk_to_eight_sevenths_of_the_network_and_never_enlarged() -> None:
    from hwnas.data.photos.reading import shrunk_size

    assert shrunk_size(500, 375, (3, 224, 224)) == (341, 256)
    assert shrunk_size(375, 500, (3, 224, 224)) == (256, 341)
    assert shrunk_size(200, 900, (3, 224, 224)) == (200, 900)
    assert shrunk_size(300, 300, (1, 28, 28)) == (32, 32)


def test_the_ranks_of_a_machine_hold_together_what_one_process_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = tiers.memory_limit_bytes()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert 8 * tiers.memory_limit_bytes() == alone
