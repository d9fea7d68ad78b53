"""Data sets and device profiles that are given as objects, not by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hwnas.data.datasets import Dataset
from hwnas.devices.profile import DeviceProfile
from hwnas.files import write_atomic
from hwnas.specialize.spec import RunSpec


def with_files(
    spec: RunSpec, folder: Path, dataset: Dataset | None, profiles: Iterable[DeviceProfile]
) -> RunSpec:
    """Return ``spec`` with the objects that it names stored as files in the run's folder.

    So the processes that train networks, a run that is resumed and the commands in the report find
    them. Profiles take the place of the targets of their names.
    """
    files = {profile.name: _write_profile(profile, folder / "targets") for profile in profiles}
    if files:
        targets = tuple(files.get(name, name) for name in spec.targets)
        spec = msgspec.structs.replace(spec, targets=targets)
    if dataset is not None:
        path = _write_dataset(dataset, folder / "data")
        spec = msgspec.structs.replace(spec, data=path)
    return spec


def _write_dataset(dataset: Dataset, folder: Path) -> str:
    name = re.sub(r"[^\w.-]+", "-", dataset.name)
    path = folder / dataset.digest / f"{name}.npz"  # other images are another file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name("part.npz")
        arrays: dict[str, Any] = {"classes": np.array(dataset.classes)}
        parts = {"train": dataset.train, "valid": dataset.valid, "test": dataset.test}
        for part, split in parts.items():
            arrays |= {f"x_{part}": split.images, f"y_{part}": split.labels}
        np.savez(partial, **arrays)
        partial.replace(path)
    return str(path.resolve())


def _write_profile(profile: DeviceProfile, folder: Path) -> str:
    path = folder / f"{profile.name}.toml"
    write_atomic(path, msgspec.toml.encode(_without_none(msgspec.to_builtins(profile))))
    return str(path.resolve())


def _without_none(value: Any) -> Any:
    """Return plain data without the fields that are ``None``, which TOML can't express."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
