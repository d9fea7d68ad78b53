"""The doctor's checks of a GPU, with fakes of the driver and NVML, and a patched PyTorch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnas.devices.discovery import gpu_checks
from hwnas.devices.discovery.check import Check
from hwnas.devices.discovery.doctor import examine
from hwnas.devices.discovery.gpu_checks import examine_gpu, runs_on
from hwnas.devices.profile import GpuSpec, find_profile
from tests.support.machines.gpu_machine import Visible, load_fake_nvml, make_gpu_machine
from tests.support.paths import ROOT

TORCH = GpuSpec(provider="torch")
Play = Callable[..., None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Visible:
    return make_gpu_machine(tmp_path, monkeypatch)


def checks_of(wanted: GpuSpec) -> dict[str, Check]:
    return {check.name: check for check in examine_gpu("mine", wanted)}


def test_the_doctor_reports_what_a_gpu_lacks() -> None:
    checks = {check.name: check for check in examine(find_profile("host-gpu"))}
    assert checks["host-gpu"].state == "failed"
    assert checks["CUDAExecutionProvider"].state == "failed"
    assert "onnxruntime-gpu" in checks["CUDAExecutionProvider"].advice
    assert checks["NVML"].state == "note"


def test_a_gpu_number_is_reported_with_the_name_of_its_gpu(machine: Visible) -> None:
    machine("2,0")
    check = checks_of(GpuSpec(number=1))["mine"]
    assert (check.state, check.detail) == ("ok", "number 1 is Tesla T4, nvidia-smi's 0")
    check = checks_of(GpuSpec(number=2))["mine"]
    assert check.state == "failed" and "CUDA_VISIBLE_DEVICES is '2,0'" in check.detail
    assert "nvidia-smi lists 0 (Tesla T4), 1 (NVIDIA A100)" in check.advice
    machine("MIG-5e11")
    assert "an instance (MIG) of NVIDIA A100, nvidia-smi's 1" in checks_of(GpuSpec())["mine"].detail


def test_a_throttled_gpu_is_reported(
    machine: Visible,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine("1,0")
    monkeypatch.setattr(gpu_checks, "open_nvml", load_fake_nvml)
    checks = checks_of(GpuSpec(number=1))
    assert checks["GPU clock"].detail == "throttled: power cap"
    assert checks["GPU load"].state == "warning" and checks["GPU persistence"].state == "note"


@pytest.mark.parametrize(
    ("package", "advised"),
    [(None, "pip install nvidia-ml-py"), (object(), "driver does not answer")],
)
def test_advice_for_nvml_depends_on_what_is_missing(
    package: object, advised: str, machine: Visible, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("1,0")
    monkeypatch.setattr(gpu_checks, "open_nvml", lambda: None)
    monkeypatch.setattr(gpu_checks, "find_spec", {"pynvml": package}.get)
    assert advised in checks_of(GpuSpec(number=1))["NVML"].advice


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Make PyTorch report GPUs; tensors on them are made on the CPU."""
    torch = importlib.import_module("torch")
    ones = torch.ones

    def patch(
        gpus: int = 1,
        cuda: str | None = "12.4",
        built: tuple[str, ...] = ("sm_75",),
        error: Exception | None = None,
        result: float = 1.0,
    ) -> None:
        def made(size: int, device: str) -> Any:
            assert device == f"cuda:{gpus - 1}"
            if error:
                raise error
            return ones(size) * result

        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: (7, 5))
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(built))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "Tesla T4")
        monkeypatch.setattr(torch, "ones", made)

    return patch


def test_pytorch_without_cuda_is_reported_with_advice(play: Play) -> None:
    play(cuda=None)
    checks = checks_of(TORCH)
    assert checks["PyTorch"].state == "failed" and "built without CUDA" in checks["PyTorch"].detail
    assert "pytorch.org" in checks["PyTorch"].advice
    assert "CUDAExecutionProvider" not in checks, "the profile needs no ONNX Runtime"


def test_a_gpu_that_pytorch_computes_on_is_ok(play: Play) -> None:
    play(gpus=2)
    check = checks_of(GpuSpec(provider="torch", number=1))["PyTorch CUDA"]
    assert (check.state, check.detail) == ("ok", "Tesla T4, compute capability 7.5, computes")


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"gpus": 0}, "sees 0 GPUs, not GPU 0"),
        (
            {"built": ("sm_80", "sm_90", "compute_90")},
            "capability 7.5, built for sm_80, sm_90, com",
        ),
        ({"error": RuntimeError("CUDA error: device busy\nmore")}, "7.5: CUDA error: device busy"),
        ({"result": 7.0}, "the sum of [2, 2, 2] was 24"),
    ],
)
def test_a_gpu_that_pytorch_cannot_use_is_reported_with_the_reason(
    play: Play, changes: dict[str, Any], detail: str
) -> None:
    play(**changes)
    check = checks_of(TORCH)["PyTorch CUDA"]
    assert check.state == "failed" and detail in check.detail


def test_code_runs_on_its_generation_and_ptx_on_later_ones() -> None:
    assert runs_on(["sm_70", "sm_75"], (7, 5)) and runs_on(["sm_80"], (8, 9))
    assert not runs_on(["sm_80"], (7, 5)) and not runs_on(["sm_80"], (9, 0))
    assert runs_on(["sm_80", "compute_80"], (12, 0)) and not runs_on(["compute_90"], (8, 0))
    assert runs_on(["sm_90a"], (9, 0)) and not runs_on(["sm_100f", "x"], (10, 3))
    assert runs_on(["sm_120"], (12, 0))


def test_the_doctor_checks_pytorch_for_its_profiles(tmp_path: Path, play: Play) -> None:
    play(cuda=None)
    text = (ROOT / "devices" / "host-gpu.toml").read_text()
    text = text.replace('"onnxruntime"', '"torch"').replace(
        'provider = "cuda"', 'provider = "torch"'
    )
    (tmp_path / "host-gpu.toml").write_text(text)
    checks = {check.name: check for check in examine(find_profile(str(tmp_path / "host-gpu.toml")))}
    assert checks["PyTorch"].state == "failed"
