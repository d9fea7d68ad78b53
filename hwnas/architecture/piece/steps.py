"""The text of a fixed piece, and the layers that it lists.

A piece is a list of steps, ``conv 16 k3 p1 bias / relu / conv 64 bias from 0 / concat from 2 3``.
Value 0 is the input of the piece and value n the output of step n, which takes the value before it
where it does not say otherwise. The last value is the output. A step has one text only, since the
text of a piece is part of the key of its block (`hwnas.architecture.block.Block.key`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import isfinite
from typing import Any, Literal

import msgspec

from hwnas.errors import UsageError

Pair = tuple[int, int]
"""Of rows and columns."""
Padding = Pair | Literal["same"]

SEPARATOR = " / "
FUNCTIONS = (
    "relu", "relu6", "hswish", "silu", "gelu", "gelu_tanh", "sigmoid", "hardsigmoid", "tanh",
    "leaky_relu",
)  # fmt: skip
"""Steps that apply a function to each element; `Step.value` is the slope of ``leaky_relu``."""
CONSTANTS = ("times", "plus")
"""Steps with a constant, which is `Step.value`."""
ONE_INPUT = (
    "conv", "norm", "layer_norm", "response_norm", "scale", "max_pool", "avg_pool", "global_pool",
    "slice", "chunk", "shuffle", *FUNCTIONS, *CONSTANTS,
)  # fmt: skip
JOINS = ("add", "mul", "concat")
RESIZE = "resize"
"""Nearest pixels of its first input, in the height and width of its second."""
WINDOWS = ("conv", "max_pool", "avg_pool")
FIELDS = {
    "conv": ("out_channels", "kernel", "stride", "padding", "dilation", "groups", "bias"),
    "max_pool": ("kernel", "stride", "padding", "dilation", "ceil"),
    "avg_pool": ("kernel", "stride", "padding", "ceil", "counts_padding"),
    "scale": ("out_channels",),
    "shuffle": ("groups",),
    **dict.fromkeys(("slice", "chunk"), ("span",)),
    **dict.fromkeys(("layer_norm", "response_norm", "leaky_relu", *CONSTANTS), ("value",)),
}
"""The fields of `Step` that belong to each operation; of others only `Step.inputs`."""


class Step(msgspec.Struct, frozen=True):
    """A layer of a piece."""

    op: str
    """One of `ONE_INPUT`, `JOINS` and `RESIZE`."""
    inputs: tuple[int, ...]
    """Numbers of the values that it takes."""
    out_channels: int = 0
    """Of a ``conv``; of a ``scale`` 1 where it is one number for all channels, else 0."""
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Padding = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    """Of a ``conv`` or ``shuffle``."""
    bias: bool = False
    ceil: bool = False
    """Whether a pool rounds its size up."""
    counts_padding: bool = False
    """Whether an ``avg_pool`` averages the padding too."""
    span: tuple[int, int] = (0, 0)
    """First channel of a ``slice`` and the one after its last, which is 0 for all to the end;
    number and count of a ``chunk``."""
    value: float = 0.0
    """What a norm adds to the variance, a slope or a constant."""


def piece_text(steps: Iterable[Step]) -> str:
    """Return the text of a piece; `steps_of` reads it."""
    return SEPARATOR.join(_words(number, step) for number, step in enumerate(steps))


@lru_cache(maxsize=4096)
def steps_of(text: str) -> tuple[Step, ...]:
    """Return the steps of a piece. Raises `UsageError` that names what is no step."""
    parts = text.split(SEPARATOR)
    return tuple(_step(number, part) for number, part in enumerate(parts))


def _words(number: int, step: Step) -> str:
    words = [step.op]
    if step.op == "conv" or (step.op == "scale" and step.out_channels):
        words.append(str(step.out_channels))
    shapes: dict[str, Padding] = {
        "k": step.kernel,
        "s": step.stride,
        "p": step.padding,
        "d": step.dilation,
    }
    defaults = {letter: (0, 0) if letter == "p" else (1, 1) for letter in shapes}
    words += [f"{k}{_pair_text(pair)}" for k, pair in shapes.items() if pair != defaults[k]]
    words += [f"g{step.groups}"] if step.groups != 1 else []
    flags = {"bias": step.bias, "ceil": step.ceil, "padded": step.counts_padding}
    words += [flag for flag, is_set in flags.items() if is_set]
    if step.op in ("slice", "chunk"):
        start, stop = step.span
        words.append(f"{start}:{stop or ''}" if step.op == "slice" else f"{start}of{stop}")
    words += [f"v{step.value!r}"] if step.value else []
    if step.inputs != (number,):
        words += ["from", *map(str, step.inputs)]
    return " ".join(words)


def _pair_text(pair: Padding) -> str:
    if pair == "same":
        return "same"
    height, width = pair
    return str(height) if height == width else f"{height}x{width}"


def _step(number: int, text: str) -> Step:
    words, _, sources = text.partition(" from ")
    op, *rest = words.split() or [""]
    try:
        if op not in (*ONE_INPUT, *JOINS, RESIZE):
            raise ValueError
        inputs = tuple(map(int, sources.split())) if sources else (number,)
        fields: dict[str, Any] = dict(_field(op, word) for word in rest)
        step = Step(op, inputs, **fields)
        if fields.keys() - {*FIELDS.get(op, ())} or not _is_possible(number, step):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"{text!r} is no step of a piece, expected e.g. 'conv 16 k3 p1 bias' or 'add from 0 3' "
            "(operation, its shape, earlier values)"
        ) from None
    if text != (usual := _words(number, step)):
        raise UsageError(f"{text!r} is no step of a piece, expected {usual!r}")
    return step


_PAIRS = {"k": "kernel", "s": "stride", "p": "padding", "d": "dilation"}
_FLAGS = {"bias": "bias", "ceil": "ceil", "padded": "counts_padding"}


def _field(op: str, word: str) -> tuple[str, object]:
    """Return name and value of the field that a word states. Raises `ValueError`."""
    if word in _FLAGS:
        return _FLAGS[word], True
    if word.isdecimal():
        return "out_channels", int(word)
    if op == "slice":
        start, stop = word.split(":")
        return "span", (int(start), int(stop or 0))
    if op == "chunk":
        start, stop = word.split("of")
        return "span", (int(start), int(stop))
    letter, rest = word[0], word[1:]
    if letter == "g":
        return "groups", int(rest)
    if letter == "v":
        return "value", float(rest)
    if letter not in _PAIRS:
        raise ValueError
    if word == "psame":
        return "padding", "same"
    height, _, width = rest.partition("x")
    return _PAIRS[letter], (int(height), int(width or height))


def _is_possible(number: int, step: Step) -> bool:
    """Return whether a step can be computed for some inputs."""
    takes = 2 if step.op == RESIZE else 1
    count = len(step.inputs)
    takes_enough = count >= 2 if step.op in JOINS else count == takes
    are_earlier = all(0 <= source <= number for source in step.inputs)
    sizes = (*step.kernel, *step.stride, *step.dilation, step.groups)
    is_common = takes_enough and are_earlier and min(sizes) >= 1 and isfinite(step.value)
    low, high = step.span
    match step.op:
        case "conv":
            return is_common and step.out_channels >= 1 and _can_pad(step)
        case "max_pool" | "avg_pool":
            return is_common and _can_pad(step)
        case "scale":
            return is_common and step.out_channels in (0, 1)
        case "slice":
            return is_common and low >= 0 and (high == 0 or low < high)
        case "chunk":
            return is_common and 0 <= low < high
        case _:
            return is_common


def _can_pad(step: Step) -> bool:
    """Return whether PyTorch's modules or ours have the padding of a convolution or pool."""
    if step.padding == "same":
        is_square = step.kernel[0] == step.kernel[1] and step.stride[0] == step.stride[1]
        in_pixels = step.stride == (1, 1) and step.kernel[0] % 2  # the same at every size
        return step.op == "conv" and is_square and step.dilation == (1, 1) and not in_pixels
    if step.op == "conv":
        return min(step.padding) >= 0
    axes = zip(step.padding, step.kernel, step.dilation, strict=True)
    return all(0 <= 2 * pixels <= dilation * (size - 1) + 1 for pixels, size, dilation in axes)
