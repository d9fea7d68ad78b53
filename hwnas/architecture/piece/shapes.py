"""Shapes of the values of a fixed piece, and the kernels that a runtime starts for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from hwnas.architecture import kernels
from hwnas.architecture.kernels import SMOOTH_ACTIVATIONS, WIDE_KERNEL_SIZE, Kernel
from hwnas.architecture.piece.steps import CONSTANTS, FUNCTIONS, WINDOWS, Step, steps_of
from hwnas.architecture.size import Size, area, axes, size_of, size_text
from hwnas.errors import UsageError

SMOOTH = (*SMOOTH_ACTIVATIONS, "gelu_tanh", "sigmoid", "tanh")
FOLDED = ("norm", "scale", *FUNCTIONS, *CONSTANTS)
"""Steps that a runtime computes together with the convolution before them."""


class Shape(NamedTuple):
    """Shape of a feature map."""

    channels: int
    size: Size

    @property
    def elements(self) -> int:
        return self.channels * area(self.size)


@lru_cache(maxsize=1 << 14)
def value_shapes(text: str, channels: int, size: Size) -> tuple[Shape, ...]:
    """Return the shapes of all values of a piece, its input first.

    Raises `UsageError` for a step that leaves no pixel or channel, or whose inputs do not fit it.
    """
    shapes = [Shape(channels, size)]
    for step in steps_of(text):
        given = [shapes[source] for source in step.inputs]
        shape = _out_shape(step, given)
        if min(axes(shape.size)) < 1:
            pixels = size_text(given[0].size)
            raise UsageError(f"a map of {pixels} pixels is too small for {step.op!r}")
        if shape.channels < 1:
            raise UsageError(f"a map of {given[0].channels} channels is too small for {step.op!r}")
        shapes.append(shape)
    return tuple(shapes)


def piece_kernels(text: str, channels: int, size: Size) -> list[Kernel]:
    """Return the kernels of a piece. Norms, numbers and functions are part of the convolution
    before them, if nothing else takes its output; copies of channels are kernels of their own."""
    shapes, steps = value_shapes(text, channels, size), steps_of(text)
    started: dict[int, Kernel] = {}
    for number, step in enumerate(steps, 1):
        kernel = _kernel(step, [shapes[source] for source in step.inputs], shapes[number])
        conv = _conv_before(number, steps)
        if conv:
            pairs = zip(started[conv], kernel._replace(elements=0), strict=True)
            started[conv] = Kernel(*map(sum, pairs))
        else:
            started[number] = kernel
    return list(started.values())


def ends_in_shortcut(text: str) -> bool:
    """Return whether a piece adds its input to what it computes, as its last step."""
    last = steps_of(text)[-1]
    return last.op == "add" and last.inputs.count(0) == 1


def _out_shape(step: Step, inputs: Sequence[Shape]) -> Shape:
    channels, size = inputs[0]
    if any(width % step.groups for width in (channels, step.out_channels)):
        widths = f"{channels} to {step.out_channels}" if step.out_channels else str(channels)
        raise UsageError(f"{step.op!r} cannot divide {widths} channels into {step.groups} groups")
    if step.op in WINDOWS:
        height, width = (
            _window_count(step, axis, pixels) for axis, pixels in enumerate(axes(size))
        )
        return Shape(step.out_channels or channels, size_of(height, width))
    match step.op:
        case "global_pool":
            return Shape(channels, 1)
        case "slice":
            start, stop = step.span
            return Shape(min(stop or channels, channels) - start, size)
        case "chunk":
            each = -(-channels // step.span[1])
            return Shape(min(each, channels - each * step.span[0]), size)
        case "resize":
            return Shape(channels, inputs[1].size)
        case "concat":
            _check_sizes(step, inputs)
            return Shape(sum(shape.channels for shape in inputs), size)
        case "add" | "mul":
            return _broadcast(step, inputs)
        case _:
            return inputs[0]


def _window_count(step: Step, axis: int, pixels: int) -> int:
    """Return the number of windows along an axis, as PyTorch counts them."""
    stride = step.stride[axis]
    if step.padding == "same":
        return -(-pixels // stride)
    padding = step.padding[axis]
    room = pixels + 2 * padding - step.dilation[axis] * (step.kernel[axis] - 1) - 1
    if not step.ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= pixels + padding else count  # begins in the padding


def _broadcast(step: Step, inputs: Sequence[Shape]) -> Shape:
    """Return the shape of a sum or product; an input may have 1 channel, row or column for all."""
    widths = [shape.channels for shape in inputs]
    rows, columns = zip(*(axes(shape.size) for shape in inputs), strict=True)
    if set(widths) - {1, max(widths)}:
        raise UsageError(f"{step.op!r} takes maps of {' and '.join(map(str, widths))} channels")
    if any(set(pixels) - {1, max(pixels)} for pixels in (rows, columns)):
        _check_sizes(step, inputs)
    return Shape(max(widths), size_of(max(rows), max(columns)))


def _check_sizes(step: Step, inputs: Sequence[Shape]) -> None:
    sizes = dict.fromkeys(shape.size for shape in inputs)
    if len(sizes) > 1:
        texts = " and ".join(map(size_text, sizes))
        raise UsageError(f"{step.op!r} takes maps of {texts} pixels")


def _conv_before(number: int, steps: Sequence[Step]) -> int:
    """Return the number of the convolution that a step is computed with, 0 if with none."""
    if steps[number - 1].op not in FOLDED:
        return 0
    while steps[number - 1].op in FOLDED:
        [source] = steps[number - 1].inputs
        users = [step for step in steps if source in step.inputs]
        if source == 0 or len(users) > 1 or steps[source - 1].op in FUNCTIONS:
            return 0
        number = source
    return number if steps[number - 1].op == "conv" else 0


def _kernel(step: Step, inputs: Sequence[Shape], out: Shape) -> Kernel:
    channels, size = inputs[0]
    match step.op:
        case "conv":
            return _conv(step, inputs[0], out)
        case "max_pool" | "avg_pool":
            windows = out.elements * step.kernel[0] * step.kernel[1]
            return Kernel(elements=inputs[0].elements + out.elements, window_elements=windows)
        case "global_pool":
            return kernels.global_pool(channels, size)
        case "norm":
            return Kernel(elements=2 * out.elements, norm_params=2 * channels)
        case "layer_norm" | "response_norm":
            return Kernel(elements=4 * out.elements, norm_params=2 * channels)
        case "scale":
            params = step.out_channels or channels
            return Kernel(elements=2 * out.elements, norm_params=params)
        case "mul":
            return Kernel(elements=2 * out.elements, gate_elements=out.elements)
        case "add":
            return Kernel(elements=out.elements + sum(shape.elements for shape in inputs))
        case op if op in (*FUNCTIONS, *CONSTANTS):
            smooth = out.elements if op in SMOOTH else 0
            return Kernel(elements=2 * out.elements, hswish_elements=smooth)
        case _:  # copies
            return Kernel(elements=2 * out.elements)


def _conv(step: Step, given: Shape, out: Shape) -> Kernel:
    groups = step.groups
    height, width = step.kernel
    weights = height * width * given.channels * out.channels // groups
    macs = weights * area(out.size)
    depthwise = groups == given.channels > 1
    wide = depthwise and max(step.kernel) >= WIDE_KERNEL_SIZE
    return Kernel(
        dense_macs=0 if depthwise else macs,
        depthwise_macs=macs if depthwise and not wide else 0,
        wide_depthwise_macs=macs if wide else 0,
        elements=given.elements + out.elements,
        weights=weights,
        norm_params=out.channels if step.bias else 0,
    )
