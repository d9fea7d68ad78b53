"""Files of weights without a name: the network is the one whose keys they have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hwnas.errors import InvalidFile
from hwnas.pretrained import identify
from hwnas.pretrained.identify import load_file
from hwnas.pretrained.sources import find_source
from tests.support.networks.trained import noise, torchvision_network


@pytest.mark.parametrize("name", ["mnasnet0_5", "mobilenet_v3_small"])
def test_a_fine_tuned_network_is_identified(tmp_path: Path, name: str) -> None:
    source = torchvision_network(name, num_classes=5)
    torch.save({"model": source.state_dict()}, tmp_path / "mine.pt")
    network = load_file(tmp_path / "mine.pt")
    assert (network.name, network.architecture.num_classes) == (name, 5)
    assert network.preprocessing == find_source(name).preprocessing
    images = noise((3, 64, 64))
    with torch.inference_mode():
        expected, logits = source(images), network.at((3, 64, 64)).network()(images)
    assert (logits - expected).abs().max() < 1e-6 * expected.abs().max()


def test_what_a_nearly_known_file_lacks_is_named(tmp_path: Path) -> None:
    weights = torchvision_network("mnasnet0_75").state_dict()
    del weights["layers.9.0.layers.0.weight"]
    torch.save(weights, tmp_path / "mine.pt")
    message = r"mine.pt: is nearest to mnasnet0_75, but has no layers.9.0.layers.0.weight"
    with pytest.raises(InvalidFile, match=message):
        load_file(tmp_path / "mine.pt")


def test_an_unknown_network_needs_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [find_source(name) for name in ("mnasnet0_5", "efficientnet_lite0", "proxyless_gpu")]
    monkeypatch.setattr(identify, "sources", lambda: few)  # all of them take seconds
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "mine.pt")
    with pytest.raises(InvalidFile, match=r"has the keys of no network .* as module:factory"):
        load_file(tmp_path / "mine.pt")
