"""Networks of timm: from a folder, or from the hub's cache without a download."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hwnas.errors import HwnasError, InvalidFile, UsageError
from hwnas.pretrained import hub
from hwnas.pretrained.hub import fetch_timm, is_timm, load_timm
from tests.support.networks.trained import noise, randomise

timm: Any = pytest.importorskip("timm", reason="needs `pip install timm`")
huggingface_hub: Any = pytest.importorskip("huggingface_hub")

NAME = "test_efficientnet"
SHAPE = (3, 160, 160)


@pytest.fixture(scope="module")
def source() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomise(timm.create_model(NAME, pretrained=False))


@pytest.fixture
def folder(source: Any, tmp_path: Path) -> Path:
    timm.models.save_for_hf(source, str(tmp_path / "saved"), safe_serialization=True)
    return tmp_path / "saved"


def test_a_local_folder_gives_the_logits_of_timm(folder: Path, source: Any) -> None:
    network = load_timm(f"local-dir:{folder}")
    assert network.architecture.input_shape == SHAPE
    assert (network.preprocessing.resize_px, network.preprocessing.interpolation) == (
        168,
        "bicubic",
    )
    assert network.licence == "apache-2.0" and network.source == str(folder)
    assert network.classes[0] == "tench"
    images = noise(SHAPE)
    with torch.inference_mode():
        expected, logits = source(images), network.network()(images)
    assert (logits - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.parametrize(
    "name", ["mobilenetv2_100", "mobilenetv3_small_050", "tf_efficientnet_lite0", "mnasnet_small"]
)
def test_families_of_timm_are_recognised(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        source = randomise(timm.create_model(name, pretrained=False, num_classes=3))
    network = hub.from_module(source, (3, 64, 64), name)
    images = noise((3, 64, 64))
    with torch.inference_mode():
        expected, logits = source(images), network.network()(images)
    assert (logits - expected).abs().max() < 1e-6 * expected.abs().max()
    paddings = {block.padding for block in network.architecture.blocks}
    assert ("same" in paddings) == name.startswith("tf_")


def test_the_mean_of_a_file_wins(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"}
    config["num_classes"], config["label_names"] = 1000, [f"class {n}" for n in range(1000)]
    (folder / "config.json").write_text(json.dumps(config))
    network = load_timm(f"local-dir:{folder}")
    assert network.preprocessing.mean == network.preprocessing.std == (0.5,) * 3
    assert network.preprocessing.interpolation == "bilinear"
    assert network.classes[:2] == ("class 0", "class 1")


def test_the_cache_of_the_hub_is_read_and_nothing_else(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    name = f"timm:{NAME}.r160_in1k"
    with pytest.raises(HwnasError, match=rf"{name}: its weights are not on this machine; get them"):
        load_timm(name)
    repository = tmp_path / f"models--timm--{NAME}.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123")
    shutil.copytree(folder, repository / "snapshots" / "0123")
    for same in (name, f"timm:{NAME}"):  # the tag of timm's default weights
        assert load_timm(same).source == f"huggingface.co/timm/{NAME}.r160_in1k"


def test_a_failed_download_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: object) -> None:
        raise ConnectionError("Network is unreachable")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(HwnasError) as error:
        fetch_timm("timm:mobilenetv2_100.ra_in1k")
    assert "\n" not in str(error.value)
    assert "huggingface.co/timm/mobilenetv2_100.ra_in1k as local-dir:FOLDER" in str(error.value)


def test_other_folders_and_networks_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"expected a folder with config.json and model.safe"):
        load_timm(f"local-dir:{tmp_path}")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architecture": "nonesuch"}))
    with pytest.raises(UsageError, match="timm cannot make it"):
        load_timm(f"local-dir:{folder}")


def test_without_timm_its_installation_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"networks of timm need it: pip install 'hwnas\[timm\]'"):
        load_timm("timm:mobilenetv2_100.ra_in1k")
    assert is_timm("timm:x") and is_timm("local-dir:x") and not is_timm("mobilenet_v2")
