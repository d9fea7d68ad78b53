"""What no rule reads is a fixed piece, which computes the same in PyTorch and in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

from hwnas.architecture.architecture import Architecture
from hwnas.export.compile import export_module
from hwnas.nn.elastic.member import member_weights
from hwnas.pretrained.modules import from_module
from hwnas.pretrained.network import loaded
from hwnas.pretrained.recognise.layers import layers_of
from hwnas.pretrained.recognise.network import recognise, verify
from hwnas.spaces.elastic.space import elastic_space
from tests.support.networks.convolutions import Function, Head, depthwise_unit, unit
from tests.support.networks.trained import noise, randomise

SHAPE = (3, 64, 64)


class Parallel(nn.Module):
    """Branches that are concatenated."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def mixed(x: Tensor, first: nn.Module, last: nn.Module) -> Tensor:
    parts = torch.split(x, [6, 2], 1)
    return torch.cat([first(parts[0]), last(parts[1])], 1)


def attended(x: Tensor, conv: nn.Module) -> Tensor:
    gate = torch.sigmoid(conv(F.avg_pool2d(x, kernel_size=2, stride=2)))
    return x * F.interpolate(gate, size=(x.shape[-2], x.shape[-1]), mode="nearest")


def partly_residual(x: Tensor, conv: nn.Module) -> Tensor:
    y = conv(x)
    return torch.cat([y[:, 0:6] + x[:, 2:], y[:, 6:]], dim=1)


def by_hand(x: Tensor, conv: nn.Module) -> Tensor:
    y = conv(x)
    return F.leaky_relu(y * F.relu6(y + 3) / 6 - 0.25, 0.2) + x


def pooled_by_size(x: Tensor, conv: nn.Module) -> Tensor:
    gate = conv(F.avg_pool2d(x, x.size()[2:])) + conv(F.avg_pool2d(x, (x.size(2), x.size(3))))
    return x * torch.sigmoid(gate * conv(F.avg_pool2d(x, x.shape[-1])))


PIECES: dict[str, Callable[[], nn.Module]] = {
    "branches": lambda: Parallel(
        nn.Sequential(*unit(8, 4, 1), nn.ReLU()),
        nn.Sequential(*unit(8, 2, 1), nn.ReLU(), *unit(2, 3, 5), nn.ReLU()),
        nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), *unit(8, 1, 1), nn.ReLU()),
    ),
    "convolutions of parts": lambda: Function(mixed, unit(6, 6, 3), depthwise_unit(2, 5)),
    "attention of half the size": lambda: Function(
        attended, nn.Conv2d(8, 8, (1, 5), padding=(0, 2))
    ),
    "a sum of some channels": lambda: Function(partly_residual, unit(8, 8, 3)),
    "functions of numbers": lambda: Function(by_hand, unit(8, 8, 3)),
    "padding same": lambda: nn.Conv2d(8, 8, (1, 7), padding="same", dilation=(1, 2)),
    "dilation": lambda: nn.Sequential(nn.Conv2d(8, 8, 3, 1, 2, 2, bias=False), nn.Tanh()),
    "groups and a norm of layers": lambda: nn.Sequential(
        nn.Conv2d(8, 8, 3, 1, 1, groups=4), nn.BatchNorm2d(8), nn.ChannelShuffle(2), nn.GELU()
    ),
}


@pytest.fixture(params=list(PIECES), ids=lambda name: name.replace(" ", "-"))
def source(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return randomise(Head(PIECES[request.param]()))


def test_a_piece_gives_the_logits_of_its_module_at_any_resolution(source: nn.Module) -> None:
    architecture, weights = recognise(source.double(), SHAPE, "mine")
    assert [block.op for block in architecture.blocks] == ["conv", "piece", "logits"]
    assert architecture.params == sum(parameter.numel() for parameter in source.parameters())
    network = loaded(architecture, weights)
    for size in (64, 58):
        images = noise((3, size, size)).double()
        with torch.inference_mode():
            expected, logits = source(images), network(images)
        assert (logits - expected).abs().max() < 1e-12 * expected.abs().max()


def test_an_architecture_with_a_piece_is_the_same_behind_json(source: nn.Module) -> None:
    architecture = recognise(source, SHAPE, "mine").architecture
    text = msgspec.json.encode(architecture)
    assert msgspec.json.decode(text, type=Architecture) == architecture


def test_the_resolution_of_a_piece_is_elastic_and_one_with_a_shortcut_can_be_skipped(
    source: nn.Module,
) -> None:
    space = elastic_space("mine", recognise(source, SHAPE, "mine").architecture)
    assert space.sizes == (64, 56, 48, 40, 32)
    assert all(space.original.blocks[place].piece.endswith("0") for place in space.elastic)
    assert [[cut.name for cut in space.cuts[place]] for place in space.elastic] in (
        [],
        [["keep", "skip"]],
    )
    smallest = space.architecture(space.smallest)
    assert smallest.macs < 0.3 * space.original.macs


def test_the_network_without_a_piece_that_has_a_shortcut_is_a_member() -> None:
    torch.manual_seed(0)
    source = Head(PIECES["functions of numbers"]())
    architecture, weights = recognise(randomise(source), SHAPE, "mine")
    space, network = elastic_space("mine", architecture), loaded(architecture, weights)
    assert space.elastic == (1,)
    member = space.architecture(space.genotype(0, [1]))
    assert [block.op for block in member.blocks] == ["conv", "identity", "logits"]
    state = member_weights(network, architecture.blocks, member.blocks, {})
    images = noise(SHAPE)
    with torch.inference_mode():
        expected = source.fc(source.stem(images).mean((2, 3)))
        torch.testing.assert_close(loaded(member, state)(images), expected)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_a_piece_is_compiled(source: nn.Module, tmp_path: Path, suffix: str) -> None:
    network = from_module(source, SHAPE, "mine")
    artifact = export_module(
        network.network(), SHAPE, tmp_path / f"piece{suffix}", architecture=network.architecture
    )
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-5


def test_blocks_around_a_piece_stay_elastic() -> None:
    def inverted() -> nn.Module:
        layers = (*unit(8, 24, 1), nn.ReLU(), *depthwise_unit(24, 3), nn.ReLU(), *unit(24, 8, 1))
        return Function(lambda x, branch: x + branch(x), nn.Sequential(*layers))

    source = Head(inverted(), PIECES["branches"](), inverted())
    architecture = recognise(randomise(source), SHAPE).architecture
    assert [block.op for block in architecture.blocks[1:4]] == ["mbconv", "piece", "mbconv"]
    assert elastic_space("mine", architecture).elastic == (1, 3)


def test_layers_without_convolutions_belong_to_the_piece_before_them() -> None:
    gate = nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Sigmoid())
    layers = [*depthwise_unit(8, 5), gate, *depthwise_unit(8, 3), nn.Tanh(), *unit(8, 8, 1)]
    blocks = recognise(randomise(Head(*layers)), SHAPE).architecture.blocks
    assert [block.piece for block in blocks[1:3]] == [
        "conv 8 k5 p2 g8 / norm / avg_pool k3 p1 padded / sigmoid",
        "conv 8 k3 p1 g8 / norm / tanh",
    ]
    assert blocks[3].key == "conv_bn k1 s1 e1 8>8 @32"


