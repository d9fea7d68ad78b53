"""Sample reports, for tests and for looking at the page.

`python -m tests.support.reporting.sample_report FOLDER` writes three of them.
"""

from __future__ import annotations

import random
import sys
from math import exp, log
from pathlib import Path

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.architecture.size import area
from hwnas.measurement.measurement import Environment, Kind, Measurement
from hwnas.measurement.round import Round
from hwnas.report.accuracy import Accuracy
from hwnas.report.architecture import ArchitectureSummary, BlockRow, CandidateShare
from hwnas.report.candidate_rows import CandidateRow
from hwnas.report.latency import Latency, LatencyModelSummary, OtherRuntime
from hwnas.report.report import Report
from hwnas.report.schema import (
    ArtifactRow,
    DatasetSummary,
    NextCommand,
    Result,
    SearchPoint,
)

NAMES = ("skip", "k3 e3", "k3 e6", "k5 e3", "k5 e6", "k7 e3", "k7 e6")


def measured_report(kind: Kind = "measured") -> Report:
    """Return a report of one target with ten blocks that keeps its budget, of any ``kind``."""
    return _report((measured_result(kind),), search=_search("host-cpu", 0.25))


def table_report() -> Report:
    """Return a report of a phone with a published table only, without measurements."""
    return _report((table_result(),))


def fleet_report() -> Report:
    """Return a report of three results: budget kept, missed, not measured."""
    missed = msgspec.structs.replace(
        measured_result(),
        target="raspberrypi4",
        title="Raspberry Pi 4 (Cortex-A72), one core",
        budget_ms=0.2,
        verdict="missed",
        reason="The fastest network that was trained took longer than the budget.",
    )
    results = (measured_result(), missed, table_result())
    search = _search("host-cpu", 0.25) + _search("raspberrypi4", 0.2)
    return _report(results, search=search, notes=("reference drifted 12 % since calibration",))


def measured_result(kind: Kind = "measured") -> Result:
    measurement = host_measurement(kind)
    return Result(
        target="host-cpu",
        title="This machine, one core, ONNX Runtime",
        runtime="onnxruntime",
        precision="fp32",
        budget_ms=0.25,
        verdict="kept",
        reason="The whole 95 % interval of the median is below the budget.",
        range_ms=(0.081, 0.317, 0.905),
        architecture=_network(_small_blocks(), "mobile-digits", (1, 32, 32), 10, unit_ms=5e-8),
        latency=Latency.from_measurement(
            measurement,
            predicted_ms=0.2065,
            predicted_std_ms=0.0081,
            source="measurements.jsonl, round 2",
        ),
        accuracy=Accuracy.with_interval(
            360, torch=350 / 360, artifact=350 / 360, validation=0.9703
        ),
        other_runtimes=(
            OtherRuntime(
                runtime="litert",
                format="tflite",
                precision="int8",
                kind=kind,
                median_ms=0.187,
                ci95_ms=(0.184, 0.191),
                accuracy=347 / 360,
            ),
        ),
        artifacts=(
            ArtifactRow(
                path="export/model.onnx",
                format="onnx",
                precision="fp32",
                sha256="5b1f0c9e" * 8,
                size_bytes=412_331,
                max_relative_error=3.2e-6,
                accuracy=350 / 360,
            ),
            ArtifactRow(
                path="export/model-int8.tflite",
                format="tflite",
                precision="int8",
                sha256="9e77a1d2" * 8,
                size_bytes=141_904,
                max_relative_error=0.021,
                accuracy=347 / 360,
            ),
        ),
        rounds=2,
        candidates=_candidates(kind),
        latency_model=LatencyModelSummary(
            kind="predicted",
            source="latency_models/host-cpu",
            made="2026-11-18T09:12:00+00:00",
            blocks=184,
            networks=42,
            held_out=20,
            within_5=0.85,
            within_10=1.0,
            rmspe=0.034,
            spearman=0.981,
            reference_ms=0.1012,
        ),
    )


