"""Data sets of the library Hugging Face `datasets`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from hwnas.data.datasets import load_dataset
from hwnas.errors import HwnasError, InvalidFile, UsageError

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"hf:pets: needs the package datasets, which pip install"):
        load_dataset("hf:pets")


def test_a_saved_data_set_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "cat"])}
    )
    saved = datasets.DatasetDict()
    for split, values in (("train", range(20)), ("test", range(20, 26))):
        images = [Image.new("L", (8, 8), value) for value in values]
        rows = {"image": images, "label": [value % 2 for value in values]}
        saved[split] = datasets.Dataset.from_dict(rows, features=features)
    saved.save_to_disk(str(tmp_path / "pets"))
    dataset = load_dataset(str(tmp_path / "pets"))
    assert dataset.classes == ("dog", "cat") and dataset.name == "pets"
    for split in (dataset.train, dataset.valid, dataset.test):
        assert (split.images[:][:, 0, 0, 0] % 2 == split.labels).all()
    assert sorted(dataset.test.images[:][:, 0, 0, 0].tolist()) == [*range(20, 26)]
    assert load_dataset(str(tmp_path / "pets")).digest == dataset.digest


def test_a_data_set_without_images_is_named(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).save_to_disk(str(tmp_path / "texts"))
    with pytest.raises(InvalidFile, match="columns are text, label, expected one of images"):
        load_dataset(str(tmp_path / "texts"))


def test_a_broken_folder_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(HwnasError, match="cannot be loaded"):
        load_dataset(str(tmp_path))
