"""Conversion of a module to the graph: folding, fusion and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.errors import ExportError
from hwnas.export.graph.nodes import Activation, Arithmetic, Conv, Linear, Pool, Reshape
from hwnas.export.graph.ops import OPS
from hwnas.export.graph.trace import Graph, trace
from hwnas.export.lowering.registry import LOWER

IMAGE = (3, 8, 8)


class Calls(nn.Module):
    """Computes a function of a convolution's output."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(self.conv(images))


def kinds(graph: Graph) -> list[str]:
    return [type(node).__name__ for node in graph.nodes]


def only_conv(module: nn.Module) -> Conv:
    (conv,) = trace(module, IMAGE).nodes
    assert isinstance(conv, Conv)
    return conv


def test_batch_norm_is_folded_by_its_formula() -> None:
    conv, norm = nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, eps=0.25)
    with torch.no_grad():
        for tensor, value in (
            (conv.weight, 1.0),
            (conv.bias, 5.0),
            (norm.running_mean, 1.0),
            (norm.running_var, 2.0),
            (norm.weight, 3.0),
            (norm.bias, 0.5),
        ):
            assert tensor is not None
            tensor.fill_(value)
    folded = only_conv(nn.Sequential(conv, norm))
    np.testing.assert_allclose(folded.weight, 3.0 / 1.5)  # sqrt(2 + 0.25) = 1.5
    np.testing.assert_allclose(folded.bias, (5.0 - 1.0) * 3.0 / 1.5 + 0.5)


def test_batch_norm_without_affine_has_gain_one_and_shift_zero() -> None:
    conv, norm = nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2, affine=False)
    norm.running_mean.fill_(2.0)  # type: ignore
    folded = only_conv(nn.Sequential(conv, norm))
    np.testing.assert_allclose(folded.bias, -2.0 / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_folded_weights_hold_no_denormals() -> None:
    conv, norm = nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2)
    nn.init.constant_(norm.weight, 1e-39)
    assert not only_conv(nn.Sequential(conv, norm)).weight.any()


def test_relu_is_fused_into_its_producer() -> None:
    assert only_conv(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6())).fused == "relu6"


def test_dropout_and_identity_vanish_and_do_not_prevent_fusion() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity(), nn.Dropout(), nn.ReLU(inplace=True))
    assert only_conv(module).fused == "relu"


def test_a_relu_whose_input_is_used_twice_stays_a_node() -> None:
    graph = trace(Calls(lambda y: F.relu(y) + y), IMAGE)
    assert kinds(graph) == ["Conv", "Activation", "Arithmetic"]
    assert isinstance(graph.nodes[0], Conv) and graph.nodes[0].fused is None


def test_a_relu_after_a_fused_relu_stays_a_node() -> None:
    assert kinds(trace(Calls(lambda y: F.relu(F.relu6(y))), IMAGE)) == ["Conv", "Activation"]


def test_hardswish_is_a_node_of_its_own() -> None:
    activation = trace(Calls(F.hardswish), IMAGE).nodes[1]
    assert isinstance(activation, Activation) and activation.op == "hardswish"


def test_relu_is_fused_into_an_addition() -> None:
    addition = trace(Calls(lambda y: F.relu(y + y)), IMAGE).nodes[1]
    assert isinstance(addition, Arithmetic) and addition.fused == "relu"


def test_flattening_is_fused_into_a_pool_without_other_users() -> None:
    graph = trace(Calls(lambda y: torch.flatten(F.adaptive_avg_pool2d(y, 1), 1)), IMAGE)
    assert kinds(graph) == ["Conv", "Pool"] and graph.output_shape == (1, 4)


