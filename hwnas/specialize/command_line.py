"""The command line of a run: read into `RunSpec`, written from it, and compared on resuming."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from hwnas.errors import UsageError
from hwnas.pretrained.sources import is_source
from hwnas.specialize.options import OPTIONS
from hwnas.specialize.spec import RunSpec, Scalar, read_spec

MOVABLE = ("device", "amp", "wait_idle_s")
"""Fields that may differ when a run is resumed: checkpoints move between devices."""


def command_words(spec: RunSpec) -> Iterator[str]:
    """Yield the arguments of ``hwnas specialize`` that make ``spec``, its defaults left out."""
    default = RunSpec()
    for option in OPTIONS:
        value = getattr(spec, option.field)
        if value != getattr(default, option.field) or option.field in ("targets", "data"):
            yield from option.words(value)


def command_line(spec: RunSpec) -> str:
    """Return the command that repeats a run."""
    named = msgspec.structs.replace(spec, data=_named_data(spec.data))
    return shlex.join(["hwnas", "specialize", *command_words(named)])


def _named_data(data: str) -> str:
    """Return the data as the user named them."""
    from hwnas.data.photos.sources.answers import photos_of

    return photos_of(data)


def parse_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `RunSpec` that a command line gives.

    ``values`` are the values of the options, ``None`` or ``()`` for options that are not given.
    Paths are made absolute, because a run may be resumed from another folder.
    """
    from hwnas.data.datasets import absolute_name

    fields: dict[str, Any] = {}
    for option in OPTIONS:
        value = values[option.field]
        if value is None or value == ():
            continue
        if option.repeated and (value := option.parse(value)) is None:
            raise UsageError(f"{option.flag}: expected {option.expected}")
        fields[option.field] = value
    if data := fields.get("data"):
        fields["data"] = absolute_name(data)
    if pretrained := fields.get("pretrained"):
        fields["pretrained"] = _absolute(pretrained)
    for field in ("space", "latency_model"):
        if field in fields:
            fields[field] = _absolute_file(fields[field])
    if targets := fields.get("targets"):
        fields["targets"] = tuple(map(_absolute_file, targets))
    if siblings := fields.get("siblings"):
        fields["siblings"] = tuple(map(_absolute, siblings))
    return fields


def _absolute(name: str) -> str:
    """Return the absolute path of an existing file that is no network's name, else ``name``."""
    exists = Path(name).exists() and not is_source(name)
    return str(Path(name).resolve()) if exists else name


def _absolute_file(name: str) -> str:
    """Return the absolute path of a file; names are returned unchanged, even if a folder is called
    so."""
    return str(Path(name).resolve()) if Path(name).is_file() else name


def resumed_spec(folder: Path, fields: dict[str, Any]) -> RunSpec:
    """Return the specification of the run in ``folder``, with which ``fields`` must agree."""
    from hwnas.spaces.cells.sizes import unsized_name

    before = read_spec(folder)
    if fields.get("data") == _named_data(before.data):
        fields = {**fields, "data": before.data}
    if fields.get("space") == unsized_name(before.space):
        fields = {**fields, "space": before.space}
    if options := fields.get("strategy_options"):
        fields = {**fields, "strategy_options": {**before.strategy_options, **options}}
    now = msgspec.structs.replace(before, **fields)
    check_resumed(folder, before, now)
    return now


def check_resumed(folder: Path, before: RunSpec, now: RunSpec) -> None:
    """Raise `UsageError` if a run would be resumed with another specification."""
    for option in OPTIONS:
        old, new = (getattr(spec, option.field) for spec in (before, now))
        if old == new:
            continue
        if option.field in MOVABLE:
            continue
        if option.field == "strategy_options" and _same_result(now.strategy, old, new):
            continue
        old_words, new_words = (
            f"no {option.flag.partition('/')[0]}"
            if value in (None, (), "", {})
            else " ".join(option.words(value))
            for value in (old, new)
        )
        raise UsageError(
            f"{folder}: the run to resume has {old_words}, not {new_words}; leave the option out, "
            "or start a new run with another --out"
        )


def _same_result(strategy: str, old: dict[str, Scalar], new: dict[str, Scalar]) -> bool:
    """Return whether options of a strategy differ only in those that do not change a result."""
    from hwnas.search.registry import parse_options

    changed = {key for key in {*old, *new} if old.get(key) != new.get(key)}
    return changed <= parse_options(strategy, {}).without_effect
