"""The log of a search, ``search/log.jsonl``: one line for each step that is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import msgspec

from hwnas.files import append_lines, encode_lines, read_lines, write_atomic


class SearchMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a search; every strategy reports the same fields, ``None`` where it has none."""

    entropy: float | None = None
    """Mean over decisions of H(p) / ln K: 1 uniform, 0 decided."""
    expected_ms: float | None = None
    multiplier: float | None = None
    """Weight of the latency in the objective."""
    skips: int | None = None
    """Skips in the normal cell that would be derived now; many of them indicate a collapse."""
    reduction_skips: int | None = None
    eigenvalue: float | None = None
    """Dominant eigenvalue of the Hessian of the validation loss in the architecture parameters."""
    live_nodes: int | None = None
    """One-stage ISTA: nodes whose operations are still being searched."""


class LogLine(SearchMetrics, frozen=True, kw_only=True):
    """One line of the log: the number of a step and its metrics."""

    loss: float
    accuracy: float
    """Share of the batch that the sampled network classifies correctly."""
    epoch: int
    step: int
    phase: str
    """``warm-up`` or ``search``."""

    @classmethod
    def of(cls, metrics: SearchMetrics, **step: Any) -> Self:
        """Return the line of a step; ``step`` are the fields that `SearchMetrics` lacks."""
        return cls(**msgspec.structs.asdict(metrics), **step)


OnLine = Callable[[LogLine], None]
"""Called with each line as soon as its step is done."""


def read_log(path: Path) -> list[LogLine]:
    return list(read_lines(path, LogLine))


def write_log(path: Path, lines: Iterable[LogLine]) -> None:
    """Replace the log."""
    write_atomic(path, encode_lines(lines))


def append_log(path: Path, lines: Iterable[LogLine]) -> None:
    append_lines(path, lines)


def truncate_log(path: Path, keep: Callable[[LogLine], bool]) -> None:
    """Remove the lines of steps that were done after the last checkpoint."""
    write_log(path, filter(keep, read_log(path)))
