"""Data sets of the library Hugging Face `datasets` (``pip install hwnas[datasets]``).

``hf:NAME`` loads one by its name on the hub; a folder that ``save_to_disk`` wrote is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hwnas.data.photos.labelled import LabelledPhotos
from hwnas.data.photos.reading import opened
from hwnas.data.photos.sources.dividing import (
    SPLIT_NAMES,
    Files,
    complete_splits,
    labelled,
    split_rule,
)
from hwnas.data.photos.sources.grouping import Groups
from hwnas.errors import HwnasError, InvalidFile, UsageError, first_line
from hwnas.files import read_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

HUB_PREFIX = "hf:"
SAVED_FILES = ("dataset_dict.json", "state.json")
"""Files in a folder of ``save_to_disk``: of several splits, of a single one."""


class Place(NamedTuple):
    """A row of a split."""

    split: str
    number: int


def is_saved(folder: Path) -> bool:
    """Return whether ``save_to_disk`` wrote this folder."""
    return any((folder / name).is_file() for name in SAVED_FILES)


def hub_photos(name: str, valid_share: float, group_by: str = "") -> LabelledPhotos:
    """Return the photos of a data set on the hub (``hf:NAME``) or of a saved folder."""
    splits = _load(name)
    first = next(iter(splits.values()))
    image, label = _columns(name, first.features)
    parts: dict[str, Files] = {}
    rows: dict[str, Place] = {}
    of: dict[str, str] = {}
    if group_by and group_by not in first.features:
        raise UsageError(f"{name}: no column {group_by!r}, expected {', '.join(first.features)}")
    for split, table in splits.items():
        part = SPLIT_NAMES.get(split.partition("[")[0], "")
        classes = _class_names(table.features[label])
        group_values = table[group_by] if group_by else ()
        for index, value in enumerate(table[label]):
            key = f"{split}/{index}"
            if value is None or (classes and value < 0):  # the hub's way to hide test labels
                continue
            rows[key] = Place(split, index)
            if group_by:
                of[key] = str(group_values[index])
            parts.setdefault(part, {}).setdefault(_text(value, classes), []).append(key)
    if not rows:
        raise InvalidFile(name, "has no labelled images")
    groups = Groups(group_by, of) if group_by else None
    divided = complete_splits(name, parts, valid_share, groups)
    title = name.removeprefix(HUB_PREFIX).rstrip("/").rpartition("/")[2]
    order = [each for each in _class_names(first.features[label]) if each in divided[0]]
    return labelled(
        name,
        title,
        divided,
        lambda names: HubPhotos(name, splits, image, rows, names),
        classes=order,
    )._replace(split=split_rule(sorted(parts), groups, divided))


class HubPhotos:
    """Encoded images of the tables of a data set."""

    def __init__(
        self,
        where: str,
        splits: Mapping[str, Any],
        column: str,
        rows: Mapping[str, Place],
        names: Sequence[str],
    ) -> None:
        self.where, self.names = where, names
        self.rows = [rows[name] for name in names]
        encoded = import_module("datasets").Image(decode=False)
        self.tables = {
            split: table.select_columns([column]).cast_column(column, encoded)
            for split, table in splits.items()
        }
        self.column = column
        self.fingerprints = sorted((split, table._fingerprint) for split, table in splits.items())

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        return f"{self.where}/{self.names[row]}"

    def open(self, row: int) -> AbstractContextManager[Image]:
        return opened(BytesIO(self.content(row)), self.name(row))

    def size_bytes(self, row: int) -> int:
        return len(self.content(row))

    def content(self, row: int) -> bytes:
        split, index = self.rows[row]
        value = self.tables[split][index][self.column]
        if value is None:
            raise InvalidFile(self.name(row), "has no image")
        content = value["bytes"]
        return read_bytes(Path(value["path"])) if content is None else content

    def state(self) -> bytes:
        return repr((self.fingerprints, list(self.names))).encode()


def _load(name: str) -> dict[str, Any]:
    """Return the splits that have rows, by name."""
    try:
        library = import_module("datasets")
    except ImportError:
        raise UsageError(
            f"{name}: needs the package datasets, which pip install 'hwnas[datasets]' installs"
        ) from None
    try:
        if name.startswith(HUB_PREFIX):
            loaded = library.load_dataset(name.removeprefix(HUB_PREFIX))
        else:
            loaded = library.load_from_disk(name)
    except Exception as error:  # the library has no base class of its errors
        raise HwnasError(f"{name}: cannot be loaded ({first_line(error)})") from None
    splits = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    return {split: table for split, table in splits.items() if len(table)}


def _columns(name: str, features: Mapping[str, Any]) -> tuple[str, str]:
    """Return the names of the image column and of the label column."""
    kinds = {column: type(feature).__name__ for column, feature in features.items()}
    images = [column for column, kind in kinds.items() if kind == "Image"]
    labels = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    labels = labels or [column for column in ("label", "labels", "class") if column in kinds]
    if len(images) != 1 or len(labels) != 1:
        why = f"columns are {', '.join(kinds)}, expected one of images and one of class labels"
        raise InvalidFile(name, f"{why} (has {len(images)} and {len(labels)})")
    return images[0], labels[0]


def _class_names(feature: Any) -> Sequence[str]:
    return getattr(feature, "names", None) or ()


def _text(value: Any, classes: Sequence[str]) -> str:
    return str(classes[value] if classes else value)
