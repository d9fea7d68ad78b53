"""The data card: the report's description of the images."""

from __future__ import annotations

import re
import shutil
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from hwnas.data.datasets import Dataset, load_dataset
from hwnas.data.duplicates import find_duplicates
from hwnas.data.splits import Split
from hwnas.report.html import html, markdown
from hwnas.specialize.card import card_text, data_card, data_warnings
from tests.support.data.photos import noise_folder, noise_image
from tests.support.reporting.sample_report import measured_report


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    for part, count in (("train", 40), ("test", 12)):
        noise_folder(tmp_path / "pets" / part, count)
    for file in (tmp_path / "pets" / "test").glob("*/*.png"):
        file.unlink()
        noise_image(1000 + int(file.stem)).save(file)
    return tmp_path / "pets"


def test_equal_files_in_two_splits_are_counted_and_named(folder: Path) -> None:
    clean = data_card(load_dataset(str(folder)))
    assert clean.leaks == 0 and clean.duplicates == "There are no duplicate images."
    shutil.copy(folder / "train" / "cat" / "000.png", folder / "test" / "cat" / "again.png")
    shutil.copy(folder / "test" / "dog" / "001.png", folder / "test" / "cat" / "wrong.png")
    dataset = load_dataset(str(folder))
    duplicates = find_duplicates(dataset)
    assert sum(duplicates.across.values()) == 1 and duplicates.within == 1
    assert duplicates.other_class == 1
    assert "train/cat/000.png" in duplicates.examples[0][0]
    card = data_card(dataset)
    assert card.leaks == 1 and card.warnings[0].startswith("1 test image is among the training or")
    assert "1 are in two classes" in card.duplicates


def test_duplicates_of_arrays_are_equal_pixels() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 1, 5, 5), dtype=np.uint8)
    images[25] = images[3]
    labels = np.arange(30) % 2
    train, valid, test = (Split(images[a : a + 10], labels[a : a + 10]) for a in (0, 10, 20))
    dataset = Dataset("arrays", ("a", "b"), train, valid, test)
    assert find_duplicates(dataset).across == {"training and test": 1}


def test_unequal_classes_and_few_test_images_are_named(folder: Path) -> None:
    for file in sorted((folder / "train" / "dog").iterdir())[5:]:
        file.unlink()
    for file in sorted((folder / "test" / "dog").iterdir())[2:]:
        file.unlink()
    card = data_card(load_dataset(str(folder)))
    assert card.balance.startswith("The classes are unbalanced: 'cat' has 26 images, 'dog' 7.")
    assert "right for 79% of all images" in card.balance
    assert card.warnings[-1].startswith("'dog' has fewer than 5 test images")
    assert [(each.name, each.total, each.test) for each in card.classes] == [
        ("cat", 26, 6),
        ("dog", 7, 2),
    ]


@pytest.mark.parametrize(("brightest", "warned"), [(1023, True), (65535, False)])
def test_images_that_are_nearly_black_are_named(
    tmp_path: Path, brightest: int, warned: bool
) -> None:
    """A camera of 10 bits may write 16-bit files without scaling its values."""
    rng = np.random.default_rng(0)
    for number in range(20):
        file = tmp_path / "scans" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, brightest, (8, 8), dtype=np.uint16)).save(file)
    warnings = data_warnings(load_dataset(str(tmp_path / "scans")))
    text = r"hardly more than one colour \(mean [12], standard deviation 1\.1 of 255\)"
    assert any(re.search(text, line) for line in warnings) == warned


def test_a_run_says_at_its_beginning_what_the_card_warns_of(folder: Path) -> None:
    assert data_warnings(load_dataset(str(folder))) == ()
    shutil.copy(folder / "train" / "cat" / "000.png", folder / "test" / "cat" / "again.png")
    for file in sorted((folder / "train" / "dog").iterdir())[5:]:
        file.unlink()
    warnings = data_warnings(load_dataset(str(folder)))
    assert warnings[0].startswith("The classes are unbalanced")
    assert warnings[1].startswith("1 test image is among the training or validation images too")


def test_sizes_are_those_of_the_originals_and_samples_those_of_the_network(folder: Path) -> None:
    card = data_card(load_dataset(str(folder), input_shape=(3, 12, 20)))
    assert card.sizes.startswith("11 sizes from 16x16 to 16x26 pixels")
    assert card.input_shape == (3, 12, 20)
    assert len(card.samples) == 24
    labels = [sample.label for sample in card.samples]
    assert labels == sorted(labels) and labels.count("cat") == labels.count("dog") == 12
    for sample in card.samples:
        picture = Image.open(BytesIO(b64decode(sample.picture.partition(",")[2])))
        assert picture.size == (20, 12)


def test_the_page_shows_the_card_and_escapes_the_names_of_classes(folder: Path) -> None:
    (folder / "train" / "dog").rename(folder / "train" / "<b>dog")
    (folder / "test" / "dog").rename(folder / "test" / "<b>dog")
    dataset = load_dataset(str(folder))
    card = data_card(dataset)
    report = measured_report()
    summary = report.dataset
    assert summary is not None
    report = msgspec.structs.replace(report, dataset=msgspec.structs.replace(summary, card=card))
    page, text = html(report), markdown(report)
    assert page.count("<figure>") == 24 and "&lt;b&gt;dog" in page and "<b>dog" not in page
    assert sum(len(sample.picture) for sample in card.samples) < 100_000
    assert card.sizes in text and "There are no duplicate images" in text
    lines = card_text(dataset, card).splitlines()
    assert re.fullmatch(
        r"pets: \d+ training \+ \d+ validation \+ 12 test images of 2 classes", lines[0]
    )
    assert [line.split()[0] for line in lines[-2:]] == ["<b>dog", "cat"]
