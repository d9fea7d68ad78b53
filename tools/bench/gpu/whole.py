"""The machine, several processes on one device, a compiled program, and a whole run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import torch

from hwnas.devices.worker.runtimes.torch_export import open_program
from hwnas.errors import last_line
from hwnas.nn.build import build
from hwnas.spaces.published import adapt, published
from tools.bench.gpu.scale import Rows, Scale
from tools.bench.gpu.throughput import thumbnail_img_s
from tools.lib.results import SHARED_DATA

SINGLE = "import sys; from tools.bench.gpu.whole import print_single; print_single(sys.argv[1:])"
CIFAR10 = SHARED_DATA / "cifar10" / "cifar10.npz"
CALLS = 20


def machine(scale: Scale) -> Rows:
    """Versions, card, driver's compute capability and memory."""
    row: dict[str, Any] = {"torch": str(torch.__version__), "device": scale.device}
    if scale.on_cuda:
        properties = torch.cuda.get_device_properties(scale.device)
        free_bytes, total_bytes = torch.cuda.mem_get_info(scale.device)
        row |= {
            "card": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
            "free_bytes": free_bytes,
            "total_bytes": total_bytes,
        }
    return [row]


def processes(scale: Scale) -> Rows:
    """One, two and four trainings on 28 px at once."""
    return [
        {"processes": count, "img_s of all": sum(_at_once(scale, count))} for count in (1, 2, 4)
    ]


def _at_once(scale: Scale, count: int) -> list[float]:
    call = [sys.executable, "-c", SINGLE, scale.device, str(int(scale.small))]
    running = [subprocess.Popen(call, stdout=subprocess.PIPE) for _ in range(count)]
    return [float(process.communicate()[0].splitlines()[-1]) for process in running]


def print_single(arguments: list[str]) -> None:
    """Print the images a second of a training in this process; its arguments are the device, and 1
    for tiny sizes."""
    scale = Scale(arguments[0], arguments[1] == "1")
    print(thumbnail_img_s(scale, scale.thumbnails(512)))


def program(scale: Scale) -> Rows:
    """A ``.pt2`` file of MobileNetV2 in the runner of such files."""
    workload = scale.photos(1)
    named = published("mobilenet_v2").architecture
    network = build(adapt(named, workload.input_shape, workload.classes)).eval()
    return [_program_row(network, workload.input_shape, batch, scale) for batch in (1, 64)]


def _program_row(
    network: torch.nn.Module, shape: tuple[int, ...], batch: int, scale: Scale
) -> dict[str, Any]:
    images = np.random.default_rng(0).random((batch, *shape), np.float32)
    gpu = None
    if scale.on_cuda:
        gpu = {"number": int(scale.device.partition(":")[2] or 0), "precision": "fp32"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt2"
        exported: Any = torch.export.export(network, (torch.from_numpy(images),))
        torch.export.save(exported, path)
        opened = open_program(str(path), 1, gpu)
    opened.set_inputs([images])
    for _ in range(3):
        opened.run()
    output = opened.outputs()[0]
    start = perf_counter()
    for _ in range(CALLS):
        opened.run()
        output = opened.outputs()[0]  # waits for the GPU
    elapsed_s = perf_counter() - start
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    error = float(np.abs(output - expected).max() / np.abs(expected).max())
    return {"batch": batch, "call_ms": 1e3 * elapsed_s / CALLS, "relative error": error}


def specialize(scale: Scale) -> Rows:
    """A whole run on CIFAR-10, for a simulated phone whose latencies need no measuring."""
    if not CIFAR10.is_file() and not scale.small:
        return [{"skipped": f"{CIFAR10} is missing"}]
    data = "fashion-mnist-6k" if scale.small else "cifar10"
    effort = "trial" if scale.small else "quick"
    start = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        call = ["-m", "hwnas", "specialize", "--target", "simulated-phone", "--data", data]
        call += ["--effort", effort, "--device", scale.device, "--out", str(out), "--quiet"]
        environment = {**os.environ, "HWNAS_CIFAR10": str(CIFAR10), "HWNAS_HOME": folder}
        process = subprocess.run(
            [sys.executable, *call], env=environment, capture_output=True, check=False
        )
        if process.returncode not in (0, 5, 6):  # a missed budget is a verdict
            raise RuntimeError(last_line(process.stderr))
        report = msgspec.json.decode((out / "report.json").read_bytes())
    result = report["results"][0]
    seconds = perf_counter() - start
    stages = {f"{name}_s": spent for name, spent in report["stages_s"].items()}
    accuracy = result["accuracy"]["torch"] if result["accuracy"] else None
    return [{"verdict": result["verdict"], "accuracy": accuracy, "whole_s": seconds, **stages}]
