"""Data sets of the library Hugging Face `datasets`."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

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


class Feature:
    """A feature whose class has the name of the library's."""

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self.names = names


class Table(list[dict[str, Any]]):
    """A split as the library's tables are: rows by number, columns by name."""

    _fingerprint = "0123"
    features: ClassVar = {
        "picture": type("Image", (Feature,), {})(),
        "label": type("ClassLabel", (Feature,), {})(("dog", "cat")),
    }

    def __getitem__(self, key: Any) -> Any:
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)

    def select_columns(self, names: list[str]) -> Table:
        return self

    def cast_column(self, name: str, feature: object) -> Table:
        return self


def encoded(value: int) -> bytes:
    stream = BytesIO()
    Image.new("L", (8, 8), value).save(stream, "PNG")
    return stream.getvalue()


def test_a_data_set_of_the_hub_is_read_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModuleType("datasets")
    rows = [
        {"picture": {"bytes": encoded(value), "path": None}, "label": value % 2}
        for value in range(30)
    ]
    hidden = [{"picture": rows[0]["picture"], "label": -1}]
    loaded = {"train": Table(rows), "test": Table(hidden)}
    monkeypatch.setattr(library, "load_dataset", {"me/pets": loaded}.__getitem__, raising=False)
    monkeypatch.setattr(library, "Image", lambda decode: None, raising=False)
    monkeypatch.setitem(sys.modules, "datasets", library)
    dataset = load_dataset("hf:me/pets")
    assert dataset.classes == ("dog", "cat") and dataset.name == "pets"
    for split in (dataset.train, dataset.valid, dataset.test):
        assert len(split.labels) and (split.images[:][:, 0, 0, 0] % 2 == split.labels).all()
    with pytest.raises(HwnasError, match=r"hf:you/pets: cannot be loaded \('you/pets'\)"):
        load_dataset("hf:you/pets")
