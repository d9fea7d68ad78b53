"""A run that takes seconds: tiny images, a tiny effort, the simulated phone and its model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import pytest

from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Progress, Runner, Subject, open_runner
from hwnas.files import home
from hwnas.latency_models.storage.store import measured_folder
from hwnas.measurement.measurement import Environment, Measurement
from hwnas.measurement.round import Round
from hwnas.profiling.measure import measure_latency_model
from hwnas.profiling.plan import MeasurePlan
from hwnas.spaces.mobile import space as mobile_module
from hwnas.spaces.mobile.space import mobile_space
from hwnas.specialize.setup import plan
from hwnas.specialize.setup.effort import EFFORTS, Effort
from hwnas.specialize.spec import EffortName
from tests.support.machines.forked import fork_trainings
from tests.support.reporting.consoles import SilentConsole

PHONE = find_profile("simulated-phone")
SPACE = mobile_space((1, 16, 16), 3)
"""The space for the images of `write_images`."""

IMAGE_BYTES = 1e5
TINY = Effort(
    warmup_passes=90,
    search_passes=180,
    training_passes=1200,
    arch_learning_rate=0.1,
    screened=3,
    trained=1,
    baselines=0,
)


def make_small(patch: pytest.MonkeyPatch, effort: EffortName = "quick") -> None:
    """Let a run of this process with ``effort`` be `TINY`, with one width of each uniform network.

    The memory of its batches is not counted: they fit.
    """
    fork_trainings(patch)
    patch.setattr(plan, "step_image_bytes", lambda architecture, compute: IMAGE_BYTES)
    patch.setitem(EFFORTS, effort, TINY)
    patch.setattr(mobile_module, "WIDTH_MULTS", (1.0,))


ROOT = Path(__file__).parents[3]
"""Root folder of the repository."""


def write_images(path: Path, train: int = 240, test: int = 60, size: int = 16) -> Path:
    """Write grey images whose class is the number of the bright third."""
    labels = np.arange(train + test) % 3
    images = np.random.default_rng(0).integers(0, 90, (train + test, size, size), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[size // 3 * label : size // 3 * (label + 1)] += 120
    np.savez(
        path,
        x_train=images[:train],
        y_train=labels[:train],
        x_test=images[train:],
        y_test=labels[train:],
    )
    return path


def put_phone_table() -> Path:
    """Put the simulated phone's model of `SPACE` where hwnas looks for it; return its folder."""
    folder = measured_folder(PHONE.name, SPACE)
    assert tempfile.gettempdir() in str(home()), "HWNAS_HOME must be a temporary folder in tests"
    folder.mkdir(parents=True)
    for name, content in _phone_files().items():
        (folder / name).write_bytes(content)
    return folder


@cache
def _phone_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as made:
        measured, runner = MeasurePlan(networks=12), open_runner(PHONE)
        measure_latency_model(PHONE, runner, SPACE, Path(made), SilentConsole(), plan=measured)
        return {file.name: file.read_bytes() for file in Path(made).iterdir()}


class StandIn:
    """A runner that scales the latencies of another runner and records its calls."""

    def __init__(self, inner: Runner, factor: Callable[[Measurement], float]) -> None:
        self.inner, self.factor = inner, factor
        self.calls: list[list[str]] = []

    def probe(self) -> Environment:
        return self.inner.probe()

    def measure(
        self,
        subjects: Sequence[Subject],
        *,
        calibrated_reference_ms: float | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[Measurement]:
        self.calls.append([subject.name for subject in subjects])
        measurements = self.inner.measure(
            subjects, calibrated_reference_ms=calibrated_reference_ms, seed=seed, progress=progress
        )
        return [_scaled(each, self.factor(each)) for each in measurements]

    def close(self) -> None:
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _scaled(measurement: Measurement, factor: float) -> Measurement:
    rounds = tuple(
        Round(tuple(factor * sample for sample in round.samples_ms), round.reference_ms)
        for round in measurement.rounds
    )
    return msgspec.structs.replace(measurement, rounds=rounds)