def table_result() -> Result:
    return Result(
        target="pixel1",
        title="Google Pixel 1 (Snapdragon 821), one big core, by its published table",
        runtime="litert",
        precision="fp32",
        budget_ms=80.0,
        verdict="not measured",
        reason="No device is connected; the number is the sum of a published table.",
        range_ms=(31.2, 84.9, 168.0),
        architecture=_network(_large_blocks(), "mobile", (3, 224, 224), 1000, unit_ms=1.6e-7),
        latency=Latency(
            kind="table",
            median_ms=78.4,
            predicted_ms=78.4,
            predicted_std_ms=2.6,
            source="latency_models/pixel1, published with ProxylessNAS",
        ),
        accuracy=Accuracy.with_interval(10_000, torch=0.7461, artifact=0.7461),
        artifacts=(
            ArtifactRow(
                path="export/model.tflite",
                format="tflite",
                precision="fp32",
                sha256="00c0ffee" * 8,
                size_bytes=16_310_004,
                max_relative_error=8.1e-6,
                accuracy=0.7461,
            ),
        ),
        latency_model=LatencyModelSummary(kind="table", source="latency_models/pixel1"),
    )


def _report(results: tuple[Result, ...], **fields: object) -> Report:
    target = results[0].target
    report = Report(
        command=f"hwnas specialize --target {target} --budget 0.25ms --data digits --seed 0",
        hwnas_version="0.1.0",
        created="2026-11-20T10:41:07+00:00",
        seed=0,
        effort="standard",
        results=results,
        stages_s={"latency model": 41.2, "search": 512.0, "training": 388.4, "measuring": 74.9},
        environment={"python": "3.11.7", "torch": "2.13.0", "cores": 2, "load": 0.4, "gpu": None},
        dataset=DatasetSummary(
            name="digits",
            digest="7c1b2f40a9d3e856",
            classes=10,
            train=1077,
            valid=360,
            test=360,
            input_shape=(1, 32, 32),
        ),
        commands=(
            NextCommand("Measure the delivered file again", "hwnas benchmark runs/digits"),
            NextCommand("Put it on the device", "hwnas deploy runs/digits --target host-cpu"),
        ),
        notes=("Accuracy on 360 images cannot tell 1 point apart.",),
    )
    return msgspec.structs.replace(report, **fields)


def host_measurement(kind: Kind) -> Measurement:
    """Return 12 rounds on a machine that runs some 3 % slower than at its calibration."""
    chance = random.Random(1)

    def calls(centre_ms: float) -> tuple[float, ...]:
        return tuple(centre_ms * exp(abs(chance.gauss(0, 0.03))) for _ in range(7))

    speeds = [1.03 + chance.gauss(0, 0.02) for _ in range(12)]
    rounds = tuple(Round(calls(0.209 * speed), calls(0.1012 * speed)) for speed in speeds)
    environment = Environment(
        device="host-cpu",
        fingerprint="c0de",
        hardware="x86-64, 2 cores, AVX-512",
        runtime="onnxruntime",
        runtime_version="1.31.1",
        threads=1,
        when="2026-11-20T10:39:51+00:00",
        affinity=(1,),
        system="Linux 6.1",
        governor="performance",
        load_before=0.4,
        load_after=1.1,
    )
    return Measurement(
        name="model.onnx",
        rounds=rounds,
        environment=environment,
        calibrated_reference_ms=0.1012,
        kind=kind,
    )


def _candidates(kind: Kind) -> tuple[CandidateRow, ...]:
    rows = [
        ("search 1", "search", 0.2065, 0.211, 0.9703, True),
        ("search 2", "search", 0.1990, 0.196, 0.9608, False),
        ("search 3", "search", 0.2410, 0.262, 0.9742, False),
        ("uniform k3 e3", "uniform", 0.2010, 0.205, 0.9460, False),
        ("uniform k5 e3", "uniform", 0.2330, 0.238, 0.9580, False),
        ("random 1", "random", 0.2200, 0.214, 0.9431, False),
        ("random 2", "random", 0.1700, None, 0.9290, False),
        ("random 3", "random", 0.2480, None, None, False),
    ]
    return tuple(
        CandidateRow(
            name=name,
            origin=origin,
            digest=f"{index:016x}",
            params=90_000 + 3_000 * index,
            macs=2_900_000 + 170_000 * index,
            predicted_ms=predicted_ms,
            predicted_std_ms=0.008,
            measured_ms=measured_ms,
            ci95_ms=None if measured_ms is None else (0.985 * measured_ms, 1.015 * measured_ms),
            kind="predicted" if measured_ms is None else kind,
            validation_accuracy=accuracy,
            test_accuracy=350 / 360 if chosen else None,
            keeps_budget=None if measured_ms is None else measured_ms <= 0.25,
            chosen=chosen,
        )
        for index, (name, origin, predicted_ms, measured_ms, accuracy, chosen) in enumerate(rows)
    )


