"""``export/manifest.json``: every file with its input, its outputs and its verification."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hwnas.architecture.artifact import Artifact
from hwnas.devices.worker.runtimes.litert import silenced_stderr
from hwnas.export.graph.nodes import OUTPUT
from hwnas.export.metadata.preprocessing import Preprocessing, input_note

SCHEMA = 1


def manifest(
    artifacts: tuple[Artifact, ...], said: Preprocessing, input_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Return the document; ranges are those of real numbers, whatever type carries them."""
    return {
        "schema": SCHEMA,
        "labels": said.labels,
        "files": [_entry(one, said, input_shape) for one in artifacts],
    }


def _entry(
    artifact: Artifact, said: Preprocessing, input_shape: tuple[int, int, int]
) -> dict[str, Any]:
    import msgspec

    [text] = input_note(said, artifact.format, input_shape).values()
    note = msgspec.json.decode(text)
    ranges = [
        (0.0, 255.0) if said.inside else (-mean / std, (1 - mean) / std)
        for mean, std in zip(said.mean, said.std, strict=True)
    ]
    carried = _tflite_types(Path(artifact.path)) if artifact.format == "tflite" else None
    types = carried or ({"dtype": "float32"}, {"dtype": "float32"})
    return {
        "path": os.path.basename(artifact.path),
        "format": artifact.format,
        "precision": artifact.precision,
        "runtime": f"{artifact.runtime} {artifact.runtime_version}",
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "input": {
            **{key: note[key] for key in ("name", "layout", "shape", "takes", "mean", "std")},
            "range": ranges,
            **types[0],
        },
        "output": {"name": OUTPUT, "shape": [1, len(said.labels)], **types[1]},
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
    found = []
    for one in details:
        scale, zero = one["quantization"]
        kind: dict[str, Any] = {"dtype": one["dtype"].__name__}
        found.append({**kind, "scale": float(scale), "zero_point": int(zero)} if scale else kind)
    return found[0], found[1]
