"""The known latency models, and the model that a name refers to.

A name is ``DEVICE/MODEL``: measured ones are folders (``host-cpu/mobile-1x28-10``) and imported or
adapted ones files in the user's own folder; shipped ones are files, too (``pixel1/table-2018``). A
device's name alone means the first of them in this order.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path

from hwnas.architecture.architecture import Block
from hwnas.errors import HwnasError, UnknownName, UsageError
from hwnas.files import home
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.model_file import read_model
from hwnas.latency_models.storage.store import model_files, own_folder
from hwnas.shipped import shipped


def known_models(device: str | None = None) -> dict[str, Traversable]:
    """Return the files of all models by name, those of one device if it is named."""
    files: dict[str, Traversable] = {}
    for name in _devices() if device is None else [device]:
        measured = sorted(
            own_folder(name).glob("*/model.json"), key=lambda path: path.stat().st_mtime
        )
        for path in reversed(measured):
            files[f"{name}/{path.parent.name}"] = path
        for file in model_files(name):
            files.setdefault(f"{name}/{file.name.removesuffix('.json')}", file)
    return files


def find_model(name: str, blocks: Sequence[Block] = ()) -> tuple[str, LatencyModel]:
    """Return a model and its name, by file, ``DEVICE/MODEL`` or device.

    Of several models of a device it is the one with most of ``blocks`` among its observations.
    """
    path = Path(name)
    if path.suffix == ".json":
        return name, read_model(path)
    if (path / "model.json").is_file():
        return name, read_model(path / "model.json")
    models = known_models()
    if name in models:
        return name, read_model(models[name])
    mine = known_models(name) if "/" not in name else {}
    if not mine:
        if name in _devices_with_profiles():
            raise HwnasError(
                f"no latency model of {name} is known: measure it with `hwnas latency measure "
                f"--target {name}`, or bring one with `hwnas latency import` or `adapt`"
            )
        raise UnknownName(
            "latency model", name, {*models, *(model.split("/")[0] for model in models)}
        )
    read = {model: read_model(file) for model, file in mine.items()}
    best = max(read, key=lambda model: _observed(read[model], blocks))  # the first of equal ones
    return best, read[best]


def model_name(text: str) -> str:
    """Return ``text`` if it can name a device's folder or a model's file, else raise."""
    if not text or text.startswith(".") or any(mark in text for mark in "/\\\0"):
        raise UsageError(f"{text!r} cannot be a name, expected one like 'pixel1'")
    return text


def _observed(model: LatencyModel, blocks: Sequence[Block]) -> tuple[bool, int, int]:
    """Return a key by which models are compared, the best one being the greatest.

    First whether the model can predict all blocks, as a published table that lacks one cannot;
    then the number of kinds of blocks that were never observed, negated; then that of blocks with
    a row.
    """
    blocks = [block for block in blocks if not block.is_free]
    rows = sum(block in model.rows_ms for block in blocks)
    predicts = model.kind != "table" or rows == len(blocks)
    return predicts, -len(model.unsupported(blocks)), rows


def _devices() -> list[str]:
    folders = [home() / "latency_models", shipped("latency_models")]
    return sorted(
        {
            device.name
            for folder in folders
            if folder.is_dir()
            for device in folder.iterdir()
            if device.is_dir()
        }
    )


def _devices_with_profiles() -> list[str]:
    """Names of the shipped profiles, without reading them (`hwnas.devices` is not below)."""
    return [
        file.name.removesuffix(".toml")
        for file in shipped("devices").iterdir()
        if file.name.endswith(".toml")
    ]
