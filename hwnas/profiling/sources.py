"""Where latency commands take observations and journals from; free of torch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from hwnas.errors import HwnasError, InvalidFile, UsageError
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.importers import read_observations
from hwnas.latency_models.importers.trtexec.inputs import batch_device
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.storage.journal import (
    JOURNAL,
    Entry,
    fit_entries,
    observations_of,
    read_journal,
    speed_step,
)


class Read(NamedTuple):
    """A model fitted to a source, and what its user should know of that."""

    model: LatencyModel
    notes: tuple[str, ...]


def fit_source(source: Path, device: str | None) -> Read:
    """Fit a model to a journal, a folder with one, or a table; not validated yet.

    Raises `InvalidFile` for what holds no observations, `HwnasError` for those of which no model
    can be made.
    """
    path = source / JOURNAL if (source / JOURNAL).is_file() else source
    if path.suffix == ".jsonl":
        entries, notes = whole_entries(path)
        name = device or entries[0].measurement.environment.device
        try:
            return Read(fit_entries(name, entries, validate=False), tuple(notes))
        except HwnasError as error:
            raise InvalidFile(str(path), str(error)) from None
    if device is None:
        raise UsageError(f"{path}: whose latencies are these? name the device with --device NAME")
    observations, said, notes = observations_in(path, device)
    try:
        model = fit_model(device, observations, kind="table", source=said, validate=False)
    except HwnasError as error:
        raise InvalidFile(str(path), str(error)) from None
    return Read(model, tuple(notes))


def observations_in(path: Path, device: str) -> tuple[list[Observation], str, list[str]]:
    """Return the observations of a table or a journal, where they are from, and notes.

    Raises `UsageError` for latencies of calls of several inputs where ``device`` does not say so.
    """
    journal = path / JOURNAL if (path / JOURNAL).is_file() else path
    if journal.suffix == ".jsonl":
        entries, notes = whole_entries(journal)
        return observations_of(entries), f"measurements of {journal.name}", notes
    found = read_observations(path)
    check_batch(path, found.batch, device)
    return list(found.observations), f"{path.name} ({found.dialect})", list(found.notes)


def check_batch(path: Path, batch: int, device: str) -> None:
    """Raise `UsageError` where a table is of another batch than its device's name says."""
    if (name := batch_device(device, batch)) != device:
        raise UsageError(
            f"{path}: latencies of calls of {batch} inputs, which {device} is not called after; "
            f"expected {name}"
        )


def whole_entries(path: Path) -> tuple[list[Entry], list[str]]:
    """Return a journal's measurements, repeated lines once, and notes on what was odd."""
    if not path.is_file():
        raise InvalidFile(str(path), "no such journal: `hwnas latency measure` makes one")
    lines = sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
    read = read_journal(path.parent, path.name)
    if not read:
        raise InvalidFile(
            str(path), f"has no measurement in {lines} lines, expected a journal"
            if lines else "the journal is empty: nothing was measured"
        )  # fmt: skip
    entries = list(dict.fromkeys(read))
    notes: list[str] = []
    if lines > len(read):
        notes.append(f"{lines - len(read)} of {lines} lines are cut off or no measurement: skipped")
    if len(entries) < len(read):
        notes.append(f"{len(read) - len(entries)} lines repeat an earlier one exactly: merged")
    references = Counter(one.reference_sha256 for one in entries)
    machines = Counter(one.measurement.environment.fingerprint for one in entries)
    if len(references) > 1 or len(machines) > 1:
        raise InvalidFile(
            str(path), f"mixes measurements of {len(machines)} machines against {len(references)} "
            "reference models, which cannot be compared; expected one of each"
        )  # fmt: skip
    if (step := speed_step(entries)) is not None:
        notes.append(step)
    return entries, notes
