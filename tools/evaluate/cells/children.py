"""Training of the searched networks, all in the same way, and their latency on both runtimes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec
import torch

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.runtimes import RUNTIMES
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.files import write_json
from hwnas.nn.build import build
from hwnas.profiling.bench import compile_untrained
from hwnas.training.evaluation import RECALIBRATION_IMAGES, accuracy, recalibrate
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan, scaled_learning_rate
from hwnas.training.seeds import derived_seed
from tools.evaluate.cells.problem import Problem

TARGETS = ("host-cpu", "host-cpu-litert")


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """A network trained from scratch; accuracies are shares of 1, after the last epoch."""

    digest: str
    seed: int
    params: int
    macs: int
    valid_accuracy: float
    test_accuracy: float


def train_child(problem: Problem, architecture: Architecture, seed: int, folder: Path) -> Child:
    """Train a network, or return the stored result; an interrupted training continues."""
    path = folder / f"child-{architecture.digest}-{seed}.json"
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Child)
    size = problem.size
    plan = TrainingPlan(
        epochs=size.child_epochs,
        batch_size=size.batch_size,
        peak_learning_rate=scaled_learning_rate(size.batch_size),
    )
    torch.manual_seed(derived_seed(seed, "child"))
    network = build(architecture, plan.dropout)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint = path.with_suffix(".safetensors")
    train(network, problem.train, plan, derived_seed(seed, "child"), checkpoint)
    recalibrate(network, problem.train.sample(RECALIBRATION_IMAGES, 0))
    child = Child(
        digest=architecture.digest,
        seed=seed,
        params=architecture.params,
        macs=architecture.macs,
        valid_accuracy=accuracy(network, problem.valid),
        test_accuracy=accuracy(network, problem.test),
    )
    write_json(path, child)
    checkpoint.unlink(missing_ok=True)
    return child


def measure_ms(networks: Iterable[Architecture], folder: Path) -> dict[str, dict[str, float]]:
    """Return median latencies by target and digest, of all networks interleaved.

    They are stored in ``latency.json``.
    """
    path = folder / "latency.json"
    stored: dict[str, dict[str, float]] = (
        msgspec.json.decode(path.read_bytes()) if path.exists() else {}
    )
    wanted = {architecture.digest: architecture for architecture in networks}
    for target in TARGETS:
        latencies = stored.get(target, {})
        if wanted.keys() <= latencies.keys():
            continue
        profile = find_profile(target)
        format = RUNTIMES[profile.runtime].format
        with tempfile.TemporaryDirectory() as scratch:
            subjects: list[Subject] = []
            for digest, architecture in wanted.items():
                file = Path(scratch) / f"{digest}.{format}"
                compile_untrained(architecture.blocks, architecture.inputs, file)
                subjects.append(Subject(digest, file))
            with open_runner(profile) as runner:
                measured = runner.measure(subjects)
        stored[target] = {measurement.name: measurement.median_ms for measurement in measured}
        write_json(path, stored)
    return stored
