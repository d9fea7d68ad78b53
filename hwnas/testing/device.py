"""A simulated device, and model files to measure on it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import torch

from hwnas.architecture.architecture import Block
from hwnas.devices.profile import DeviceProfile, Hardware, Limits, MeasureSpec, Simulation
from hwnas.export.compile import compile_model
from hwnas.nn.build import Network

SIMULATION = Simulation(call_ms=0.05, op_ms=0.01, macs_per_ms=1e6, depthwise_macs_per_ms=1e5)


def simulated_device(
    name: str = "simulated",
    *,
    runtime: Literal["onnxruntime", "litert"] = "litert",
    limits: Limits | None = None,
    measure: MeasureSpec | None = None,
    **simulation: float,
) -> DeviceProfile:
    """Return the profile of a device whose latencies are computed from the operators of a file.

    `hwnas.devices.runner.open_runner` gives a runner that measures on it at once; the same file
    always gives the same samples. ``simulation`` are fields of `Simulation` that replace those of
    `SIMULATION`, e.g. ``noise`` (relative), ``throttle_after_calls`` or ``drop_outs``. ``limits``
    are sizes and types that the device accepts, ``measure`` the number of rounds and calls.
    """
    return DeviceProfile(
        name=name,
        title=f"{name}: simulated, for tests",
        kind="simulated",
        runtime=runtime,
        transport="simulated",
        hardware=Hardware(source="simulated"),
        limits=limits or Limits(),
        measure=measure or MeasureSpec(),
        simulation=msgspec.structs.replace(SIMULATION, **simulation),
    )


def write_model(path: Path, channels: int = 8, layers: int = 2, size: int = 16) -> Path:
    """Write a small network with random weights to an ``.onnx`` or ``.tflite`` file; return it.

    Its input is ``[1, 3, size, size]``, its output ``[1, 10]``: ``layers`` 3x3 convolutions of
    ``channels`` channels and a classifier. The same arguments give the same file.
    """
    blocks = [Block("conv", 3, channels, 3, 1, 1, size)]
    blocks += [Block("conv", channels, channels, 3, 1, 1, size) for _ in range(layers - 1)]
    blocks.append(Block("logits", channels, 10, 1, 1, 1, size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(tuple(blocks)).eval()
    compile_model(network, (3, size, size), path)
    return path
