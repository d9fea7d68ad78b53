"""Shapes inferred without computing are the shapes that PyTorch computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from hwnas.errors import ExportError
from hwnas.export.graph.ops import LeafTracer
from hwnas.export.graph.shapes import NodeValues, infer_shapes
from hwnas.export.graph.trace import evaluating, trace
from hwnas.nn.blocks import SqueezeExcite
from hwnas.nn.depthwise import DepthwiseConv2d


class ComputedShapes(fx.Interpreter):
    def __init__(self, module: nn.Module, traced: fx.Graph) -> None:
        super().__init__(module, graph=traced)
        self.known = NodeValues()

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op != "output":
            self.known.record(n, result)
        return result


class Everything(nn.Module):
    """Exercises every source of a shape: a rule, PyTorch on ``meta``, and computed zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.depthwise, self.gate = DepthwiseConv2d(8, 3), SqueezeExcite(8, 4)
        self.slope, self.layer_norm = nn.PReLU(8), nn.LayerNorm(8)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.head = nn.Linear(16, 5)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.norm(self.conv(x)))
        x = x + self.gate(self.depthwise(x)) * (self.scale * 2)
        x = self.layer_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()
        first, second = self.slope(x).view(x.size(0), 8, -1, x.size(3)).chunk(2, dim=1)
        x = self.pool(torch.cat([first, second, nn.functional.gelu(x)], 1))
        return self.head(x.mean([2, 3]).flatten(1)).softmax(1)


def both(module: nn.Module, shape: tuple[int, int, int]) -> tuple[NodeValues, NodeValues]:
    with evaluating(module), torch.no_grad():
        traced = LeafTracer().trace(module)
        computed = ComputedShapes(module, traced)
        computed.run(torch.zeros(1, *shape))
        inferred = infer_shapes(module, traced, shape, torch.device("cpu"), torch.float32)
    return inferred, computed.known


def same(inferred: NodeValues, computed: NodeValues) -> bool:
    names = inferred.constants.keys() == computed.constants.keys()
    return names and all(
        getattr(inferred, field) == getattr(computed, field)
        for field in ("shapes", "pieces", "plain")
    )


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 15, 9)])
def test_inferred_shapes_are_the_computed_shapes(shape: tuple[int, int, int]) -> None:
    assert same(*both(Everything(), shape))


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_inferred_shapes_of_published_networks_are_the_computed_shapes(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    assert same(*both(getattr(models, name)(), (3, 64, 64)))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((nn.Conv2d(3, 4, 1), nn.BatchNorm2d(5)), "running_mean should contain 4 elements"),
        ((nn.Conv2d(3, 4, 1), nn.BatchNorm1d(4)), "expected 2D or 3D input"),
        ((nn.Conv2d(3, 4, 9),), "Kernel size can't be greater than actual input size"),
        ((nn.Conv2d(4, 4, 1), nn.ReLU()), "to have 4 channels, but got 3 channels"),
        ((nn.Flatten(), nn.Linear(7, 2)), "shapes cannot be multiplied"),
    ],
)
def test_an_input_that_pytorch_rejects_is_reported_with_its_message(
    layers: tuple[nn.Module, ...], message: str
) -> None:
    with pytest.raises(ExportError, match=f"does not accept an input of shape .*{message}"):
        trace(nn.Sequential(*layers), (3, 8, 8))


def test_the_device_of_the_image_is_that_of_the_parameters() -> None:
    class Device(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x.device

    module = Device()
    inferred = infer_shapes(
        module, LeafTracer().trace(module), (3, 8, 8), torch.device("cpu"), torch.float32
    )
    assert list(inferred.plain.values()) == [torch.device("cpu")]
