"""The report as plain data: ``report.json`` is its encoding, and a contract for other programs.

Accuracies and probabilities are shares from 0 to 1; latencies are milliseconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hwnas.report.accuracy import Accuracy
from hwnas.report.architecture import ArchitectureSummary
from hwnas.report.candidate_rows import CandidateRow, FamilyRow
from hwnas.report.images import DataCard
from hwnas.report.latency import Latency, LatencyModelSummary, OtherRuntime

SCHEMA = 1
"""Version of the schema. It increases when a field changes its meaning or is removed; new fields do
not change it."""

Verdict = Literal["kept", "missed", "not measured"]


class ArtifactRow(msgspec.Struct, frozen=True, kw_only=True):
    """One compiled file; ``path`` is relative to the run folder."""

    path: str
    format: str
    precision: str
    sha256: str
    size_bytes: int
    max_relative_error: float | None = None
    """Largest difference of an output to PyTorch's, over the largest output of PyTorch."""
    accuracy: float | None = None
    agreement: float | None = None
    """Agreement instead of the accuracy, for images without labels, see `Result.agreement`."""

    @property
    def score(self) -> float | None:
        """Accuracy or agreement."""
        return self.accuracy if self.agreement is None else self.agreement


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The network for one target and one budget."""

    target: str
    title: str = ""
    """Description of the device."""
    runtime: str
    precision: str
    budget_ms: float | None
    verdict: Verdict
    reason: str = ""
    """The reason for the verdict, in one sentence."""
    range_ms: tuple[float, float, float] | None = None
    """Smallest, median and largest latency in the search space, predicted."""
    architecture: ArchitectureSummary
    latency: Latency | None = None
    accuracy: Accuracy | None = None
    agreement: Accuracy | None = None
    """Agreement instead of the accuracy, for images without labels: the share of images for which a
    network predicts the original network's class."""
    other_runtimes: tuple[OtherRuntime, ...] = ()
    artifacts: tuple[ArtifactRow, ...] = ()
    """The delivered file comes first."""
    rounds: int = 0
    """Number of rounds in which networks were exported and measured, and the latency model
    corrected."""
    candidates: tuple[CandidateRow, ...] = ()
    latency_model: LatencyModelSummary | None = None
    family: tuple[FamilyRow, ...] = ()
    """Lineage of the networks of a search that grows them from each other."""

    @property
    def score(self) -> Accuracy | None:
        """Accuracy or agreement."""
        return self.accuracy if self.agreement is None else self.agreement

    @property
    def score_name(self) -> str:
        """Name of `score`, for texts."""
        return "accuracy" if self.agreement is None else "agreement"

    def as_agreement(self) -> Result:
        """Return the result of a run whose labels are the predictions of the original network, with
        agreements instead of accuracies."""
        replace = msgspec.structs.replace
        own = self.accuracy
        return replace(
            self,
            accuracy=None,
            agreement=None if own is None else replace(own, balanced=None, classes=()),
            artifacts=tuple(
                replace(row, accuracy=None, agreement=row.accuracy) for row in self.artifacts
            ),
            other_runtimes=tuple(
                replace(row, accuracy=None, agreement=row.accuracy) for row in self.other_runtimes
            ),
            candidates=tuple(
                replace(
                    row,
                    validation_accuracy=None,
                    test_accuracy=None,
                    validation_agreement=row.validation_accuracy,
                    test_agreement=row.test_accuracy,
                )
                for row in self.candidates
            ),
        )


class SearchPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the search; a field is ``None`` if strategy or phase do not compute it."""

    step: int
    phase: Literal["warm-up", "search", "tuning"]
    loss: float | None = None
    accuracy: float | None = None
    entropy: float | None = None
    """Mean entropy of the decisions, normalised: 1 uniform, 0 decided."""
    expected_ms: float | None = None
    """Expected latency under the architecture distribution, predicted."""
    multiplier: float | None = None
    skips: int | None = None
    """Number of skips in the normal cell that would be derived at this step."""
    reduction_skips: int | None = None
    eigenvalue: float | None = None
    """Dominant eigenvalue of the validation loss' Hessian in the architecture parameters."""
    live_nodes: int | None = None
    """Number of nodes whose operations may still change, if the search fixes them one by one."""
    budget_ms: float | None = None
    target: str = ""
    """The result that the step belongs to; empty: all results."""


class DatasetSummary(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    digest: str
    classes: int
    train: int
    valid: int
    test: int
    input_shape: tuple[int, int, int]
    answers_of: str = ""
    """Network whose predictions replace the labels; empty if the images have labels."""
    group_by: str = ""
    """Pattern or column that defines groups of images that stay in one split; empty if none was
    given."""
    card: DataCard | None = None
    """None in older reports."""


class NextCommand(msgspec.Struct, frozen=True):
    """A command line to run next."""

    title: str
    line: str


class ReportData(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a run, their uncertainty, and the command that repeats it."""

    schema: int = SCHEMA
    command: str
    hwnas_version: str
    created: str
    """ISO 8601 with time zone."""
    seed: int
    effort: str
    results: tuple[Result, ...]
    stages_s: dict[str, float] = {}
    """Wall-clock time of each step of the run."""
    stages_cpu_s: dict[str, float] = {}
    """CPU time of each step, over all cores and child processes."""
    environment: dict[str, str | int | float | None] = {}
    dataset: DatasetSummary | None = None
    search: tuple[SearchPoint, ...] = ()
    commands: tuple[NextCommand, ...] = ()
    notes: tuple[str, ...] = ()

    def search_of(self, result: Result) -> tuple[SearchPoint, ...]:
        """Return the search steps that led to ``result``."""
        return tuple(
            point
            for point in self.search
            if point.target in ("", result.target) and point.budget_ms in (None, result.budget_ms)
        )
