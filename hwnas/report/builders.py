"""From measurements and architectures to rows of the report."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.architecture.architecture import Architecture, Block
from hwnas.measurement.measurement import Environment, Measurement
from hwnas.report.schema import (
    Accuracy,
    ArchitectureSummary,
    BlockRow,
    CandidateShare,
    CellRow,
    Latency,
    wilson,
)


def latency_of(
    measurement: Measurement,
    *,
    predicted_ms: float | None = None,
    predicted_std_ms: float | None = None,
    raw: bool = False,
    source: str = "",
) -> Latency:
    """Return what the report says of a measurement; ``raw`` judges this run's own clock.

    A raw number keeps the relative interval, which comes from ratios to the reference.
    """
    scale = measurement.raw_median_ms / measurement.median_ms if raw else 1.0
    low_ms, high_ms = measurement.ci95_ms
    calibrated = measurement.calibrated_reference_ms is not None
    return Latency(
        kind=measurement.kind,
        median_ms=measurement.median_ms * scale,
        ci95_ms=(low_ms * scale, high_ms * scale),
        p90_ms=measurement.p90_ms * scale,
        p99_ms=measurement.p99_ms * scale,
        min_ms=measurement.min_ms * scale,
        cv=measurement.cv,
        samples=len(measurement.samples_ms),
        rounds=len(measurement.rounds),
        raw_median_ms=measurement.raw_median_ms,
        reference_drift=measurement.drift if calibrated else None,
        predicted_ms=predicted_ms,
        predicted_std_ms=predicted_std_ms,
        conditions=conditions(measurement.environment),
        source=source,
        judged="raw" if raw or not calibrated else "calibrated",
    )


def conditions(environment: Environment) -> str:
    """Say in one line on what and how a latency was taken; what is not known is left out."""
    cores = ", ".join(map(str, environment.affinity))
    said = [
        environment.hardware or environment.device,
        f"{environment.runtime} {environment.runtime_version}",
        f"{environment.threads} thread{'' if environment.threads == 1 else 's'}",
        f"pinned to core {cores}" if cores else "not pinned",
        environment.system,
        f"governor {environment.governor}" if environment.governor else "",
        _value(environment.frequency_mhz, "MHz"),
        _value(environment.temperature_c, "°C"),
        _load(environment),
        f"{environment.steal_s:.1f} s stolen by the hypervisor" if environment.steal_s else "",
        environment.when,
    ]
    return " · ".join(part for part in said if part)


def accuracy_of(
    test_images: int, torch: float, artifact: float | None, validation: float | None = None
) -> Accuracy:
    """Return accuracies (shares) with the interval of the delivered file's."""
    shown = torch if artifact is None else artifact
    return Accuracy(
        test_images=test_images,
        torch=torch,
        artifact=artifact,
        ci95=wilson(shown, test_images),
        validation=validation,
    )


def architecture_of(
    architecture: Architecture,
    rows: Sequence[BlockRow] | None = None,
    cells: Sequence[CellRow] = (),
) -> ArchitectureSummary:
    """Return the summary of an architecture; ``rows`` where more than the shapes is known."""
    return ArchitectureSummary(
        digest=architecture.digest,
        params=architecture.params,
        macs=architecture.macs,
        space=architecture.genotype.space,
        input_shape=architecture.input_shape,
        num_classes=architecture.num_classes,
        blocks=tuple(rows) if rows is not None else tuple(map(block_row, architecture.blocks)),
        cells=tuple(cells),
    )


def block_row(
    block: Block,
    *,
    predicted_ms: float | None = None,
    predicted_std_ms: float | None = None,
    decision: str | None = None,
    chosen: str | None = None,
    candidates: Sequence[CandidateShare] = (),
    cell: int | None = None,
) -> BlockRow:
    """Return one row; the probability is that of the candidate named ``chosen``."""
    shares = {candidate.name: candidate.probability for candidate in candidates}
    return BlockRow(
        key=block.key,
        op=block.op,
        kernel_size=block.kernel_size,
        stride=block.stride,
        expand_ratio=block.expand_ratio,
        in_channels=block.in_channels,
        out_channels=block.out_channels,
        in_size=block.in_size,
        out_size=block.out_size,
        macs=block.macs,
        params=block.params,
        residual=block.residual,
        predicted_ms=predicted_ms,
        predicted_std_ms=predicted_std_ms,
        probability=shares.get(chosen) if chosen is not None else None,
        decision=decision,
        chosen=chosen,
        candidates=tuple(candidates),
        cell=cell,
    )


def _value(number: float | None, unit: str) -> str:
    return "" if number is None else f"{number:.0f} {unit}"


def _load(environment: Environment) -> str:
    before, after = environment.load_before, environment.load_after
    if before is None:
        return ""
    return f"load {before:.1f}" + ("" if after is None else f" → {after:.1f}")