def test_flattening_a_pool_that_is_used_again_is_a_node() -> None:
    def gated(y: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(y, 1)
        return pooled.flatten(1) + (y * pooled).mean((2, 3))

    names = kinds(trace(Calls(gated), IMAGE))
    assert names.count("Reshape") == 1 and names.count("Pool") == 2


@pytest.mark.parametrize(
    "head",
    [
        lambda y: y.mean((2, 3)),
        lambda y: torch.mean(y, dim=[-1, -2]),
        lambda y: y.mean((2, 3), keepdim=True).flatten(1),
        lambda y: F.adaptive_avg_pool2d(y, (1, 1)).reshape(y.size(0), -1),
        lambda y: F.adaptive_avg_pool2d(y, 1).view(y.shape[0], y.shape[1]),
    ],
)
def test_every_spelling_of_a_global_average_is_one_pool(head: Any) -> None:
    graph = trace(Calls(head), IMAGE)
    assert kinds(graph) == ["Conv", "Pool"] and graph.output_shape == (1, 4)


def test_values_are_named_after_the_path_of_their_module() -> None:
    graph = trace(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Conv2d(4, 5, 1)), IMAGE)
    assert [node.name for node in graph.nodes] == ["0.0", "logits"]
    assert graph.nodes[0].inputs == ("images",) and graph.nodes[1].inputs == ("0.0",)


def test_modules_named_like_input_and_output_are_renamed() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.images, self.logits = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.images(self.logits(x))

    names = [(node.inputs, node.name) for node in trace(Named(), IMAGE).nodes]
    assert names == [(("images",), "logits_2"), (("logits_2",), "logits")]


def test_a_module_used_twice_is_two_nodes() -> None:
    conv = nn.Conv2d(3, 3, 1)
    assert len({node.name for node in trace(nn.Sequential(conv, conv), IMAGE).nodes}) == 2


def test_unused_branches_are_dropped() -> None:
    def unused(y: Tensor) -> Tensor:
        F.gelu(y).sum()
        return y

    assert kinds(trace(Calls(unused), IMAGE)) == ["Conv"]


def test_a_subclass_with_the_same_forward_is_treated_like_its_base() -> None:
    class OwnConv(nn.Conv2d):
        pass

    assert kinds(trace(nn.Sequential(OwnConv(3, 4, 1)), IMAGE)) == ["Conv"]


def test_training_flags_are_restored() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4).eval(), nn.Dropout())
    trace(module, IMAGE)
    assert [part.training for part in module.modules()] == [True, True, False, True]
    assert module[1].num_batches_tracked == 0


def test_training_flags_are_restored_after_a_failure() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.CELU())
    with pytest.raises(ExportError):
        trace(module, IMAGE)
    assert all(part.training for part in module.modules())


def test_every_operation_has_a_lowering_and_a_pytorch_function() -> None:
    assert set(OPS.values()) == set(LOWER)


def test_an_unknown_operation_is_named_with_its_path() -> None:
    module = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.CELU()))
    message = r"^0\.1: torch\.nn\.CELU is outside the compiler's ops; fall-back: --via .*; known: "
    with pytest.raises(ExportError, match=message):
        trace(module, IMAGE)


