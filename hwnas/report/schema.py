"""The parts of one result: latency, accuracy, blocks, files, candidates, latency model.

Accuracies and probabilities are shares from 0 to 1, latencies milliseconds of one call at batch
size 1. A latency never stands without its kind (`hwnas.measurement.measurement.Kind`): where it
comes from.
"""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import Literal

import msgspec

from hwnas.measurement.measurement import Kind

Origin = Literal["search", "uniform", "published", "random"]
"""How a candidate was found: by the search, by one choice everywhere, by chance."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Latency of the delivered file; ``None``: this kind of number has no such statistic."""

    kind: Kind
    median_ms: float
    """The number that is judged: calibrated, see `hwnas.measurement.measurement`."""
    ci95_ms: tuple[float, float] | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    min_ms: float | None = None
    cv: float | None = None
    """Standard deviation over mean of the rounds: a share, not percent."""
    samples: int = 0
    rounds: int = 0
    raw_median_ms: float | None = None
    """As this run's clock gave it, before calibration."""
    reference_drift: float | None = None
    """Relative change of the reference model's speed since its calibration."""
    predicted_ms: float | None = None
    """What the latency model said before this file was measured."""
    predicted_std_ms: float | None = None
    conditions: str = ""
    """One line: device, runtime and version, threads, core, governor, load, when."""
    source: str = ""
    """Which measurement, table or model said it."""
    judged: Literal["calibrated", "raw"] = "calibrated"


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy on the held-out test images, which chose nothing."""

    test_images: int
    torch: float
    artifact: float | None = None
    """Of the delivered file, run by its own runtime."""
    ci95: tuple[float, float] | None = None
    """Wilson interval of ``artifact`` (of ``torch`` where the file was not run)."""
    validation: float | None = None


class CandidateShare(msgspec.Struct, frozen=True):
    """One option of a decision at the end of the search."""

    name: str
    probability: float
    cost_ms: float | None = None
    """Predicted by the latency model."""


class BlockRow(msgspec.Struct, frozen=True, kw_only=True):
    """One block of the network, and how it was decided."""

    key: str
    op: str
    kernel_size: int
    stride: int
    expand_ratio: float
    in_channels: int
    out_channels: int
    in_size: int
    out_size: int
    macs: int
    params: int
    residual: bool = False
    predicted_ms: float | None = None
    predicted_std_ms: float | None = None
    probability: float | None = None
    """Of the chosen candidate at the end of the search."""
    decision: str | None = None
    """Name of the decision, e.g. ``stage 2 block 1``; ``None``: the space leaves no choice."""
    chosen: str | None = None
    """Name of the chosen candidate, one of ``candidates``."""
    candidates: tuple[CandidateShare, ...] = ()
    """Told at the first block of the decision where several blocks come from one."""
    cell: int | None = None
    """Which cell of a stack it is in, from 0."""


class EdgeRow(msgspec.Struct, frozen=True):
    """An operation of a cell, on the output of one node."""

    op: str
    source: int
    probability: float | None = None
    """At the end of the search."""
    predicted_ms: float | None = None
    """In all cells of this kind together."""


class CellRow(msgspec.Struct, frozen=True):
    """One of the two kinds of cells that are stacked, numbered as `hwnas.spaces.cells.genotype`."""

    kind: Literal["normal", "reduction"]
    copies: int
    nodes: tuple[tuple[EdgeRow, ...], ...]
    """What each node sums; the first of them is node 2."""
    concat: tuple[int, ...]
    """Nodes whose channels are the cell's output."""


class ArchitectureSummary(msgspec.Struct, frozen=True, kw_only=True):
    digest: str
    params: int
    macs: int
    space: str
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    num_classes: int
    blocks: tuple[BlockRow, ...] = ()
    cells: tuple[CellRow, ...] = ()
    """Of a network that stacks cells."""


class ArtifactRow(msgspec.Struct, frozen=True, kw_only=True):
    """One compiled file; ``path`` is relative to the run folder."""

    path: str
    format: str
    precision: str
    sha256: str
    size_bytes: int
    max_relative_error: float | None = None
    """Largest difference of an output to torch's, over the largest output of torch."""
    accuracy: float | None = None


class OtherRuntime(msgspec.Struct, frozen=True, kw_only=True):
    """The same network in another format or runtime on the same device; not judged."""

    runtime: str
    format: str
    precision: str
    kind: Kind
    median_ms: float | None = None
    ci95_ms: tuple[float, float] | None = None
    accuracy: float | None = None


class CandidateRow(msgspec.Struct, frozen=True, kw_only=True):
    """One network that was compared before one was chosen."""

    name: str
    origin: Origin
    digest: str
    params: int
    macs: int
    predicted_ms: float | None = None
    predicted_std_ms: float | None = None
    measured_ms: float | None = None
    """What the device answered; on a simulated device ``kind`` says so."""
    ci95_ms: tuple[float, float] | None = None
    kind: Kind = "predicted"
    """Kind of ``measured_ms``, or of ``predicted_ms`` where that is all there is."""
    validation_accuracy: float | None = None
    test_accuracy: float | None = None
    keeps_budget: bool | None = None
    chosen: bool = False

    @property
    def latency_ms(self) -> float | None:
        return self.predicted_ms if self.measured_ms is None else self.measured_ms


class FamilyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One network of a search that grows networks from each other."""

    name: str
    parent: str = ""
    """Name of the network that it grew from; empty: the start network."""
    steps: tuple[str, ...] = ()
    """What was done to the parent, e.g. ``wider 2.1 to 24`` (stage, layer), ``deeper 1.1 k3``."""
    digest: str
    params: int
    macs: int
    state: Literal["trained", "failed", "derived"]
    """``derived``: grown on without training, with its parent's weights."""
    latency_ms: float
    """Predicted."""
    measured_ms: float | None = None
    accuracy: float | None = None
    """On validation images, after the few epochs of the search."""
    chosen: bool = False


class LatencyModelSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The model that predicted, and its error on networks it was not fitted to."""

    kind: Kind | Literal["adapted"]
    """``table`` where it only adds up a published table; ``adapted`` from another device's."""
    source: str
    made: str = ""
    """When, ISO 8601."""
    blocks: int = 0
    """Blocks measured alone."""
    networks: int = 0
    """Whole networks measured."""
    held_out: int | None = None
    """Networks behind the errors below."""
    within_5: float | None = None
    """Share of held-out networks predicted within 5 %."""
    within_10: float | None = None
    rmspe: float | None = None
    """Root mean square of the relative error: a share."""
    spearman: float | None = None
    covered_90: float | None = None
    """Share of held-out networks inside the 90 % interval of their prediction."""
    reference_ms: float | None = None
    """Calibrated latency of the reference model."""


def wilson(share: float, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share of successes, e.g. of an accuracy (Wilson, 1927).

    Unlike the normal interval it stays in [0, 1] and is not empty at 0 % and 100 %.
    """
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    half = z / (1 + z * z / trials) * spread
    return max(0.0, centre - half), min(1.0, centre + half)
