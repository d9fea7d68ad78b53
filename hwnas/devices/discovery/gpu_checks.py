"""Diagnoses what prevents or disturbs measuring on an NVIDIA GPU of this machine."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from hwnas.devices.discovery.attached import attached_gpus
from hwnas.devices.discovery.check import Check
from hwnas.devices.profile import GpuSpec
from hwnas.devices.worker.runtimes.cuda import CudaGpu, find_cuda_gpu
from hwnas.devices.worker.runtimes.nvml import find_gpu, open_nvml, state
from hwnas.devices.worker.runtimes.onnxruntime_gpu import PACKAGE, PROVIDERS
from hwnas.errors import first_line

CUDA_BUILD = "install a build of PyTorch for CUDA: https://pytorch.org/get-started/locally"
DRIVER = "install NVIDIA's driver with its CUDA library; `nvidia-smi` must list the GPU"


def examine_gpu(name: str, wanted: GpuSpec) -> list[Check]:
    """Check that the GPU of a profile exists, is usable and is not throttled."""
    checks = [_presence(name, wanted)]
    if wanted.provider in PROVIDERS:
        checks.append(_provider(PROVIDERS[wanted.provider]))
    else:
        checks += _pytorch(wanted)
    return [*checks, *_conditions(wanted)]


def _presence(name: str, wanted: GpuSpec) -> Check:
    """Check that CUDA sees a GPU of that number, and name it."""
    attached = attached_gpus()
    if not attached:
        return Check(name, "failed", f"nvidia-smi lists no GPU {wanted.number}", DRIVER)
    try:
        gpu = find_cuda_gpu(wanted.number)
    except RuntimeError as error:
        known = ", ".join(f"{gpu.number} ({gpu.name})" for gpu in attached)
        advice = f"nvidia-smi lists {known}: change `number` in [gpu], or CUDA_VISIBLE_DEVICES"
        return Check(name, "failed", str(error), DRIVER if "no NVIDIA" in str(error) else advice)
    return Check(name, "ok", f"number {wanted.number} is {_describe(gpu)}")


def _describe(gpu: CudaGpu) -> str:
    for attached in attached_gpus():
        if attached.pci_bus_id == gpu.pci_bus_id:
            whole = not gpu.uuid or attached.uuid.endswith(gpu.uuid)
            part = "" if whole else "an instance (MIG) of "
            return f"{part}{attached.name}, nvidia-smi's {attached.number}"
    return f"the GPU at {gpu.pci_bus_id}"


def _provider(wanted: str) -> Check:
    try:
        listed = list(import_module("onnxruntime").get_available_providers())
    except ImportError:
        listed = []
    detail = ", ".join(listed) or "no ONNX Runtime"
    if wanted in listed:
        return Check(wanted, "ok", detail)
    return Check(wanted, "failed", detail, PACKAGE)


def _pytorch(wanted: GpuSpec) -> list[Check]:
    """Check PyTorch's build, that it sees the GPU, and that it computes there."""
    try:
        torch: Any = import_module("torch")
    except ImportError:
        return [Check("PyTorch", "failed", "not installed", CUDA_BUILD)]
    if torch.version.cuda is None:
        detail = f"{torch.__version__}, built without CUDA"
        return [Check("PyTorch", "failed", detail, CUDA_BUILD)]
    checks = [Check("PyTorch", "ok", f"{torch.__version__}, built for CUDA {torch.version.cuda}")]
    name, count = "PyTorch CUDA", torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted.number >= count:
        advice = "the driver must support that CUDA version: `nvidia-smi` shows the newest it can"
        return [
            *checks,
            Check(name, "failed", f"sees {count} GPUs, not GPU {wanted.number}", advice),
        ]
    major, minor = torch.cuda.get_device_capability(wanted.number)
    built = torch.cuda.get_arch_list()
    gpu = f"{torch.cuda.get_device_name(wanted.number)}, compute capability {major}.{minor}"
    if not runs_on(built, (major, minor)):
        detail = f"{gpu}, built for {', '.join(built)}"
        return [*checks, Check(name, "failed", detail, CUDA_BUILD)]
    try:
        sum_ = float((torch.ones(3, device=f"cuda:{wanted.number}") + 1).sum())
    except Exception as error:  # of many types: no kernel, no memory, a GPU in exclusive use
        advice = "`nvidia-smi` may show the reason"
        return [*checks, Check(name, "failed", f"{gpu}: {first_line(error)}", advice)]
    if sum_ != 6.0:
        return [*checks, Check(name, "failed", f"{gpu}: the sum of [2, 2, 2] was {sum_:g}")]
    return [*checks, Check(name, "ok", f"{gpu}, computes")]


def runs_on(built: list[str], capability: tuple[int, int]) -> bool:
    """Return whether a PyTorch build has code for a GPU.

    ``sm_75`` runs on 7.5 and later minor versions, ``compute_75`` (PTX) on all later versions,
    ``sm_90a`` on 9.0 only.
    """
    for name in built:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if match is None:
            continue
        target = (int(match[2]), int(match[3]))
        later = target <= capability and (match[1] == "compute" or target[0] == capability[0])
        if target == capability or (later and not match[4]):
            return True
    return False


def _conditions(wanted: GpuSpec) -> list[Check]:
    nvml = open_nvml()
    gpu = None if nvml is None else find_gpu(nvml, wanted.number)
    if nvml is None or gpu is None:
        advice = "pip install nvidia-ml-py, to record clocks, power and temperature"
        if find_spec("pynvml") is not None:
            advice = "nvidia-ml-py is installed, the driver does not answer: see `nvidia-smi`"
        return [Check("NVML", "note", "not available", advice)]
    now, checks = state(nvml, gpu), list[Check]()
    if now["slowed_by"]:
        reasons, advice = ", ".join(now["slowed_by"]), "cool it, or raise its power limit"
        checks.append(Check("GPU clock", "warning", f"throttled: {reasons}", advice))
    if now["others"]:
        detail = f"{now['others']} other processes compute on it"
        checks.append(Check("GPU load", "warning", detail, "end them: `nvidia-smi` lists them"))
    if now["persistence"] is False:
        checks.append(Check("GPU persistence", "note", "off", "nvidia-smi -pm 1 (as root)"))
    return checks
