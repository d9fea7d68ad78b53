"""Results of the compiler as plain data: a model file and its verification."""

from __future__ import annotations

from typing import Literal

import msgspec

Format = Literal["onnx", "tflite"]
Precision = Literal["fp32", "fp16", "int8-weights", "int8-dynamic", "int8"]
"""Number format of a file. ``fp16`` and ``int8-weights`` store weights in 16 and 8 bits and compute
in float32; ``int8-dynamic`` also quantises the inputs of layers, by their range in each run;
``int8`` quantises all values, by ranges that were calibrated beforehand."""


class OutputParity(msgspec.Struct, frozen=True):
    """Agreement of one output."""

    name: str
    shape: tuple[int, ...]
    """For a batch of one; images are ``[1, C, H, W]`` in every format."""
    max_relative_error: float
    """As in `Parity`, over this output alone."""
    sqnr_db: float | None = None
    """As in `Parity`, over this output alone; only for outputs of floats."""
    agreement: float | None = None
    """Share of equal elements; only for integer outputs of 8-bit files."""


class DecidedClasses(msgspec.Struct, frozen=True):
    """The classes of images that the noise of a file leaves decided.

    The two best logits of such an image differ in PyTorch by more than rounding can change: by two
    standard deviations of the difference of two logits' noise.
    """

    images: int
    agreement: float
    """Share of them that the file assigns to PyTorch's class; 0 if there are none."""
    difference_sqnr_db: float | None
    """Signal-to-noise ratio of what differs between the images: of the logits less their means over
    all images and over all classes; ``None`` if they are the same for all images."""


class Parity(msgspec.Struct, frozen=True):
    """Agreement of a file's outputs in its runtime with the module's outputs in PyTorch."""

    images: int
    max_relative_error: float
    """``max|artifact - torch| / max|torch|`` over all images, of the output that differs most;
    8-bit files count only outputs of floats."""
    accuracy_torch: float | None = None
    """Top-1 on these images, 0 to 1; ``None`` if the network is no classifier."""
    accuracy_artifact: float | None = None
    label_agreement: float | None = None
    """Share of images that both assign to the same class; ``None`` if that was not computed."""
    sqnr_db: float | None = None
    """Signal-to-quantisation-noise ratio over all images, of the output with the most noise; only
    for 8-bit files."""
    top5_artifact: float | None = None
    """Top-5 of the file; ``None`` for fewer than 20 classes or without labels."""
    balanced_artifact: float | None = None
    """Mean over classes of the file's accuracy; ``None`` if the classes are balanced."""
    class_accuracies: tuple[float | None, ...] = ()
    """The file's accuracy on the images of each class; empty without labels, ``None`` for a class
    without images."""
    outputs: tuple[OutputParity, ...] = ()
    """Each output, in order."""
    decided: DecidedClasses | None = None
    """Only for 8-bit files of classifiers."""
    hits: str = ""
    """Whether the file classifies each image correctly, as `packed_hits` of
    `hwnas.measurement.classification`; empty without labels."""


class Artifact(msgspec.Struct, frozen=True):
    """A compiled model file."""

    path: str
    format: Format
    precision: Precision
    runtime: str
    """Runtime that the file was opened with, e.g. ``onnxruntime``."""
    runtime_version: str
    sha256: str
    size_bytes: int
    parity: Parity | None
    """``None`` if the file was not verified, as for blocks that are compiled to be timed."""
    calibration: str = ""
    """How the value ranges of an int8 file were calibrated."""
    float_layers: tuple[str, ...] = ()
    """Layers of an int8 file that stay in float32."""
    sizes: tuple[tuple[int, int], ...] = ()
    """Heights and widths at which a file of dynamic size was verified, besides its own."""
