"""The report as plain data: ``report.json`` is its encoding, and a contract for other programs.

The parts of a result are in `hwnas.report.schema`, with the units of all numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import msgspec

from hwnas.errors import InvalidFile
from hwnas.report.schema import (
    Accuracy,
    ArchitectureSummary,
    ArtifactRow,
    CandidateRow,
    FamilyRow,
    Latency,
    LatencyModelSummary,
    OtherRuntime,
)

SCHEMA = 1
"""Raised when a field changes its meaning or goes; new fields do not raise it."""

Verdict = Literal["kept", "missed", "not measured"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One target and one budget."""

    target: str
    title: str = ""
    """The device in words."""
    runtime: str
    precision: str
    budget_ms: float | None
    verdict: Verdict
    reason: str = ""
    """Why this verdict: one sentence."""
    range_ms: tuple[float, float, float] | None = None
    """Least, median and greatest latency of the space, predicted."""
    architecture: ArchitectureSummary
    latency: Latency | None = None
    accuracy: Accuracy | None = None
    other_runtimes: tuple[OtherRuntime, ...] = ()
    artifacts: tuple[ArtifactRow, ...] = ()
    """The delivered file comes first."""
    rounds: int = 0
    """How often networks were exported, measured and the latency model corrected."""
    candidates: tuple[CandidateRow, ...] = ()
    latency_model: LatencyModelSummary | None = None
    family: tuple[FamilyRow, ...] = ()
    """Of a search that grows networks from each other: who grew from whom."""


class SearchPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the search; ``None``: the strategy or the phase has no such number."""

    step: int
    phase: Literal["warm-up", "search"]
    loss: float | None = None
    accuracy: float | None = None
    entropy: float | None = None
    """Mean entropy of the choices over that of chance: 1 undecided, 0 decided."""
    expected_ms: float | None = None
    """Predicted latency, in expectation over the choices."""
    multiplier: float | None = None
    skips: int | None = None
    """In the normal cell that would be derived at this step."""
    reduction_skips: int | None = None
    eigenvalue: float | None = None
    """The greatest of the validation loss' Hessian in the architecture parameters."""
    live_nodes: int | None = None
    """Whose operations may still change, where a search settles them one by one."""
    budget_ms: float | None = None
    target: str = ""
    """The result it belongs to; empty: to all."""


class DatasetSummary(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    digest: str
    classes: int
    train: int
    valid: int
    test: int
    input_shape: tuple[int, int, int]


class Command(msgspec.Struct, frozen=True):
    title: str
    line: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run gave, how sure that is, and how to repeat it."""

    schema: int = SCHEMA
    command: str
    hwnas_version: str
    created: str
    """ISO 8601 with time zone."""
    seed: int
    effort: str
    results: tuple[Result, ...]
    stages_s: dict[str, float] = {}
    environment: dict[str, str | int | float | None] = {}
    dataset: DatasetSummary | None = None
    search: tuple[SearchPoint, ...] = ()
    commands: tuple[Command, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``report.json``; fields that this version does not know are passed over."""
        try:
            text = path.read_bytes()
            schema = msgspec.json.decode(text, type=_Version).schema
            if schema != SCHEMA:
                raise InvalidFile(
                    str(path), f"Expected schema {SCHEMA}, got {schema} - at `$.schema`"
                )
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidFile(str(path), str(error)) from None
        except OSError as error:
            raise InvalidFile(str(path), error.strerror or str(error)) from None

    def search_of(self, result: Result) -> tuple[SearchPoint, ...]:
        """Return the search steps that led to ``result``."""
        return tuple(
            point
            for point in self.search
            if point.target in ("", result.target) and point.budget_ms in (None, result.budget_ms)
        )


class _Version(msgspec.Struct):
    schema: int
