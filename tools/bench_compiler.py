"""Does the compiler take published networks, and how fast? Writes results/compiler_coverage.md.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tools/bench_compiler.py [--peers PYTHON] [--latency]

Every network of torchvision's that is named here (random weights, its own input size) goes through
the compiler to both formats and through the runtime on ``--images`` random images. ``--peers`` is
the Python of an environment with ``onnxscript`` and ``litert-torch`` beside this one's packages;
each of their conversions runs in a process of its own, whose start is not counted. ``--latency``
measures our file and theirs in turns, in one process, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

PEERS = {"onnx": "torch-onnx", "tflite": "litert-torch"}
RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert"}
MODELS = (
    "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x1_0", "mobilenet_v2", "mnasnet1_0",
    "mobilenet_v3_large", "regnet_y_400mf", "efficientnet_b0", "googlenet", "densenet121",
    "resnet18", "resnet50", "resnext50_32x4d", "inception_v3", "convnext_tiny", "alexnet",
    "vgg11_bn",
)  # fmt: skip
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--peers", type=Path, help="Python with onnxscript and litert-torch.")
    parser.add_argument("--timeout-s", type=float, default=300.0, help="Of one peer's conversion.")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--rounds", type=int, default=15, help="Of the latency.")
    parser.add_argument("--out", type=Path, default=Path("tools/results/compiler_coverage.md"))
    parser.add_argument("--convert", nargs=3, metavar=("PEER", "MODEL", "FILE"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.convert:
        print(json.dumps({"seconds": convert(*options.convert)}))
        return
    rows: dict[tuple[str, str], Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        ours(network("mobilenet_v2")[0], 224, "onnx", Path(folder) / "warm.onnx", 1)
        for name in options.models:
            module, size = network(name)
            for format in RUNTIMES:
                path = Path(folder) / f"ours.{format}"
                rows[name, format] = ours(module, size, format, path, options.images)
                print(name, format, rows[name, format], flush=True)
        options.out.write_text(table(rows, options))
        for name in options.models if options.peers else ():
            for format in RUNTIMES:
                rows[name, format] |= compared(name, format, Path(folder), options)
                print(name, format, rows[name, format], flush=True)
            options.out.write_text(table(rows, options))


def network(name: str) -> tuple[nn.Module, int]:
    """Return a network with random weights from seed 0, and its images' height and width."""
    from torchvision import models

    torch.manual_seed(0)
    inception = name in ("googlenet", "inception_v3")
    settings = {"init_weights": False} if inception else {}
    return getattr(models, name)(**settings).eval(), 299 if name == "inception_v3" else 224


def ours(module: nn.Module, size: int, format: Any, path: Path, count: int) -> Row:
    """Compile, open and compare; the seconds are of tracing and writing."""
    from hwnas.errors import ExportError
    from hwnas.export.graph import trace
    from hwnas.export.onnx import write_onnx
    from hwnas.export.tflite import write_tflite

    start = time.perf_counter()
    try:
        graph = trace(module, (3, size, size))
        {"onnx": write_onnx, "tflite": write_tflite}[format](graph, path)
    except ExportError as error:
        return {"failed": str(error)}
    seconds = time.perf_counter() - start
    return {"seconds": seconds, **facts(module, size, format, path, count)}


def facts(module: nn.Module, size: int, format: Any, path: Path, count: int) -> Row:
    from hwnas.export.verify import file_outputs, relative_error, torch_outputs

    images = np.random.default_rng(0).standard_normal((count, 3, size, size)).astype(np.float32)
    error = relative_error(file_outputs(path, format, images), torch_outputs(module, images))
    return {"error": error, "ops": operators(path), "bytes": path.stat().st_size}


def operators(path: Path) -> dict[str, int]:
    """Return how many operators of each kind a file has."""
    if path.suffix == ".onnx":
        import onnx

        graph = onnx.load(path, load_external_data=False).graph
        return Counter(node.op_type for node in graph.node)
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    model: Any = schema.Model.GetRootAs(path.read_bytes(), 0)
    codes = [
        names[model.OperatorCodes(at).BuiltinCode()] for at in range(model.OperatorCodesLength())
    ]
    graph = model.Subgraphs(0)
    return Counter(
        codes[graph.Operators(at).OpcodeIndex()] for at in range(graph.OperatorsLength())
    )


