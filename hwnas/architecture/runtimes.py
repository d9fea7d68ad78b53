"""The runtimes that execute model files: format, axis order and package of each. No torch."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

from hwnas.architecture.artifact import Format
from hwnas.errors import UsageError

RuntimeName = Literal["onnxruntime", "litert", "torch"]


class Runtime(NamedTuple):
    """A runtime, and the form of its model files."""

    name: RuntimeName
    title: str
    suffix: str
    """File name suffix of its models, with the dot."""
    layout: Literal["NCHW", "NHWC"]
    """Axis order of image tensors in its models."""
    package: str
    """Distribution on PyPI."""
    module: str
    """Python module of `package`."""

    @property
    def format(self) -> Format:
        """The format that hwnas compiles for it. Raises `UsageError` where it compiles none."""
        for format in get_args(Format):
            if self.suffix == f".{format}":
                return format
        raise UsageError(
            f"hwnas compiles no {self.suffix} files for {self.title}, only "
            f"{', '.join(get_args(Format))}"
        )

    def batch_shape(self, input_shape: tuple[int, int, int], batch: int = 1) -> tuple[int, ...]:
        """Return the shape of an input tensor for images ``[C, H, W]``."""
        shape = (batch, *input_shape)
        return tuple(shape[axis] for axis in _FROM_NCHW[self.layout])

    def image_shape(self, batch_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return channels, height and width of an input tensor; the inverse of `batch_shape`."""
        _, channels, height, width = (batch_shape[axis] for axis in _TO_NCHW[self.layout])
        return channels, height, width

    def from_nchw(self, images: Any) -> Any:
        """Return a view of an array ``[N, C, H, W]`` in this runtime's axis order."""
        return images.transpose(_FROM_NCHW[self.layout])

    def to_nchw(self, tensor: Any) -> Any:
        """Return a view ``[N, C, H, W]`` of a four-dimensional array in this runtime's axis
        order."""
        return tensor.transpose(_TO_NCHW[self.layout])


_FROM_NCHW = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 2, 3, 1)}
_TO_NCHW = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 3, 1, 2)}

RUNTIMES: dict[RuntimeName, Runtime] = {
    runtime.name: runtime
    for runtime in (
        Runtime("onnxruntime", "ONNX Runtime", ".onnx", "NCHW", "onnxruntime", "onnxruntime"),
        Runtime("litert", "LiteRT", ".tflite", "NHWC", "ai-edge-litert", "ai_edge_litert"),
        Runtime("torch", "PyTorch", ".pt2", "NCHW", "torch", "torch"),
    )
}

COMPILED: dict[Format, Runtime] = {
    runtime.format: runtime for runtime in (RUNTIMES["onnxruntime"], RUNTIMES["litert"])
}
"""The runtime of each format that hwnas compiles."""
