"""Results of the processes of one measurement, kept until it is complete.

A device that was lost goes on where it was: the same measurement, begun again, takes what is here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from hwnas.devices.fingerprint import remote_fingerprint
from hwnas.devices.profile import DeviceProfile, MeasureSpec
from hwnas.devices.runner import Subject, file_sha256
from hwnas.devices.runners.protocol import Said
from hwnas.devices.transports.transport import Facts
from hwnas.files import home, write_json

SPOOLED_S = 6 * 3600.0
"""What was spooled longer ago is not taken."""


class Spool:
    """The results of one measurement, a file each; its name is what was asked for."""

    def __init__(self, profile: DeviceProfile, facts: Facts, reference: Path) -> None:
        self.folder = home() / "spool" / profile.name
        self._what = msgspec.json.encode(
            (profile.runtime, profile.gpu, remote_fingerprint(facts), file_sha256(reference))
        )
        self._files: list[Path] = []

    def read(self, subjects: Sequence[Subject], spec: MeasureSpec, seed: int) -> Said | None:
        path = self._path(subjects, spec, seed)
        try:
            if time.time() - path.stat().st_mtime > SPOOLED_S:
                return None
            said = msgspec.json.decode(path.read_bytes(), type=Said)
        except (OSError, msgspec.DecodeError):
            return None
        self._files.append(path)
        return said

    def write(self, subjects: Sequence[Subject], spec: MeasureSpec, seed: int, said: Said) -> None:
        path = self._path(subjects, spec, seed)
        write_json(path, said)
        self._files.append(path)

    def clear(self) -> None:
        for path in self._files:
            path.unlink(missing_ok=True)

    def _path(self, subjects: Sequence[Subject], spec: MeasureSpec, seed: int) -> Path:
        files = [(file_sha256(subject.path), subject.batch) for subject in subjects]
        asked = self._what + msgspec.json.encode((files, spec, seed))
        return self.folder / f"{sha256(asked).hexdigest()[:24]}.json"