def test_an_unknown_function_is_named_with_the_module_that_calls_it() -> None:
    with pytest.raises(ExportError, match=r"^0: torch\.stack is outside") as raised:
        trace(nn.Sequential(Calls(lambda y: torch.stack([y, y], 1))), IMAGE)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), "padding_mode='reflect'"),
        (
            Calls(lambda y: torch.cat([y], 0)),
            "torch.cat along dim 0 is not supported, only along dims 1 to 3",
        ),
        (Calls(lambda y: y[:, :, 1]), "getitem with .* is not supported, only slices such as x"),
        (Calls(lambda y: y.new_zeros(1, 3)), "returns a constant: there is nothing to compile"),
        (nn.MaxPool2d(2, dilation=2), "MaxPool2d with dilation=2 is not supported"),
        (
            nn.AvgPool2d(3, 2, 1, ceil_mode=True),
            "AvgPool2d with count_include_pad=True and ceil_mode=True is not supported",
        ),
        (nn.AvgPool2d(2, divisor_override=3), "AvgPool2d with divisor_override=3"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
            "without running statistics",
        ),
        (nn.AdaptiveAvgPool2d(3), "only to \\(1, 1\\) or where one size divides"),
        (Calls(lambda y: y.permute(0, 2, 1, 3)), "to the order \\(0, 2, 1, 3\\) is not supported"),
        (Calls(lambda y: y.view(4, 64)), "the batch must stay"),
        (Calls(lambda y: y.permute(0, 2, 3, 1)), "of a tensor with layout NHWC is not supported"),
        (nn.LayerNorm([3, 8, 8]), "LayerNorm over \\(3, 8, 8\\) .* only over the channels"),
        (nn.ELU(0.5), "ELU with alpha=0.5 is not supported"),
        (nn.Softmax(2), "Softmax over dim 2 is not supported"),
        (nn.Upsample(scale_factor=1.3), "Upsample by 1.3 from 8 to 10 pixels is not supported"),
        (nn.Upsample(scale_factor=2, mode="bicubic"), "mode='bicubic' is not supported"),
        (nn.ReplicationPad2d(1), "[Rr]eplication_?[Pp]ad|mode='replicate'|outside"),
        (nn.MaxPool2d(2, return_indices=True), "return"),
        (Calls(lambda y: F.pad(y, (-1, 0))), "of \\[-1, 0\\]|of \\(-1, 0\\)"),
        (nn.Linear(8, 2), "flatten first"),
        (nn.Identity(), "returns its input: there is nothing to compile"),
        (Calls(lambda y: y * "2"), "does not accept an input|cannot be traced|with operand"),
        (Calls(lambda y: torch.add(y, y, alpha=2)), "alpha given by name"),
        (Calls(lambda y: y.mean(1)), "only over \\(2, 3\\)"),
        (Calls(lambda y: F.dropout(y, 0.5)), "is active in evaluation mode"),
        (Calls(lambda y: (y, y)), "only one tensor is supported"),
        (Calls(lambda y: y if y.sum() > 0 else -y), "^Calls cannot be traced: symbolically traced"),
        (nn.Conv2d(4, 4, 1), "^Conv2d does not accept an input of shape \\(3, 8, 8\\): "),
        (Calls(lambda y: F.relu(y, inplace=True) + y), "in place overwrites a value"),
        (Calls(lambda y: F.relu_(y) + y), "in place overwrites a value"),
        (Calls(lambda y: F.relu_(y[:, :, 1:, 1:])), "in place overwrites part of a value"),
    ],
)
def test_a_refusal_gives_the_reason_in_one_line(module: nn.Module, message: str) -> None:
    with pytest.raises(ExportError, match=message) as raised:
        trace(module, IMAGE)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_an_even_kernel_pads_one_more_pixel_at_the_end() -> None:
    (conv,) = trace(nn.Conv2d(3, 4, 2, padding="same"), IMAGE).nodes
    assert isinstance(conv, Conv) and conv.padding == ((0, 1), (0, 1))


def test_overwriting_a_value_that_a_slice_shares_is_refused() -> None:
    def overlapping(y: Tensor) -> Tensor:
        part = y[:, :2]
        return F.relu_(y)[:, 2:] + part

    with pytest.raises(ExportError, match="in place overwrites a value that is used again later"):
        trace(Calls(overlapping), IMAGE)


def test_two_inputs_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return left + right

    with pytest.raises(
        ExportError, match=r"^Two takes the inputs left, right; only one is supported"
    ):
        trace(Two(), IMAGE)


def test_an_addition_in_place_is_lowered_to_an_addition() -> None:
    def residual(y: Tensor) -> Tensor:
        branch = F.hardswish(y)
        y += branch
        return y

    assert kinds(trace(Calls(residual), IMAGE)) == ["Conv", "Activation", "Arithmetic"]


def test_the_head_of_a_network_is_a_pool_and_a_linear_layer() -> None:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(3, 5))
    pool, linear = trace(head, IMAGE).nodes
    assert isinstance(pool, Pool) and pool.shape == (1, 3) and not isinstance(pool, Reshape)
    assert isinstance(linear, Linear) and linear.shape == (1, 5)
