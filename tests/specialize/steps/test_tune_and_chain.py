"""`hwnas train --from`: a trained network is tuned, and later commands start from its folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from hwnas.cli.main import cli
from hwnas.data.datasets import load_dataset
from hwnas.errors import InvalidFile, UsageError
from hwnas.export.metadata.input import read_input
from hwnas.files import read_json
from hwnas.networks.pretrained import load_pretrained
from hwnas.networks.user_module import load_network
from hwnas.networks.verification_data import verification_data
from hwnas.specialize.setup.start import network
from hwnas.specialize.setup.start.network import start_from
from hwnas.specialize.steps.train_network import train_network
from hwnas.specialize.steps.training_setup import TrainSpec, check_options
from hwnas.training.description import description_notes, read_description
from hwnas.training.job import TrainingJob
from hwnas.training.log import EpochLog
from tests.support.machines.killed import Killed
from tests.support.networks.trained import noise
from tests.support.reporting.sample_run import write_images

FACTORY = "from tests.support.networks.trained import small_mobilenet as network\n"
NETWORK, SIZE = "my_mobilenet:network", 32


def kill(_: EpochLog) -> None:
    raise Killed


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    (folder / "my_mobilenet.py").write_text(FACTORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(folder))
        patch.syspath_prepend(str(folder))
        yield folder
    sys.modules.pop("my_mobilenet", None)


@pytest.fixture(scope="module")
def data(home: Path) -> str:
    return str(write_images(home / "images.npz", train=90, test=30, size=SIZE))


@pytest.fixture(scope="module")
def tuned(home: Path, data: str) -> Path:
    out = home / "tuned"
    result = train(out, data, "--epochs", "2")
    assert result.exit_code == 0, result.stderr
    assert f"hwnas export {out} --data {data}" in result.stdout
    return out


def train(out: Path, data: str, *more: str) -> Result:
    start = ["--from", NETWORK, "--resolution", str(SIZE), "--threads", "1"]
    words = ["train", *start, "--data", data, "--out", str(out), *more]
    return CliRunner().invoke(cli, words)


def test_a_trained_network_is_tuned_by_the_recipe_for_trained_networks(tuned: Path) -> None:
    job = json.loads((tuned / "job.json").read_bytes())
    plan = job["plan"]
    assert plan["probe"] and plan["frozen_norms"] and plan["layer_decay"] < 1
    assert plan["epochs"] == 2 and plan["patience"] > 0
    assert job["architecture"]["num_classes"] == 3


def test_the_file_says_which_network_it_is_and_which_images_it_takes(
    tuned: Path, data: str
) -> None:
    description = read_description(tuned / "network.safetensors")
    assert description is not None and description.normalisation is not None
    assert description.normalisation.mean == pytest.approx((0.485, 0.456, 0.406))
    assert description.classes == load_dataset(data).classes


@pytest.mark.parametrize("name", ["", "network.safetensors"])
def test_a_run_starts_from_the_folder_of_a_training_or_its_file(
    tuned: Path, data: str, name: str
) -> None:
    start = start_from(str(tuned / name), data, None, load_dataset)
    assert start.knows_classes
    assert start.dataset.input_shape == (3, SIZE, SIZE)
    assert start.dataset.mean == pytest.approx((0.485, 0.456, 0.406))
    images = noise((3, SIZE, SIZE))
    with torch.inference_mode():
        expected = load_network(str(tuned)).module(images)
        assert torch.equal(start.network.network()(images), expected)


def test_a_supernet_that_was_tuned_is_still_cut_as_it_was_trained(
    home: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = torch.randn(9, 9, generator=torch.Generator().manual_seed(0))
    supernet = load_pretrained(NETWORK, (3, SIZE, SIZE))._replace(slices={2: {3: matrix}, 3: {}})
    monkeypatch.setattr(network, "load_pretrained", lambda *_: supernet)
    assert train(home / "supernet", data, "--epochs", "1").exit_code == 0
    slices = load_pretrained(str(home / "supernet")).slices
    assert slices.keys() == {2, 3} and not slices[3]
    assert torch.equal(slices[2][3], matrix)


def test_other_classes_begin_with_a_new_classifier(tuned: Path, data: str) -> None:
    trained = load_pretrained(str(tuned))
    other = trained.at(trained.architecture.input_shape, ("a", "b"))
    same = trained.at(trained.architecture.input_shape, trained.classes)
    classifier = [key for key, value in trained.weights.items() if value.ndim == 2][-1]
    assert not other.weights[classifier].any()
    assert torch.equal(same.weights[classifier], trained.weights[classifier])


def test_a_training_goes_on_from_another_with_its_classifier(
    tuned: Path, data: str, home: Path
) -> None:
    train_network(TrainSpec(pretrained=str(tuned), data=data, epochs=1, threads=1), home / "again")
    job = json.loads((home / "again" / "job.json").read_bytes())
    assert not job["plan"]["probe"]
    initial = load_file(home / "again" / "initial.safetensors")
    weights = load_file(tuned / "network.safetensors")
    assert all(torch.equal(initial[key], value) for key, value in weights.items())


def test_exported_files_take_images_as_the_network_was_trained_on_them(
    tuned: Path, data: str, home: Path
) -> None:
    words = ["export", str(tuned), "--format", "onnx", "--out", str(home / "model")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.stderr
    described = read_input(home / "model.onnx")
    assert described is not None and len(described.labels) == 3
    assert described.mean == pytest.approx((0.485, 0.456, 0.406))


def test_files_are_verified_on_images_in_the_normalisation_of_the_network(
    tuned: Path, data: str
) -> None:
    network = load_network(str(tuned))
    verified = verification_data(data, network)
    dataset = load_dataset(data, input_shape=network.input_shape)
    first = dataset.valid.images[:1][0].mean(axis=(1, 2)) / 255
    assert network.preprocessing is not None
    mean, std = network.preprocessing.mean, network.preprocessing.std
    np.testing.assert_allclose(
        verified.verification.images[0].mean(axis=(1, 2)), (first - mean) / std, rtol=1e-4
    )


def test_verifying_on_images_of_other_classes_is_an_error(tuned: Path, home: Path) -> None:
    labels = np.array(["apple", "pear"])
    images = np.zeros((40, SIZE, SIZE), np.uint8)
    arrays = {"x_train": images, "y_train": np.arange(40) % 2, "classes": labels}
    np.savez(home / "fruit.npz", **arrays, x_test=images[:8], y_test=np.arange(8) % 2)
    words = ["export", str(tuned), "--data", str(home / "fruit.npz"), "--out", str(home / "no")]
    error = CliRunner().invoke(cli, words).exception
    assert isinstance(error, UsageError)
    assert "classes apple, pear, but the network was trained on" in str(error)


def test_a_tuning_that_is_killed_and_resumed_gives_the_same_weights(
    home: Path, data: str, tuned: Path
) -> None:
    spec = TrainSpec(pretrained=NETWORK, resolution=SIZE, data=data, epochs=2, threads=1)
    with pytest.raises(Killed):
        train_network(spec, home / "killed", on_epoch=kill)
    with pytest.raises(InvalidFile, match="no weights yet"):
        load_pretrained(str(home / "killed"))
    train_network(spec, home / "killed", resume=True)
    first, second = ((folder / "network.safetensors") for folder in (tuned, home / "killed"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ((), "is no folder of a run or of a training"),
        (("config.toml",), "the run has not finished; continue it with: .*--resume"),
        (("scenarios/a-20ms/", "scenarios/a-10ms/"), r"name a single one: .*a-10ms, .*a-20ms"),
    ],
)
def test_folders_without_a_network_are_named(
    tmp_path: Path, content: tuple[str, ...], problem: str
) -> None:
    for name in content:
        path = tmp_path / name
        path.mkdir(parents=True) if name.endswith("/") else path.write_text("")
    with pytest.raises(InvalidFile, match=problem):
        load_pretrained(str(tmp_path))


def test_a_path_that_does_not_exist_is_no_unknown_name() -> None:
    with pytest.raises(InvalidFile, match="runs/none: no such file or folder"):
        load_pretrained("runs/none")


def test_weights_that_do_not_fit_their_description_are_refused(tuned: Path, tmp_path: Path) -> None:
    path = tuned / "network.safetensors"
    description = read_description(path)
    assert description is not None
    weights = load_file(path)
    key = next(key for key in weights if key.endswith("conv.weight"))
    changed = {("other" if each == key else each): value for each, value in weights.items()}
    save_file(changed, tmp_path / "renamed.safetensors", description_notes(description))
    with pytest.raises(InvalidFile, match=f"has no {key}"):
        load_pretrained(str(tmp_path / "renamed.safetensors"))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "--from NETWORK for a trained one, or --architecture"),
        ({"architecture": "a.json", "resolution": 64}, "an architecture has its own"),
        ({"pretrained": "a", "architecture": "b.json"}, "--architecture b.json: --from a"),
        ({"pretrained": "a", "weights": Path("w")}, "--weights w: --from a"),
        ({"pretrained": "a", "drop_path": 0.2}, "--drop-path 0.2: --from a"),
    ],
)
def test_options_that_exclude_each_other_are_named(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        check_options(TrainSpec(data="photos", **fields))  # type: ignore[arg-type]


def test_a_job_states_the_names_of_its_classes(tuned: Path, data: str) -> None:
    assert read_json(tuned / "job.json", TrainingJob).classes == load_dataset(data).classes
