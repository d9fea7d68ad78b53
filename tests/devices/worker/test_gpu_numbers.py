"""CUDA's numbers of GPUs for any ``CUDA_VISIBLE_DEVICES``, tested with fakes."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from click.testing import CliRunner

from hwnas.cli.devices import devices
from hwnas.devices.discovery.attached import attached_gpus, cuda_number
from hwnas.devices.discovery.probe import probed_profile
from hwnas.devices.worker.runtimes import cuda
from hwnas.devices.worker.runtimes import nvml as nvml_module
from hwnas.errors import DeviceError
from hwnas.measurement.gpu import GpuState
from tests.support.machines.gpu_machine import BUS_IDS, Visible, load_fake_nvml, make_gpu_machine

A, B, C = BUS_IDS


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Visible:
    return make_gpu_machine(tmp_path, monkeypatch)


@pytest.fixture
def nvml() -> ModuleType:
    return load_fake_nvml()


def seen(nvml: ModuleType, number: int) -> GpuState | None:
    handles = nvml_module.find_gpu(nvml, number)
    return None if handles is None else msgspec.convert(nvml_module.state(nvml, handles), GpuState)


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (None, [A, B, C]),
        ("2,0", [C, A]),
        (" 1 ", [B]),
        ("GPU-1b2c,2", [A, C]),
        ("GPU-a1ff0000-0000-0000-0000-000000000000", [C]),
        ("2,7,0", [C]),  # the first that is not there hides what follows
        ("1,-1,0", [B]),
    ],
)
def test_cuda_and_nvml_mean_the_same_gpu(
    machine: Visible, nvml: ModuleType, names: str | None, places: list[str]
) -> None:
    machine(names)
    assert [gpu.pci_bus_id for gpu in cuda.cuda_gpus()] == places
    for number, place in enumerate(places):
        gpu = seen(nvml, number)
        assert gpu is not None
        assert gpu.uuid == nvml.UUIDS[nvml.BUS_IDS[place.encode()]]
        assert gpu.memory_bytes == (15 if place == A else 40) * 2**30
    assert seen(nvml, len(places)) is None, "never the state of a GPU that is hidden"


@pytest.mark.parametrize("names", ["", "-1", "GPU-a1", "9", "no"])
def test_if_every_gpu_is_hidden_the_variable_is_named(
    machine: Visible, nvml: ModuleType, names: str
) -> None:
    machine(names)
    why = rf"status 100 \(no CUDA-capable device is detected\); CUDA_VISIBLE_DEVICES is '{names}'"
    with pytest.raises(RuntimeError, match=why):
        cuda.EventClock(0)
    assert seen(nvml, 0) is None
    with pytest.raises(DeviceError, match=rf"GPU 1 \(NVIDIA A100\): CUDA does not .*'{names}'"):
        probed_profile("x", "gpu:1")


def test_a_number_beyond_the_visible_ones_is_refused(machine: Visible) -> None:
    machine("2,0")
    with pytest.raises(RuntimeError, match=r"no GPU 2: CUDA sees 2, .*; CUDA_VISIBLE_DEVICES is "):
        cuda.find_cuda_gpu(2)


@pytest.mark.parametrize(
    "name", ["MIG-5e115000-0000-0000-0000-000000000000", "MIG-5e11", "MIG-5e11,0"]
)
def test_an_instance_has_its_own_memory_and_its_gpus_clocks(
    machine: Visible, nvml: ModuleType, name: str
) -> None:
    machine(name)
    gpu = seen(nvml, 0)
    assert gpu is not None
    assert (gpu.name, gpu.memory_bytes) == ("NVIDIA A100 MIG 1g.5gb", 5 * 2**30)
    assert (gpu.sm_clock_mhz, gpu.mig) == (1410, True)
    assert seen(nvml, 1) is None, "CUDA sees one instance at most"


def test_with_an_old_driver_the_variable_identifies_an_instance(
    machine: Visible, nvml: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(f"MIG-{nvml.UUIDS[nvml.A100]}/1/0")
    old = cuda.CudaGpu(B, "")
    monkeypatch.setattr(nvml_module, "find_cuda_gpu", lambda number: old)
    gpu = seen(nvml, 0)
    assert gpu is not None and gpu.name == "NVIDIA A100 MIG 1g.5gb"
    machine(None)
    gpu = seen(nvml, 0)
    assert gpu is not None and gpu.name == "NVIDIA A100"


def test_the_users_own_order_is_respected(
    machine: Visible, nvml: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(None)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    gpu = seen(nvml, 0)
    assert gpu is not None and gpu.uuid == nvml.UUIDS[nvml.A100]
    assert [cuda_number(gpu) for gpu in attached_gpus()] == [1, 0, 2]


def test_gpus_are_added_with_their_cuda_number(machine: Visible) -> None:
    machine("2,0")
    assert "number = 0" in probed_profile("x", "gpu:2")
    assert "number = 1" in probed_profile("x", "gpu:0")
    with pytest.raises(DeviceError, match=r"GPU 1 .*CUDA_VISIBLE_DEVICES is '2,0'"):
        probed_profile("x", "gpu:1")
    machine(None)
    assert "number = 2" in probed_profile("x", "gpu:2")


def test_the_list_shows_cuda_numbers_and_hidden_gpus(machine: Visible) -> None:
    machine("2,0")
    rows = json.loads(CliRunner().invoke(devices, ["list", "--attached", "--json"]).stdout)
    states = {row["address"]: row["state"] for row in rows if row["address"].startswith("gpu")}
    assert states == {
        "gpu:0": "ready, driver 535, number 1 for CUDA",
        "gpu:1": "CUDA does not see it; CUDA_VISIBLE_DEVICES is '2,0'",
        "gpu:2": "ready, driver 535, number 0 for CUDA",
    }
