"""A tracker that records its calls."""

from __future__ import annotations

from collections.abc import Mapping


class Recorder:
    """Records steps and metrics, and counts calls of `close`."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []
        self.closed, self.fails_at = 0, fails_at

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if len(self.points) == self.fails_at:
            raise ConnectionError("the server\nis down")
        self.points.append((step, dict(metrics)))

    def close(self) -> None:
        self.closed += 1
