"""``export/manifest.json``: the files of a run with their inputs, outputs and verification."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hwnas.architecture.artifact import Artifact
from hwnas.devices.worker.runtimes.litert import silenced_stderr
from hwnas.export.graph.nodes import OUTPUT
from hwnas.export.metadata.input import Preprocessing, describe_input

SCHEMA = 1


def export_manifest(
    artifacts: tuple[Artifact, ...], preprocessing: Preprocessing, input_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Return the document. Ranges are in real numbers, whatever type represents them."""
    return {
        "schema": SCHEMA,
        "labels": preprocessing.labels,
        "files": [_file_entry(artifact, preprocessing, input_shape) for artifact in artifacts],
    }


def _file_entry(
    artifact: Artifact, preprocessing: Preprocessing, input_shape: tuple[int, int, int]
) -> dict[str, Any]:
    described = describe_input(preprocessing, artifact.format, input_shape)
    fields = ("name", "layout", "shape", "takes", "mean", "std")
    ranges = [
        (0.0, 255.0) if preprocessing.takes_pixels else (-mean / std, (1 - mean) / std)
        for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)
    ]
    input_type, output_type = {"dtype": "float32"}, {"dtype": "float32"}
    if artifact.format == "tflite":
        input_type, output_type = _tflite_types(Path(artifact.path))
    return {
        "path": os.path.basename(artifact.path),
        "format": artifact.format,
        "precision": artifact.precision,
        "runtime": f"{artifact.runtime} {artifact.runtime_version}",
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "input": {
            **{field: getattr(described, field) for field in fields},
            "range": ranges,
            **input_type,
        },
        "output": {"name": OUTPUT, "shape": [1, len(preprocessing.labels)], **output_type},
        "parity": artifact.parity,
        "calibration": artifact.calibration,
        "float_layers": artifact.float_layers,
    }


def _tflite_types(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return type, scale and zero point of input and output: real = scale * (value - zero)."""
    from ai_edge_litert.interpreter import Interpreter

    with silenced_stderr():
        interpreter = Interpreter(model_path=str(path))
        details = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    return _tensor_type(details[0]), _tensor_type(details[1])


def _tensor_type(details: dict[str, Any]) -> dict[str, Any]:
    scale, zero_point = details["quantization"]
    quantization = {"scale": float(scale), "zero_point": int(zero_point)} if scale else {}
    return {"dtype": details["dtype"].__name__, **quantization}
