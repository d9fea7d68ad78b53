"""Files with weights of 8 bits, computed in float32 or with inputs rounded in each run."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hwnas.architecture.artifact import Format, Precision
from hwnas.errors import ExportError
from hwnas.export.compile import compile_model, export_module, noise_for
from hwnas.export.graph.interface import module_interface
from hwnas.export.metadata.precision import precision_of
from hwnas.export.recipe import find_recipe, onnx_recipe
from hwnas.export.stored_weights import int8_weight
from hwnas.export.verification.images import Verification
from hwnas.export.verification.run_model import outputs_at_once, run_file
from hwnas.export.verify_file import verify_file
from tests.export.networks.test_half_weights import SHAPE, network
from tests.export.test_parity import both
from tests.export.test_several_outputs import SHAPES, Heads

PRECISIONS: tuple[Precision, ...] = ("int8-weights", "int8-dynamic")
each = pytest.mark.parametrize("precision", PRECISIONS)


def rounded(module: nn.Module) -> nn.Module:
    """Return a copy whose large weights are multiples of a 127th of the largest of each channel."""
    module = deepcopy(module)
    for part in module.modules():
        weight = getattr(part, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.numel() >= 64:
            axis = 1 if isinstance(part, nn.ConvTranspose2d) else 0
            others = [place for place in range(weight.dim()) if place != axis]
            scale = weight.detach().abs().amax(others, keepdim=True) / 127
            weight.data = torch.round(weight / scale) * scale
    return module


class Layers(nn.Module):
    """A layer of each kind that has weights; no norm is folded into them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.depthwise = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 64, 3, groups=32)
        self.groups, self.up = nn.Conv2d(64, 32, 3, groups=4), nn.ConvTranspose2d(32, 16, 2, 2)
        self.pixels, self.vector = nn.Linear(16, 24), nn.Linear(24, 40)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = self.groups(self.depthwise(self.conv(images)).relu())
        value = self.pixels(self.up(value).permute(0, 2, 3, 1))
        return self.vector(value.mean((1, 2)))


def test_levels_are_multiples_of_a_127th_of_the_largest_weight_of_a_channel() -> None:
    weight = np.array([[0.5, -0.25, 0.1], [0, 0, 0], [-127, 1.4, 1.6], [1e-42, 0, 0]], np.float32)
    levels, scale = int8_weight(weight, axis=0)
    np.testing.assert_array_equal(levels, [[127, -64, 25], [0, 0, 0], [-127, 1, 2], [0, 0, 0]])
    np.testing.assert_allclose(scale, [0.5 / 127, 1, 1, 1], rtol=1e-6)
    turned = int8_weight(weight.T, axis=1)
    np.testing.assert_array_equal(turned.levels, levels.T)


@both
def test_a_file_of_rounded_weights_computes_what_rounded_weights_compute(
    format: Format, tmp_path: Path
) -> None:
    module, path = Layers().eval(), tmp_path / f"net.{format}"
    artifact = export_module(module, SHAPE, path, recipe=find_recipe(format, "int8-weights"))
    interface = module_interface(module, SHAPE)
    images = noise_for(module, interface).inputs
    [outputs] = run_file(path, images).values()
    with torch.no_grad():
        expected = rounded(module)(torch.from_numpy(images[0])).numpy()
    np.testing.assert_allclose(outputs[:, 0], expected, rtol=1e-4, atol=1e-5)
    assert artifact.parity is not None and artifact.parity.max_relative_error > 1e-4
    assert artifact.parity.sqnr_db is not None and artifact.parity.sqnr_db > 30


@both
@each
def test_a_file_of_8_bit_weights_is_a_quarter_as_large(
    format: Format, precision: Precision, tmp_path: Path
) -> None:
    whole = export_module(network(), SHAPE, tmp_path / f"whole.{format}")
    path = tmp_path / f"small.{format}"
    small = export_module(network(), SHAPE, path, recipe=find_recipe(format, precision))
    assert small.size_bytes < 0.4 * whole.size_bytes
    assert (small.precision, precision_of(path)) == (precision, precision)
    assert small.parity is not None and small.parity.sqnr_db is not None
    assert small.parity.sqnr_db > 25 and small.parity.max_relative_error > 1e-4


@both
def test_inputs_are_rounded_by_their_range_in_each_run(format: Format, tmp_path: Path) -> None:
    torch.manual_seed(0)
    linear, path = nn.Linear(64, 8), tmp_path / f"net.{format}"
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight.fill_diagonal_(1.0)
    artifact = compile_model(linear, (64,), path, recipe=find_recipe(format, "int8-dynamic"))
    assert (artifact.precision, precision_of(path)) == ("int8-dynamic", "int8-dynamic")
    # 255 levels from -1 to 1, or a thousand times that: what is between two levels is lost
    values = np.linspace(-1, 1, 64, dtype=np.float32)[None]
    for factor in (1.0, 1000.0):
        [outputs] = outputs_at_once(path, [factor * values]).values()
        difference = outputs / factor - values[:, :8] - linear.bias.detach().numpy() / factor
        assert 1e-4 < np.abs(difference).max() < 1.1 / 255


