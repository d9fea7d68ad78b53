"""Images and spaces are looked up by their names, in the form that a run or a device needs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hwnas.data.datasets import Dataset, load_dataset
from hwnas.devices.profile import find_profile
from hwnas.errors import UsageError
from hwnas.profiling.setup import find_setup, load_images, load_space
from hwnas.spaces.mobile.space import MobileSpace
from tests.support.data.photos import noise_folder

DATA = "fashion-mnist-6k"
PROFILE = find_profile("simulated-phone")


def test_images_come_in_the_resolution_that_is_given() -> None:
    assert load_images(DATA, PROFILE, 24).input_shape == (1, 24, 24)
    assert load_images(DATA, PROFILE).input_shape == load_dataset(DATA).input_shape


def test_a_resolution_has_a_latency_model_and_commands_of_its_own() -> None:
    setup = find_setup("simulated-phone", "mobile", DATA, resolution=24)
    assert setup.space.input_shape == (1, 24, 24) and setup.folder.name == "mobile-1x24-10"
    assert setup.measure_command == (
        "hwnas latency measure --target simulated-phone --resolution 24"
    )
    assert setup.check_command == "hwnas latency check --target simulated-phone --resolution 24"


def test_a_device_with_an_input_of_its_own_sets_the_shape_of_the_images() -> None:
    profile = msgspec.structs.replace(PROFILE, default_input=(3, 20, 20))
    assert load_images(DATA, profile).input_shape == (3, 20, 20)
    assert load_images(DATA, profile, 24).input_shape == (3, 24, 24)


def test_a_space_has_the_widths_that_are_given_and_a_name_of_its_own() -> None:
    data = load_dataset(DATA)
    space, half = (load_space("mobile", data, width_mult=width) for width in (1.0, 0.5))
    assert isinstance(space, MobileSpace) and isinstance(half, MobileSpace)
    assert [stage.width for stage in half.stages] == [8, 16, 24, 32]  # 12, 20 round up
    assert half.head_width == space.head_width
    assert half.decisions == space.decisions and half.name == "mobile-x0.5"
    with pytest.raises(UsageError, match=r"--width-mult 0.5: the space 'cells' is no chain"):
        load_space("cells", data, width_mult=0.5)


def test_photos_are_loaded_in_the_resolution_only(tmp_path: Path) -> None:
    folder = noise_folder(tmp_path / "pets", 20)
    shapes: list[tuple[int, int, int] | None] = []

    def load(name: str, *, input_shape: tuple[int, int, int] | None = None) -> Dataset:
        shapes.append(input_shape)
        return load_dataset(name, input_shape=input_shape)

    profile = msgspec.structs.replace(PROFILE, default_input=None)
    assert load_images(str(folder), profile, 7, load).input_shape == (3, 7, 7)
    assert shapes == [(3, 7, 7)]
