"""The device of a run: its profile, the way to it, its latency table."""

from __future__ import annotations

from typing import NamedTuple

from hwnas.devices.profile import DeviceProfile, find_profile
from hwnas.devices.runner import Runner, open_runner
from hwnas.errors import DeviceError
from hwnas.files import write_json
from hwnas.latency_models.store import measured_folder, published_table, read_table
from hwnas.latency_models.table import LatencyTable
from hwnas.pipeline.console import Console
from hwnas.pipeline.run import Run
from hwnas.profiling import latency_table
from hwnas.spaces.space import SearchSpace


class Target(NamedTuple):
    """A device; ``runner`` is ``None`` where it can't be reached and only a table is known."""

    profile: DeviceProfile
    runner: Runner | None


def find_target(name: str) -> Target:
    """Find a device by name or profile file, and the way to it if there is one."""
    profile = find_profile(name)
    if profile.transport in ("local", "simulated"):
        return Target(profile, open_runner(profile))
    return Target(profile, None)


def table_of(
    target: Target, space: SearchSpace, console: Console, run: Run | None = None
) -> LatencyTable:
    """Return the latency table for a target and a space, measuring it where there is none yet.

    A run keeps its own copy, so that it goes on with the same numbers when it is resumed.
    """
    kept = run.folder / "latency_table.json" if run is not None else None
    if kept is not None and kept.exists():
        return read_table(kept)
    table = _measured(target, space, console) or published_table(target.profile.name, space)
    if table is None:
        raise DeviceError(
            f"{target.profile.name}: transport {target.profile.transport!r} is not available in "
            "this version and no latency table of this device is shipped, so nothing is known of "
            "it; devices with either: `hwnas devices list`"
        )
    if kept is not None:
        write_json(kept, table)
    return table


def _measured(target: Target, space: SearchSpace, console: Console) -> LatencyTable | None:
    if target.runner is None:
        return None
    folder = measured_folder(target.profile.name, space)
    with console.step(f"latency table of {target.profile.name}") as update:
        return latency_table(
            target.profile,
            target.runner,
            space,
            folder,
            console.say,
            lambda done, planned: update(done, planned, f"{done} of {planned} models"),
        )
