"""Which latency model a device has and how old it is, read without the rest of the model."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources.abc import Traversable

import msgspec

from hwnas.files import home
from hwnas.shipped import shipped


class Known(msgspec.Struct, frozen=True):
    """The newest latency model of a device."""

    kind: str
    made: str = ""
    """ISO 8601; empty where the file doesn't say."""

    @property
    def age_days(self) -> int | None:
        try:
            made = datetime.fromisoformat(self.made)
        except ValueError:
            return None
        made = made if made.tzinfo else made.replace(tzinfo=UTC)
        return max(0, (datetime.now(UTC) - made).days)

    @property
    def said(self) -> str:
        """Return it in words, e.g. ``measured, 3 days old``."""
        age = self.age_days
        return self.kind if age is None else f"{self.kind}, {age} day{'' if age == 1 else 's'} old"


def newest_model(device: str) -> Known | None:
    """Return the newest of the user's models of a device, else of the shipped ones."""
    own = home() / "latency_models" / device
    for files in (_json(own), _json(shipped("latency_models") / device)):
        found = [known for file in files if (known := _read(file)) is not None]
        if found:
            return max(found, key=lambda known: known.made)
    return None


def _json(folder: Traversable) -> Iterator[Traversable]:
    """Yield the model files of a folder, and those one level below."""
    if not folder.is_dir():
        return
    for file in folder.iterdir():
        if file.name.endswith(".json"):
            yield file
        elif file.is_dir() and (inner := file / "model.json").is_file():
            yield inner


def _read(file: Traversable) -> Known | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Known)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
