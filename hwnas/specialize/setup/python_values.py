"""Runs that are specified in Python: plain values, data sets and device profiles as objects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from hwnas.data.datasets import Dataset, make_dataset
from hwnas.data.photos.flat import packed_path
from hwnas.devices.profile import DeviceProfile
from hwnas.errors import UnknownName, UsageError
from hwnas.files import home, write_atomic
from hwnas.specialize.spec import Budget, Milliseconds, RunSpec, check_types
from hwnas.specialize.values import BUDGET_FORM, parse_budget

SINGULAR = {"precision": "precisions", "resolution": "resolutions", "width_mult": "width_mults"}
"""Options that take one value or several, and their fields."""


class RunRequest(NamedTuple):
    """A specification, and the objects that it names."""

    spec: RunSpec
    dataset: Dataset | None
    """``None``: the specification names a data set that is loaded."""
    profiles: tuple[DeviceProfile, ...]


def run_request(
    target: object, budget: object, data: object, options: Mapping[str, object]
) -> RunRequest:
    """Return the run that Python values specify, see `hwnas.api.specialize`.

    Raises `UsageError` or `UnknownName` for a wrong value or option.
    """
    known = {*RunSpec.__struct_fields__, *SINGULAR} - {*SINGULAR.values(), "targets", "budgets"}
    for name in options:
        if name not in known:
            raise UnknownName("option", name, known - {"data"})
    profiles = tuple(each for each in _values(target) if isinstance(each, DeviceProfile))
    names = [
        each.name if isinstance(each, DeviceProfile) else str(each) for each in _values(target)
    ]
    fields: dict[str, object] = {
        SINGULAR.get(name, name): _values(value) if name in SINGULAR else value
        for name, value in options.items()
    }
    budgets = () if budget is None else tuple(_budget(each) for each in _values(budget))
    dataset = None if isinstance(data, str | Path) else make_dataset(data)
    source = str(data) if isinstance(data, str | Path) else dataset.name if dataset else ""
    try:
        spec = msgspec.convert(
            {"targets": names, "budgets": msgspec.to_builtins(budgets), "data": source, **fields},
            RunSpec,
        )
    except msgspec.ValidationError as error:
        raise UsageError(f"specialize: {error}") from None
    return RunRequest(check_types(spec), dataset, profiles)


def _values(value: object) -> tuple[Any, ...]:
    """Return a single value or several as a tuple."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    return (value,)


def _budget(value: object) -> Budget:
    """Return the budget of a text or of a number of milliseconds."""
    budget = value
    if isinstance(value, str):
        budget = parse_budget(value)
    elif isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        budget = Milliseconds(float(value))
    if not isinstance(budget, Budget):
        raise UsageError(f"budget {value!r}: expected {BUDGET_FORM}, or a number of milliseconds")
    return budget


def with_files(
    spec: RunSpec, folder: Path, dataset: Dataset | None, profiles: Iterable[DeviceProfile]
) -> RunSpec:
    """Return ``spec`` with the objects that it names stored as files in the run's folder.

    So training processes, a resumed run and the commands in the report can read them. Profiles
    replace the targets of the same names.
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
    images = dataset.train.images
    if not isinstance(images, np.ndarray):
        if (packed := packed_path(images)) is None:
            raise UsageError(
                f"{dataset.name}: the disk of {home()} has no room for a packed file of its images"
            )
        return str(packed.resolve())
    name = re.sub(r"[^\w.-]+", "-", dataset.name)
    path = folder / dataset.digest / f"{name}.npz"  # other images are another file
    if not path.exists():
        arrays: dict[str, Any] = {"classes": np.array(dataset.classes)}
        parts = {"train": dataset.train, "valid": dataset.valid, "test": dataset.test}
        for part, split in parts.items():
            arrays |= {f"x_{part}": split.images[:], f"y_{part}": split.labels}
        content = BytesIO()
        np.savez(content, **arrays)
        write_atomic(path, content.getvalue())
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
