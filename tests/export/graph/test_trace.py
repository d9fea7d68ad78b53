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
from hwnas.export.graph.trace import Graph, trace

IMAGE = (3, 8, 8)


class Calls(nn.Module):
    """Computes a function of a convolution's output."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(self.conv(images))


class Applies(nn.Module):
    """Computes a function of its input."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


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
    assert kinds(graph) == ["Conv", "Pool"] and graph.outputs[0].shape == (1, 4)


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
    assert kinds(graph) == ["Conv", "Pool"] and graph.outputs[0].shape == (1, 4)


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
    module = nn.Sequential(nn.Conv2d(3, 4, 1), Applies(torch.fft.rfft2))
    with pytest.raises(ExportError):
        trace(module, IMAGE)
    assert all(part.training for part in module.modules())


def test_an_unknown_operation_is_named_with_its_path() -> None:
    module = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), Applies(torch.fft.rfft2)))
    message = r"^0\.1: aten\._fft_r2c is outside the compiler's operations; fall-back: .*--via"
    with pytest.raises(ExportError, match=message) as raised:
        trace(module, IMAGE)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Calls(lambda y: y.new_zeros(1, 3)), "returns a constant: there is nothing to compile"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), Applies(torch.fft.rfft)),
            "^1: aten._fft_r2c is outside",
        ),
        (nn.AdaptiveMaxPool2d(3, return_indices=True), "return_indices=True is not"),
        (Calls(lambda y: F.adaptive_max_pool2d(y, 3, return_indices=True)[1] * 1.0), "indices"),
        (nn.Identity(), "returns its input: there is nothing to compile"),
        (Calls(lambda y: y * "2"), "does not accept an input"),
        (Calls(lambda y: F.dropout(y, 0.5)), "is active in evaluation mode"),
        (Calls(lambda y: (y, "y")), "Calls returns str as 1; expected tensors, or dicts"),
        (Calls(lambda y: {"out": {}}), "Calls returns no tensor"),
        (Calls(lambda y: y if y.sum() > 0 else -y), "depends on the values of the input"),
        (Calls(lambda y: y * y.mean().item()), "Tensor.item depends on the values of the input"),
        (nn.Conv2d(4, 4, 1), "^Conv2d does not accept an input of shape \\(3, 8, 8\\): "),
        (Calls(lambda y: y.view(torch.int32) * 1.0), "view to another dtype is not supported"),
        (Calls(lambda y: y[:, y.mean((0, 2, 3)) > 0]), "takes a mask of values"),
        (Calls(lambda y: y[:, 2:2]), "of no elements"),
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


def test_two_inputs_need_two_shapes() -> None:
    class Two(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return left + right

    with pytest.raises(ExportError, match=r"^Two takes 2 inputs .* missing for right, e\.g\."):
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
