"""Networks that are read by name or from their authors' collections equal the published ones."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.architecture.artifact import Format
from hwnas.errors import InvalidFile, UnknownName
from hwnas.export.compile import compile_model
from hwnas.export.verification.metrics import relative_error
from hwnas.export.verification.run_model import file_outputs
from hwnas.export.verification.verify import torch_outputs
from hwnas.nn.build import build
from hwnas.spaces.json_networks import read_once_for_all, read_proxylessnas
from hwnas.spaces.published import adapt, published, published_names
from tests.support.paths import SHARED_DATA

OFA = SHARED_DATA / "ofa" / "ofa_specialized.json"
PROXYLESS = SHARED_DATA / "proxyless_published.json"
needs_ofa = pytest.mark.skipif(not OFA.is_file(), reason="shared/data/ofa is not here")
needs_proxyless = pytest.mark.skipif(
    not PROXYLESS.is_file(), reason="shared/data/proxyless_published.json is not here"
)

COUNTED = {
    "proxyless_gpu": (7_119_848, 465_260_160),
    "proxyless_cpu": (4_361_648, 439_243_864),
    "proxyless_mobile": (4_080_512, 320_427_584),
    "proxyless_mobile_14": (6_857_568, 580_883_408),
    "proxyless_cifar": (5_731_530, 1_213_155_872),
    "mobilenet_v2": (3_504_872, 300_774_272),
}
"""Parameters and MACs, counted in the authors' own configurations."""

MOBILENET_V3 = (
    Block("conv", 3, 8, 3, 2, 1, 16, "hswish"),
    Block("mbconv", 8, 8, 3, 1, 1, 8, "relu"),
    Block("mbconv", 8, 16, 5, 2, 3, 8, "relu", True),
    Block("mbconv", 16, 16, 3, 1, 2.5, 4, "hswish", True),
    Block("conv", 16, 48, 1, 1, 1, 4, "hswish"),
    Block("mix", 48, 64, 1, 1, 1, 4, "hswish"),
    Block("logits", 64, 10, 1, 1, 1, 1),
)
"""A chain with every kind of block of MobileNetV3."""


def counts_in_torch(architecture: Architecture) -> tuple[int, int]:
    """Count the parameters and the MACs of convolutions and linear layers as torch runs them."""
    macs: list[int] = []

    def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        weight = module.get_parameter("weight")
        places = output.shape[2] * output.shape[3] if output.ndim == 4 else 1
        macs.append(places * weight.numel())

    with torch.device("meta"):
        network = build(architecture).eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        network(torch.zeros(1, *architecture.input_shape))
    return sum(parameter.numel() for parameter in network.parameters()), sum(macs)


def test_the_shipped_networks_are_those_of_the_proxylessnas_paper_and_their_baseline() -> None:
    assert published_names() == tuple(COUNTED)


@pytest.mark.parametrize("name", COUNTED)
def test_a_shipped_network_has_the_counted_parameters_and_macs(name: str) -> None:
    architecture = published(name).architecture
    assert (architecture.params, architecture.macs) == COUNTED[name]


@pytest.mark.parametrize("name", COUNTED)
def test_the_torch_module_of_a_shipped_network_has_the_same_counts(name: str) -> None:
    assert counts_in_torch(published(name).architecture) == COUNTED[name]


@pytest.mark.parametrize("name", [name for name in COUNTED if name != "proxyless_cifar"])
def test_the_blocks_of_a_shipped_chain_fit_together(name: str) -> None:
    blocks = published(name).architecture.blocks
    for before, block in pairwise(blocks):
        assert (block.in_channels, block.in_size) == (before.out_channels, before.out_size)


def test_every_shipped_network_names_the_commit_it_comes_from() -> None:
    for name in set(published_names()) - {"mobilenet_v2"}:
        assert "a7c9bcd525e17404968bc55aa43772bf7e51909e" in published(name).source
        assert "bf58b5c330677afa4bfaf933488b68779f9ec601" in published(name).figures


def test_a_misspelt_network_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="did you mean 'proxyless_cpu'"):
        published("proxyles_cpu")


def test_each_of_three_networks_is_the_fastest_on_the_device_it_was_made_for() -> None:
    names = ("proxyless_gpu", "proxyless_cpu", "proxyless_mobile")
    ms = [[latency.ms for latency in published(name).latencies] for name in names]
    assert [column.index(min(column)) for column in zip(*ms, strict=True)] == [0, 1, 2]


