"""What a converted file is like, and ours."""

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


def ours(
    module: nn.Module, size: int, format: Format, path: Path, count: int, repeats: int = 1
) -> Row:
    """Compile, open and compare; the seconds are of tracing and writing."""
    from hwnas.errors import ExportError
    from hwnas.export.graph.trace import trace
    from hwnas.export.onnx.emitter import write_onnx
    from hwnas.export.tflite.emitter import write_tflite

    write: Any = {"onnx": write_onnx, "tflite": write_tflite}[format]
    taken: list[float] = []
    try:
        for _ in range(repeats):
            start = time.perf_counter()
            write(trace(module, (3, size, size)), path)
            taken.append(time.perf_counter() - start)
    except ExportError as error:
        return {"failed": str(error)}
    return {"seconds": median(taken), **facts(module, size, format, path, count)}


def facts(module: nn.Module, size: int, format: Format, path: Path, count: int) -> Row:
    """Return error against PyTorch on noise, operators by kind and bytes of a file."""
    from hwnas.export.verification.metrics import relative_error
    from hwnas.export.verification.run_model import file_outputs
    from hwnas.export.verification.verify import torch_outputs

    images = np.random.default_rng(0).standard_normal((count, 3, size, size)).astype(np.float32)
    error = relative_error(file_outputs(path, images), torch_outputs(module, images))
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


def latency_ratio(own: Path, theirs: Path, runtime: str, rounds: int) -> float:
    """Return our latency over theirs, measured in turns.

    A file's calls in the middle of a visit are a percent or two slower or faster than those at its
    ends, so each is in the middle of every second round; the result is the geometric mean of both
    medians.
    """
    from hwnas.devices.worker.rounds import visit
    from hwnas.devices.worker.runtimes.open import open_model

    models = [open_model(str(path), runtime) for path in (own, theirs)]
    for model in models:
        model.set_input(np.random.default_rng(0).standard_normal(model.input_shape, np.float32))
        model.run()
    ratios: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        middle, ends = models[number % 2], models[1 - number % 2]
        one, other = visit(middle.run, ends.run, 4)
        ratios[number % 2].append(median(one) / median(other))
    return (median(ratios[0]) / median(ratios[1])) ** 0.5
