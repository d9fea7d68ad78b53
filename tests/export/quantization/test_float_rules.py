"""Places, norms and decisions are computed in float32 in an int8 file; features are not."""

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
from hwnas.export.quantization.float_rules import Operator, float_operators, kind_of
from hwnas.export.quantization.ptq import Int8
from hwnas.export.verification.metrics import Array, sqnr_db
from hwnas.export.verification.module_outputs import module_outputs
from hwnas.export.verification.run_model import run_file

pytest.importorskip("ai_edge_quantizer")

both = pytest.mark.parametrize("format", ["onnx", "tflite"])


def in_float32(text: str, *outputs: str, **ranges: tuple[float, float]) -> str:
    """Return what stays in float32 of operators ``NAME = KIND INPUT...``, one a line; - is a
    constant."""
    operators: list[Operator] = []
    for line in text.strip().splitlines():
        name, _, call = line.strip().partition(" = ")
        kind, *inputs = call.split()
        given = tuple("" if each == "-" else each for each in inputs)
        operators.append(Operator(kind_of(kind, given), given, (name,)))
    return " ".join(sorted(float_operators(operators, outputs, ranges)))


def test_a_network_of_convolutions_and_sums_is_all_integers() -> None:
    text = """
    a = Conv x - -
    b = Relu a
    c = Conv b - -
    d = Add c b
    e = Div d -
    f = GlobalAveragePool e
    """
    assert in_float32(text, "f") == ""


def test_a_norm_is_float_with_its_statistics_and_its_gain() -> None:
    text = """
    a = Conv x - -
    mean = ReduceMean a
    centred = Sub a mean
    squared = Mul centred centred
    variance = ReduceMean squared
    more = Add variance -
    root = Sqrt more
    normed = Div centred root
    scaled = Mul normed -
    b = Conv scaled - -
    """
    assert in_float32(text, "b") == "centred mean more normed root scaled squared variance"


def test_coordinates_are_float_back_to_the_layer_that_computes_them() -> None:
    text = """
    feature = Conv x - -
    offset = Conv feature - -
    grid = Add offset -
    moved = Transpose grid
    sampled = GridSample feature moved
    other = Conv offset - -
    """
    assert in_float32(text, "sampled", "other") == "grid moved offset"


def test_a_network_s_input_of_coordinates_is_float() -> None:
    assert in_float32("sampled = GridSample x grid", "sampled") == "grid"


def test_a_product_of_two_values_passes_coordinates_on_and_one_with_weights_ends_them() -> None:
    text = """
    theta = MatMul x -
    grid = MatMul - theta
    sampled = GridSample y grid
    """
    assert in_float32(text, "sampled") == "grid theta"


def test_what_follows_from_an_index_is_float_and_the_scores_are_not() -> None:
    text = """
    score = Conv x - -
    best = TopK score
    row = Div best -
    whole = Floor row
    step = Mul whole -
    column = Sub best step
    """
    assert in_float32(text, "whole", "column") == "best column row step whole"


def test_a_value_and_its_maximum_are_rounded_alike_where_they_are_compared() -> None:
    text = """
    heat = Sigmoid x
    largest = MaxPool heat
    peak = Equal largest heat
    """
    assert in_float32(text, "peak") == "heat largest peak"


def test_the_residual_sums_between_norms_are_float() -> None:
    text = """
    first = Conv x - -
    one = LayerNormalization first
    inner = Gemm one - -
    second = Add first inner
    two = LayerNormalization second
    outer = Gemm two - -
    third = Add second outer
    three = LayerNormalization third
    """
    assert in_float32(text, "three") == "one second third three two"


def test_the_moves_behind_a_norm_are_of_integers_where_a_layer_reads_them() -> None:
    text = """
    a = Conv x - -
    b = LayerNormalization a
    c = Reshape b
    d = Transpose c
    e = Conv d - -
    """
    assert in_float32(text, "e") == "b"


def test_a_softmax_is_float_except_as_the_output() -> None:
    assert in_float32("a = Softmax x\nb = MatMul a x", "b") == "a"
    assert in_float32("a = Softmax x", "a") == ""


def test_an_output_that_joins_unlike_ranges_is_float_and_a_hidden_map_is_not() -> None:
    text = """
    box = Conv x - -
    score = Sigmoid x
    both = Concat box score
    turned = Transpose both
    """
    assert in_float32(text, "turned", box=(0, 320), score=(0, 1)) == "both score turned"
    assert in_float32(text, "turned", box=(0, 2), score=(0, 1)) == ""
    assert in_float32(f"{text}next = Conv turned - -", "next", box=(0, 320), score=(0, 1)) == ""


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


class Peaks(nn.Module):
    """Where a map is its own maximum over 3x3, as in detectors of centres."""

    def forward(self, images: Tensor) -> Tensor:
        heat = torch.exp(images)
        return heat * (F.max_pool2d(heat, 3, 1, 1) == heat)


@both
def test_a_map_still_equals_its_maximum_somewhere(format: Format, tmp_path: Path) -> None:
    assert noise_db(Peaks(), [normal(4, 2, 16, 16)], format, tmp_path)["logits"] > 15