def _search(target: str, budget_ms: float) -> tuple[SearchPoint, ...]:
    def point(step: int) -> SearchPoint:
        warm, late = step < 100, max(step - 100, 0) / 300
        return SearchPoint(
            step=step,
            phase="warm-up" if warm else "search",
            loss=2.3 * exp(-step / 120) + 0.12,
            accuracy=0.97 - 0.87 * exp(-step / 90),
            entropy=None if warm else 1 - 0.9 * late,
            expected_ms=None if warm else budget_ms * (1 + 0.5 * exp(-6 * late) - 0.04 * late),
            multiplier=None if warm else 0.8 * (1 - exp(-5 * late)),
            budget_ms=budget_ms,
            target=target,
        )

    return tuple(map(point, range(0, 401, 10)))


def _network(
    blocks: tuple[Block, ...],
    space: str,
    input_shape: tuple[int, int, int],
    classes: int,
    unit_ms: float,
) -> ArchitectureSummary:
    architecture = Architecture(Genotype(space, ()), blocks, input_shape, classes)
    chance = random.Random(2)
    rows = [_row(index, block, unit_ms, chance) for index, block in enumerate(blocks)]
    return ArchitectureSummary.from_architecture(architecture, rows)


def _row(index: int, block: Block, unit_ms: float, chance: random.Random) -> BlockRow:
    cost_ms = unit_ms * block.macs + 20 * unit_ms * area(block.in_size)
    if block.op in ("conv", "logits"):
        return BlockRow.from_block(block, predicted_ms=cost_ms, predicted_std_ms=0.05 * cost_ms)
    chosen = (
        "skip"
        if block.op == "identity"
        else f"k{block.kernel_size} e{max(block.expand_ratio, 3):g}"
    )
    names = NAMES if block.stride == 1 and block.in_channels == block.out_channels else NAMES[1:]
    weights = [chance.random() + (6 if name == chosen else 0) for name in names]
    shares = [
        CandidateShare(
            name, weight / sum(weights), 0.0 if name == "skip" else 2e5 * unit_ms * (1 + log(1 + k))
        )
        for k, (name, weight) in enumerate(zip(names, weights, strict=True))
    ]
    return BlockRow.from_block(
        block,
        predicted_ms=0.0 if block.op == "identity" else cost_ms,
        predicted_std_ms=0.0 if block.op == "identity" else 0.05 * cost_ms,
        decision=f"stage {index // 4 + 1} block {index % 4 + 1}",
        chosen=chosen,
        candidates=shares,
    )


def _small_blocks() -> tuple[Block, ...]:
    return (
        Block("conv", 1, 8, 3, 1, 1, 32),
        Block("mbconv", 8, 16, 3, 2, 3, 32),
        Block("mbconv", 16, 16, 5, 1, 3, 16),
        Block("identity", 16, 16, 1, 1, 1, 16),
        Block("mbconv", 16, 24, 5, 2, 6, 16),
        Block("mbconv", 24, 24, 3, 1, 3, 8),
        Block("fused_mbconv", 24, 24, 3, 1, 3, 8),
        Block("mbconv", 24, 48, 7, 2, 6, 8),
        Block("conv", 48, 96, 1, 1, 1, 4),
        Block("logits", 96, 10, 1, 1, 1, 4),
    )


def _large_blocks() -> tuple[Block, ...]:
    blocks = [Block("conv", 3, 32, 3, 2, 1, 224), Block("mbconv", 32, 16, 3, 1, 1, 112)]
    stages = [(32, 2, 112), (40, 2, 56), (80, 2, 28), (96, 1, 14), (192, 2, 14)]
    channels = 16
    for stage, (out, stride, size) in enumerate(stages):
        for place in range(4 if stage else 3):
            first = place == 0
            now = size if first else (size - 1) // stride + 1
            skip = stage in (0, 2) and place == 2
            kernel, ratio = (3, 5, 7)[(stage + place) % 3], 6 if first else 3
            if skip:
                blocks.append(Block("identity", out, out, 1, 1, 1, now))
                continue
            into, step = (channels, stride) if first else (out, 1)
            blocks.append(Block("mbconv", into, out, kernel, step, ratio, now))
        channels = out
    blocks.append(Block("mbconv", 192, 320, 7, 1, 6, 7))
    blocks += [Block("conv", 320, 1280, 1, 1, 1, 7), Block("logits", 1280, 1000, 1, 1, 1, 7)]
    return tuple(blocks)


if __name__ == "__main__":
    for name, report in (
        ("measured", measured_report()),
        ("table", table_report()),
        ("fleet", fleet_report()),
    ):
        report.write(Path(sys.argv[1]) / name)
