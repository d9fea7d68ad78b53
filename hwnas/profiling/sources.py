"""Reading journals and tables for the latency commands; free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from hwnas.errors import HwnasError, InvalidFile, UsageError
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.importers import Dialect, read_observations
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


class SourceFit(NamedTuple):
    """A model fitted to a file, with notes on the file for the user."""

    model: LatencyModel
    notes: tuple[str, ...]


def import_table(
    file: Path, device: str, dialect: Dialect | None = None, resolution: int | None = None
) -> SourceFit:
    """Make a model of a published table: its rows as they are."""
    table = read_observations(file, dialect, resolution)
    check_batch(file, table.batch, device)
    source = f"{file.name} ({table.dialect})"
    model = fit_model(device, table.observations, kind="table", source=source)
    return SourceFit(model, tuple(table.notes))


def fit_source(source: Path, device: str | None) -> SourceFit:
    """Fit a model to a journal, the folder of a journal, or a table; not cross-validated yet.

    Raises `InvalidFile` if the file has no observations, or none that a model can be fitted to.
    """
    path = _journal_in(source)
    if path.suffix == ".jsonl":
        return fit_journal(path, device)
    if device is None:
        raise UsageError(f"{path}: a table does not name its device, expected --device NAME")
    observations, origin, notes = read_source(path, device)
    try:
        model = fit_model(device, observations, kind="table", source=origin, validate=False)
    except HwnasError as error:
        raise InvalidFile(str(path), str(error)) from None
    return SourceFit(model, tuple(notes))


def fit_journal(path: Path, device: str | None = None) -> SourceFit:
    """Fit a model to a journal, or to the journal in a folder; not cross-validated yet."""
    path = path / JOURNAL if path.is_dir() else path
    entries, notes = clean_entries(path)
    name = device or entries[0].measurement.environment.device
    try:
        return SourceFit(fit_entries(name, entries, validate=False), tuple(notes))
    except HwnasError as error:
        raise InvalidFile(str(path), str(error)) from None


def journal_notes(folder: Path) -> list[str]:
    """Return notes on the defects of the journal in a folder, if there is one."""
    path = folder / JOURNAL
    return clean_entries(path)[1] if path.is_file() else []


def read_source(path: Path, device: str) -> tuple[list[Observation], str, list[str]]:
    """Return the observations of a table or a journal, their origin in words, and notes.

    Raises `UsageError` for a table of another batch size than the name of ``device`` states.
    """
    journal = _journal_in(path)
    if journal.suffix == ".jsonl":
        entries, notes = clean_entries(journal)
        return observations_of(entries), f"measurements of {journal.name}", notes
    table = read_observations(path)
    check_batch(path, table.batch, device)
    return list(table.observations), f"{path.name} ({table.dialect})", list(table.notes)


def check_batch(path: Path, batch: int, device: str) -> None:
    """Raise `UsageError` for a table of another batch size than the device's name states."""
    if (expected := batch_device(device, batch)) != device:
        raise UsageError(
            f"{path}: the table has batch {batch}, but device {device!r} means batch 1; "
            f"expected {expected!r}"
        )


def _journal_in(path: Path) -> Path:
    """Return the journal in a folder; a file stays as it is."""
    return path / JOURNAL if (path / JOURNAL).is_file() else path


def clean_entries(path: Path) -> tuple[list[Entry], list[str]]:
    """Return the measurements of a journal without repeated lines, and notes on its defects.

    Raises `InvalidFile` for a journal of several machines or reference models.
    """
    if not path.is_file():
        raise InvalidFile(str(path), "no such journal: `hwnas latency measure` makes one")
    lines = sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
    all_entries = read_journal(path.parent, path.name)
    if not all_entries:
        empty = "the journal is empty: nothing was measured"
        reason = f"has no measurement in {lines} lines, expected a journal" if lines else empty
        raise InvalidFile(str(path), reason)
    entries = list({msgspec.json.encode(entry): entry for entry in all_entries}.values())
    notes: list[str] = []
    if (skipped := lines - len(all_entries)) > 0:
        notes.append(f"{skipped} of {lines} lines are cut off or are no measurement: skipped")
    if repeated := len(all_entries) - len(entries):
        notes.append(f"{repeated} lines repeat an earlier one exactly: merged")
    references = {entry.reference_sha256 for entry in entries}
    machines = {entry.measurement.environment.fingerprint for entry in entries}
    if len(references) > 1 or len(machines) > 1:
        raise InvalidFile(
            str(path),
            f"mixes measurements of {len(machines)} machines against {len(references)} reference "
            "models, which cannot be compared; expected one of each",
        )
    if (step := speed_step(entries)) is not None:
        notes.append(step)
    return entries, notes
