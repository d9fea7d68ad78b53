"""Blocks compute what their fields describe, and a path of the supernet equals the network
extracted from it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.architecture.size import axes
from hwnas.errors import UnknownName
from hwnas.nn.blocks.layers import SqueezeExcite
from hwnas.nn.blocks.mobile import FusedMBConv, MBConv
from hwnas.nn.blocks.table import block_module
from hwnas.nn.build import build
from hwnas.nn.depthwise import depthwise_conv2d
from hwnas.nn.supernet import MixedOp, SlicedMBConv, Supernet
from hwnas.spaces.mobile.space import FUSED, MBCONVS, Candidate, MobileSpace, mobile_space
from tests.architecture.test_ops import every_block
from tests.support.tiny import MB33, MB36, MB73, MB76, tiny_batch, tiny_space

SPACES = {
    "mbconv": tiny_space(*MBCONVS),
    "mixed": tiny_space(*MBCONVS, *FUSED, widths=(8, 16, 16)),
    "expand 1": tiny_space(Candidate("mbconv", 5, 1), MB36, FUSED[1]),
    "se, hswish": tiny_space(
        Candidate("mbconv", 3, 3, "hswish", True),
        Candidate("mbconv", 5, 6, "hswish"),
        Candidate("mbconv", 5, 2.5, "relu", True),
        Candidate("fused_mbconv", 3, 2, "hswish"),
    ),
    "one mbconv": tiny_space(MB33, FUSED[0]),
}
shared_and_separate = pytest.mark.parametrize("share", [True, False], ids=["shared", "separate"])


def randomise(module: nn.Module) -> None:
    """Give every batch norm gains, shifts and statistics as after training."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None and part.running_var is not None
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)


def made(space: MobileSpace, share: bool) -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(space, share)
    randomise(supernet)
    return supernet


@every_block
def test_a_block_gives_the_shape_that_it_says(block: Block) -> None:
    images = torch.randn(2, *block.in_shape)
    sides = () if "logits" in block.op else axes(block.out_size)
    assert block_module(block)(images).shape == (2, block.out_channels, *sides)


def test_an_unknown_op_is_named() -> None:
    with pytest.raises(UnknownName, match="no operation named 'mbcon', did you mean 'mbconv'"):
        block_module(Block("mbcon", 8, 8, 3, 1, 1, 7))


