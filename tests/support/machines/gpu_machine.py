"""A machine with three GPUs: fakes of the driver (``gpu_fakes/cuda.c``), NVML and nvidia-smi."""

from __future__ import annotations

import importlib.util
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from hwnas.devices.worker.runtimes import cuda

FAKES = Path(__file__).parent / "gpu_fakes"
SMI = """\
0, Tesla T4, GPU-1b2c0000-0000-0000-0000-000000000000, 535, 15360, 1590, 7.5, 00000000:3B:00.0
1, NVIDIA A100, GPU-a1000000-0000-0000-0000-000000000000, 535, 40960, 1410, 8.0, 00000000:5E:00.0
2, NVIDIA A100, GPU-a1ff0000-0000-0000-0000-000000000000, 535, 40960, 1410, 8.0, 00000000:86:00.0
"""
BUS_IDS = ("0000:3b:00.0", "0000:5e:00.0", "0000:86:00.0")

Visible = Callable[[str | None], None]
"""Sets ``CUDA_VISIBLE_DEVICES``, or removes it for ``None``."""


def make_gpu_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Visible:
    """Make this process find the fakes of the driver and nvidia-smi."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed, which compiles the fake driver")
    library = str(folder / "libcuda.so.1")
    subprocess.run(["gcc", "-shared", "-fPIC", str(FAKES / "cuda.c"), "-o", library], check=True)
    smi = folder / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\ncat <<'END'\n{SMI}END\n")
    smi.chmod(smi.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(cuda, "LIBRARY", library)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")

    def visible(names: str | None) -> None:
        if names is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)

    return visible


def load_fake_nvml() -> ModuleType:
    """Return the fake of nvidia-ml-py; the real package stays importable."""
    spec = importlib.util.spec_from_file_location("fake_pynvml", FAKES / "pynvml.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
