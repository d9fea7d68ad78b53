"""Every command takes the same names of networks, and says what is near a wrong one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from hwnas.cli.main import cli
from hwnas.deploy.find import find_model_file
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject, check_file
from hwnas.errors import HwnasError, InvalidFile, UnknownName, UsageError
from hwnas.export.compile import compile_model
from hwnas.export.recipe import format_of
from hwnas.files import write_json
from hwnas.networks.names import kind_of
from hwnas.networks.pretrained import load_pretrained
from hwnas.networks.resolve import resolve_architecture
from hwnas.networks.user_module import load_network
from hwnas.pretrained.sources import sources
from tests.support.networks.trained import torchvision_network

SHAPE = (3, 32, 32)

Load = Callable[[str], object]
LOADERS: tuple[Load, ...] = (resolve_architecture, load_network, load_pretrained)
"""What commands that take a network call: for its blocks, to compile it, for its weights."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("proxyles_mobile", "did you mean 'proxyless_mobile'"),
        ("resnet-18", "did you mean 'resnet18'"),
        ("darts_v1", "did you mean 'DARTS_V1'"),
        ("ResNet18", "did you mean 'resnet18'"),
        ("runs/frist", "runs/frist: no such file or folder, did you mean runs/first"),
        ("frist.json", "frist.json: no such file, did you mean first.json"),
        ("second", "no such file or folder, did you mean second2"),
        ("notes.txt", "is no network; expected a run's or training's folder"),
        ("nets.py", "expected module:factory for a module of your own, e.g. nets:NAME"),
        ("nets.py:small", "expected module:factory, e.g. nets:small"),
        ("alphanet", "not supported, its licence"),
    ],
)
def test_a_wrong_name_gives_the_nearest_right_one(
    load: Load, name: str, message: str, folder: Path
) -> None:
    (folder / "runs" / "first").mkdir(parents=True)
    (folder / "second2").mkdir()
    for file in ("first.json", "notes.txt", "nets.py"):
        (folder / file).write_text("")
    with pytest.raises(UsageError) as error:
        load(name)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_name_comes_before_a_folder_of_that_name(folder: Path) -> None:
    (folder / "resnet18").mkdir()
    assert kind_of("resnet18") == "published"
    assert kind_of("./resnet18") == "folder"


def test_networks_whose_weights_are_elsewhere_have_blocks() -> None:
    for source in sources():
        network = resolve_architecture(source.name)
        assert network.macs == source.macs
        # norms in the place of biases
        if source.name.startswith(("alexnet", "convnext", "squeezenet", "vgg")):
            assert network.params == pytest.approx(source.params, rel=2e-3)
        else:
            assert network.params == source.params


def test_a_module_of_the_users_code_has_blocks(folder: Path) -> None:
    (folder / "own_blocks.py").write_text(
        "from tests.support.networks.trained import small_mobilenet as make\n"
    )
    network = resolve_architecture("own_blocks:make", input_shape=(3, 64, 64))
    trained = load_pretrained("own_blocks:make", (3, 64, 64))
    assert network.blocks == trained.architecture.blocks
    with pytest.raises(UsageError, match="first convolution takes 3 channels, the images have 1"):
        resolve_architecture("own_blocks:make", input_shape=(1, 64, 64))


