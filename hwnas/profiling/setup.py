"""Devices, images and search spaces, looked up by their names."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple, Protocol

from hwnas.data.datasets import Dataset, load_dataset, own_photo_shape
from hwnas.devices.idle import waiting
from hwnas.devices.limits import check_precision
from hwnas.devices.profile import DeviceProfile, find_profile
from hwnas.devices.runner import Runner, open_runner
from hwnas.errors import DeviceError, UsageError
from hwnas.latency_models.storage.store import measured_folder
from hwnas.spaces.find import find_space
from hwnas.spaces.int8 import in_precision, precision_of
from hwnas.spaces.mobile.space import MobileSpace, scaled
from hwnas.spaces.space import SearchSpace

Shape = tuple[int, int, int]

MEASURED_SPACE, MEASURED_DATA = "mobile", "fashion-mnist-6k"
"""What ``hwnas latency measure`` measures if neither a space nor a data set is given."""


class LoadDataset(Protocol):
    def __call__(self, name: str, *, input_shape: Shape | None = None) -> Dataset: ...


class ProfilingSetup(NamedTuple):
    """A device, a search space, and the folder of their journal and latency model."""

    target: str
    """The device as the user named it: a name or the path of a profile."""
    profile: DeviceProfile
    space: SearchSpace
    folder: Path
    space_name: str = MEASURED_SPACE
    data: str = MEASURED_DATA
    resolution: int | None = None
    """Height and width of the images, in pixels; ``None``: the device's, or the data set's own."""

    def open_runner(self) -> Runner:
        """Return a runner on the device. Raises `DeviceError` if the device can't be reached."""
        if not self.profile.reachable:
            raise DeviceError(
                f"{self.profile.name}: the profile has no way to reach the device (no [remote] "
                "table), so nothing can be measured on it"
            )
        return open_runner(self.profile)

    @property
    def measure_command(self) -> str:
        """The command that measures the latency model."""
        return self._command("measure")

    @property
    def check_command(self) -> str:
        """The command that compares the latency model with new measurements."""
        return self._command("check")

    def _command(self, name: str) -> str:
        precision = precision_of(self.space)
        return latency_command(
            name, self.target, self.space_name, self.data, precision, self.resolution
        )


def latency_command(
    name: str,
    target: str,
    space: str,
    data: str,
    precision: str = "fp32",
    resolution: int | None = None,
) -> str:
    """Return the ``hwnas latency`` command of that name for a latency model; defaults are left
    out."""
    words = ["hwnas", "latency", name, "--target", target]
    if space != MEASURED_SPACE:
        words += ["--space", space]
    if data != MEASURED_DATA:
        words += ["--data", data]
    if resolution is not None:
        words += ["--resolution", str(resolution)]
    if precision != "fp32":
        words += ["--precision", precision]
    return shlex.join(words)


def find_setup(
    target: str | DeviceProfile,
    space: str,
    data: str,
    precision: str = "fp32",
    wait_idle_s: float = 0.0,
    resolution: int | None = None,
) -> ProfilingSetup:
    """Return the setup for a device, a space and the data set that sets its input and classes.

    ``resolution`` is the height and width of the images in pixels, in the place of the data set's.
    This machine waits for quiet cores before it measures, at most ``wait_idle_s``.
    """
    profile = waiting(find_profile(target), wait_idle_s)
    if profile.runtime == "torch":
        raise UsageError(
            f"{profile.name}: networks are measured as .onnx and .tflite files, which a device "
            "with runtime = 'torch' can't run; `hwnas benchmark FILE.pt2` measures on it"
        )
    check_precision(precision, profile)
    searched = load_space(space, load_images(data, profile, resolution), precision)
    name = target if isinstance(target, str) else profile.name
    folder = measured_folder(profile.name, searched)
    return ProfilingSetup(name, profile, searched, folder, space, data, resolution)


def load_images(
    name: str,
    profile: DeviceProfile,
    resolution: int | None = None,
    load: LoadDataset = load_dataset,
) -> Dataset:
    """Return a data set in a resolution: by default the device's, or else the data set's own."""
    shape = profile.default_input
    if resolution is None:
        return load(name, input_shape=shape)
    channels, height, _ = shape or own_photo_shape(name) or load(name).input_shape
    if shape is None and height == resolution:
        return load(name)
    return load(name, input_shape=(channels, resolution, resolution))


def load_space(
    name: str, dataset: Dataset, precision: str = "fp32", width_mult: float = 1.0
) -> SearchSpace:
    """Return the space of that name for a data set, its widths multiplied, in a precision.

    Raises `UsageError` for a space whose widths can't be multiplied.
    """
    space = find_space(name, dataset.input_shape, dataset.num_classes)
    if width_mult != 1:
        if not isinstance(space, MobileSpace):
            raise UsageError(
                f"--width-mult {width_mult:g}: the space {space.name!r} is no chain of blocks "
                "whose widths can be multiplied; mobile, ofa, proxyless and TOML chains are"
            )
        space = scaled(space, width_mult)
    return in_precision(space, precision)
