"""Every operation, block and kind of network computes the same in both runtimes as in PyTorch."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from random import Random
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.architecture.artifact import Format
from hwnas.export.compile import compile_model
from hwnas.export.verification.metrics import relative_error
from hwnas.export.verification.run_model import file_outputs
from hwnas.export.verification.verify import torch_outputs
from hwnas.nn.blocks.layers import SqueezeExcite
from hwnas.nn.blocks.table import block_module
from hwnas.nn.build import build
from hwnas.nn.network import Network
from hwnas.spaces.mobile.space import mobile_space

FLOAT32_ERROR = 5e-6
"""Largest relative error that the order of float32 sums explains in these small networks."""
FORMATS: tuple[Format, ...] = get_args(Format)
both = pytest.mark.parametrize("format", FORMATS)


def randomise(module: nn.Module) -> nn.Module:
    """Give every batch norm random statistics, gain and shift, as after training."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None and part.running_var is not None
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.uniform_(part.weight, -1.5, 1.5)
            nn.init.normal_(part.bias)
    return module


def error_of(module: nn.Module, shape: tuple[int, int, int], format: Format, folder: Path) -> float:
    """Return the relative error of a compiled file on three images of a wide range of values."""
    randomise(module)
    images = np.random.default_rng(0).normal(0, 3, (3, *shape)).astype(np.float32)
    artifact = compile_model(module, shape, folder / f"model.{format}")
    expected = torch_outputs(module, images)
    got = file_outputs(Path(artifact.path), images)
    assert got.shape == expected.shape and np.abs(expected).max() > 0
    return relative_error(got, expected)


class Function(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


@both
@pytest.mark.parametrize("size", [(9, 9), (12, 12), (7, 10)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5, 7])
def test_convolutions(
    format: Format, kernel_size: int, stride: int, size: tuple[int, int], tmp_path: Path
) -> None:
    dense = nn.Conv2d(4, 6, kernel_size, stride, kernel_size // 2)
    depthwise = nn.Conv2d(6, 6, kernel_size, 1, kernel_size // 2, groups=6, bias=False)
    for module in (dense, nn.Sequential(dense, depthwise)):
        assert error_of(module, (4, *size), format, tmp_path) < FLOAT32_ERROR


@both
@pytest.mark.parametrize("size", [9, 12])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_depthwise_convolutions(
    format: Format, kernel_size: int, stride: int, size: int, tmp_path: Path
) -> None:
    module = nn.Conv2d(5, 5, kernel_size, stride, kernel_size // 2, groups=5)
    assert error_of(module, (5, size, size), format, tmp_path) < FLOAT32_ERROR


@both
@pytest.mark.parametrize("size", [11, 14])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(("stride", "padding"), [(1, 2), (1, 0), (1, 1), (2, 2), (1, "same")])
def test_dilated_convolutions(
    format: Format, stride: int, padding: Any, groups: int, size: int, tmp_path: Path
) -> None:
    module = nn.Conv2d(4, 4, 3, stride, padding, dilation=2, groups=groups)
    assert error_of(module, (4, size, size), format, tmp_path) < FLOAT32_ERROR


@both
def test_convolutions_with_windows_that_are_not_square(format: Format, tmp_path: Path) -> None:
    module = nn.Conv2d(3, 4, (1, 5), (2, 1), (0, 2), dilation=(1, 2))
    assert error_of(module, (3, 9, 14), format, tmp_path) < FLOAT32_ERROR
    module = nn.Conv2d(3, 4, (7, 1), (1, 3), (3, 0))
    assert error_of(module, (3, 9, 14), format, tmp_path) < FLOAT32_ERROR


@both
@pytest.mark.parametrize(
    "function",
    [
        F.relu,
        F.relu6,
        F.hardswish,
        F.hardsigmoid,
        torch.sigmoid,
        lambda x: x.relu(),
        lambda x: x.sigmoid(),
        lambda x: x + x,
        lambda x: F.relu6(x * x),
        lambda x: torch.relu(torch.add(F.hardswish(x), x)),
        lambda x: x * F.adaptive_avg_pool2d(x, 1),
        lambda x: x.mean((2, 3), keepdim=True) * x,
        lambda x: F.adaptive_avg_pool2d(x, 1) + x,
        lambda x: x.mean((2, 3)),
        lambda x: torch.flatten(F.adaptive_avg_pool2d(x, 1), 1),
        lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1) + x.mean((2, 3)),
    ],
)
def test_functions(format: Format, function: Any, tmp_path: Path) -> None:
    assert error_of(Function(function), (4, 6, 7), format, tmp_path) < FLOAT32_ERROR


@both
@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid]
)
@pytest.mark.parametrize("inplace", [False, True])
def test_activation_modules_after_a_convolution(
    format: Format, activation: Any, inplace: bool, tmp_path: Path
) -> None:
    act = activation() if activation is nn.Sigmoid else activation(inplace=inplace)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), act)
    assert error_of(module, (3, 6, 6), format, tmp_path) < FLOAT32_ERROR


