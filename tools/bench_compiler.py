"""Does the compiler take published networks, and how fast? Writes results/compiler_coverage.md.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tools/bench_compiler.py [--peers PYTHON] [--latency]

Every network of torchvision's that is named here (random weights, its own input size) goes through
the compiler to both formats and through the runtime on ``--images`` random images. ``--peers`` is
the Python of an environment with ``onnxscript`` and ``litert-torch`` beside this one's packages;
each of their conversions runs in a process of its own, which ends after ``--timeout-s``. Both sides
have converted a small network before, so that no import is counted. ``--latency`` measures our file
and theirs in turns, in one process, one thread.

Each finished row is kept in ``--work``, where a run that was cut off goes on; another compiler or
peer needs another folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
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
    parser.add_argument("--repeats", type=int, default=5, help="Of our conversion; the median.")
    parser.add_argument("--work", type=Path, default=Path("build/bench_compiler"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.convert:
        print(json.dumps({"seconds": convert(*options.convert)}))
        return
    if options.peers:
        needed = [str(options.peers), "-c", "import torchvision, onnxscript, litert_torch"]
        code, _, err = ended(needed, options.timeout_s)
        if code:
            parser.error(f"{options.peers}: {(err.strip().splitlines() or ['failed'])[-1]}")
    cases = [(name, format) for name in options.models for format in RUNTIMES]
    kept = options.work / "rows.jsonl"
    known = read_rows(kept, options)
    start, rows = time.monotonic(), dict[tuple[str, str], Row]()
    with tempfile.TemporaryDirectory() as scratch:
        for format in RUNTIMES:
            ours(small(), 32, format, Path(scratch) / f"small.{format}", 1)
        for number, (name, format) in enumerate(cases, 1):
            row = known.get((name, format)) or measured(name, format, Path(scratch), options)
            rows[name, format] = row
            if (name, format) not in known:
                keep_row(kept, name, format, row, options)
                minutes = (time.monotonic() - start) / 60
                print(f"{number}/{len(cases)} {minutes:.1f} min {line(name, format, row)}",
                      flush=True)  # fmt: skip
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(table(rows, options))


def read_rows(path: Path, options: argparse.Namespace) -> dict[tuple[str, str], Row]:
    """Return the rows of the same settings; a peer that failed is tried again, a slow one not."""
    found: dict[tuple[str, str], Row] = {}
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            asked, name, format, row = json.loads(text)
        except ValueError:
            continue  # the line that was being written
        if asked == settings(options) and row.get("peer_failed", "over")[:4] == "over":
            found[name, format] = row
    return found


def keep_row(path: Path, name: str, format: str, row: Row, options: argparse.Namespace) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps((settings(options), name, format, row)) + "\n")


def settings(options: argparse.Namespace) -> list[Any]:
    compared = [options.latency, options.rounds, options.timeout_s] if options.peers else []
    return [options.images, options.repeats, *compared]


def measured(name: str, format: Any, folder: Path, options: argparse.Namespace) -> Row:
    module, size = network(name)
    row = ours(module, size, format, folder / f"own.{format}", options.images, options.repeats)
    return row | (compared(name, format, folder, options) if options.peers else {})


def network(name: str) -> tuple[nn.Module, int]:
    """Return a network with random weights from seed 0, and its images' height and width."""
    from torchvision import models

    torch.manual_seed(0)
    inception = name in ("googlenet", "inception_v3")
    settings = {"init_weights": False} if inception else {}
    return getattr(models, name)(**settings).eval(), 299 if name == "inception_v3" else 224


def small() -> nn.Module:
    """Return a network of 32 px that is converted first."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()  # fmt: skip


def ours(
    module: nn.Module, size: int, format: Any, path: Path, count: int, repeats: int = 1
) -> Row:
    """Compile, open and compare; the seconds are of tracing and writing."""
    from hwnas.errors import ExportError
    from hwnas.export.graph import trace
    from hwnas.export.onnx import write_onnx
    from hwnas.export.tflite import write_tflite

    write = {"onnx": write_onnx, "tflite": write_tflite}[format]
    taken: list[float] = []
    try:
        for _ in range(repeats):
            start = time.perf_counter()
            write(trace(module, (3, size, size)), path)
            taken.append(time.perf_counter() - start)
    except ExportError as error:
        return {"failed": str(error)}
    return {"seconds": median(taken), **facts(module, size, format, path, count)}


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
    litert_torch: Any = import_module("litert_torch") if peer == "litert-torch" else None
    module, size = network(name)
    taken = 0.0
    for one, pixels in ((small(), 32), (module, size)):
        image, start = torch.randn(1, 3, pixels, pixels), time.perf_counter()
        if peer == "torch-onnx":
            torch.onnx.export(
                one, (image,), file, dynamo=True, external_data=False, verbose=False
            )  # fmt: skip
        else:
            nhwc = litert_torch.to_channel_last_io(one, args=[0])
            litert_torch.convert(nhwc, (image.permute(0, 2, 3, 1).contiguous(),)).export(file)
        taken = time.perf_counter() - start
    return taken


def compared(name: str, format: Any, folder: Path, options: argparse.Namespace) -> Row:
    """Return what a peer's file of the same network is like, by names that begin with ``peer``."""
    theirs, own = folder / f"theirs.{format}", folder / f"own.{format}"
    theirs.unlink(missing_ok=True)
    command = [
        str(options.peers), __file__, "--convert", PEERS[format], name, str(theirs)
    ]  # fmt: skip
    try:
        code, out, err = ended(command, options.timeout_s)
        said = out.strip().splitlines()[-1] if out.strip() else ""
        if code or not said.startswith("{"):
            last = (err.strip().splitlines() or ["nothing said"])[-1]
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


def ended(command: list[str], timeout_s: float) -> tuple[int, str, str]:
    """Run a peer; one that takes longer is killed with all that it has started."""
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = child.communicate(timeout=timeout_s)
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    return child.returncode, out, err


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
        f"Error: `max|file - torch| / max|torch|` in the runtime. Seconds: trace and write, median "
        f"of {options.repeats}, beside one conversion by the peer (torch.onnx.export(dynamo=True) "
        "or litert-torch, own process); both have converted a small network before.",
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
        f"{row['bytes'] / 1e6:.1f}", f"{row['seconds']:.3f}",
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
