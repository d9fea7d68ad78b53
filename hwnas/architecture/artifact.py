"""What the compiler hands on: a model file, and what its verification measured. No torch."""

from __future__ import annotations

from typing import Literal

import msgspec

Format = Literal["onnx", "tflite"]
Precision = Literal["fp32", "int8"]


class Parity(msgspec.Struct, frozen=True):
    """How a file's outputs in its real runtime compare with the module's in PyTorch."""

    images: int
    max_relative_error: float
    """``max|artifact - torch| / max|torch|`` over the logits of all images."""
    accuracy_torch: float
    """Top-1 on these images, 0 to 1."""
    accuracy_artifact: float
    label_agreement: float | None = None
    """Share of images in which both see the same class; ``None``: not counted."""


class Artifact(msgspec.Struct, frozen=True):
    """One compiled model file."""

    path: str
    format: Format
    precision: Precision
    runtime: str
    """That the file was opened with, e.g. ``onnxruntime``."""
    runtime_version: str
    sha256: str
    size_bytes: int
    parity: Parity | None
    """``None``: not verified, as for blocks that are compiled only to be timed."""
    calibration: str = ""
    """Of an int8 file: how the ranges of its values were found."""
    float_layers: tuple[str, ...] = ()
    """Of an int8 file: layers that were left in float32."""
