"""Kind and age of a device's newest latency model, read without the rest of the model."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources.abc import Traversable

import msgspec

from hwnas.files import home
from hwnas.shipped import shipped


class ModelInfo(msgspec.Struct, frozen=True):
    """Kind and date of a latency model."""

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
    def summary(self) -> str:
        """Kind and age, e.g. ``measured, 3 days old``."""
        age = self.age_days
        return self.kind if age is None else f"{self.kind}, {age} day{'' if age == 1 else 's'} old"


def newest_model(device: str) -> ModelInfo | None:
    """Return the newest of the user's models of a device, else of the shipped ones."""
    own = home() / "latency_models" / device
    for files in (_json(own), _json(shipped("latency_models") / device)):
        models = [model for file in files if (model := _read(file)) is not None]
        if models:
            return max(models, key=lambda model: model.made)
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


def _read(file: Traversable) -> ModelInfo | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=ModelInfo)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
