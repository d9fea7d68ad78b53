"""Images of one colour and a network that tells red, green and blue: results known by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hwnas.export.compile import compile_model
from hwnas.export.metadata.input import Preprocessing
from hwnas.export.quantization.ptq import Int8

Colour = tuple[int, int, int]

COLOURS = ("blue", "green", "red")
"""Classes of the network, in its order."""
CHANNELS = (2, 1, 0)
SIZE = 8
SHAPE = (3, SIZE, SIZE)
SCALE = 4.0

RED, GREEN, BLUE = (200, 20, 20), (20, 200, 20), (20, 20, 200)
REDDISH = (120, 110, 20)
"""Red, but nearly green."""


class MeanColour(nn.Module):
    """Logits are the mean of each channel times `SCALE`."""

    def __init__(self, softmax: bool = False) -> None:
        super().__init__()
        self.pool, self.linear = nn.AdaptiveAvgPool2d(1), nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(SCALE * torch.eye(3)[list(CHANNELS)])
        self.softmax = softmax

    def forward(self, images: Tensor) -> Tensor:
        logits = self.linear(torch.flatten(self.pool(images), 1))
        return logits.softmax(1) if self.softmax else logits


def colour_file(
    path: Path,
    labels: tuple[str, ...] = COLOURS,
    *,
    mean: float = 0.5,
    std: float = 0.25,
    embedded: bool = False,
    int8: bool = False,
) -> Path:
    """Compile the network with a description of its input, as ``hwnas specialize`` does."""
    preprocessing = Preprocessing((mean,) * 3, (std,) * 3, labels, embedded)
    calibration = Int8(_plain_images(-2, 2)) if int8 else None
    compile_model(MeanColour().eval(), SHAPE, path, preprocessing=preprocessing, int8=calibration)
    return path


def foreign_file(path: Path, *, softmax: bool = False, int8: bool = False) -> Path:
    """Compile the network without a description of its input; it takes values from 0 to 1."""
    calibration = Int8(_plain_images(0, 1)) if int8 else None
    compile_model(MeanColour(softmax).eval(), SHAPE, path, int8=calibration)
    return path


def _plain_images(low: float, high: float) -> np.ndarray:
    """Return inputs of one random value for each channel."""
    plain = np.random.default_rng(0).uniform(low, high, (32, 3, 1, 1))
    return plain.repeat(SIZE, 2).repeat(SIZE, 3).astype(np.float32)


def colour_scores(colour: Colour, mean: float = 0.5, std: float = 0.25) -> list[float]:
    """Return the probabilities of blue, green and red for an image of one colour."""
    values = (np.array(colour)[list(CHANNELS)] / 255 - mean) / std
    powers = np.exp(SCALE * values)
    return (powers / powers.sum()).tolist()


def write_colour(path: Path, colour: Colour, width: int = 12, height: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), colour).save(path)
    return path


def colour_folder(folder: Path, images: Mapping[str, Sequence[Colour]]) -> Path:
    """Write a folder for each class, with images ``0.png``, ``1.png``, ... of these colours."""
    for name, colours in images.items():
        for number, colour in enumerate(colours):
            write_colour(folder / name / f"{number}.png", colour)
    return folder
