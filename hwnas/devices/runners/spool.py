"""Results of single worker processes, stored until their measurement is complete.

When a device was lost, the same measurement continues from them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from hwnas.devices.profile import DeviceProfile, MeasureSpec
from hwnas.devices.runner import Subject
from hwnas.devices.runners.protocol import WorkerResult
from hwnas.files import file_sha256, home, write_json

MAX_AGE_S = 6 * 3600.0
"""Older results are not used."""


class Spool:
    """Results of one measurement, one file per process, named by the hash of its request."""

    def __init__(self, profile: DeviceProfile, fingerprint: str, reference: Path) -> None:
        self.folder = home() / "spool" / profile.name
        self._key = msgspec.json.encode(
            (profile.runtime, profile.gpu, fingerprint, file_sha256(reference))
        )
        self._files: list[Path] = []

    def read(
        self, subjects: Sequence[Subject], spec: MeasureSpec, seed: int
    ) -> WorkerResult | None:
        path = self._path(subjects, spec, seed)
        try:
            if time.time() - path.stat().st_mtime > MAX_AGE_S:
                return None
            result = msgspec.json.decode(path.read_bytes(), type=WorkerResult)
        except (OSError, msgspec.DecodeError):
            return None
        self._files.append(path)
        return result

    def write(
        self, subjects: Sequence[Subject], spec: MeasureSpec, seed: int, result: WorkerResult
    ) -> None:
        path = self._path(subjects, spec, seed)
        write_json(path, result)
        self._files.append(path)

    def clear(self) -> None:
        for path in self._files:
            path.unlink(missing_ok=True)

    def _path(self, subjects: Sequence[Subject], spec: MeasureSpec, seed: int) -> Path:
        files = [
            (file_sha256(each.path), each.runtime, each.batch, each.shapes) for each in subjects
        ]
        key = self._key + msgspec.json.encode((files, spec, seed))
        return self.folder / f"{sha256(key).hexdigest()[:24]}.json"
