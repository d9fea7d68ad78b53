"""Parity of small variants of torchvision's networks in both runtimes.

The networks in their own sizes are in ``tools/bench/compiler/coverage.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import pytest
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.resnet import Bottleneck
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from hwnas.architecture.artifact import Format
from hwnas.export.graph.trace import trace
from hwnas.export.onnx.emitter import write_onnx
from tests.export.networks.test_cell_networks import operators
from tests.export.test_parity import both, error_of


def vision_transformer() -> nn.Module:
    """Its head, which starts as zeros, is random."""
    network = models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=10)
    nn.init.normal_(network.heads[-1].weight)  # type: ignore[arg-type]
    return network


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "mobilenet_v2": (partial(models.mobilenet_v2, width_mult=0.25), 32),
    "mobilenet_v3_small": (partial(models.mobilenet_v3_small, num_classes=10), 32),
    "mnasnet0_5": (models.mnasnet0_5, 32),
    "shufflenet_v2": (models.shufflenet_v2_x0_5, 32),
    "squeezenet1_1": (models.squeezenet1_1, 64),
    "resnext": (
        partial(models.ResNet, Bottleneck, [1, 1, 1, 1], groups=4, width_per_group=8), 32,
    ),
    "regnet_y_400mf": (models.regnet_y_400mf, 32),
    "densenet": (partial(models.DenseNet, 8, (2, 2, 2, 2), 16), 32),
    "efficientnet_b0": (models.efficientnet_b0, 32),
    "googlenet": (
        partial(models.googlenet, init_weights=False, aux_logits=False, transform_input=True), 64,
    ),
    "vit": (vision_transformer, 32),
    "swin": (partial(models.SwinTransformer, [4, 4], 8, [1, 2], [2, 2], [2, 2]), 32),
    "swin_v2": (
        partial(
            models.SwinTransformer, [4, 4], 8, [1, 2], [2, 2], [2, 2],
            block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2,
        ), 32,
    ),
    "maxvit": (partial(models.MaxVit, (32, 32), 8, 2, [8, 8], [1, 1], 4, 0.0), 32),
    "convnext": (
        partial(ConvNeXt, [CNBlockConfig(16, 32, 2), CNBlockConfig(32, None, 2)], 0.3), 32,
    ),
}  # fmt: skip


@both
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_torchvision(format: Format, name: str, tmp_path: Path) -> None:
    make, size = NETWORKS[name]
    assert error_of(make(), (3, size, size), format, tmp_path) < 1e-5


@pytest.mark.parametrize("name", ["convnext", "densenet", "mobilenet_v3_small", "shufflenet_v2"])
def test_only_channel_shuffles_are_transposed_in_tflite(name: str, tmp_path: Path) -> None:
    make, size = NETWORKS[name]
    ops = operators(trace(make(), (3, size, size)), tmp_path / "net.tflite")
    assert ops.count("TRANSPOSE") == (16 if name == "shufflenet_v2" else 0)


@pytest.mark.parametrize(
    ("name", "count"),
    # a layer moves query, key and value at once, and its result; windows are moved before and after
    [("vit", 4), ("swin", 12), ("swin_v2", 18), ("maxvit", 15)],
)
def test_attention_moves_its_heads_once_before_and_once_after_in_tflite(
    name: str, count: int, tmp_path: Path
) -> None:
    make, size = NETWORKS[name]
    ops = operators(trace(make(), (3, size, size)), tmp_path / "net.tflite")
    assert ops.count("TRANSPOSE") == count


def test_the_layer_scale_of_convnext_is_folded_into_the_weights(tmp_path: Path) -> None:
    make, size = NETWORKS["convnext"]
    write_onnx(trace(make(), (3, size, size)), tmp_path / "net.onnx", opset=20)
    ops = [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node]
    assert "Mul" not in ops and ops.count("Gelu") == 4
