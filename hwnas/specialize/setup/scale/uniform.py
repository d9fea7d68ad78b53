"""Latency of a few networks of different scale on the target of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.runtimes import RUNTIMES
from hwnas.devices.limits import check_space_size
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Runner, Subject, reference_sha256
from hwnas.errors import UsageError
from hwnas.latency_models.storage.store import calibration
from hwnas.profiling.bench import compile_untrained
from hwnas.spaces.space import SearchSpace


def fits(space: SearchSpace, profile: DeviceProfile) -> bool:
    """Return whether the device accepts the file of the smallest network."""
    try:
        check_space_size(space, profile)
    except UsageError:
        return False
    return True


def measured_ms(
    networks: Mapping[str, Architecture], profile: DeviceProfile, runner: Runner
) -> dict[str, float]:
    """Return the median latency of each network, untrained, in calibrated milliseconds."""
    if not networks:
        return {}
    runtime = RUNTIMES[profile.runtime]
    with tempfile.TemporaryDirectory() as scratch:
        subjects: list[Subject] = []
        for name, network in networks.items():
            file = Path(scratch) / f"{name}{runtime.suffix}"
            compile_untrained(network.blocks, network.inputs, file)
            subjects.append(Subject(name, file))
        reference = reference_sha256(profile.runtime)
        measurements = runner.measure(
            subjects, calibrated_reference_ms=calibration(runner.probe(), reference)
        )
    return {each.name: each.median_ms for each in measurements}