@both
@pytest.mark.parametrize("eps", [1e-5, 1e-3, 0.5])
def test_batch_norm_with_statistics_and_eps(format: Format, eps: float, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, eps=eps), nn.ReLU())
    assert error_of(module, (3, 8, 8), format, tmp_path) < FLOAT32_ERROR


@both
def test_a_head_with_hidden_layer(format: Format, tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 12, 1), nn.Hardswish(), nn.Flatten(),
        nn.Linear(12, 8, bias=False), nn.ReLU(), nn.Dropout(), nn.Linear(8, 5), nn.Sigmoid(),
    )  # fmt: skip
    assert error_of(module, (4, 6, 6), format, tmp_path) < FLOAT32_ERROR


@both
def test_squeeze_excite(format: Format, tmp_path: Path) -> None:
    assert error_of(SqueezeExcite(8, 4), (8, 6, 6), format, tmp_path) < FLOAT32_ERROR


@both
def test_a_shortcut_whose_branch_is_used_before_and_after_its_activation(
    format: Format, tmp_path: Path
) -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

        def forward(self, images: Tensor) -> Tensor:
            branch = self.norm(self.conv(images))
            return F.relu(images + branch) + F.relu6(branch)

    assert error_of(Shortcut(), (4, 6, 6), format, tmp_path) < FLOAT32_ERROR


MBCONVS = [
    Block("mbconv", 8, out, kernel_size, stride, expand_ratio, size, activation, squeeze_excite)
    for kernel_size, expand_ratio, (out, stride, size), activation, squeeze_excite in product(
        (3, 5, 7), (1, 3, 6), ((8, 1, 9), (16, 2, 10)), ("relu6", "hswish"), (False, True)
    )
]
BLOCKS = [
    *MBCONVS,
    *(
        Block("fused_mbconv", 8, out, 3, stride, expand_ratio, 10, activation)
        for expand_ratio, (out, stride), activation in product(
            (1, 2), ((8, 1), (16, 2)), ("relu6", "relu", "hswish")
        )
    ),
    *(Block("conv", 3, 8, k, s, 1, size) for k, s, size in product((1, 3), (1, 2), (9, 10))),
    *(
        Block(op, 8, 16, k, 2, 2, size, "silu", padding="same")
        for op, k, size in product(("conv", "mbconv", "fused_mbconv"), (3, 5), (9, 10))
    ),
    *(Block("max_pool", 8, 8, k, 2, 1, n, padding="same") for k, n in product((2, 3), (9, 10))),
    Block("mbconv", 8, 8, 3, 1, 3, 7, "silu", True, gate="sigmoid", squeezed=2),
    Block("mbconv", 8, 8, 3, 1, 3, 7, "relu", True, gate="sigmoid"),
    *(
        Block(op, 8, out, k, stride, 0.75, 10, activation)
        for op, k, (out, stride), activation in product(
            ("basic", "bottleneck"), (3, 5), ((8, 1), (16, 2)), ("relu", "silu")
        )
    ),
    Block("max_pool", 8, 8, 3, 2, 1, 10),
    Block("hidden", 8, 6, 1, 1, 1, 7, "hswish"),
    Block("logits", 8, 10, 1, 1, 1, 7),
]


@both
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.key)
def test_every_block(format: Format, block: Block, tmp_path: Path) -> None:
    shape = block.in_shape
    assert error_of(block_module(block), shape, format, tmp_path) < FLOAT32_ERROR


@both
def test_the_padding_of_tensorflow_follows_the_image(format: Format, tmp_path: Path) -> None:
    """Also of images of another size than the block was built for, and that are not square."""
    module = block_module(Block("mbconv", 3, 8, 5, 2, 2, 8, padding="same"))
    assert error_of(module, (3, 9, 12), format, tmp_path) < FLOAT32_ERROR


@both
def test_the_epsilon_of_batch_norms_is_folded_in(format: Format, tmp_path: Path) -> None:
    blocks = (Block("conv", 3, 8, 3, 1, 1, 8), Block("mbconv", 8, 8, 3, 1, 2, 8))
    network = Network(blocks, norm_eps=0.5)  # as large as the smallest variance
    assert error_of(network, (3, 8, 8), format, tmp_path) < FLOAT32_ERROR
    default = Network(blocks)
    default.load_state_dict(network.state_dict())
    images = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    apart = relative_error(torch_outputs(default, images), torch_outputs(network, images))
    assert apart > 0.1


@both
@pytest.mark.parametrize("seed", range(3))
def test_networks_of_the_default_space(format: Format, seed: int, tmp_path: Path) -> None:
    space = mobile_space((1, 28, 28), 10)
    network = build(space.architecture(space.random(Random(seed))))
    assert error_of(network, (1, 28, 28), format, tmp_path) < 2 * FLOAT32_ERROR
