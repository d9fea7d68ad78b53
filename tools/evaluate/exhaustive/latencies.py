"""Measured latencies of every network on both runtimes, one line of ``latencies.jsonl`` each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.runtimes import RUNTIMES
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Runner, Subject, open_runner
from hwnas.files import append_line, read_lines
from hwnas.measurement.disturbance import Disturbed
from hwnas.profiling.bench import compile_untrained
from tools.evaluate.exhaustive.problem import Choices, all_choices, architecture, space

TARGETS = {"onnxruntime": "host-cpu", "litert": "host-cpu-litert"}
"""Target of each runtime."""
BATCH = 54
"""Networks that are measured before they are written."""
PROCESSES, MAX_S = 3, 24.0
"""Worker processes of a batch, and the most seconds that they may take together for 16 networks."""


class Latency(msgspec.Struct, frozen=True):
    """The latency of one network on one runtime."""

    choices: Choices
    runtime: str
    median_ms: float
    standard_error: float
    """Standard error relative to ``median_ms``."""
    reference_ms: float
    """Latency of the reference model to which the networks of a runtime are calibrated."""
    clock: str
    """``wall``, or ``cpu`` where other programs disturbed the wall clock."""


def measure_all(work: Path) -> Iterator[Latency]:
    """Measure the networks that are missing in ``work/latencies.jsonl``; yield each latency when it
    is written.

    Networks that other programs disturbed too much are left out; the next call measures them.
    """
    file = work / "latencies.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    for runtime, target in TARGETS.items():
        known = [line for line in read_lines(file, Latency) if line.runtime == runtime]
        done = {line.choices for line in known}
        reference_ms = known[0].reference_ms if known else None
        missing = [choices for choices in all_choices(space()) if choices not in done]
        if not missing:
            continue
        profile = find_profile(target)
        spec = msgspec.structs.replace(profile.measure, processes=PROCESSES, max_s=MAX_S)
        with open_runner(msgspec.structs.replace(profile, measure=spec)) as runner:
            # every BATCH-th network: a batch has small and large ones
            batches = -(-len(missing) // BATCH)
            for number in range(batches):
                batch = missing[number::batches]
                for latency in _measure(runner, runtime, batch, reference_ms, number):
                    reference_ms = latency.reference_ms
                    append_line(file, latency)
                    yield latency


def _measure(
    runner: Runner, runtime: str, batch: list[Choices], reference_ms: float | None, number: int
) -> Iterator[Latency]:
    """Measure networks interleaved; without ``reference_ms`` its median in these runs is used."""
    own = space()
    with tempfile.TemporaryDirectory() as scratch:
        subjects = [
            _compiled(architecture(own, choices), runtime, Path(scratch)) for choices in batch
        ]
        try:
            measured = list(
                runner.measure(subjects, calibrated_reference_ms=reference_ms, seed=number)
            )
        except Disturbed as error:
            measured = list(error.measurements)
    for choices, measurement in zip(batch, measured, strict=False):
        if measurement is not None:
            reference_ms = reference_ms or measurement.reference_ms
            median_ms = measurement.ratio * reference_ms
            error, clock = measurement.standard_error, measurement.clock
            yield Latency(choices, runtime, median_ms, error, reference_ms, clock)


def _compiled(network: Architecture, runtime: str, folder: Path) -> Subject:
    file = folder / f"{network.digest}{RUNTIMES[find_profile(TARGETS[runtime]).runtime].suffix}"
    compile_untrained(network.blocks, network.inputs, file)
    return Subject(network.digest, file)
