"""What is recorded of a network: constants, operations in place, and every way of writing it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from hwnas.errors import ExportError
from hwnas.export.graph.interface import module_interface
from hwnas.export.graph.nodes import OUTPUT, Conv
from hwnas.export.graph.recording import Recording, Value, replay
from hwnas.export.graph.trace import record, trace
from hwnas.export.graph.tracer import Tracer
from hwnas.export.lowering.registry import LOWER
from hwnas.export.verification.module_outputs import module_outputs
from tests.export.test_parity import Function

MAP = (4, 5, 6)


def recorded(module: nn.Module) -> Recording:
    return Tracer(module, LOWER).record(module_interface(module, MAP), torch.float32)


def assert_records(function: Any) -> None:
    """Assert that the recording computes what PyTorch computes."""
    torch.manual_seed(0)
    image = torch.randn(1, *MAP)
    expected = function(image.clone())
    recording = recorded(Function(function))
    known = replay(recording, image.clone())
    output = recording.outputs[OUTPUT]
    assert isinstance(output, Value)
    torch.testing.assert_close(known[output], expected)
    assert not any(call.op.endswith("_") for call in recording.calls)


def in_views(x: Tensor) -> Tensor:
    y = x * 2
    part, turned = y[:, :2], y.transpose(2, 3)
    part += 1
    y[:, 3].mul_(3)
    turned[:, :, 1:3].clamp_(min=0)
    return y + part.mean() + turned.sum()


def in_reshaped(x: Tensor) -> Tensor:
    y = x.clone()
    y.view(1, 4, -1).relu_()
    y.permute(0, 2, 3, 1)[..., 0].sub_(5)
    first, _ = y.chunk(2, 1)
    first[:] = 7.0
    return y


def into_zeros(x: Tensor) -> Tensor:
    y, mask = torch.zeros_like(x), torch.zeros(5, 6)
    y[:, 1:3] = x[:, :2]
    y[:, :, 0] = 5
    mask[2:4, 1:5] = 1
    return y * mask


def woven(x: Tensor) -> Tensor:
    y = x + 0
    y[:, ::2] += 1
    y[..., 1::3] = x.mean()
    return y


def reshaped(x: Tensor) -> Tensor:
    y = x.mean(3)
    y.unsqueeze_(1)
    y.transpose_(2, 3)
    part = y[:, :, 1:]
    part *= 2
    return y.squeeze_(1) + 1


def overlapping(x: Tensor) -> Tensor:
    y = x + 0
    part = y[:, :2]
    return F.relu_(y)[:, 2:] + part


def residual(x: Tensor) -> Tensor:
    y = F.relu(x - 1, inplace=True)
    y += x
    return F.relu6(y, inplace=True) - y


@pytest.mark.parametrize(
    "function", [in_views, in_reshaped, into_zeros, woven, reshaped, overlapping, residual]
)
def test_operations_in_place_become_values(function: Any) -> None:
    assert_records(function)


def test_the_image_is_not_overwritten() -> None:
    def normalised(x: Tensor) -> Tensor:
        x.sub_(0.5).div_(0.25)
        return x.mean(1)

    assert_records(normalised)


def test_writing_through_a_diagonal_is_refused() -> None:
    def diagonal(x: Tensor) -> Tensor:
        y = x + 0
        y.diagonal(dim1=1, dim2=2)[:] = 1
        return y

    with pytest.raises(ExportError, match=r"writes through Tensor\.diagonal .* clone\(\) instead"):
        trace(Function(diagonal), MAP)


class Filled(nn.Module):
    """Writes values into tensors that it creates."""

    def forward(self, x: Tensor) -> Tensor:
        y, weights = torch.zeros(1, 4, 5, 6), torch.tensor([1.0, 2.0])
        y[:, :2] = x[:, :2] * float(weights[1])
        h = torch.full((1, 6), 0.5)
        for row in range(5):
            h += x[:, 3, row]
            y[:, 3, row] = h
        return y


def test_values_are_written_into_tensors_that_the_network_creates() -> None:
    image = torch.randn(1, *MAP)
    recording = record(Filled(), MAP)
    known = replay(recording, image)
    output = recording.outputs[OUTPUT]
    assert isinstance(output, Value)
    torch.testing.assert_close(known[output], Filled()(image))


class Remembers(nn.Module):
    """Changes its buffers, in place or by another tensor, and counts its runs."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.register_buffer("mean", torch.zeros(1, 4))
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        self.seen = x.mean((2, 3))
        if self.in_place:
            self.mean.mul_(0.9).add_(self.seen)
        else:
            self.mean = self.mean * 0.9 + self.seen
        return x - self.mean[..., None, None]


