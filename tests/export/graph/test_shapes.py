"""Shapes that are recorded without computing are the shapes that PyTorch computes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.errors import ExportError
from hwnas.export.graph.interface import module_interface
from hwnas.export.graph.modules import evaluating
from hwnas.export.graph.recording import replay
from hwnas.export.graph.shapes import RULES, quick_result
from hwnas.export.graph.trace import trace
from hwnas.export.graph.tracer import Tracer
from hwnas.export.lowering.registry import LOWER
from hwnas.nn.blocks.layers import SqueezeExcite
from hwnas.nn.depthwise import DepthwiseConv2d


class Everything(nn.Module):
    """Exercises every source of a shape: a rule, PyTorch on ``meta``, and constants."""

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


def assert_shapes_are_computed(module: nn.Module, shape: tuple[int, ...]) -> None:
    with evaluating(module), torch.no_grad():
        recording = Tracer(module, LOWER).record(module_interface(module, shape), torch.float32)
        computed = replay(recording, torch.zeros(1, *shape))
    assert len(computed) > 5
    for value, tensor in computed.items():
        assert value.shape == tuple(tensor.shape) and value.dtype == tensor.dtype


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 15, 9)])
def test_recorded_shapes_are_the_computed_shapes(shape: tuple[int, int, int]) -> None:
    assert_shapes_are_computed(Everything(), shape)


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_recorded_shapes_of_published_networks_are_the_computed_shapes(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    assert_shapes_are_computed(getattr(models, name)(), (3, 64, 64))


@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
@pytest.mark.parametrize("padding", [0, 1, (2, 0)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_the_rule_of_convolutions_is_that_of_pytorch(
    stride: object, padding: object, dilation: int
) -> None:
    conv = nn.Conv2d(4, 6, (3, 2), stride, padding, dilation, groups=2)  # type: ignore[arg-type]
    image = torch.empty(1, 4, 11, 8, device="meta")
    quick = RULES["conv2d"](
        *(image, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    )
    assert quick is not None and quick.shape == conv(torch.empty(1, 4, 11, 8)).shape


def test_the_result_of_a_function_keeps_the_order_in_memory_of_its_operand() -> None:
    image = torch.empty(1, 4, 5, 6, device="meta").permute(0, 2, 3, 1)
    quick = quick_result("relu", (image,), {})
    assert quick is not None and quick.stride() == image.stride()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((nn.Conv2d(3, 4, 1), nn.BatchNorm2d(5)), "running_mean"),
        ((nn.Conv2d(3, 4, 1), nn.BatchNorm1d(4)), "expected 2D or 3D input"),
        ((nn.Conv2d(3, 4, 9),), "Kernel size can't be greater than actual input size"),
        ((nn.Conv2d(4, 4, 1), nn.ReLU()), "to have 4 channels, but got 3 channels"),
        ((nn.Flatten(), nn.Linear(7, 2)), "7"),
    ],
)
def test_an_input_that_pytorch_rejects_is_reported_with_its_message(
    layers: tuple[nn.Module, ...], message: str
) -> None:
    with pytest.raises(ExportError, match=f"does not accept an input of shape .*{message}"):
        trace(nn.Sequential(*layers), (3, 8, 8))


def test_the_device_of_the_image_is_that_of_the_parameters() -> None:
    class Device(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.ones(3, 1, 1, device=x.device)

    assert [node.shape for node in trace(Device(), (3, 8, 8)).nodes][-1] == (1, 3, 8, 8)


@pytest.mark.parametrize("amounts", [[1, 2], [0, 1, -1, 2], [1, 1, 2, 2, 0, 3]])
def test_the_rule_of_padding_is_that_of_pytorch(amounts: list[int]) -> None:
    value = torch.zeros(2, 3, 4, 5, device="meta")
    quick = RULES["pad"](value, amounts, "constant", None)
    assert quick is not None and quick.shape == F.pad(value, amounts).shape


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_the_rule_of_concatenations_is_that_of_pytorch(dim: int) -> None:
    shape = [2, 3, 4]
    values = [torch.zeros(shape, device="meta")]
    shape[dim] += 2
    values.append(torch.zeros(shape, device="meta"))
    quick = quick_result("cat", (values, dim), {})
    assert quick is not None and quick.shape == torch.cat(values, dim).shape
    odd = [values[0], torch.zeros(9, 9, 9, device="meta")]
    assert quick_result("cat", (odd, dim), {}) is None


def test_recording_imports_no_compiler_and_no_distributed_tensors_of_pytorch() -> None:
    """Their imports take seconds, as much as the rest of a compilation."""
    program = (
        "import sys, torch, torch.nn.functional as F\n"
        "from torch import nn\n"
        "from hwnas.export.graph.trace import trace\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        y = torch.cat((F.pad(x, (1, 0)), F.pad(x, (0, 1))), 1)\n"
        "        y += 1\n"
        "        return torch.einsum('nchw,nchw->nc', y, y)\n"
        "trace(Net(), (3, 8, 8))\n"
        "slow = {'torch._dynamo', 'torch.distributed.tensor', 'sympy'}\n"
        "print(sorted(slow & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_an_operation_whose_rule_computes_itself_is_refused_in_a_line() -> None:
    class LogGamma(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.lgamma(x)

    with pytest.raises(ExportError, match=r"aten.lgamma is outside the compiler's operations"):
        trace(LogGamma(), (3, 4, 4))