@both
@each
def test_every_output_of_any_network_is_compared(
    format: Format, precision: Precision, tmp_path: Path
) -> None:
    path = tmp_path / f"net.{format}"
    artifact = export_module(Heads(), SHAPES, path, recipe=find_recipe(format, precision))
    assert artifact.parity is not None and artifact.parity.accuracy_torch is None
    outputs = {output.name: output for output in artifact.parity.outputs}
    assert outputs["next"].agreement == 1.0 and outputs["next"].sqnr_db is None
    assert all(output.sqnr_db is None or output.sqnr_db > 25 for output in outputs.values())


@both
@each
def test_another_network_is_told_from_rounding(
    format: Format, precision: Precision, tmp_path: Path
) -> None:
    path = tmp_path / f"net.{format}"
    export_module(network(), SHAPE, path, recipe=find_recipe(format, precision))
    noise = noise_for(network(), module_interface(network(), SHAPE), 4)
    assert (verify_file(path, network(), noise).sqnr_db or 0) > 25
    with pytest.raises(ExportError, match=rf"{precision} file .* limit is 10 dB"):
        verify_file(path, network(seed=1), noise)


@both
@each
def test_a_file_that_loses_the_classes_of_images_is_refused(
    format: Format, precision: Precision, tmp_path: Path
) -> None:
    """A weight of 1000 in each channel leaves no levels for those that tell classes apart."""
    torch.manual_seed(0)
    linear = nn.Linear(65, 4)
    with torch.no_grad():
        linear.weight[:, 0], linear.bias[:] = 1000.0, 0.0
    values = np.random.default_rng(0).normal(size=(64, 65)).astype(np.float32)
    values[:, 0] = 0.0
    labels = linear(torch.from_numpy(values)).argmax(1).numpy()
    verification, path = Verification(values, labels), tmp_path / f"net.{format}"
    with pytest.raises(ExportError, match=rf"the {precision} file has accuracy .* 100.00%"):
        compile_model(
            linear, (65,), path, verification=verification, recipe=find_recipe(format, precision)
        )
    assert list(tmp_path.iterdir()) == []


@each
def test_batch_and_size_may_be_free(precision: Precision, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 9)
    ).eval()
    path, recipe = tmp_path / "net.onnx", onnx_recipe(precision, None, True, True)
    artifact = export_module(module, SHAPE, path, recipe=recipe)
    assert len(artifact.sizes) == 2
    images = np.random.default_rng(1).normal(size=(3, 3, 17, 14)).astype(np.float32)
    [outputs] = outputs_at_once(path, [images]).values()
    expected = module(torch.from_numpy(images)).detach().numpy()
    assert np.abs(outputs - expected).max() < 0.03 * np.abs(expected).max()


def test_onnx_runtime_computes_the_floats_when_it_opens_a_file(tmp_path: Path) -> None:
    """It would compute ``DequantizeLinear`` in every run, which is slow."""
    import onnxruntime

    path: Any = tmp_path / "net.onnx"
    compile_model(Layers().eval(), SHAPE, path, recipe=find_recipe("onnx", "int8-weights"))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    before, after = (
        {node.op_type for node in onnx.load(file).graph.node}
        for file in (path, options.optimized_model_filepath)
    )
    assert {"Cast", "Mul"} <= before and not {"Cast", "Mul"} & after


@both
def test_a_weight_of_few_elements_stays_in_float32(format: Format, tmp_path: Path) -> None:
    path = tmp_path / f"net.{format}"
    recipe = find_recipe(format, "int8-weights")
    artifact = export_module(nn.Linear(9, 7), (9,), path, recipe=recipe)
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-5
    assert precision_of(path) == "fp32"


class SharedHead(nn.Module):
    """A head of two levels of features, a matrix of two vectors, and a table of two lists."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Conv2d(3, 16, 3, 2), nn.Conv2d(16, 256, 3, padding=1)
        self.words, self.mix = nn.Embedding(300, 64), nn.Linear(64, 512)

    def forward(self, images: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fine = self.stem(images).relu()
        coarse = nn.functional.max_pool2d(fine, 2)
        first, second = self.words(ids), self.words(ids.flip(1)).mean(1)
        return self.head(fine), self.head(coarse), self.mix(first.mean(1)), self.mix(second)


@both
@pytest.mark.parametrize("precision", get_args(Precision)[:-1])
def test_a_weight_of_several_nodes_is_written_once(
    format: Format, precision: Precision, tmp_path: Path
) -> None:
    module, shapes = SharedHead().eval(), {"images": SHAPE, "ids": "4:int64"}
    path = tmp_path / f"net.{format}"
    artifact = export_module(module, shapes, path, recipe=find_recipe(format, precision))
    bits = {"fp32": 32, "fp16": 16}.get(precision, 8)
    weights = sum(parameter.numel() for parameter in module.parameters())
    assert artifact.size_bytes < 1.25 * weights * bits / 8 + 12_000
