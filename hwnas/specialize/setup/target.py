"""The device of a run: its profile, its runner, its latency model."""

from __future__ import annotations

from typing import NamedTuple

from hwnas.console import Console
from hwnas.devices.idle import waiting
from hwnas.devices.profile import DeviceProfile, find_profile
from hwnas.devices.runner import Runner, open_runner
from hwnas.errors import DeviceError, HwnasError, UsageError
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.registry import find_model
from hwnas.latency_models.storage.store import measured_folder, published_model
from hwnas.profiling.measure import measure_latency_model
from hwnas.profiling.plan import MeasurePlan
from hwnas.spaces.space import SearchSpace

MAX_RELATIVE_HALF_WIDTH = 0.1
"""Relative half-width of the 90 % interval up to which an incomplete model of `hwnas latency
measure --minutes` is used: measured files correct the search."""


class Target(NamedTuple):
    """A device; ``runner`` is ``None`` if it cannot be reached and only a latency model is
    known."""

    profile: DeviceProfile
    runner: Runner | None


def find_target(name: str, wait_idle_s: float = 0.0) -> Target:
    """Find a device by name or profile file, and open its runner if it can be reached.

    This machine waits for quiet cores before it measures, at most ``wait_idle_s``.
    """
    profile = waiting(find_profile(name), wait_idle_s)
    if profile.runtime == "torch":
        raise UsageError(
            f"{name}: networks are compiled to .onnx and .tflite, so a device with runtime = "
            "'torch' is no target; `hwnas benchmark FILE.pt2` measures on it"
        )
    return Target(profile, open_runner(profile) if profile.reachable else None)


def model_of(target: Target, space: SearchSpace, console: Console, name: str = "") -> LatencyModel:
    """Return the latency model of a target for a space.

    It is the model called ``name``, or else the target's own, which is measured if there is none
    yet, or else a published one.
    """
    if name:
        return _named(name, space)
    model = _measured(target, space, console) or published_model(target.profile.name, space)
    if model is None:
        raise DeviceError(
            f"{target.profile.name}: the profile has no way to reach it (no [remote] table), and "
            "no latency model of this device is known; `hwnas devices list` shows the devices "
            "that have either"
        )
    return model


def _named(name: str, space: SearchSpace) -> LatencyModel:
    """Return the model of that file or name. Raises `UsageError` if it lacks a block."""
    blocks = [*space.fixed, *(site.block for site in space.sites())]
    full_name, model = find_model(name, blocks)
    try:
        model.costs(space)
    except HwnasError as error:
        raise UsageError(f"--latency-model {full_name}: {error}") from None
    return model


def _measured(target: Target, space: SearchSpace, console: Console) -> LatencyModel | None:
    if target.runner is None:
        return None
    folder = measured_folder(target.profile.name, space)
    plan = MeasurePlan(accepted=MAX_RELATIVE_HALF_WIDTH)
    return measure_latency_model(target.profile, target.runner, space, folder, console, plan=plan)
