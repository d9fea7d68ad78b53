"""Trained networks as users name them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hwnas.errors import InvalidFile, UnknownName, UsageError
from hwnas.networks.pretrained import load_pretrained
from tests.support.networks.trained import noise, small_mobilenet, torchvision_network

SHAPE = (3, 64, 64)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def test_a_module_of_the_users_code(folder: Path) -> None:
    (folder / "my_trained.py").write_text(
        "from tests.support.networks.trained import small_mobilenet\n"
        "def make(): return small_mobilenet()\n"
        "def other():\n"
        "    from torch import nn\n"
        "    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.Tanh())\n"
    )
    network = load_pretrained("my_trained:make", SHAPE)
    with torch.inference_mode():
        assert torch.equal(network.network()(noise(SHAPE)), small_mobilenet()(noise(SHAPE)))
    assert network.name == network.source == "my_trained:make"
    with pytest.raises(UsageError, match=r"my_trained:make: .* needs the size of its images"):
        load_pretrained("my_trained:make")
    with pytest.raises(UsageError, match=r"my_trained:other: does not end in a global pool and"):
        load_pretrained("my_trained:other", SHAPE)


def test_a_module_in_half_precision_or_for_several_gpus_is_read_in_float32(folder: Path) -> None:
    (folder / "halved.py").write_text(
        "from torch import nn\n"
        "from tests.support.networks.trained import small_mobilenet\n"
        "def make(): return nn.DataParallel(small_mobilenet().half())\n"
    )
    network = load_pretrained("halved:make", SHAPE).network()
    expected = small_mobilenet().half().float()
    with torch.inference_mode():
        assert torch.equal(network(noise(SHAPE)), expected(noise(SHAPE)))


def test_a_file_of_weights(folder: Path) -> None:
    torch.save(torchvision_network("mnasnet0_5", num_classes=3).state_dict(), folder / "mine.pth")
    assert load_pretrained("mine.pth").architecture.num_classes == 3
    with pytest.raises(InvalidFile, match=r"other.pth: no such file"):
        load_pretrained("other.pth")


def test_a_name_that_nothing_has() -> None:
    with pytest.raises(UnknownName, match="did you mean 'resnet18'"):
        load_pretrained("resnet-18")
