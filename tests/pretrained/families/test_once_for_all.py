"""The largest networks of OFA's supernets and ProxylessNAS's, by functions on random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.errors import InvalidFile
from hwnas.nn.elastic.member import ClosedForms
from hwnas.nn.network import Network
from hwnas.pretrained.load import load_source
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.pretrained.sources import find_source
from hwnas.spaces.published import published
from tests.support.networks.plain_mobile import (
    Weights,
    conv_norm,
    hswish,
    random_conv,
    random_norm,
    squeeze_excite,
)

SIZE = 64
W12 = (32, 48, 96, 136, 192)
"""Widths of the five stages of four blocks at width 1.2; stem and first block have 24."""


def blocks_of_w12() -> Iterator[tuple[str, int, int, int, bool, bool]]:
    """Yield prefix, inputs, outputs, stride, whether it has squeeze-excite and h-swish."""
    number, before = 1, 24
    for stage, width in enumerate(W12):
        for place in range(4):
            stride = 2 if place == 0 and stage != 3 else 1
            yield f"blocks.{number}", before, width, stride, stage in (1, 3, 4), stage >= 2
            number, before = number + 1, width


def image() -> Tensor:
    return torch.randn((2, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(1)).double()


def doubled(weights: Weights) -> Weights:
    """Return the weights in float64: random networks amplify the rounding of float32."""
    return {key: value.double() for key, value in weights.items()}


def difference(network: PretrainedNetwork, expected: Tensor) -> float:
    with torch.inference_mode():
        logits = network.network().double()(image())
    return ((logits - expected).abs().max() / expected.abs().max()).item()


def squeezed(inner: int) -> int:
    rounded = max(8, (inner // 4 + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * (inner // 4) else rounded


def supernet_weights(conv: str) -> dict[str, Tensor]:
    """Return random weights with the keys of the published file; ``conv`` is the older or newer
    name of an inverted residual."""
    rng, weights = torch.Generator().manual_seed(0), {}

    def unit(name: str, shape: tuple[int, ...], inner: str = "") -> None:
        random_conv(weights, f"{name}.{f'{inner}.' if inner else ''}conv", shape, rng)
        random_norm(weights, f"{name}.bn.bn" if inner else f"{name}.bn", shape[0], rng)

    unit("first_conv", (24, 3, 3, 3))
    unit(f"blocks.0.{conv}.depth_conv", (24, 1, 3, 3))
    unit(f"blocks.0.{conv}.point_linear", (24, 24, 1, 1))
    for block, before, width, _, has_gate, _ in blocks_of_w12():
        prefix, inner = f"{block}.{conv}", 6 * before
        unit(f"{prefix}.inverted_bottleneck", (inner, before, 1, 1), "conv")
        unit(f"{prefix}.depth_conv", (inner, 1, 7, 7), "conv")
        for name, taps in (("7to5", 25), ("5to3", 9)):
            learnt = 0.2 * torch.randn((taps, taps), generator=rng)
            weights[f"{prefix}.depth_conv.conv.{name}_matrix"] = torch.eye(taps) + learnt
        if has_gate:
            for name, shape in (
                ("reduce", (squeezed(inner), inner, 1, 1)),
                ("expand", (inner, squeezed(inner), 1, 1)),
            ):
                random_conv(weights, f"{prefix}.depth_conv.se.fc.{name}", shape, rng)
                bias = torch.randn(shape[0], generator=rng)
                weights[f"{prefix}.depth_conv.se.fc.{name}.bias"] = bias
        unit(f"{prefix}.point_linear", (width, inner, 1, 1), "conv")
    unit("final_expand_layer", (1152, 192, 1, 1))
    random_conv(weights, "feature_mix_layer.conv", (1536, 1152, 1, 1), rng)
    weights["classifier.linear.weight"] = torch.randn((1000, 1536), generator=rng) / 40
    weights["classifier.linear.bias"] = torch.randn(1000, generator=rng)
    return weights


Choices = dict[str, tuple[int, int]]
"""Kernel size and expansion of the blocks that are not full."""


def subnet(x: Tensor, weights: Weights, conv: str, choices: Choices) -> Tensor:
    """The forward pass of a member of the supernet in evaluation mode, without recalibration of its
    norms."""
    sliced = dict(weights)
    for block, before, *_ in blocks_of_w12():
        kernel_size, expand_ratio = choices.get(block, (7, 6))
        prefix, inner = f"{block}.{conv}", expand_ratio * before
        depthwise = f"{prefix}.depth_conv.conv"
        kernel = weights[f"{depthwise}.conv.weight"]
        for larger in range(7, kernel_size, -2):
            centre = kernel[:, 0, 1:-1, 1:-1].reshape(len(kernel), -1)
            matrix = weights[f"{depthwise}.{larger}to{larger - 2}_matrix"]
            kernel = (centre @ matrix.T).view(-1, 1, larger - 2, larger - 2)
        sliced[f"{depthwise}.conv.weight"] = kernel[:inner]
        expand, project = (f"{prefix}.{n}" for n in ("inverted_bottleneck", "point_linear"))
        sliced[f"{expand}.conv.conv.weight"] = weights[f"{expand}.conv.conv.weight"][:inner]
        sliced[f"{project}.conv.conv.weight"] = weights[f"{project}.conv.conv.weight"][:, :inner]
        for norm in (f"{expand}.bn.bn", f"{prefix}.depth_conv.bn.bn"):
            for part in ("weight", "bias", "running_mean", "running_var"):
                sliced[f"{norm}.{part}"] = weights[f"{norm}.{part}"][:inner]
        reduce, grow = (f"{prefix}.depth_conv.se.fc.{name}" for name in ("reduce", "expand"))
        if f"{reduce}.bias" in weights:
            gates = squeezed(inner)
            sliced[f"{reduce}.weight"] = weights[f"{reduce}.weight"][:gates, :inner]
            sliced[f"{reduce}.bias"] = weights[f"{reduce}.bias"][:gates]
            sliced[f"{grow}.weight"] = weights[f"{grow}.weight"][:inner, :gates]
            sliced[f"{grow}.bias"] = weights[f"{grow}.bias"][:inner]
    return largest_subnet(x, sliced, conv)


def largest_subnet(x: Tensor, weights: Weights, conv: str) -> Tensor:
    """Full kernels and widths, all blocks: OFA's code in evaluation mode."""

    def unit(x: Tensor, name: str, stride: int = 1, supernet: bool = True) -> Tensor:
        names = (
            (f"{name}.conv.conv", f"{name}.bn.bn") if supernet else (f"{name}.conv", f"{name}.bn")
        )
        return conv_norm(x, weights, *names, stride)

    x = hswish(unit(x, "first_conv", 2, supernet=False))
    y = unit(x, f"blocks.0.{conv}.depth_conv", supernet=False).relu()
    x = x + unit(y, f"blocks.0.{conv}.point_linear", supernet=False)
    for block, before, width, stride, has_gate, has_hswish in blocks_of_w12():
        prefix, act = f"{block}.{conv}", hswish if has_hswish else torch.relu
        y = act(unit(x, f"{prefix}.inverted_bottleneck"))
        y = act(unit(y, f"{prefix}.depth_conv", stride))
        if has_gate:
            gate = f"{prefix}.depth_conv.se.fc"
            y = squeeze_excite(y, weights, f"{gate}.reduce", f"{gate}.expand")
        y = unit(y, f"{prefix}.point_linear")
        x = x + y if (stride, before) == (1, width) else y
    x = hswish(unit(x, "final_expand_layer", supernet=False)).mean(dim=(2, 3), keepdim=True)
    x = hswish(F.conv2d(x, weights["feature_mix_layer.conv.weight"])).flatten(1)
    return F.linear(x, weights["classifier.linear.weight"], weights["classifier.linear.bias"])


