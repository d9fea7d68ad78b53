"""The file that collects the networks timed by ``trtexec``, one row per network.

`hwnas latency adapt --observations` reads it like any other CSV of observations.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hwnas.architecture.architecture import Block
from hwnas.errors import InvalidFile, UsageError
from hwnas.files import write_atomic
from hwnas.latency_models.importers.trtexec.inputs import batch_device
from hwnas.latency_models.importers.trtexec.log import TrtexecTimes, observation_of, read_trtexec
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.storage.registry import model_name
from hwnas.latency_models.storage.store import own_folder

COLUMNS = ("key", "ms", "standard_error", "scope", "batch", "comment")


class CollectedLog(NamedTuple):
    """A log, and the file that its observation was added to."""

    times: TrtexecTimes
    observation: Observation
    device: str
    batch: int
    path: Path
    networks: int
    """Number of networks in the file."""


def collect_log(
    log: Path,
    device: str,
    blocks: Sequence[Block],
    input_shape: tuple[int, int, int],
    *,
    batch: int | None = None,
    out: Path | None = None,
) -> CollectedLog:
    """Read a log of the network ``blocks``, and add it to the device's ``observations.csv``.

    ``batch`` is the number of inputs per call, for a log that does not state it. A batch other
    than 1 belongs to a device name of its own, see `batch_device`.
    """
    times = read_trtexec(log)
    batch = _batch(log, times.inputs.batch(str(log), input_shape), batch)
    device = batch_device(model_name(device), batch)
    observation = observation_of(times, tuple(blocks))
    path = out or own_folder(device) / "observations.csv"
    row = (
        ";".join(block.key for block in blocks),
        f"{observation.ms:.6g}",
        f"{observation.standard_error:.4g}",
        observation.scope,
        str(batch),
        log.name,
    )
    return CollectedLog(times, observation, device, batch, path, _add_row(path, row))


def _batch(log: Path, logged: int | None, given: int | None) -> int:
    """Return the logged batch, or else the given one. Raises `UsageError` without either."""
    if logged is None and given is None:
        raise UsageError(
            f"{log} does not state how many inputs a call computed (no line 'Created input binding "
            "for … with dimensions …'): expected --batch N, 1 for a single input"
        )
    if logged is not None and given not in (None, logged):
        raise UsageError(f"--batch {given}: {log} states a batch of {logged}")
    return logged or given or 1


def _add_row(path: Path, row: tuple[str, ...]) -> int:
    """Add a row, replacing one of the same network; return the number of rows.

    Raises `InvalidFile` for a file with another batch, or with other columns, whose unit may
    differ.
    """
    rows: list[list[str]] = []
    if path.exists():
        titles, *rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8")))) or [[]]
        if tuple(titles) != COLUMNS:
            raise InvalidFile(
                str(path),
                f"has the columns {','.join(titles)}, expected {','.join(COLUMNS)}; name another "
                "file with --out",
            )
    rows = [other for other in rows if other]
    if any(len(other) != len(COLUMNS) for other in rows):
        raise InvalidFile(str(path), f"has a row without exactly {len(COLUMNS)} values")
    place = COLUMNS.index("batch")
    if batches := sorted({other[place] for other in rows} - {row[place]}):
        raise InvalidFile(
            str(path),
            f"has latencies of batch {', '.join(batches)}, the log has batch {row[place]}; name "
            "another file with --out",
        )
    rows = [other for other in rows if other[0] != row[0]]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows, row])
    write_atomic(path, text.getvalue())
    return len(rows) + 1