@pytest.mark.parametrize("in_place", [True, False])
def test_a_network_that_remembers_its_inputs_is_refused(in_place: bool) -> None:
    module = Remembers(in_place)
    with pytest.raises(
        ExportError, match=r"outputs (may )?depend on the inputs before; make it an"
    ):
        trace(module, MAP)
    assert [bool(buffer.any()) for buffer in module.buffers()] == [False, False]
    assert all(type(buffer) is Tensor for buffer in module.buffers())
    assert not hasattr(module, "seen")


def test_buffers_have_their_values_after_a_comparison() -> None:
    module = nn.BatchNorm2d(4)

    class InTraining(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = module

        def forward(self, x: Tensor) -> Tensor:
            return F.batch_norm(x, module.running_mean, module.running_var, training=True)

    images = np.arange(240, dtype=np.float32).reshape(2, *MAP)
    module_outputs(InTraining(), module_interface(module, MAP), [images])
    assert module.running_mean is not None and not module.running_mean.any()


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (lambda x: x + torch.randn(5, 6), "randn"),
        (lambda x: x + torch.rand_like(x), "rand_like"),
        (lambda x: F.gumbel_softmax(x), "exponential_"),
        (lambda x: torch.bernoulli(x.sigmoid()), "bernoulli"),
    ],
)
def test_random_numbers_are_refused(function: Any, op: str) -> None:
    with pytest.raises(ExportError, match=rf"aten\.{op} draws random numbers in evaluation mode"):
        trace(Function(function), MAP)


@pytest.mark.parametrize(
    ("function", "instead"),
    [
        (lambda x: torch.fft.rfft2(x).abs(), "matrices of cosines and sines"),
        (lambda x: torch.complex(x, x).abs(), "real and imaginary parts"),
        (lambda x: torch.histc(x, 4), "compare with each bin"),
        (lambda x: x[torchvision.ops.nms(x[0, 0, :, :4], x[0, 0, :, 4], 0.5)], "boxes and scores"),
        (lambda x: torch.where(x > 0)[0], "Tensor.where depends on the values"),
    ],
)
def test_what_can_take_the_place_of_an_operation_is_named(function: Any, instead: str) -> None:
    with pytest.raises(ExportError, match=instead):
        trace(Function(function), MAP)


def test_what_does_not_depend_on_the_image_is_computed_beforehand() -> None:
    def scaled(x: Tensor) -> Tensor:
        rows = torch.linspace(0, 1, x.shape[2]).cumsum(0)[:, None] * x.new_full((1, 6), 2.0)
        return x * torch.fft.ifft(rows).abs()

    assert [call.op for call in recorded(Function(scaled)).calls] == ["mul"]


def test_a_parametrised_weight_is_a_constant() -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 2, 3))
    (node,) = trace(conv, MAP).nodes
    assert isinstance(node, Conv)
    weight: Any = conv.weight
    torch.testing.assert_close(torch.from_numpy(node.weight), weight.detach())


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x), inplace=True)


class NoGradient(nn.Module):
    """Everything around the computation that people write, none of which is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    @torch.no_grad()
    def forward(self, x: Tensor, scale: float | None = None) -> Tensor:
        assert x.shape[1] == 4
        with torch.autocast("cpu", enabled=False):
            x = self.block(x.float().to(torch.float32).contiguous())
        return x if scale is None else x * scale


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:FutureWarning")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda: Block(),
        lambda: NoGradient(),
        lambda: nn.DataParallel(Block()),
        lambda: torch.jit.script(Block()),
        lambda: Block().to(memory_format=torch.channels_last),
        lambda: Block().double(),
        lambda: Block().bfloat16(),
        lambda: Block().half(),
    ],
)
def test_the_same_computation_is_the_same_graph(wrap: Any) -> None:
    (conv,) = trace(wrap(), MAP).nodes
    assert isinstance(conv, Conv) and conv.fused == "relu"
    assert conv.weight.dtype == np.float32


def test_a_function_of_autograd_is_recorded() -> None:
    operations = [call.op for call in recorded(Function(Swish.apply)).calls]
    assert operations == ["sigmoid", "mul"]


def test_half_precision_weights_of_the_module_stay_as_they_are() -> None:
    module = Block().half()
    trace(module, MAP)
    assert module.conv.weight.dtype == torch.float16


def test_settings_of_pytorch_are_restored() -> None:
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    trace(nn.Sequential(nn.Flatten(2), nn.LSTM(30, 2), Function(lambda x: x[0])), MAP)
    with pytest.raises(ExportError):
        trace(Function(lambda x: x * x.sum().item()), MAP)
    after = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    assert after == before


def test_a_batch_of_one_that_is_written_into_the_network_cannot_be_dynamic() -> None:
    module = Function(lambda x: (x * 2).view(1, -1))
    trace(module, MAP)
    with pytest.raises(ExportError, match=r"the batch cannot be dynamic"):
        trace(module, MAP, any_batch=True)
    trace(Function(lambda x: (x * 2).flatten(1)), MAP, any_batch=True)
