"""The device of a run: its profile, the way to it, its latency model."""

from __future__ import annotations

from typing import NamedTuple

from hwnas.console import Console
from hwnas.devices.profile import DeviceProfile, find_profile
from hwnas.devices.runner import Runner, open_runner
from hwnas.errors import DeviceError, HwnasError, UsageError
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.model_file import read_model, write_model
from hwnas.latency_models.storage.registry import find_model
from hwnas.latency_models.storage.store import measured_folder, published_model
from hwnas.profiling.measure import measure_latency_model
from hwnas.profiling.plan import MeasurePlan
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.run_folder import RunFolder

ENOUGH = 0.1
"""Relative half-width of the 90 % interval with which a model is used that `hwnas latency measure
--minutes` had no time to complete: what is delivered is measured, and corrects the search."""


class Target(NamedTuple):
    """A device; ``runner`` is ``None`` where it can't be reached and only a model is known."""

    profile: DeviceProfile
    runner: Runner | None


def find_target(name: str) -> Target:
    """Find a device by name or profile file, and the way to it if there is one."""
    profile = find_profile(name)
    if profile.runtime == "torch":
        raise UsageError(
            f"{name}: networks are compiled to .onnx and .tflite, so a device with runtime = "
            "'torch' is no target; `hwnas benchmark FILE.pt2` measures on it"
        )
    if profile.reachable:
        return Target(profile, open_runner(profile))
    return Target(profile, None)


def model_of(
    target: Target,
    space: SearchSpace,
    console: Console,
    folder: RunFolder | None = None,
    asked: str = "",
) -> LatencyModel:
    """Return the latency model for a target and a space, measuring it where there is none yet.

    A run keeps its own copy, so that it goes on with the same numbers when it is resumed.
    """
    kept = folder.path / "latency_model.json" if folder is not None else None
    if kept is not None and kept.exists():
        return read_model(kept)
    if asked:
        model = _asked(asked, space)
    else:
        model = _measured(target, space, console) or published_model(target.profile.name, space)
    if model is None:
        raise DeviceError(
            f"{target.profile.name}: the profile says no way to it (no [remote] table) and no "
            "latency model of this device is known; devices with either: "
            "`hwnas devices list`"
        )
    if kept is not None:
        write_model(model, kept)
    return model


def _asked(name: str, space: SearchSpace) -> LatencyModel:
    """Return the model of that file or name. Raises `UsageError` if it lacks a block."""
    said, model = find_model(name, [*space.fixed, *(site.block for site in space.sites())])
    try:
        model.costs(space)
    except HwnasError as error:
        raise UsageError(f"--latency-model {said}: {error}") from None
    return model


def _measured(target: Target, space: SearchSpace, console: Console) -> LatencyModel | None:
    if target.runner is None:
        return None
    folder = measured_folder(target.profile.name, space)
    plan = MeasurePlan(accepted=ENOUGH)
    return measure_latency_model(target.profile, target.runner, space, folder, console, plan=plan)
