"""Whether a network takes pixels or normalised images, by its code and by its accuracy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from hwnas.errors import UsageError
from hwnas.export.graph.recording import Call, Recording, Value
from hwnas.export.graph.trace import record
from hwnas.export.verification.metrics import Array, accuracy
from hwnas.export.verification.verify import torch_outputs

PIXEL_SCALE = 0.05
"""Factor of the first steps below which a network certainly takes pixels: scaling pixels by 1/255
is 0.004, with a division by the standard deviation about 0.02."""

BETTER = 0.2
"""Accuracy by which the other kind of image must be better before it is assumed."""

COPIES = {"to", "_to_copy", "alias", "clone", "contiguous", "detach", "float", "lift_fresh"}
SHIFTS = {"add", "sub", "rsub"}


def check_scale(name: str, module: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Raise `UsageError` if ``module`` scales its input down as pixels are scaled."""
    scale = input_scale(module, input_shape)
    if scale < PIXEL_SCALE:
        raise UsageError(
            f"{name} multiplies its input by {scale:.2g} first, so that it takes pixels from 0 to "
            "255, and the images of --data are normalised: --pixels gives it pixels (--no-pixels "
            "normalised images all the same)"
        )


class BothKinds(NamedTuple):
    """The same images ``[N, C, H, W]`` in both kinds, with their labels ``[N]``."""

    normalised: Array
    pixels: Array
    labels: Array


def check_accuracy(name: str, module: nn.Module, images: BothKinds, takes_pixels: bool) -> None:
    """Raise `UsageError` if ``module`` classifies the other kind of image but not this kind.

    That is the case if its accuracy on this kind is no better than that of always predicting a
    single class.
    """
    labels = images.labels
    normal = accuracy(torch_outputs(module, images.normalised), labels)
    scaled = accuracy(torch_outputs(module, images.pixels), labels)
    given, other = (scaled, normal) if takes_pixels else (normal, scaled)
    single = float(np.bincount(labels.astype(np.int64)).max() / len(labels))
    if given <= single + BETTER / 2 and other > max(given, single) + BETTER:
        option = "without --pixels it gets normalised images" if takes_pixels else "--pixels"
        raise UsageError(
            f"{name} classifies {normal:.0%} of {len(labels)} images correctly if they are "
            f"normalised, {scaled:.0%} as pixels from 0 to 255: {option}"
        )


def input_scale(module: nn.Module, input_shape: tuple[int, int, int]) -> float:
    """Return the factor that the first steps of ``module`` multiply its input by, 1 if none."""
    recording = record(module, input_shape)
    value, scale = recording.inputs[0], 1.0
    while (call := _only_user(recording, value)) is not None:
        factor = _factor(call, value)
        if factor is None:
            break
        value, scale = call.result, scale * factor
    return scale


def _only_user(recording: Recording, value: Value) -> Call | None:
    users = [call for call in recording.calls if any(read is value for read in call.operands)]
    return users[0] if len(users) == 1 else None


def _factor(call: Call, value: Value) -> float | None:
    """Return the factor by which ``call`` multiplies ``value``, None if it does anything else."""
    if call.op in COPIES:
        return 1.0
    other = call.args.get("other")
    if call.op in SHIFTS and not isinstance(other, Value):
        return 1.0
    if call.op == "mul" and (size := _size(other)) is not None:
        return size
    if call.op == "div" and call.args.get("self") is value and (size := _size(other)) is not None:
        return 1.0 / max(size, 1e-30)
    if call.op == "batch_norm" and (variance := _size(call.args.get("running_var"))) is not None:
        weight = _size(call.args.get("weight"))
        return (1.0 if weight is None else weight) / max(variance, 1e-30) ** 0.5
    return None


def _size(constant: Any) -> float | None:
    """Return the mean absolute value of a constant, None for anything else."""
    if isinstance(constant, int | float):
        return abs(float(constant))
    if isinstance(constant, Tensor) and constant.numel():
        return float(constant.detach().float().abs().mean())
    return None
