"""`sources.toml`: its figures are torchvision's, and a network says how to get its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import get_model, get_model_weights

from hwnas.errors import HwnasError, UnknownName, UsageError
from hwnas.pretrained.sources import (
    Source,
    find_source,
    hub_folder,
    missing,
    sources,
    weights_file,
)

TORCHVISION = [source for source in sources() if source.collection == "torchvision"]


AUXILIARY = {"inception_v3": 3_326_696}
"""Parameters of auxiliary classifiers that torchvision counts too."""


@pytest.mark.parametrize("source", TORCHVISION, ids=lambda source: source.name)
def test_figures_and_preprocessing_are_those_of_torchvision(source: Source) -> None:
    known = {weights.url: weights for weights in get_model_weights(source.factory)}
    weights = known[source.url]
    transforms, expected = weights.transforms(), source.preprocessing
    assert [expected.size_px] == transforms.crop_size
    assert [expected.resize_px] == transforms.resize_size
    assert expected.interpolation == transforms.interpolation.value
    if not source.arguments:  # see the next test
        assert (list(expected.mean), list(expected.std)) == (transforms.mean, transforms.std)
    assert source.params == weights.meta["num_params"] - AUXILIARY.get(source.name, 0)
    assert source.macs == pytest.approx(weights.meta["_ops"] * 1e9, rel=0.01, abs=5e5)
    top1 = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert source.top1 == pytest.approx(top1, abs=0.005)
    assert source.url.endswith(f"-{source.sha256}.pth") and source.url.endswith(source.file)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_images_are_normalised_as_the_module_itself_changes_them(name: str) -> None:
    ours = find_source(name)
    module: Any = get_model(name, weights=None, transform_input=True, **ours.arguments)
    pixels = torch.rand(2, 3, 4, 4)

    def normalised(preprocessing: Any) -> torch.Tensor:
        mean, std = (torch.tensor(each) for each in (preprocessing.mean, preprocessing.std))
        return (pixels - mean[:, None, None]) / std[:, None, None]

    theirs = get_model_weights(name)["DEFAULT"].transforms()
    expected = module._transform_input(normalised(theirs))
    torch.testing.assert_close(normalised(ours.preprocessing), expected)


def test_the_default_weights_of_torchvision_have_the_plain_name() -> None:
    for source in TORCHVISION:
        default: Any = get_model_weights(source.factory)["DEFAULT"]
        assert (default.url == source.url) == (source.name == source.factory)


def test_names_are_unique_and_unknown_ones_have_a_nearest() -> None:
    names = [source.name for source in sources()]
    assert len(set(names)) == len(names)
    with pytest.raises(UnknownName, match="did you mean 'mobilenet_v2'"):
        find_source("mobilenetv2")


def test_a_licence_that_forbids_use_is_the_answer() -> None:
    with pytest.raises(UsageError, match=r"alphanet: not supported, its licence, CC-BY-NC"):
        find_source("alphanet")


def test_weights_are_where_torch_hub_stores_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub_folder() == Path(torch.hub.get_dir()) / "checkpoints"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert hub_folder() == Path(torch.hub.get_dir()) / "checkpoints"
    source = find_source("mobilenet_v2")
    assert weights_file(source) is None
    error = missing(source)
    assert isinstance(error, HwnasError) and "\n" not in str(error)
    assert f"hwnas networks fetch mobilenet_v2`, or put {source.file} into {tmp_path}" in str(error)
    (hub_folder()).mkdir(parents=True)
    (hub_folder() / source.file).write_bytes(b"")
    assert weights_file(source) == hub_folder() / source.file
