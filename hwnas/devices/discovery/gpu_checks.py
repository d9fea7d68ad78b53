"""What stands in the way of measuring on an NVIDIA GPU of this machine."""

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

CUDA_BUILD = "install a build of PyTorch for CUDA: https://pytorch.org/get-started/locally"
DRIVER = "install NVIDIA's driver, its CUDA library too; `nvidia-smi` must list the GPU"


def examine_gpu(name: str, wanted: GpuSpec) -> list[Check]:
    """Check that the GPU of a profile is there, can be used, and is not held down."""
    checks = [_place(name, wanted)]
    if wanted.provider in PROVIDERS:
        checks.append(_provider(PROVIDERS[wanted.provider]))
    else:
        checks += _pytorch(wanted)
    return [*checks, *_conditions(wanted)]


def _place(name: str, wanted: GpuSpec) -> Check:
    """Check that CUDA sees the number, and say which GPU that is."""
    attached = attached_gpus()
    if not attached:
        return Check(name, "failed", f"no GPU {wanted.number} by nvidia-smi", DRIVER)
    try:
        gpu = find_cuda_gpu(wanted.number)
    except RuntimeError as error:
        known = ", ".join(f"{one.number} ({one.name})" for one in attached)
        advice = f"nvidia-smi lists {known}: change `number` in [gpu], or CUDA_VISIBLE_DEVICES"
        return Check(name, "failed", str(error), DRIVER if "no NVIDIA" in str(error) else advice)
    return Check(name, "ok", f"number {wanted.number} is {_named(gpu)}")


def _named(gpu: CudaGpu) -> str:
    for one in attached_gpus():
        if one.pci_bus_id == gpu.pci_bus_id:
            part = "" if not gpu.uuid or one.uuid.endswith(gpu.uuid) else "an instance (MIG) of "
            return f"{part}{one.name}, nvidia-smi's {one.number}"
    return f"the GPU at {gpu.pci_bus_id}"


def _provider(wanted: str) -> Check:
    try:
        listed = list(import_module("onnxruntime").get_available_providers())
    except ImportError:
        listed = []
    said = ", ".join(listed) or "no ONNX Runtime"
    return Check(wanted, "ok", said) if wanted in listed else Check(wanted, "failed", said, PACKAGE)


def _pytorch(wanted: GpuSpec) -> list[Check]:
    """Check PyTorch's build, what it sees, and that it computes there."""
    try:
        torch: Any = import_module("torch")
    except ImportError:
        return [Check("PyTorch", "failed", "not installed", CUDA_BUILD)]
    if torch.version.cuda is None:
        found = f"{torch.__version__}, built without CUDA"
        return [Check("PyTorch", "failed", found, CUDA_BUILD)]
    checks = [Check("PyTorch", "ok", f"{torch.__version__}, built for CUDA {torch.version.cuda}")]
    what, seen = "PyTorch CUDA", torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted.number >= seen:
        advice = "the driver must be as new as that CUDA: `nvidia-smi` says which it can"
        return [*checks, Check(what, "failed", f"sees {seen} GPUs, not {wanted.number}", advice)]
    major, minor = torch.cuda.get_device_capability(wanted.number)
    built = torch.cuda.get_arch_list()
    gpu = f"{torch.cuda.get_device_name(wanted.number)}, compute capability {major}.{minor}"
    if not runs_on(built, (major, minor)):
        found = f"{gpu}, built for {', '.join(built)}"
        return [*checks, Check(what, "failed", found, CUDA_BUILD)]
    try:
        sum_ = float((torch.ones(3, device=f"cuda:{wanted.number}") + 1).sum())
    except Exception as error:  # of many kinds: no kernel, no memory, a GPU that another one holds
        said = str(error).strip().splitlines()[:1] or [type(error).__name__]
        return [*checks, Check(what, "failed", f"{gpu}: {said[0]}", "`nvidia-smi` may say why")]
    if sum_ != 6.0:
        return [*checks, Check(what, "failed", f"{gpu}: 3 times 1 + 1 gave {sum_:g}")]
    return [*checks, Check(what, "ok", f"{gpu}, computes")]


def runs_on(built: list[str], capability: tuple[int, int]) -> bool:
    """Whether a build has code for a GPU.

    ``sm_75`` runs on 7.5 and later ones of the same first number, ``compute_75`` (PTX) on all
    later ones, ``sm_90a`` on 9.0 only.
    """
    for name in built:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if match is None:
            continue
        made = (int(match[2]), int(match[3]))
        later = made <= capability and (match[1] == "compute" or made[0] == capability[0])
        if made == capability or (later and not match[4]):
            return True
    return False


def _conditions(wanted: GpuSpec) -> list[Check]:
    nvml = open_nvml()
    gpu = None if nvml is None else find_gpu(nvml, wanted.number)
    if nvml is None or gpu is None:
        advice = "pip install nvidia-ml-py, for clocks, power and heat"
        if find_spec("pynvml") is not None:
            advice = "nvidia-ml-py is there; its driver does not answer: `nvidia-smi` may say why"
        return [Check("NVML", "note", "says nothing", advice)]
    now, checks = state(nvml, gpu), list[Check]()
    if now["slowed_by"]:
        found, advice = ", ".join(now["slowed_by"]), "cool it, or raise its power limit"
        checks.append(Check("GPU clock", "warning", f"held down by {found}", advice))
    if now["others"]:
        found = f"{now['others']} processes of others compute on it"
        checks.append(Check("GPU load", "warning", found, "end them: `nvidia-smi`"))
    if now["persistence"] is False:
        checks.append(Check("GPU persistence", "note", "off", "nvidia-smi -pm 1 (as root)"))
    return checks
