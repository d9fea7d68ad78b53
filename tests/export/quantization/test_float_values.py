"""Int8 files of networks whose values need more than 8 bits in some places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from hwnas.export.compile import compile_model
from hwnas.export.graph.interface import module_interface
from hwnas.export.quantization.ptq import Int8
from hwnas.export.verification.metrics import Array, sqnr_db
from hwnas.export.verification.module_outputs import module_outputs
from hwnas.export.verification.run_model import run_file

pytest.importorskip("ai_edge_quantizer")

both = pytest.mark.parametrize("format", ["onnx", "tflite"])


def noise_db(
    network: nn.Module, samples: list[Array], format: Format, path: Path
) -> dict[str, float]:
    """Return the ratio of signal to noise of each output of an int8 file, in dB.

    ``samples`` have the values of each input, ``[N, ...]``, which also calibrate the file.
    """
    interface = module_interface(network.eval(), [array.shape[1:] for array in samples])
    file = path / f"net.{format}"
    int8 = Int8(samples[0], others=tuple(samples[1:]))
    compile_model(network, interface, file, int8=int8)
    outputs = run_file(file, samples, interface.input_names)
    expected = module_outputs(network, interface, samples)
    return {name: sqnr_db(outputs[name], values) for name, values in expected.items()}


def normal(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


class Warped(nn.Module):
    """Moves the pixels of an image by computed offsets of a few pixels."""

    base: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.offset = nn.Conv2d(2, 2, 5, padding=2)
        eye = torch.eye(2, 3)[None]
        self.register_buffer("base", F.affine_grid(eye, [1, 2, size, size], align_corners=False))

    def forward(self, images: Tensor) -> Tensor:
        moves = 0.03 * torch.tanh(self.offset(images)).permute(0, 2, 3, 1)
        return F.grid_sample(images, self.base + moves, align_corners=False)


@both
def test_computed_points_of_a_large_map_are_not_rounded(format: Format, tmp_path: Path) -> None:
    """With 256 levels a map of 160 pixels has steps of 0.6 pixels: 10 dB."""
    assert noise_db(Warped(160), [normal(2, 2, 160, 160)], format, tmp_path)["logits"] > 20


class Sampled(nn.Module):
    """Reads an image at points that are an input."""

    def forward(self, images: Tensor, points: Tensor) -> Tensor:
        return F.grid_sample(images, points, align_corners=True)


@both
def test_points_that_are_an_input_are_not_rounded(format: Format, tmp_path: Path) -> None:
    points = np.random.default_rng(1).uniform(-1, 1, (2, 40, 40, 2)).astype(np.float32)
    samples = [normal(2, 2, 160, 160), points]
    assert noise_db(Sampled(), samples, format, tmp_path)["logits"] > 35


class Largest(nn.Module):
    """Row and column of the largest value, and the value of another map at this place."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        first, second = images.flatten(2).unbind(1)
        place = first.argmax(1, keepdim=True)
        row, column = place // images.shape[3], place % images.shape[3]
        middle = torch.cat((row, column), 1).float() + 0.5
        return {"middle": middle, "value": second.gather(1, place)}


@both
def test_indices_above_256_are_exact(format: Format, tmp_path: Path) -> None:
    images = normal(8, 2, 48, 48)
    for number, image in enumerate(images):
        image[0, 5 * number + 2, 40 - 3 * number] = 10.0
    noise = noise_db(Largest(), [images], format, tmp_path)
    assert noise["middle"] > 100 and noise["value"] > 30


class RowNorm(nn.Module):
    """Root mean square norm of each row, in plain steps, before a layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(32, 16)

    def forward(self, rows: Tensor) -> Tensor:
        size = (rows.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
        return self.linear(rows / size)


@both
def test_small_rows_are_normalised_exactly(format: Format, tmp_path: Path) -> None:
    """The mean square of the smallest rows is 1/1000 of the largest, less than one level."""
    rows = normal(8, 16, 32) * np.geomspace(1, 1 / 32, 16, dtype=np.float32)[:, None]
    assert noise_db(RowNorm(), [rows], format, tmp_path)["logits"] > 15


class Averaging(nn.Module):
    """Attention of 600 tokens that is nearly uniform: each has a probability of 1/600."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).chunk(3, -1)
        attention = torch.softmax(query @ key.transpose(1, 2) / 16, -1)
        return self.out(attention @ value)


@both
def test_small_probabilities_are_not_zero(format: Format, tmp_path: Path) -> None:
    assert noise_db(Averaging(), [normal(4, 600, 16)], format, tmp_path)["logits"] > 20


class LinearAttention(nn.Module):
    """Attention by sums over tokens, with the divisor as one more column of the product."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv = nn.Linear(16, 48)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).chunk(3, -1)
        context = F.relu(key).transpose(1, 2) @ F.pad(value, (0, 1), value=1.0)
        sums = F.relu(query - 1) @ context
        return sums[..., :-1] / (sums[..., -1:] + 1e-3)


@both
def test_small_divisors_that_are_products_are_not_rounded(format: Format, tmp_path: Path) -> None:
    assert noise_db(LinearAttention(), [normal(4, 64, 16)], format, tmp_path)["logits"] > 12


class Peaks(nn.Module):
    """Where a map is its own maximum over 3x3, as in detectors of centres."""

    def forward(self, images: Tensor) -> Tensor:
        heat = torch.exp(images)
        return heat * (F.max_pool2d(heat, 3, 1, 1) == heat)


@both
def test_a_map_still_equals_its_maximum_somewhere(format: Format, tmp_path: Path) -> None:
    assert noise_db(Peaks(), [normal(4, 2, 16, 16)], format, tmp_path)["logits"] > 15
