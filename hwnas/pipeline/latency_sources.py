"""Where latency commands take a space, observations and journals from; free of torch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from hwnas.datasets import load_dataset
from hwnas.devices.profile import find_profile
from hwnas.errors import HwnasError, InvalidFile
from hwnas.latency_models.fit import fit_model
from hwnas.latency_models.importers import read_observations
from hwnas.latency_models.journal import Entry, fit_entries, read_journal, speed_step
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.store import measured_folder
from hwnas.spaces.find import find_space
from hwnas.spaces.space import SearchSpace


class Read(NamedTuple):
    """A model fitted to a source, and what its user should know of that."""

    model: LatencyModel
    notes: tuple[str, ...]


def space_for(target: str, space: str, data: str) -> tuple[SearchSpace, Path]:
    """Return a space for the images of ``data`` and the folder of the target's model of it."""
    profile = find_profile(target)
    dataset = load_dataset(data, input_shape=profile.default_input)
    found: SearchSpace = find_space(space, dataset.input_shape, dataset.num_classes)
    return found, measured_folder(profile.name, found)


def fit_source(source: Path, device: str | None) -> Read:
    """Fit a model to a journal, a folder with one, or a table; not validated yet.

    Raises `InvalidFile` for what holds no observations, `HwnasError` for those of which no model
    can be made.
    """
    path = source / "journal.jsonl" if (source / "journal.jsonl").is_file() else source
    if path.suffix == ".jsonl":
        entries, notes = whole_entries(path)
        name = device or entries[0].measurement.environment.device
        try:
            return Read(fit_entries(name, entries, validate=False), tuple(notes))
        except HwnasError as error:
            raise InvalidFile(str(path), str(error)) from None
    observations, said, notes = observations_in(path)
    if device is None:
        raise HwnasError(f"{path}: whose latencies are these? name the device with --device NAME")
    try:
        model = fit_model(device, observations, source=said, validate=False)
    except HwnasError as error:
        raise InvalidFile(str(path), str(error)) from None
    return Read(model, tuple(notes))


def observations_in(path: Path) -> tuple[list[Observation], str, list[str]]:
    """Return the observations of a table or a journal, where they are from, and notes."""
    if path.suffix == ".jsonl" or (path / "journal.jsonl").is_file():
        from hwnas.latency_models.journal import observations_of

        journal = path if path.suffix == ".jsonl" else path / "journal.jsonl"
        entries, notes = whole_entries(journal)
        return observations_of(entries), f"measurements of {journal.name}", notes
    found = read_observations(path)
    return list(found.observations), f"{path.name} ({found.dialect})", list(found.notes)


def whole_entries(path: Path) -> tuple[list[Entry], list[str]]:
    """Return a journal's measurements, repeated lines once, and notes on what was odd."""
    if not path.is_file():
        raise InvalidFile(str(path), "no such file")
    lines = sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
    read = read_journal(path.parent, path.name)
    if not read:
        raise InvalidFile(
            str(path), f"has no measurement in {lines} lines, expected a journal"
            if lines else "is empty: nothing was measured"
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