def convert(peer: str, name: str, file: str) -> float:
    """Convert by another program; called in a process of its own. Return the seconds."""
    module, size = network(name)
    image = (torch.randn(1, 3, size, size),)
    if peer == "torch-onnx":
        start = time.perf_counter()
        torch.onnx.export(module, image, file, dynamo=True, external_data=False, verbose=False)
        return time.perf_counter() - start
    from importlib import import_module

    litert_torch = import_module("litert_torch")
    start = time.perf_counter()
    nhwc = litert_torch.to_channel_last_io(module, args=[0])
    litert_torch.convert(nhwc, (image[0].permute(0, 2, 3, 1).contiguous(),)).export(file)
    return time.perf_counter() - start


def compared(name: str, format: Any, folder: Path, options: argparse.Namespace) -> Row:
    """Return what a peer's file of the same network is like, by names that begin with ``peer``."""
    theirs, own = folder / f"theirs.{format}", folder / f"own.{format}"
    theirs.unlink(missing_ok=True)
    command = [
        str(options.peers), __file__, "--convert", PEERS[format], name, str(theirs)
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=options.timeout_s, env=dict(os.environ)
        )
        said = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
        if done.returncode or not said.startswith("{"):
            last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
            return {"peer_failed": last[:120]}
        module, size = network(name)
        found = facts(module, size, format, theirs, options.images)
    except subprocess.TimeoutExpired:
        return {"peer_failed": f"over {options.timeout_s:g} s"}
    except Exception as error:
        return {"peer_failed": str(error).splitlines()[0][:120]}
    row: Row = {"peer_seconds": json.loads(said)["seconds"]}
    row |= {f"peer_{key}": value for key, value in found.items()}
    if options.latency:
        ours(module, size, format, own, 1)
        row["ratio"] = latency_ratio(own, theirs, RUNTIMES[format], options.rounds)
    return row


def latency_ratio(own: Path, theirs: Path, runtime: str, rounds: int) -> float:
    """Return the median over rounds of our latency over theirs, measured in turns."""
    from hwnas.devices.worker_model import open_model
    from hwnas.devices.worker_rounds import visit

    models = [open_model(str(path), runtime) for path in (own, theirs)]
    for model in models:
        model.set_input(np.random.default_rng(0).standard_normal(model.input_shape, np.float32))
        model.run()
    visits = [visit(models[0].run, models[1].run, 4) for _ in range(rounds)]
    return median(median(one) / median(other) for one, other in visits)


def table(rows: dict[tuple[str, str], Row], options: argparse.Namespace) -> str:
    lines = [
        "# The compiler and published networks\n",
        f"torchvision's networks, random weights (seed 0), {options.images} random images each, "
        f"one thread; torch {torch.__version__}, {platform.machine()}, "
        f"{time.strftime('%Y-%m-%d')}.",
        "Error: `max|file - torch| / max|torch|` in the runtime. Seconds: trace and write, beside "
        "the peer's conversion (torch.onnx.export(dynamo=True) or litert-torch, own process).",
        "Latency: ours over the peer's, median of rounds in turns; -: not measured in this run. "
        "TensorFlow's converter was not compared.\n",
        f"Command: `OMP_NUM_THREADS=1 PYTHONPATH=. python {' '.join(sys.argv)}`\n",
        "| network | format | error | ops | transposes | MB | s | peer error | peer ops | peer s "
        "| times faster | latency |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [line(name, format, row) for (name, format), row in rows.items()]
    return "\n".join(lines) + "\n"


def line(name: str, format: str, row: Row) -> str:
    if "failed" in row:
        return f"| {name} | {format} | {row['failed']} |" + " |" * 9
    ops = row["ops"]
    moved = ops.get("TRANSPOSE", 0) + ops.get("Transpose", 0)
    cells = [
        name, format, f"{row['error']:.1e}", str(sum(ops.values())), str(moved),
        f"{row['bytes'] / 1e6:.1f}", f"{row['seconds']:.2f}",
    ]  # fmt: skip
    if "peer_seconds" in row:
        cells += [
            f"{row['peer_error']:.1e}",
            str(sum(row["peer_ops"].values())),
            f"{row['peer_seconds']:.1f}",
            f"{row['peer_seconds'] / row['seconds']:.0f}",
        ]
    else:
        cells += [row.get("peer_failed", "-"), "-", "-", "-"]
    cells.append(f"{row['ratio']:.3f}" if "ratio" in row else "-")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
