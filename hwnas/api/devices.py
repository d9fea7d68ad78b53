"""The known devices, and their latency models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

if TYPE_CHECKING:
    from hwnas.devices.profile import DeviceProfile
    from hwnas.latency_models.model import LatencyModel


def devices() -> list[DeviceProfile]:
    """Return the profiles of all known devices: shipped, installed, and in ``$HWNAS_DEVICES``.

    They are sorted by name. Raises `InvalidFile` for a profile with an invalid field.

    >>> import hwnas
    >>> [profile.runtime for profile in hwnas.devices() if profile.name == "host-cpu"]
    ['onnxruntime']

    """
    from hwnas.devices.profile import profile_files, read_profile

    files = {file.name: file for file in reversed(list(profile_files()))}
    return sorted(map(read_profile, files.values()), key=lambda profile: profile.name)


class MeasureOptions(TypedDict, total=False):
    """How much `measure_latency_model` measures."""

    networks: int | None
    """Number of whole networks that are measured beside the blocks; by default at most 24."""
    minutes: float | None
    """Time limit, within which the most informative blocks and networks are measured."""
    again: bool
    """Whether to measure a new model, and set aside a stored one instead of completing it."""


def measure_latency_model(
    target: str | Path | DeviceProfile = "host-cpu",
    space: str = "mobile",
    data: str = "fashion-mnist-6k",
    *,
    resolution: int | None = None,
    precision: Literal["fp32", "int8"] = "fp32",
    wait_idle_s: float = 0.0,
    quiet: bool = False,
    **options: Unpack[MeasureOptions],
) -> LatencyModel:
    """Measure the latency model of a device for a search space, and return it.

    Blocks and whole networks are measured; ``options`` limit their number (`MeasureOptions`). The
    model is stored for later runs; an incomplete model that is stored already is completed.
    ``target`` is a name, a TOML file or a profile, ``space`` a name or a TOML file; ``data``
    determines the input size and the classes, ``resolution`` another height and width in pixels.
    Measurements on this machine first wait at most ``wait_idle_s`` for a quiet core.

    Raises `UnknownName` for an unknown device or space, `DeviceError` for a device that does not
    answer, `TooNoisy` if no core becomes quiet in time.

        >>> import hwnas
        >>> model = hwnas.measure_latency_model("simulated-phone", networks=6, quiet=True)
        >>> model.kind
        'simulated'

    """
    from hwnas.console import console
    from hwnas.profiling.measure import measure_latency_model as measure
    from hwnas.profiling.plan import MeasurePlan
    from hwnas.profiling.setup import find_setup

    plan = MeasurePlan(**options)
    named = str(target) if isinstance(target, Path) else target
    setup = find_setup(named, space, data, precision, wait_idle_s, resolution)
    with setup.open_runner() as runner:
        return measure(setup.profile, runner, setup.space, setup.folder, console(quiet), plan=plan)
