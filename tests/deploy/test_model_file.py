"""Bundles of model files: networks of any kind run by the bundle's own program."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from hwnas.deploy.bundle import Manifest, read_bundle
from hwnas.deploy.device import deploy, verify_outputs
from hwnas.deploy.interface import read_interface
from hwnas.deploy.model_file import bundle_file
from hwnas.devices.external_data import external_files
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import InputShape
from hwnas.errors import ExportError, InvalidFile, UsageError
from hwnas.export.verification.run_model import file_outputs, run_file
from tests.deploy.networks import segmentation_file, tracker_file
from tests.support.data import colours
from tests.support.data.photos import noise_image
from tests.support.networks.onnx_files import save

FORMATS = pytest.mark.parametrize("format", ["onnx", "tflite"])


def run_bundle(folder: Path, *arguments: Path, status: int = 0) -> str:
    """Run the program of a bundle; return what it prints."""
    command = [sys.executable, str(folder / "run.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout or done.stderr


@FORMATS
def test_the_map_of_an_image_is_what_the_file_gives(tmp_path: Path, format: str) -> None:
    file, bundle = segmentation_file(tmp_path / f"net.{format}"), tmp_path / "bundle"
    bundle_file(file, bundle, input_values="imagenet")
    picture = tmp_path / "a.png"
    noise_image(0, 24, 16).save(picture)
    [result] = json.loads(run_bundle(bundle, picture)).values()
    assert list(result["outputs"]) == ["logits"]
    interface = read_interface(bundle)
    assert interface.image is not None and interface.image.shape == (3, 16, 24)
    pixels = np.asarray(noise_image(0, 24, 16)).transpose(2, 0, 1)[None]
    expected = file_outputs(file, interface.image.values(pixels))
    outputs = np.load(tmp_path / "a.outputs.npz")["logits"]
    maps = outputs if format == "onnx" else outputs.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    assert json.loads(run_bundle(bundle))["max_relative_error"] == 0
    assert "labels.txt" not in read_bundle(bundle).files


@FORMATS
def test_several_inputs_come_from_arrays_by_their_names(tmp_path: Path, format: str) -> None:
    file, bundle = tracker_file(tmp_path / f"net.{format}"), tmp_path / "bundle"
    rng = np.random.default_rng(0)
    frame = rng.standard_normal((1, 3, 16, 16)).astype(np.float32)
    names, state = np.array([[6, 0, 3]]), rng.standard_normal((1, 4)).astype(np.float32)
    stored = frame if format == "onnx" else frame.transpose(0, 2, 3, 1)
    arrays = {"state": state, "names": names, "frame": stored}
    np.savez(tmp_path / "in.npz", **arrays)
    bundle_file(file, bundle, samples=tmp_path / "in.npz")
    run_bundle(bundle, tmp_path / "in.npz")
    expected = run_file(file, [frame, names, state], ["frame", "names", "state"])
    with np.load(tmp_path / "in.outputs.npz") as outputs:
        for name, values in expected.items():
            np.testing.assert_allclose(outputs[name], values[0], atol=1e-6)
    assert verify_outputs(bundle).samples == 1
    np.savez(tmp_path / "bad.npz", **{**arrays, "state": state[:, :3]})
    message = run_bundle(bundle, tmp_path / "bad.npz", status=1)
    assert "bad.npz: has [1, 3] for state, expected [1, 4]" in message
    assert "does not say how pixels become inputs" in run_bundle(
        bundle, tmp_path / "a.png", status=1
    )


def test_a_device_gives_the_same_outputs(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle_file(tracker_file(tmp_path / "net.onnx"), bundle)
    deployment = deploy(bundle, find_profile("host-cpu"))
    assert deployment.agreement.samples == 32 and deployment.agreement.accuracy is None
    assert deployment.agreement.max_relative_error < 1e-5


def test_another_output_is_named(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle_file(tracker_file(tmp_path / "net.onnx"), bundle)
    with np.load(bundle / "samples.npz") as file:
        arrays = dict(file)
    np.savez(bundle / "samples.npz", **{**arrays, "output_1": arrays["output_1"] * 1.1})
    manifest = read_json(bundle)
    manifest["files"].pop("samples.npz")
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match=r"by 0\.091 of the largest output in state_out"):
        verify_outputs(bundle)


def read_json(bundle: Path) -> dict[str, dict[str, str]]:
    return json.loads((bundle / "manifest.json").read_text())


def with_external_weights(file: Path, path: Path) -> Path:
    model = onnx.load(file)
    location = f"{path.name}.data"
    onnx.save_model(model, path, save_as_external_data=True, location=location, size_threshold=100)
    return path


def test_weights_in_another_file_come_along(tmp_path: Path) -> None:
    file = with_external_weights(segmentation_file(tmp_path / "a.onnx"), tmp_path / "net.onnx")
    assert external_files(file) == [tmp_path / "net.onnx.data"]
    assert external_files(tmp_path / "a.onnx") == []
    bundle = tmp_path / "bundle"
    manifest = bundle_file(file, bundle)
    assert "net.onnx.data" in manifest.files
    shutil.copytree(bundle, tmp_path / "elsewhere" / "copy")
    assert json.loads(run_bundle(tmp_path / "elsewhere" / "copy"))["max_relative_error"] == 0
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(InvalidFile, match=r"its weights are in net\.onnx\.data, which is not"):
        bundle_file(file, bundle)


def test_a_bundle_over_another_has_its_own_files_only(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    first = bundle_file(colours.colour_file(tmp_path / "net.onnx"), bundle)
    assert "labels.txt" in first.files and first.accuracy is None
    second: Manifest = bundle_file(segmentation_file(tmp_path / "map.tflite"), bundle)
    names = {file.name for file in bundle.iterdir()}
    assert names == {*second.files, "manifest.json"} and "labels.txt" not in names


def test_values_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    file, labels = segmentation_file(tmp_path / "net.onnx"), tmp_path / "labels.txt"
    labels.write_text("cat\ndog\n")
    with pytest.raises(UsageError, match=r"gives logits \[1, 5, 16, 24\]; expected \[1, 2\] for 2"):
        bundle_file(file, tmp_path / "bundle", labels=labels)
    with pytest.raises(UsageError, match=r"--input imagenet: .* takes frame \[1, 3, 16, 16\]"):
        bundle_file(tracker_file(tmp_path / "t.onnx"), tmp_path / "b", input_values="imagenet")
    np.savez(tmp_path / "in.npz", x=np.zeros((1, 3, 16, 24)))
    with pytest.raises(InvalidFile, match="has x; expected an array for each of images"):
        bundle_file(file, tmp_path / "b", samples=tmp_path / "in.npz")
    np.savez(tmp_path / "in.npz", images=np.zeros((1, 3, 24, 16)))
    with pytest.raises(InvalidFile, match=r"images is float64 \[1, 3, 24, 16\]; expected \[1, 3,"):
        bundle_file(file, tmp_path / "b", samples=tmp_path / "in.npz")


def test_inputs_of_any_size_ask_for_a_shape(tmp_path: Path) -> None:
    file = save(
        tmp_path / "net.onnx",
        [helper.make_node("Relu", ["x"], ["y"])],
        ["N", 3, "H", "W"],
    )
    with pytest.raises(UsageError, match=r"net\.onnx: the input x is \[N, 3, H, W\], of any size"):
        bundle_file(file, tmp_path / "bundle")
    with pytest.raises(UsageError, match=r"\[N, 3, H, W\], not \[1, 8, 8\]"):
        bundle_file(file, tmp_path / "bundle", shapes=[InputShape(None, (1, 8, 8))])
    bundle_file(file, tmp_path / "bundle", shapes=[InputShape(None, (3, 8, 8))])
    assert read_interface(tmp_path / "bundle").outputs[0].shape == (1, 3, 8, 8)


def test_files_that_are_no_bundles_are_not_overwritten(tmp_path: Path) -> None:
    file, folder = segmentation_file(tmp_path / "net.onnx"), tmp_path / "work"
    folder.mkdir()
    (folder / "run.py").write_text("mine")
    with pytest.raises(UsageError, match=r"run\.py: is there already, and belongs to no bundle"):
        bundle_file(file, folder)
    assert [(each.name, each.read_text()) for each in folder.iterdir()] == [("run.py", "mine")]
    (folder / "run.py").rename(folder / "mine.py")
    bundle_file(file, folder)
    (folder / "manifest.json").unlink()  # as a kill leaves it
    bundle_file(file, folder)
    assert (folder / "mine.py").read_text() == "mine"
