"""`hwnas data pack` and `hwnas data show`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hwnas.cli.data import data
from hwnas.data.datasets import load_dataset
from hwnas.data.photos.flat import packed_path
from hwnas.data.splits import Split
from hwnas.errors import InvalidFile, UsageError
from tests.support.data.photos import noise_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    return noise_folder(tmp_path / "pets")


def pack(*arguments: str) -> tuple[Path, str]:
    result = CliRunner().invoke(data, ["pack", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return Path(result.stdout.strip()), result.stderr


def file_of(split: Split) -> Path | None:
    return None if isinstance(split.images, np.ndarray) else packed_path(split.images)


def test_runs_use_the_packed_file_by_themselves(folder: Path) -> None:
    path, messages = pack(str(folder), "--size", "7")
    assert "60 images, 0.0 GB, are packed into" in messages and str(path) in messages
    for shape, used in (((3, 7, 7), path), ((3, 6, 6), None)):
        assert file_of(load_dataset(str(folder), input_shape=shape).train) == used


def test_the_own_size_is_found_without_opening_photos(folder: Path) -> None:
    path, _ = pack(str(folder))
    dataset = load_dataset(str(folder))
    assert dataset.input_shape == (3, 32, 32) and file_of(dataset.train) == path


def test_a_file_is_a_data_set_of_its_own(folder: Path, tmp_path: Path) -> None:
    path, _ = pack(str(folder), "--size", "7", "--out", str(tmp_path / "my.packed"))
    assert path == tmp_path / "my.packed"
    by_file, by_folder = load_dataset(str(path)), load_dataset(str(folder), input_shape=(3, 7, 7))
    assert by_file.digest == by_folder.digest and by_file.name == "pets"
    assert by_file.classes == ("cat", "dog")
    np.testing.assert_array_equal(by_file.train.images[:], by_folder.train.images[:])
    with pytest.raises(InvalidFile, match=r"packed for images of 3x7x7, expected 3x8x8: pack it"):
        load_dataset(str(path), input_shape=(3, 8, 8))


def test_broken_photos_are_skipped_when_asked_and_then_in_every_process(folder: Path) -> None:
    (folder / "cat" / "000.png").write_bytes(b"no image")
    with pytest.raises(InvalidFile, match=r"000\.png: not a readable image"):
        pack(str(folder), "--size", "7")
    _, messages = pack(str(folder), "--size", "7", "--skip-broken")
    assert "skipped: " in messages and "000.png" in messages
    for shape in ((3, 7, 7), (3, 6, 6)):
        dataset = load_dataset(str(folder), input_shape=shape)
        assert "1 image that could not be read was left out" in dataset.notes


@pytest.mark.parametrize("name", ["cifar10", "nowhere"])
def test_what_is_no_set_of_photos_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: can't be packed, expected a folder of images"):
        pack(name)


def show(*arguments: str) -> str:
    result = CliRunner().invoke(data, ["show", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_show_prints_the_card_and_every_unreadable_image(folder: Path) -> None:
    for number in range(25):
        (folder / "cat" / f"new{number:02}.png").write_bytes(b"<html>")
    lines = show(str(folder)).splitlines()
    assert lines[0].startswith("pets: ") and lines[0].endswith(" images of 2 classes")
    assert sum(line.startswith("unreadable  ") and "HTML page" in line for line in lines) == 25
    with pytest.raises(InvalidFile, match="25 of 85 images can't be read"):
        load_dataset(str(folder))  # to look at images is not to leave them out later


def test_show_gives_programs_one_document(folder: Path) -> None:
    content = json.loads(show(str(folder), "--group-by", r"(\d+)", "--json"))
    assert content["name"] == "pets" and content["broken"] == {}
    assert len(content["card"]["samples"]) == 24
    assert "60 groups by '(\\d+)', none both" in content["card"]["split"]


def test_a_data_set_is_shown_also_where_nothing_can_be_remembered(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "cat" / "broken.png").write_bytes(b"no image")
    expected = show(str(folder))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "file" / "home"))
    assert show(str(folder)) == expected and "broken.png" in expected
