"""Our conversion of a network, and the properties of a converted file."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from torch import nn

from hwnas.architecture.artifact import Format

Row = dict[str, Any]


def convert_network(
    module: nn.Module, size: int, format: Format, path: Path, count: int, repeats: int = 1
) -> Row:
    """Return `file_facts` of our file and the median seconds of tracing and writing it."""
    from hwnas.errors import ExportError
    from hwnas.export.graph.trace import trace
    from hwnas.export.onnx.emitter import write_onnx
    from hwnas.export.tflite.emitter import write_tflite

    write: Any = {"onnx": write_onnx, "tflite": write_tflite}[format]
    times_s: list[float] = []
    try:
        for _ in range(repeats):
            start = time.perf_counter()
            write(trace(module, (3, size, size)), path)
            times_s.append(time.perf_counter() - start)
    except ExportError as error:
        return {"failed": str(error)}
    return {"seconds": median(times_s), **file_facts(module, size, format, path, count)}


def file_facts(module: nn.Module, size: int, format: Format, path: Path, count: int) -> Row:
    """Return the error against PyTorch on noise, the operators by kind, and the bytes of a file."""
    from hwnas.export.verification.metrics import relative_error
    from hwnas.export.verification.run_model import file_outputs
    from hwnas.export.verification.verify import torch_outputs

    images = np.random.default_rng(0).standard_normal((count, 3, size, size)).astype(np.float32)
    error = relative_error(file_outputs(path, images), torch_outputs(module, images))
    return {"error": error, "ops": count_operators(path), "bytes": path.stat().st_size}


def count_operators(path: Path) -> dict[str, int]:
    """Return the number of operators of each kind in a file."""
    if path.suffix == ".onnx":
        import onnx

        graph = onnx.load(path, load_external_data=False).graph
        return Counter(node.op_type for node in graph.node)
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    model: Any = schema.Model.GetRootAs(path.read_bytes(), 0)
    codes = [
        names[model.OperatorCodes(index).BuiltinCode()]
        for index in range(model.OperatorCodesLength())
    ]
    graph = model.Subgraphs(0)
    return Counter(
        codes[graph.Operators(index).OpcodeIndex()] for index in range(graph.OperatorsLength())
    )


def latency_ratio(own: Path, peer: Path, runtime: str, rounds: int) -> float:
    """Return our latency over that of the peer's file; both are measured in turns.

    The calls in the middle of a visit are a percent or two slower or faster than those at its ends.
    So each file is in the middle in every second round, and the result is the geometric mean of
    both medians.
    """
    from hwnas.devices.worker.model import input_shapes, noise
    from hwnas.devices.worker.rounds import visit
    from hwnas.devices.worker.runtimes.open import open_model
    from hwnas.devices.worker.samples import Timer

    timer = Timer(1)
    models = [open_model(str(path), runtime) for path in (own, peer)]
    for model in models:
        model.set_inputs(noise(model.inputs, input_shapes("", model.inputs), 0))
        model.run()
    ratios: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        middle, ends = models[number % 2], models[1 - number % 2]
        inner, outer = visit(middle.run, ends.run, 4, timer)
        ratios[number % 2].append(median(inner.wall_ms) / median(outer.wall_ms))
    return (median(ratios[0]) / median(ratios[1])) ** 0.5
