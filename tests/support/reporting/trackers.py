"""A tracker that keeps what it is given."""

from __future__ import annotations

from collections.abc import Mapping


class Recorder:
    """Keeps what it is given."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []
        self.closed, self.fails_at = 0, fails_at

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if len(self.points) == self.fails_at:
            raise ConnectionError("the server\nis down")
        self.points.append((step, dict(metrics)))

    def close(self) -> None:
        self.closed += 1
