"""Processor time of a search that may be interrupted."""

from __future__ import annotations

from pathlib import Path
from time import process_time

from hwnas.files import read_json, write_json
from hwnas.search.log import LogLine


class Clock:
    """Processor seconds of a search, stored after each epoch so that interruptions count."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before_s = read_json(path, float) if path.exists() else 0.0
        self.start_s = process_time()
        self.epoch = -1

    @property
    def spent_s(self) -> float:
        return self.before_s + process_time() - self.start_s

    def note(self, line: LogLine) -> None:
        if line.epoch != self.epoch:
            self.epoch = line.epoch
            self.save()

    def save(self) -> None:
        write_json(self.path, self.spent_s)