def test_an_adapted_network_keeps_its_blocks_and_takes_the_images_and_classes() -> None:
    network = published("proxyless_mobile").architecture
    small = adapt(network, (1, 32, 32), 7)
    assert [(b.op, b.kernel_size, b.stride, b.expand_ratio) for b in small.blocks] == [
        (b.op, b.kernel_size, b.stride, b.expand_ratio) for b in network.blocks
    ]
    for before, block in pairwise(small.blocks):
        assert (block.in_channels, block.in_size) == (before.out_channels, before.out_size)
    assert build(small)(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
    assert adapt(network, (3, 224, 224), 1000) == network


def test_an_adapted_tree_keeps_its_wiring() -> None:
    network = published("proxyless_cifar").architecture
    small = adapt(network, (1, 28, 28), 7)
    assert small.inputs == network.inputs
    assert [block.out_size for block in small.blocks if block.op == "norm_logits"] == [1]
    assert small.blocks[-1].in_size == 7
    assert adapt(network, (3, 32, 32), 10) == network


@needs_proxyless
def test_the_edges_of_the_cifar_network_are_those_of_its_configuration() -> None:
    collection = json.loads(PROXYLESS.read_text())["networks"]["proxyless_cifar"]
    names: dict[str, str] = {
        "dw3": "sep3",
        "dw5": "sep5",
        "dw7": "sep7",
        "dw3d2": "dil3",
        "id": "skip",
    }
    cells = [
        [edge for branch in cell["branches"] for first, ends in branch for edge in (first, *ends)]
        for cell in collection["cells"]
    ]
    expected = tuple(" ".join(names.get(str(edge), str(edge)) for edge in cell) for cell in cells)
    assert published("proxyless_cifar").cells == expected


@needs_proxyless
def test_the_shipped_networks_are_those_of_the_collection() -> None:
    for described in read_proxylessnas(PROXYLESS):
        assert described.architecture == published(described.name).architecture


@needs_ofa
def test_blocks_count_what_once_for_all_networks_have() -> None:
    """All fifty, with squeeze-excite, h-swish and the head of MobileNetV3."""
    networks = read_once_for_all(OFA)
    assert len(networks) == 50
    for network in networks:
        counted = (network.architecture.params, network.architecture.macs)
        assert counted == (network.params, network.macs), network.name


@needs_ofa
def test_torch_counts_what_once_for_all_networks_have() -> None:
    """One of each family and width."""
    networks = {network.name: network for network in read_once_for_all(OFA)}
    for name in (
        "1080ti_gpu64-12ms_top1-72.6_finetune-25",
        "note10_lat-30ms_top1-78.4_finetune-75",
        "s7edge_lat-58ms_top1-74.7_finetune-25",
    ):
        network = networks[name]
        assert counts_in_torch(network.architecture) == (network.params, network.macs)


@needs_ofa
def test_blocks_of_once_for_all_networks_are_the_ones_their_keys_name() -> None:
    for network in read_once_for_all(OFA):
        for block in network.architecture.blocks:
            assert Block.from_key(block.key) == block


def test_any_number_of_mid_channels_survives_the_key() -> None:
    for in_channels in (1, 3, 7, 24, 56, 136, 999):
        for mid_channels in (1, 8, 88, 333, 1001, 65_521, 99_999):
            block = Block("mbconv", in_channels, 8, 3, 1, mid_channels / in_channels, 7)
            assert Block.from_key(block.key) == block
            assert block.mid_channels == mid_channels


def test_a_collection_whose_blocks_do_not_fit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "nets.json"
    file.write_text(
        '{"networks": {"net": {"top1": 1, "params": 1, "macs": 1, "first_conv": {"cin": 3, '
        '"cout": 8}, "feature_mix": {"cin": 8, "cout": 16}, "blocks": [{"op": "MBConv", "k": 3, '
        '"e": 3, "cin": 16, "cout": 16, "stride": 1}]}}}'
    )
    with pytest.raises(InvalidFile, match=r"net: mbconv .* follows 8 channels"):
        read_proxylessnas(file)


def test_a_collection_without_a_field_names_it(tmp_path: Path) -> None:
    file = tmp_path / "nets.json"
    file.write_text('{"nets": [{"name": "a"}]}')
    with pytest.raises(InvalidFile, match=r"nets\.json: .*missing required field"):
        read_once_for_all(file)


@pytest.mark.parametrize("format", get_args(Format))
def test_mobilenet_v3_is_the_same_in_the_runtime_as_in_torch(
    format: Format, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = build(Architecture(Genotype("v3", ()), MOBILENET_V3, (3, 16, 16), 10))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    images = np.random.default_rng(0).normal(0, 3, (3, 3, 16, 16)).astype(np.float32)
    artifact = compile_model(network, (3, 16, 16), tmp_path / f"v3.{format}")
    expected = torch_outputs(network, images)
    got = file_outputs(Path(artifact.path), images)
    assert np.abs(expected).max() > 0
    assert relative_error(got, expected) < 1e-5


def test_mix_counts_its_convolution_without_norm_or_bias() -> None:
    block = MOBILENET_V3[-2]
    assert (block.params, block.macs, block.out_size) == (48 * 64, 48 * 64, 1)
