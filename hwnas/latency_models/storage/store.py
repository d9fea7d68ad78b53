"""Where latency models are stored: measured ones in the user's folder, published ones shipped."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from importlib.resources.abc import Traversable
from pathlib import Path

from hwnas.errors import HwnasError, InvalidFile
from hwnas.files import home, write_atomic
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.card import card
from hwnas.latency_models.storage.model_file import read_model, write_model
from hwnas.measurement.measurement import Environment
from hwnas.shipped import shipped
from hwnas.spaces.int8 import precision_of
from hwnas.spaces.space import SearchSpace


def measured_folder(device: str, space: SearchSpace) -> Path:
    """Return the folder of this machine's own model and journal for a device and a space."""
    channels, size, _ = space.input_shape
    name = f"{space.name}-{channels}x{size}-{space.num_classes}"
    if precision_of(space) == "int8":
        name += "-int8"
    return home() / "latency_models" / device / name


def read_measured(folder: Path) -> LatencyModel | None:
    """Return the model in ``folder``, if one was made."""
    path = folder / "model.json"
    return read_model(path) if path.exists() else None


def write_measured(model: LatencyModel, folder: Path) -> None:
    """Write ``model.json`` and the card, which states its accuracy."""
    write_model(model, folder / "model.json")
    write_atomic(folder / "card.md", card(model))


def own_folder(device: str) -> Path:
    """Return the folder of the user's own models of a device."""
    return home() / "latency_models" / device


def model_files(device: str) -> list[Traversable]:
    """Return a device's model files: the user's (imported, adapted), then the shipped ones.

    The first that covers a space is the default: the newest of the user's; of the shipped ones a
    published table, which covers its own blocks only, then the model adapted to later software.
    """
    own = sorted(own_folder(device).glob("*.json"), key=lambda path: -path.stat().st_mtime)
    folder = shipped("latency_models") / device
    files = [file for file in folder.iterdir() if _is_json(file)] if folder.is_dir() else []
    return [
        *own,
        *sorted(files, key=lambda file: (file.name.startswith("adapted"), file.name)),
    ]


def published_model(device: str, space: SearchSpace) -> LatencyModel | None:
    """Return a model that covers ``space``, of the user's own or shipped.

    ``None`` if the device has none at all. Raises `HwnasError` naming the block if the device's
    models do not cover the space.
    """
    uncovered: HwnasError | None = None
    for file in model_files(device):
        model = read_model(file)
        error = _uncovered(model, space)
        if error is None:
            return model
        uncovered = error
    if uncovered is not None:
        raise uncovered
    return None


def _uncovered(model: LatencyModel, space: SearchSpace) -> HwnasError | None:
    try:
        model.costs(space)
    except HwnasError as error:
        return error
    return None


def _is_json(file: Traversable) -> bool:
    return file.name.endswith(".json")


def write_own(model: LatencyModel, path: Path, notes: Iterable[str] = ()) -> None:
    """Write a model and its card beside it, ``NAME.json`` and ``NAME.md``."""
    write_model(model, path)
    write_atomic(path.with_suffix(".md"), card(model) + "".join(f"- {note}\n" for note in notes))


def outdated(model: LatencyModel, now: Environment, reference_sha256: str) -> str | None:
    """Return why ``model`` does not hold under the conditions of ``now``, or ``None``."""
    then = model.conditions
    if then is None:
        return None
    if then.fingerprint != now.fingerprint:
        return (
            f"it was made on {then.hardware} (fingerprint {then.fingerprint}), this is "
            f"{now.hardware} ({now.fingerprint})"
        )
    if then.runtime_version != now.runtime_version:
        return f"{then.runtime} was {then.runtime_version} and is {now.runtime_version} now"
    if then.threads != now.threads:
        return f"it was made with {then.threads} threads, the profile now says {now.threads}"
    if then.reference_sha256 != reference_sha256:
        return "the reference model has changed since"
    return None


def calibration(now: Environment, reference_sha256: str) -> float | None:
    """Return the reference's latency from the newest model that holds under ``now``, if any.

    Models that cannot be read, such as those of an earlier version, are ignored.
    """
    models: list[LatencyModel] = []
    for path in sorted((home() / "latency_models" / now.device).glob("*/model.json")):
        with suppress(InvalidFile):
            model = read_model(path)
            if model.conditions is not None and outdated(model, now, reference_sha256) is None:
                models.append(model)
    newest = max(models, key=lambda model: model.made, default=None)
    return None if newest is None or newest.conditions is None else newest.conditions.reference_ms


def set_aside(folder: Path) -> None:
    """Rename an outdated model and its journal, so that nothing measured is lost."""
    for name in ("model.json", "journal.jsonl", "card.md"):
        path = folder / name
        if path.exists():
            stem, suffix = name.split(".")
            number = 1
            while (renamed := folder / f"{stem}-{number}.{suffix}").exists():
                number += 1
            path.rename(renamed)
