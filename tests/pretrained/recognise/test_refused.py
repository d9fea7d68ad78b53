"""Modules that are no network of hwnas are refused in one line, which names the first layer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import weight_norm
from torchvision.models import get_model

from hwnas.errors import UsageError
from hwnas.pretrained.network import loaded
from hwnas.pretrained.recognise.network import recognise, verify
from tests.support.networks.convolutions import Function, Head, conv
from tests.support.networks.trained import small_mobilenet

SHAPE = (3, 64, 64)


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


class Constant(nn.Module):
    """Multiplies with values that are not trained."""

    gain: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.full((8, 1, 1), 0.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


class Scaled(nn.Module):
    """Multiplies with a parameter of some shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        ([Function(lambda x: F.avg_pool2d(x, x.shape[2] // 2))], r"floordiv.* is no layer"),
        ([Function(lambda x: x.split([x.shape[1] - 2, 2], 1)[0])], r"split.* is no layer"),
        ([Function(lambda x: torch.add(x, F.relu(x), alpha=2))], r"add.* is no layer"),
        ([Function(lambda x: x + float("inf"))], r"add.* is no layer"),
        ([Function(lambda x: x[..., 0:8])], r"getitem.* is no layer"),
        ([Scaled((1, 1, 32))], r"middle\.0\.gain \(a product with a parameter\) is no layer"),
        ([nn.Softmax(1)], r"Head: middle\.0 \(Softmax\) is no layer that hwnas rebuilds; expected"),
        ([Constant()], r"mul \(mul\) \(a function\) is no layer"),
        ([Unknown()], r"cumsum \(cumsum\) \(a function\) is no layer that hwnas rebuilds"),
        (
            [nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")],
            r"middle\.0 \(3x3 convolution of 8 channels\) is no layer",
        ),
        ([nn.LPPool2d(2, 2)], r"middle\.0 \(LPPool2d\) is no layer"),
        ([nn.AvgPool2d(2, divisor_override=3)], r"middle\.0 \(AvgPool2d\) is no layer"),
    ],
)
def test_a_layer_that_no_piece_can_hold_is_named(middle: list[nn.Module], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recognise(Head(*middle), SHAPE)


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "maxvit_t"])
def test_transformers_are_refused_in_one_line(name: str) -> None:
    with torch.device("meta"):
        source = get_model(name, weights=None)
    with pytest.raises(UsageError, match=f"^{name}: .* is no layer that hwnas rebuilds") as error:
        recognise(source, (3, 224, 224), name)
    assert "\n" not in str(error.value)


def test_a_network_without_a_classifier_at_its_end_is_refused() -> None:
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    with pytest.raises(UsageError, match="does not end in a global pool and a linear layer"):
        recognise(stem, SHAPE)


class DependsOnValues(Head):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


def test_a_computation_that_depends_on_values_is_refused() -> None:
    with pytest.raises(UsageError, match=r"DependsOnValues: torch\.fx cannot trace it"):
        recognise(DependsOnValues(), SHAPE)


def test_a_layer_that_runs_twice_is_no_pair_of_blocks() -> None:
    shared = nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU())
    with pytest.raises(UsageError, match=r"middle.0.0 .* is used more than once"):
        recognise(Head(shared, shared), SHAPE)


class Several(Head):
    """Returns its logits in a dict, with the features."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # pyright: ignore
        return {"logits": super().forward(x), "features": self.stem(x)}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Several(), "Several: returns several values, a list or a dict; expected the logits"),
        (
            Head(weight_norm(conv())),
            "mine: middle.0 computes its weight, e.g. by weight norm; remove that first",
        ),
        (
            Head(spectral_norm(conv(bias=True))),
            "mine: middle.0 computes its weight, e.g. by weight norm; remove that first",
        ),
        (
            Head(nn.LazyConv2d(8, 1)),
            "mine: middle.0.weight has no shape yet; run it on an image first",
        ),
    ],
)
def test_modules_without_plain_weights_or_logits_are_refused_in_one_line(
    source: nn.Module, message: str
) -> None:
    with pytest.raises(UsageError) as error:
        recognise(source, SHAPE, "mine")
    assert str(error.value) == message


def test_a_module_that_takes_no_such_image_is_refused_with_its_error() -> None:
    source = nn.Sequential(Head(), nn.Identity())
    network = loaded(*recognise(source, SHAPE, "mine"))
    source[0].fc = nn.Linear(9, 2)
    with pytest.raises(UsageError, match=r"^mine: raises an error for an image of 3x64x64: mat1"):
        verify(source, network, SHAPE, "mine")


class Standardised(nn.Conv2d):
    """A convolution whose weights have the mean 0."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(input, weight, self.bias)


def test_a_layer_that_computes_something_else_than_its_base_class_is_named() -> None:
    torch.manual_seed(0)
    source = Head(Standardised(8, 8, 1)).eval()
    network = loaded(*recognise(source, SHAPE, "mine"))
    cause = r"; middle\.0 \(Standardised\) may compute something else than its base class$"
    with pytest.raises(UsageError, match=cause):
        verify(source, network, SHAPE, "mine")


def test_norms_of_several_epsilons_are_no_network_of_ours() -> None:
    source = small_mobilenet()
    source.get_submodule("features.1.conv.0.1").eps = 1e-3  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"features.1.conv.0.1 has eps 0.001, features.0.1 has 1e"):
        recognise(source, SHAPE)


def test_networks_that_differ_in_one_weight_are_told_apart() -> None:
    source = small_mobilenet()
    architecture, weights = recognise(source, SHAPE)
    verify(source, loaded(architecture, weights), SHAPE, "small")
    key = "blocks.1.layers.depthwise.norm.running_mean"
    changed = loaded(architecture, weights | {key: weights[key] + 0.1})
    with pytest.raises(UsageError, match=r"small: .* its logits differ by .* expected at most"):
        verify(source, changed, SHAPE, "small")
