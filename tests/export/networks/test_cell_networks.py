"""Parity of cell networks in both runtimes."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.architecture.artifact import Format
from hwnas.export.compile import compile_model
from hwnas.export.graph.nodes import Activation, Concat, Constant, Conv, Graph, Slice, WindowPool
from hwnas.export.graph.trace import trace
from hwnas.export.tflite.emitter import write_tflite
from hwnas.export.tflite.padding import explicit_padding, is_same, pixels_in_window
from hwnas.export.verification.metrics import relative_error
from hwnas.export.verification.run_model import file_outputs
from hwnas.export.verification.verify import torch_outputs
from hwnas.nn.blocks.table import block_module
from hwnas.nn.build import build, untrained
from hwnas.spaces.cells.genotype import published_genotype
from hwnas.spaces.cells.layout import Norm
from hwnas.spaces.cells.space import CellSpace, cell_space
from tests.export.test_parity import FLOAT32_ERROR, Function, both, error_of, randomise

BLOCKS = [
    *(Block("conv_bn", 3, 8, 3, s, 1, size) for s in (1, 2) for size in (9, 10)),
    *(Block("relu_conv_bn", 8, 6, k, s, 1, 10, "relu") for k, s in ((1, 1), (3, 2))),
    *(Block("factorized_reduce", c, 6, 1, 2, 1, 10, "relu") for c in (6, 16)),
    *(
        Block("sep_conv", 6, 6, k, s, 1, size, "relu")
        for k in (3, 5, 7)
        for s, size in ((1, 9), (2, 9), (2, 10))
    ),
    *(
        Block("dil_conv", 6, 6, k, s, 1, size, "relu")
        for k in (3, 5)
        for s, size in ((1, 9), (2, 9), (2, 10))
    ),
    *(Block("conv_7x1_1x7", 6, 6, 7, s, 1, size, "relu") for s in (1, 2) for size in (9, 10)),
    *(
        Block(op, 6, 6, 3, s, 1, size)
        for op in ("max_pool", "avg_pool", "max_pool_bn", "avg_pool_bn")
        for s, size in ((1, 9), (2, 9), (1, 10), (2, 10))
    ),
    Block("identity_bn", 6, 6, 1, 1, 1, 9),
    *(Block(op, 6, 6 * n if op == "concat" else 6, 1, 1, n, 9) for op in ("add", "concat")
      for n in (2, 3, 4)),
]  # fmt: skip


def network_of(space: CellSpace, name: str) -> nn.Module:
    return build(space.architecture(published_genotype(name)))


def operators(graph: Graph, path: Path) -> list[str]:
    """Return the names of the operators in the TFLite file of a graph."""
    write_tflite(graph, path)
    model: Any = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    codes = [names[code.builtinCode] for code in model.operatorCodes]
    return [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


@both
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.key)
def test_every_block_of_cells_computes_the_same_as_in_pytorch(
    format: Format, block: Block, tmp_path: Path
) -> None:
    shape = block.in_shape
    assert error_of(untrained((block,)), shape, format, tmp_path) < FLOAT32_ERROR


@both
@pytest.mark.parametrize("name", ["DARTS_V2", "AmoebaNet", "NASNet", "FairDARTS_c", "PDARTS"])
def test_published_cells_compute_the_same_as_in_pytorch(
    format: Format, name: str, tmp_path: Path
) -> None:
    space = cell_space((1, 28, 28), 10, channels=8, layers=5)
    assert error_of(network_of(space, name), space.input_shape, format, tmp_path) < 1e-5


@both
@pytest.mark.parametrize("norm", ["none", "pool and skip"])
def test_cells_with_the_imagenet_stem_compute_the_same_as_in_pytorch(
    format: Format, norm: Norm, tmp_path: Path
) -> None:
    space = cell_space((3, 64, 64), 10, channels=8, layers=4, stem="imagenet", norm=norm)
    assert error_of(network_of(space, "ISTA_onestage"), (3, 64, 64), format, tmp_path) < 1e-5


@both
@pytest.mark.parametrize("seed", range(3))
def test_random_cells_compute_the_same_as_in_pytorch(
    format: Format, seed: int, tmp_path: Path
) -> None:
    space = cell_space((3, 32, 32), 10, channels=4, layers=3)
    network = build(space.architecture(space.random(Random(seed))))
    assert error_of(network, (3, 32, 32), format, tmp_path) < 1e-5


@both
@pytest.mark.parametrize("size", [(9, 9), (12, 12), (7, 10)])
@pytest.mark.parametrize(("window", "stride", "padding"), [
    (3, 1, 1), (3, 2, 1), (3, 3, 1), (2, 2, 0), (2, 2, 1), (5, 2, 2), ((3, 1), (1, 2), (1, 0)),
])  # fmt: skip
def test_pools_compute_the_same_as_in_pytorch(
    format: Format, window: Any, stride: Any, padding: Any, size: tuple[int, int], tmp_path: Path
) -> None:
    mean = nn.AvgPool2d(window, stride, padding, count_include_pad=False)
    for module in (nn.MaxPool2d(window, stride, padding), mean):
        assert error_of(module, (4, *size), format, tmp_path) < FLOAT32_ERROR


@both
def test_a_maximum_below_zero_is_not_the_padding(format: Format, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(2, 4, 1), nn.MaxPool2d(3, 2, 1))
    nn.init.constant_(module[0].bias, -100.0)  # type: ignore
    assert error_of(module, (2, 8, 8), format, tmp_path) < FLOAT32_ERROR
    assert torch_outputs(module, np.zeros((1, 2, 8, 8), np.float32)).max() < -90


@both
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, :, 1:, 1:],
        lambda x: x[:, :, 2:, :],
        lambda x: torch.cat((x, F.relu(x), x[:, :, :, 0:]), dim=1),
        lambda x: torch.cat([x, x.new_zeros(1, 2, 6, 7)], -3),
        lambda x: x + x.new_zeros(1, 4, 6, 7),
        lambda x: torch.cat((x.mean((2, 3)), x.mean((2, 3))), 1),
        lambda x: F.relu(x) + torch.relu(x[:, :, 0:]) + F.relu(x),
    ],
)
def test_functions_compute_the_same_as_in_pytorch(
    format: Format, function: Any, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).normal(0, 2, (1, 4, 6, 7)).astype(np.float32)
    artifact = compile_model(Function(function), (4, 6, 7), tmp_path / f"f.{format}")
    got = file_outputs(Path(artifact.path), images)
    assert relative_error(got, torch_outputs(Function(function), images)) < FLOAT32_ERROR


def test_batch_norm_after_a_concatenation_is_folded_into_its_convolutions() -> None:
    block = Block("factorized_reduce", 6, 8, 1, 2, 1, 10, "relu")
    nodes = trace(randomise(block_module(block)), (6, 10, 10)).nodes
    kinds = [type(node) for node in nodes]
    assert kinds == [Activation, Conv, Slice, Conv, Concat]


def test_batch_norm_elsewhere_becomes_a_depthwise_convolution() -> None:
    for module in (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(2), nn.BatchNorm2d(4)),
    ):
        *_, last = trace(module, (3, 6, 6)).nodes
        assert isinstance(last, Conv) and last.depthwise and last.weight.shape == (4, 1, 1, 1)


@both
def test_a_convolution_with_another_user_keeps_its_batch_norm(
    format: Format, tmp_path: Path
) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, images: Tensor) -> Tensor:
            y = self.conv(images)
            return self.norm(y) + y

    assert error_of(Both(), (3, 6, 6), format, tmp_path) < FLOAT32_ERROR


def test_operations_on_the_same_input_share_its_relu() -> None:
    space = cell_space((3, 8, 8), 10, channels=4, layers=1)
    architecture = space.architecture(published_genotype("PC_DARTS_image"))
    nodes = trace(build(architecture), (3, 8, 8)).nodes
    relus = [node.inputs for node in nodes if isinstance(node, Activation)]
    assert len(relus) == len(set(relus))
    separate = sum(block.activation == "relu" for block in architecture.blocks)
    assert len(relus) < separate


def test_zeros_are_constants_of_the_file(tmp_path: Path) -> None:
    space = cell_space((3, 8, 8), 10, channels=4, layers=1)
    architecture = space.architecture(published_genotype("FairDARTS_a"))
    reduced = cell_space((3, 8, 8), 10, 4, 3).architecture(published_genotype("FairDARTS_a"))
    assert not any(block.op == "none" for block in architecture.blocks)
    graph = trace(build(reduced), (3, 8, 8))
    zeros = [node for node in graph.nodes if isinstance(node, Constant)]
    assert len(zeros) == 1 and zeros[0].inputs == ()


def test_a_tflite_file_of_cells_transposes_nothing_and_pads_only_if_needed(
    tmp_path: Path,
) -> None:
    space = cell_space((3, 16, 16), 10, channels=4, layers=3)
    graph = trace(network_of(space, "DARTS_V2"), (3, 16, 16))
    ops = operators(graph, tmp_path / "net.tflite")
    assert not {"TRANSPOSE", "RESHAPE", "STRIDED_SLICE"} & set(ops)
    # pools of stride 2 on even sizes: five in each of the two reduction cells
    uneven = [node for node in graph.nodes if isinstance(node, WindowPool) and 2 in node.stride]
    assert ops.count("PADV2") == len(uneven) == 2 * 5
    # a skip of stride 1 needs no operator, so only sums remain beside convolutions
    assert set(ops) == {
        "CONV_2D", "DEPTHWISE_CONV_2D", "RELU", "ADD", "CONCATENATION", "SLICE", "PADV2",
        "MAX_POOL_2D", "MEAN", "FULLY_CONNECTED",
    }  # fmt: skip


def test_a_mean_is_rescaled_only_after_an_explicit_pad(tmp_path: Path) -> None:
    def written(size: int, stride: int) -> list[str]:
        pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        return operators(trace(pool, (2, size, size)), tmp_path / "net.tflite")

    assert written(8, 1) == written(9, 1) == written(9, 2) == ["AVERAGE_POOL_2D"]
    assert written(8, 2) == ["PAD", "AVERAGE_POOL_2D", "MUL"]


def test_padding_in_the_terms_of_tflite_by_hand() -> None:
    # 8 px, window 3, stride 2, 1 added: windows start at -1, 1, 3, 5, and the last ends with 7
    assert not is_same(8, (1, 1), 3, 2, 1)
    assert explicit_padding(8, (1, 1), 3, 2, 1) == (1, 0)
    assert pixels_in_window(8, (1, 1), 3, 2, 1).tolist() == [2, 3, 3, 3]
    # 7 px: they end at 8, one beyond
    assert is_same(7, (1, 1), 3, 2, 1)
    assert explicit_padding(7, (1, 1), 3, 2, 1) == (1, 1)
    assert pixels_in_window(7, (1, 1), 3, 2, 1).tolist() == [2, 3, 3, 2]
    # dilation 2: a window of 3 spans 5
    assert is_same(8, (2, 2), 3, 1, 2) and explicit_padding(8, (2, 2), 3, 1, 2) == (2, 2)
    # 5 px, window 2, stride 2, 1 added: the last window starts at 3
    assert explicit_padding(5, (1, 1), 2, 2, 1) == (1, 0)
    assert pixels_in_window(5, (1, 1), 2, 2, 1).tolist() == [1, 2, 2]


@both
def test_files_of_an_untrained_network_are_the_same_bytes(format: Format, tmp_path: Path) -> None:
    space = cell_space((3, 16, 16), 10, channels=4, layers=3)
    architecture = space.architecture(published_genotype("DARTS_V2"))
    shas = {
        compile_model(
            untrained(architecture.blocks, architecture.inputs),
            architecture.input_shape,
            tmp_path / f"{number}.{format}",
        ).sha256
        for number in range(2)
    }
    assert len(shas) == 1