def test_weights_of_other_programs_are_compiled_and_shown(folder: Path) -> None:
    module = torchvision_network("mnasnet0_5", num_classes=3)
    torch.save(module.state_dict(), folder / "mine.pth")
    loaded = load_network("mine.pth")
    assert loaded.trained and loaded.architecture == resolve_architecture("mine.pth")
    images = torch.randn(2, *loaded.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(loaded.module(images), module.eval()(images))
    error = CliRunner().invoke(cli, ["export", "mine.pth", "--pixels"]).exception
    assert isinstance(error, UsageError)
    assert "mine.pth states that it takes normalised images" in str(error)


def test_random_weights_are_the_same_each_time() -> None:
    first, second = (load_network("mobilenet_v2") for _ in range(2))
    assert not first.trained
    for weight, again in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(weight, again)


@pytest.mark.parametrize("name", ["proxyless_cifar", "DARTS_V1", "tiny.json"])
def test_what_has_no_weights_is_to_be_trained(name: str, folder: Path) -> None:
    write_json(folder / "tiny.json", resolve_architecture("proxyless_cifar"))
    with pytest.raises(UsageError, match=f"{name}: has no weights; train it by `hwnas train"):
        load_pretrained(name)


def test_a_compiled_file_has_no_weights_to_tune_but_may_have_blocks(folder: Path) -> None:
    compile_model(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), (3, 8, 8), Path("own.onnx"))
    with pytest.raises(UsageError, match="its weights are those of a compiled network"):
        load_pretrained("own.onnx")
    with pytest.raises(HwnasError, match=r"does not state its blocks, .*benchmark --per-op"):
        resolve_architecture("own.onnx")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", r"is a network, not a model file; `hwnas export resnet18` compiles it"),
        ("tiny.json", r"is a network, not a model file"),
        ("training", r"the training has no model file; `hwnas export training` compiles it"),
        ("own.onx", r"no such file or folder, did you mean own\.onnx"),
        ("empty", r"expected a model file \(.onnx, .tflite\), a bundle or the folder of a run"),
        ("begun", r"the run has not finished"),
    ],
)
def test_what_is_no_model_file_says_how_to_get_one(name: str, message: str, folder: Path) -> None:
    for made, file in (("training", "job.json"), ("begun", "config.toml"), ("empty", ".x")):
        (folder / made).mkdir()
        (folder / made / file).write_text("")
    (folder / "own.onnx").write_bytes(b"")
    write_json(folder / "tiny.json", resolve_architecture("proxyless_cifar"))
    with pytest.raises(UsageError, match=message):
        find_model_file(name)


@pytest.mark.parametrize(
    "words",
    [
        ("show", "{}"),
        ("export", "{}"),
        ("benchmark", "{}"),
        ("predict", "{}", "photo.png"),
        ("evaluate", "{}", "--data", "fashion-mnist-6k"),
        ("deploy", "{}"),
        ("verify", "{}", "--model", "resnet18"),
        ("networks", "show", "{}"),
        ("networks", "fetch", "{}"),
        ("latency", "predict", "{}", "--target", "pixel1"),
        ("train", "--architecture", "{}", "--data", "fashion-mnist-6k", "--out", "out"),
        ("train", "--from", "{}", "--data", "fashion-mnist-6k", "--out", "out"),
    ],
)
def test_every_command_names_the_nearest_network(words: tuple[str, ...]) -> None:
    arguments = [word.format("efficientnet_lte0") for word in words]
    error = CliRunner().invoke(cli, arguments, standalone_mode=False).exception
    assert isinstance(error, UnknownName)
    assert "did you mean 'efficientnet_lite0'" in str(error)


@pytest.mark.parametrize("name", ["proxyless_cifar", "DARTS_V1", "FairDARTS_a"])
def test_what_show_prints_as_json_is_a_network_again(name: str, folder: Path) -> None:
    shown = CliRunner().invoke(cli, ["show", name, "--json"], catch_exceptions=False).stdout
    (folder / "shown.json").write_text(shown)
    expected = resolve_architecture(name, input_shape=(1, 28, 28), num_classes=10)
    again = resolve_architecture("shown.json")
    assert again == expected and again.digest == expected.digest
    CliRunner().invoke(cli, ["show", "shown.json"], catch_exceptions=False)


def test_show_completes_a_genotype_by_the_data() -> None:
    result = CliRunner().invoke(cli, ["show", "DARTS_V1"])
    assert result.exit_code == 0
    assert "for 1x28x28 and 10 classes, as fashion-mnist-6k has" in result.output


def test_a_link_to_nothing_says_where_it_leads(tmp_path: Path) -> None:
    link = tmp_path / "net.onnx"
    link.symlink_to("gone.onnx")
    why = r"net\.onnx: is a link to gone\.onnx, which does not exist"
    with pytest.raises(InvalidFile, match=why):
        kind_of(str(link))


@pytest.mark.parametrize("name", ["NET.ONNX", "net.Tflite"])
def test_capital_letters_of_a_suffix_are_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"")
    renamed = file.with_suffix(file.suffix.lower()).name
    with pytest.raises(UsageError, match=f"in small letters here; rename it to {renamed}$"):
        kind_of(str(file))
    with pytest.raises(UsageError, match=f"rename it to {renamed}$"):
        format_of(file)
    with pytest.raises(UsageError, match=f"rename it to {renamed}$"):
        runtime = "onnxruntime" if name.endswith("X") else "litert"
        check_file(Subject(name, file, runtime), find_profile("host-cpu"))