def test_hswish_squeeze_excite_bottleneck_is_the_formula() -> None:
    torch.manual_seed(0)
    block = Block("mbconv", 8, 8, 3, 1, 3, 5, "hswish", True)
    module = block_module(block).eval()
    randomise(module)
    w = dict(module.named_parameters())
    x = torch.randn(2, 8, 5, 5)

    def norm(y: Tensor, name: str) -> Tensor:
        part = module.get_submodule(f"layers.{name}.norm")
        assert isinstance(part, nn.BatchNorm2d)
        assert part.running_mean is not None and part.running_var is not None
        scale = part.weight / (part.running_var + 1e-5).sqrt()
        return (y - part.running_mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + part.bias.view(
            -1, 1, 1
        )

    def hswish(y: Tensor) -> Tensor:
        return y * (y + 3).clamp(0, 6) / 6

    y = hswish(norm(F.conv2d(x, w["layers.expand.conv.weight"]), "expand"))
    depthwise = F.conv2d(y, w["layers.depthwise.conv.weight"], padding=1, groups=24)
    y = hswish(norm(depthwise, "depthwise"))
    squeezed = w["layers.se.squeeze.weight"][:, :, 0, 0] @ y.mean((2, 3)).T
    squeezed = (squeezed + w["layers.se.squeeze.bias"][:, None]).relu()
    gate = w["layers.se.excite.weight"][:, :, 0, 0] @ squeezed + w["layers.se.excite.bias"][:, None]
    y = y * ((gate.T + 3).clamp(0, 6) / 6)[:, :, None, None]
    expected = x + norm(F.conv2d(y, w["layers.project.conv.weight"]), "project")
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize(("activation", "inner"), [("silu", F.silu), ("relu", F.relu)])
def test_squeeze_excite_with_a_sigmoid_gate_is_the_formula(
    activation: str, inner: Callable[[Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    block = Block("mbconv", 8, 8, 3, 1, 3, 5, activation, True, gate="sigmoid", squeezed=2)
    gate = block_module(block).get_submodule("layers.se")
    assert isinstance(gate, SqueezeExcite)
    squeeze, squeeze_bias, excite, excite_bias = gate.parameters()
    assert squeeze.shape == (2, 24, 1, 1)
    x = torch.randn(2, 24, 5, 5)
    mean = x.mean((2, 3)) @ squeeze[:, :, 0, 0].T + squeeze_bias
    scale = torch.sigmoid(inner(mean) @ excite[:, :, 0, 0].T + excite_bias)
    torch.testing.assert_close(gate(x), x * scale[:, :, None, None])


def test_a_hidden_layer_is_linear_with_a_bias() -> None:
    torch.manual_seed(0)
    hidden = block_module(Block("hidden", 8, 6, 1, 1, 1, 5, "hswish"))
    weight, bias = hidden.parameters()
    x = torch.randn(2, 8, 5, 5)
    expected = F.hardswish(F.linear(x.mean((2, 3)), weight[:, :, 0, 0], bias))
    torch.testing.assert_close(hidden(x), expected[:, :, None, None])


def test_a_supernet_and_its_networks_have_the_epsilon_of_the_architecture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = MobileSpace.architecture

    def precise(space: MobileSpace, genotype: Genotype) -> Architecture:
        return msgspec.structs.replace(plain(space, genotype), norm_eps=1e-3)

    monkeypatch.setattr(MobileSpace, "architecture", precise)
    space = tiny_space()
    supernet = Supernet(space)
    for network in (supernet, supernet.extract(space.default)):
        norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
        assert {norm.eps for norm in norms} == {1e-3}


@pytest.mark.parametrize("candidate", [MB33, MB76, FUSED[1]], ids=lambda candidate: candidate.name)
def test_in_a_fresh_network_every_residual_block_is_the_identity(candidate: Candidate) -> None:
    space = mobile_space((1, 28, 28), 10)
    network = build(space.architecture(space.uniform(candidate)))
    residual = [m for m in network.modules() if isinstance(m, MBConv | FusedMBConv) and m.residual]
    assert len(residual) == 7  # of ten places, those with a shortcut
    for block in residual:
        channels = next(p for p in block.parameters() if p.ndim == 4).shape[1]
        x = torch.randn(2, channels, 5, 5)
        assert torch.equal(block(x), x)


@shared_and_separate
def test_in_a_fresh_supernet_every_mbconv_with_a_shortcut_is_the_identity(share: bool) -> None:
    for op in Supernet(mobile_space((1, 28, 28), 10), share).ops:
        for choice, candidate in enumerate(op.candidates):
            owner = candidate.block if isinstance(candidate, SlicedMBConv) else candidate
            if isinstance(candidate, SlicedMBConv | MBConv) and owner.residual:
                channels = next(p for p in op.parameters() if p.ndim == 4).shape[1]
                x = torch.randn(2, channels, 5, 5)
                assert torch.equal(op(x, choice), x)


@pytest.mark.parametrize("activation", ["relu", "relu6", "hswish"])
@pytest.mark.parametrize("candidate", [MB33, MB76, *FUSED], ids=lambda candidate: candidate.name)
def test_every_convolution_of_a_fresh_network_learns(candidate: Candidate, activation: str) -> None:
    """A residual branch that ends in a ReLU with gain 0 would have no gradient for ever."""
    candidate = msgspec.structs.replace(candidate, activation=activation)
    space = tiny_space(candidate, widths=(8, 8, 16, 16))
    torch.manual_seed(0)
    network = build(space.architecture(space.uniform(candidate)))
    start = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer, (images, labels) = torch.optim.SGD(network.parameters(), 0.1), tiny_batch()
    for _ in range(3):  # the gain first, then what it opens
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:  # a gain before ReLU, depthwise and batch norm changes nothing
            assert not torch.equal(parameter, start[name]), name


def test_a_fresh_network_has_the_initial_spread_of_the_paper() -> None:
    torch.manual_seed(0)
    space = mobile_space((3, 224, 224), 1000)
    network = build(space.architecture(space.uniform(MBCONVS[3])))
    head, linear = network.get_submodule("blocks.23"), network.get_submodule("blocks.24.linear")
    weight, classes = head.get_parameter("conv.weight"), linear.get_parameter("weight")
    assert weight.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.01)
    assert classes.abs().max().item() == pytest.approx(1280**-0.5, rel=0.01)
    assert not linear.get_parameter("bias").any()


@shared_and_separate
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", SPACES)
def test_a_path_of_the_supernet_is_the_network_cut_from_it(
    name: str, mode: str, share: bool
) -> None:
    space = SPACES[name]
    supernet, (images, _) = made(space, share), tiny_batch()
    widest = max(len(decision.candidates) for decision in space.decisions)
    for number in range(widest):  # every candidate of every decision
        choices = tuple((number + p) % len(d.candidates) for p, d in enumerate(space.decisions))
        network = supernet.extract(Genotype("tiny", choices))
        for module in (supernet, network):
            module.train(mode == "train")
        torch.testing.assert_close(supernet(images, choices), network(images))


def test_the_network_cut_from_a_supernet_is_a_copy() -> None:
    supernet, (images, _) = made(SPACES["mixed"], True), tiny_batch()
    supernet.eval()
    before = supernet(images, (5, 0, 0))
    network = supernet.extract(Genotype("tiny", (5, 0, 0)))
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    assert torch.equal(supernet(images, (5, 0, 0)), before)


def outputs(op: MixedOp, x: Tensor) -> list[Tensor]:
    return [op.eval()(x, candidate).detach() for candidate in range(len(op))]


def changed(op: MixedOp, what: Tensor) -> list[bool]:
    """Say which candidates' outputs change when the view ``what`` of a weight does."""
    x = torch.randn(2, 8, 6, 6)
    before = outputs(op, x)
    with torch.no_grad():
        what.add_(1.0)
    return [not torch.equal(*pair) for pair in zip(before, outputs(op, x), strict=True)]


def test_candidates_share_the_kernels_centre_and_the_first_channels_only() -> None:
    space = tiny_space(MB33, MB36, MB73, MB76, FUSED[0], widths=(8,))
    k3e3, k3e6, k7e3, k7e6, fused, skip = range(6)

    def those_changed_by(name: str, *part: slice) -> set[int]:
        op = made(space, share=True).ops[0]
        weight = op.get_parameter(f"shared.{name}.weight").detach()
        return {place for place, did in enumerate(changed(op, weight[part])) if did}

    every, border, centre = slice(None), slice(0, 2), slice(2, 5)
    first, beyond = slice(0, 24), slice(24, 48)
    assert those_changed_by("depthwise", first, every, border) == {k7e3, k7e6}
    assert those_changed_by("depthwise", first, every, centre, centre) == {k3e3, k3e6, k7e3, k7e6}
    assert those_changed_by("depthwise", beyond, every, border) == {k7e6}
    for name in ("expand", "depthwise"):
        assert those_changed_by(name, beyond) == {k3e6, k7e6}
    assert those_changed_by("project", every, beyond) == {k3e6, k7e6}
    assert those_changed_by("project", every, first) == {k3e3, k3e6, k7e3, k7e6}
    assert fused not in those_changed_by("project") and skip not in those_changed_by("project")


def test_with_separate_weights_no_candidate_depends_on_another() -> None:
    op = made(tiny_space(MB33, MB36, MB76, *FUSED, widths=(8,)), share=False).ops[0]
    for place, candidate in enumerate(op.candidates):
        for parameter in candidate.parameters():
            assert changed(op, parameter) == [other == place for other in range(len(op))]


def test_a_supernet_has_the_weights_of_all_its_candidates_or_of_the_largest() -> None:
    space = tiny_space(MB33, MB36, MB73, MB76, widths=(8,))
    fixed = sum(block.params for block in space.fixed)
    blocks = space.blocks[0]

    def weights(share: bool) -> int:
        return sum(parameter.numel() for parameter in Supernet(space, share).parameters())

    norms = sum(2 * (2 * block.mid_channels + 8) for block in blocks[:-1])
    assert weights(share=False) == fixed + sum(block.params for block in blocks)
    assert weights(share=True) == fixed + 48 * (8 + 49 + 8) + norms


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride"),
    [(4, 7, 1), (4, 5, 2), (3, 5, 1), (1, 3, 1), (7, 5, 2), (7, 7, 1), (9, 7, 2), (8, 3, 1)],
)
def test_depthwise_gradients_equal_those_of_pytorch(size: int, kernel_size: int, stride: int):
    torch.manual_seed(0)
    x = torch.randn(3, 6, size, size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 1, kernel_size, kernel_size, dtype=torch.float64, requires_grad=True)
    ours = depthwise_conv2d(x, weight, stride)
    theirs = F.conv2d(x, weight, None, stride, kernel_size // 2, 1, 6)
    grad = torch.randn_like(theirs)
    assert torch.equal(ours, theirs)
    for mine, right in zip(
        torch.autograd.grad(ours, (x, weight), grad),
        torch.autograd.grad(theirs, (x, weight), grad),
        strict=True,
    ):
        assert torch.allclose(mine, right, rtol=1e-12, atol=1e-12)
