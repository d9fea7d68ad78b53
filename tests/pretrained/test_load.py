"""Networks by name: from torch.hub's folder, or with weights of the user's own."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
import torch

from hwnas.errors import HwnasError, InvalidFile
from hwnas.pretrained import load, sources
from hwnas.pretrained.load import load_source
from hwnas.pretrained.sources import find_source, hub_folder
from tests.support.networks.trained import noise, torchvision_network

NAME = "mnasnet0_5"
SHAPE = (3, 224, 224)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of torch.hub, with weights of `NAME` whose hash is the published one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    hub_folder().mkdir(parents=True)
    source = find_source(NAME)
    file = hub_folder() / source.file
    torch.save(torchvision_network(NAME).state_dict(), file)
    digest = sha256(file.read_bytes()).hexdigest()
    known = msgspec.structs.replace(source, sha256=digest[:8])
    monkeypatch.setattr(load, "find_source", lambda name: known)
    return file


def test_a_network_of_torchvision_by_its_name(hub: Path) -> None:
    trained = load_source(NAME)
    assert trained.architecture.input_shape == SHAPE
    assert trained.architecture.macs == find_source(NAME).macs
    assert trained.classes[0] == "tench" and len(trained.classes) == 1000
    assert (trained.top1, trained.source) == (67.73, find_source(NAME).url)
    images = noise(SHAPE, 1)
    with torch.inference_mode():
        assert torch.equal(trained.network()(images), torchvision_network(NAME)(images))


def test_a_damaged_file_is_named(hub: Path) -> None:
    hub.write_bytes(hub.read_bytes()[:-1])
    with pytest.raises(InvalidFile, match=rf"{hub.name}: has the SHA-256"):
        load_source(NAME)


def test_missing_weights_are_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(HwnasError, match=rf"{NAME}: its weights are not on this machine; get them"):
        load_source(NAME)
    assert sources.weights_file(find_source(NAME)) is None


def test_weights_of_ones_own_may_have_other_classes(tmp_path: Path) -> None:
    file = tmp_path / "mine.pt"
    torch.save(torchvision_network(NAME, num_classes=5).state_dict(), file)
    trained = load_source(NAME, file)
    assert trained.architecture.num_classes == 5
    assert (trained.classes, trained.top1, trained.source) == ((), None, str(file))


def test_files_of_densenet_may_have_keys_of_an_older_pytorch(tmp_path: Path) -> None:
    source, file = torchvision_network("densenet121", num_classes=7), tmp_path / "old.pt"
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])\.")
    weights = {old.sub(r"\1.\2.", key): value for key, value in source.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in weights
    torch.save(weights, file)
    trained = load_source("densenet121", file)
    images = noise((3, 64, 64), 2)
    with torch.inference_mode():
        expected = source(images)
        assert torch.equal(trained.at((3, 64, 64)).network()(images), expected)
        renamed = trained.at((3, 64, 64), ("cat", "dog"))
        assert not renamed.network()(images).any()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    torch.save(torchvision_network("mnasnet0_75").state_dict(), file)
    with pytest.raises(InvalidFile, match=r"other.pt: layers.0.weight has shape"):
        load_source(NAME, file)