class Squeezed(nn.Module):
    """Ends in a convolution to the classes and a global pool, as SqueezeNet does."""

    def __init__(self, *activation: nn.Module) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), pool)
        self.end = nn.Sequential(nn.Conv2d(8, 3, 1), *activation, nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.end(self.stem(x)), 1)


@pytest.mark.parametrize(
    ("activation", "last"),
    [([nn.ReLU()], "conv_logits k1 s1 e1 8>3 @15 relu"), ([], "logits k1 s1 e1 8>3 @15")],
)
def test_new_classes_have_a_linear_layer_behind_the_pool(
    activation: list[nn.Module], last: str
) -> None:
    torch.manual_seed(0)
    source = Squeezed(*activation).eval()
    network = from_module(source, SHAPE, "mine")
    assert network.architecture.blocks[-1].key == last
    other = network.at(SHAPE, ("cat", "dog"))
    assert other.architecture.blocks[-1].key == "logits k1 s1 e1 8>2 @15"
    images = noise(SHAPE)
    with torch.inference_mode():
        assert torch.equal(other.network()(images), torch.zeros(2, 2))
        features = network.network().blocks[:-1](images)
        assert torch.equal(features, source.stem(images))


def test_global_pools_may_state_the_size_of_their_map() -> None:
    conv = nn.Conv2d(8, 8, 1)
    source = randomise(Head(Function(pooled_by_size, conv)))
    layers, _ = layers_of(source)
    assert [layer.kind for layer in layers].count("pool") == 4


def test_auxiliary_classifiers_are_left_out() -> None:
    source = randomise(get_model("googlenet", weights=None, num_classes=5, init_weights=False))
    architecture, weights = recognise(source, SHAPE, "googlenet")
    verify(source, loaded(architecture, weights), SHAPE, "googlenet")
    used = [p for name, p in source.named_parameters() if not name.startswith("aux")]
    assert architecture.params == sum(parameter.numel() for parameter in used)
    # equal modules at one resolution have rows of their own only where their shapes differ
    assert [block.op for block in architecture.blocks].count("piece") == 10


def test_a_shortcut_over_a_whole_network_makes_it_one_piece() -> None:
    class Dense(Head):
        def forward(self, x: Tensor) -> Tensor:
            y = self.stem(x)
            return self.fc((self.middle(y) + y).mean((2, 3)))

    source = randomise(Dense(*unit(8, 8, 3), nn.ReLU(), *unit(8, 8, 3), nn.ReLU()))
    architecture, weights = recognise(source, SHAPE)
    assert [block.op for block in architecture.blocks] == ["conv", "piece", "logits"]
    verify(source, loaded(architecture, weights), SHAPE, "mine")


@pytest.mark.parametrize(
    "name",
    [
        "ghostnet_100", "ghostnetv2_100", "mixnet_s", "tf_mixnet_s", "rexnet_100", "fbnetv3_b",
        "convnextv2_atto", "fastvit_t8", "repvit_m0_9",
    ],
)  # fmt: skip
def test_small_networks_of_timm_give_equal_logits(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    source = randomise(timm.create_model(name, num_classes=10))
    for key, parameter in source.named_parameters():
        if "grn" in key or key.endswith("gamma"):  # zero and nearly zero at the start
            parameter.data.normal_(0.5, 0.3)
    network = from_module(source, SHAPE, name).network().double()
    images = noise(SHAPE).double()
    with torch.inference_mode():
        expected, logits = source.double()(images), network(images)
    # merged branches are rounded to float32
    assert (logits - expected).abs().max() < 1e-6 * expected.abs().max()