@pytest.mark.parametrize("conv", ["mobile_inverted_conv", "conv"])
def test_the_largest_network_of_the_supernet(tmp_path: Path, conv: str) -> None:
    weights = supernet_weights(conv)
    torch.save({"state_dict": weights}, tmp_path / "ofa")
    network = load_source("ofa_mbv3_w1.2", tmp_path / "ofa").at((3, SIZE, SIZE))
    expected = largest_subnet(image(), doubled(weights), conv)
    assert difference(network, expected) < 1e-12
    assert network.architecture.params == 10_701_632  # 10,715,752 less the matrices


CHOICES: Choices = {
    "blocks.1": (5, 6),
    "blocks.6": (3, 4),
    "blocks.7": (7, 3),
    "blocks.13": (3, 6),
    "blocks.20": (5, 3),
}


@pytest.mark.parametrize("conv", ["mobile_inverted_conv", "conv"])
def test_a_member_has_the_kernels_and_channels_that_the_supernet_trained(
    tmp_path: Path, conv: str
) -> None:
    weights = supernet_weights(conv)
    torch.save({"state_dict": weights}, tmp_path / "ofa")
    network = load_source("ofa_mbv3_w1.2", tmp_path / "ofa").at((3, SIZE, SIZE))
    blocks = list(network.architecture.blocks)
    for name, (kernel_size, expand_ratio) in CHOICES.items():
        place = int(name.removeprefix("blocks.")) + 1
        blocks[place] = msgspec.structs.replace(
            blocks[place], kernel_size=kernel_size, expand_ratio=expand_ratio
        )
    whole = network.network().double()
    forms = ClosedForms(whole, network.architecture.blocks, {}, network.slices)
    member = Network(tuple(blocks), norm_eps=1e-5).double().eval()
    member.load_state_dict(forms.member(blocks))
    expected = subnet(image(), doubled(weights), conv, CHOICES)
    with torch.inference_mode():
        logits = member(image())
    assert (logits - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_a_supernet_that_lacks_a_matrix_is_refused_by_its_name(tmp_path: Path) -> None:
    weights = supernet_weights("conv")
    del weights["blocks.7.conv.depth_conv.conv.5to3_matrix"]
    torch.save({"state_dict": weights}, tmp_path / "ofa")
    with pytest.raises(InvalidFile, match=r"has no blocks.7.*.depth_conv.conv.5to3_matrix"):
        load_source("ofa_mbv3_w1.2", tmp_path / "ofa")


def test_the_largest_network_alone_has_no_members_that_were_trained(tmp_path: Path) -> None:
    weights = supernet_weights("conv")
    alone = {key: value for key, value in weights.items() if "_matrix" not in key}
    torch.save(alone, tmp_path / "alone")
    assert load_source("ofa_mbv3_w1.2", tmp_path / "alone").slices == {}


def test_a_supernet_that_lacks_a_key_is_refused_by_its_name(tmp_path: Path) -> None:
    weights = supernet_weights("mobile_inverted_conv")
    key = "blocks.7.mobile_inverted_conv.depth_conv.bn.bn.running_var"
    del weights[key]
    torch.save({"state_dict": weights}, tmp_path / "ofa")
    with pytest.raises(InvalidFile, match=r"ofa: has no blocks.7.mobile_inverted_conv.depth_conv"):
        load_source("ofa_mbv3_w1.2", tmp_path / "ofa")


def proxyless_weights(name: str) -> dict[str, Tensor]:
    """Return random weights with the keys of a published network of ProxylessNAS."""
    rng, weights = torch.Generator().manual_seed(0), {}
    blocks = published(name).architecture.blocks

    def unit(name: str, shape: tuple[int, ...]) -> None:
        random_conv(weights, f"{name}.conv", shape, rng)
        random_norm(weights, f"{name}.bn", shape[0], rng)

    unit("first_conv", (blocks[0].out_channels, 3, 3, 3))
    for number, block in enumerate(blocks[1:-2]):
        if block.op == "mbconv":
            prefix, inner = f"blocks.{number}.mobile_inverted_conv", block.mid_channels
            if block.expand_ratio != 1:
                unit(f"{prefix}.inverted_bottleneck", (inner, block.in_channels, 1, 1))
            unit(f"{prefix}.depth_conv", (inner, 1, block.kernel_size, block.kernel_size))
            unit(f"{prefix}.point_linear", (block.out_channels, inner, 1, 1))
    unit("feature_mix_layer", (blocks[-2].out_channels, blocks[-2].in_channels, 1, 1))
    weights["classifier.linear.weight"] = torch.randn((7, blocks[-1].in_channels), generator=rng)
    weights["classifier.linear.bias"] = torch.randn(7, generator=rng)
    return weights


def plain_proxyless(x: Tensor, weights: Weights, name: str) -> Tensor:
    def unit(x: Tensor, name: str, stride: int = 1) -> Tensor:
        return conv_norm(x, weights, f"{name}.conv", f"{name}.bn", stride, eps=1e-3)

    x = unit(x, "first_conv", 2).clamp(0, 6)
    for number, block in enumerate(published(name).architecture.blocks[1:-2]):
        if block.op == "mbconv":
            prefix, y = f"blocks.{number}.mobile_inverted_conv", x
            if block.expand_ratio != 1:
                y = unit(y, f"{prefix}.inverted_bottleneck").clamp(0, 6)
            y = unit(y, f"{prefix}.depth_conv", block.stride).clamp(0, 6)
            y = unit(y, f"{prefix}.point_linear")
            x = x + y if block.residual else y
    x = unit(x, "feature_mix_layer").clamp(0, 6).mean(dim=(2, 3))
    return F.linear(x, weights["classifier.linear.weight"], weights["classifier.linear.bias"])


@pytest.mark.parametrize("name", ["proxyless_mobile", "proxyless_gpu"])
def test_a_network_of_proxylessnas(tmp_path: Path, name: str) -> None:
    weights = proxyless_weights(name)
    torch.save({"state_dict": weights, "epoch": 1}, tmp_path / "proxyless.pth")
    network = load_source(name, tmp_path / "proxyless.pth").at((3, SIZE, SIZE))
    assert difference(network, plain_proxyless(image(), doubled(weights), name)) < 1e-12
    assert network.architecture.num_classes == 7


@pytest.mark.parametrize(
    ("name", "macs"), [("ofa_mbv3_w1.2", 843_101_040), ("proxyless_mobile", 320_427_584)]
)
def test_figures_of_the_list_are_published_ones(name: str, macs: int) -> None:
    assert find_source(name).macs == macs
