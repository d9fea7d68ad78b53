"""Broken inputs give a clear error: no crash of this process, no file left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import numpy_helper
from torch import nn

import hwnas.export.compile
from hwnas.architecture.artifact import Format
from hwnas.cli.main import cli
from hwnas.errors import ExportError, HwnasError, UsageError
from hwnas.export.compile import compile_model
from hwnas.export.graph.interface import module_interface
from hwnas.export.verification.bisect import first_difference
from hwnas.export.verification.images import Verification
from hwnas.export.verify_file import verify_file
from hwnas.networks.user_module import LoadedNetwork, load_network
from hwnas.networks.verification_data import verification_data
from tests.export.test_parity import both
from tests.export.verification.test_verify import SHAPE, data, write_changed

USER_MODULE = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )

class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.rfft2(x).abs()

def outside():
    return nn.Sequential(nn.Conv2d(2, 3, 1), Spectrum(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

number = 3
"""


def small() -> nn.Module:
    space: dict[str, Any] = {}
    exec(USER_MODULE, space)
    return space["small"]()


def unlabelled(count: int) -> Verification:
    return Verification(data(count).images)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own_networks.py").write_text(USER_MODULE)
    return tmp_path


def hwnas_in(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(hwnas.export.compile.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "hwnas", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def test_a_user_module_is_compiled_to_both_formats(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, *shape = "own_networks:small", "--input-shape", "2x8x8"
    exported = hwnas_in(folder, "export", model, *shape, "--out", "made/net")
    assert exported.returncode == 0, exported.stderr
    assert sorted(path.name for path in (folder / "made").iterdir()) == ["net.onnx", "net.tflite"]
    assert "on 16 images of noise, the same class in 100%" in exported.stdout
    monkeypatch.chdir(folder)
    verify = ["verify", "made/net.tflite", "--model", model, *shape]
    verified = CliRunner().invoke(cli, verify)
    assert verified.exit_code == 0 and "the same class in 100%" in verified.stdout
    damaged = folder / "made" / "net.tflite"
    damaged.write_bytes(damaged.read_bytes()[:500])
    refused = CliRunner().invoke(cli, verify).exception
    assert isinstance(refused, HwnasError)
    assert refused.exit_code == 4 and "\n" not in str(refused)


def test_an_unknown_operation_is_exit_4_with_path_name_and_fall_back(folder: Path) -> None:
    done = hwnas_in(folder, "export", "own_networks:outside", "--input-shape", "2x8x8")
    assert done.returncode == 4
    assert done.stderr.startswith("hwnas: 1: aten._fft_r2c is outside the compiler's operations")
    assert "--via torch-onnx" in done.stderr
    assert [path.name for path in folder.iterdir() if path.is_file()] == ["own_networks.py"]


@both
@pytest.mark.parametrize("share", [0.1, 0.95])
def test_a_truncated_file_is_an_error(format: Format, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"net.{format}"
    compile_model(small(), SHAPE, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ExportError) as raised:
        verify_file(path, small(), unlabelled(4))
    assert "\n" not in str(raised.value) and path.name in str(raised.value)


@both
def test_flipped_bits_never_crash_this_process(format: Format, tmp_path: Path) -> None:
    path, rng = tmp_path / f"net.{format}", np.random.default_rng(0)
    compile_model(small(), SHAPE, path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(3):
        damaged = whole.copy()
        damaged[rng.integers(len(whole), size=12)] ^= 0x55
        path.write_bytes(damaged.tobytes())
        try:
            parity = verify_file(path, small(), unlabelled(4))
        except ExportError as error:
            assert "\n" not in str(error)
        else:
            assert parity.max_relative_error <= 1e-4  # the flipped bits had no effect


@both
def test_images_of_another_shape_are_an_error(format: Format, tmp_path: Path) -> None:
    path = tmp_path / f"net.{format}"
    compile_model(small(), SHAPE, path)
    images = unlabelled(4).images[:, :, :6]
    with pytest.raises(ExportError, match=r"its input is .* the images have shape"):
        verify_file(path, small(), Verification(images))


@both
def test_weights_that_are_not_finite_leave_no_file(format: Format, tmp_path: Path) -> None:
    module = small()
    nn.init.constant_(module[2].weight, torch.nan)  # type: ignore[index]
    with pytest.raises(ExportError, match=r"^2: its weight contains a value that is not finite"):
        compile_model(module, SHAPE, tmp_path / f"net.{format}", verification=data())
    assert not list(tmp_path.iterdir())


def test_a_damaged_layer_is_located(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    compile_model(small(), SHAPE, path)
    model = onnx.load(path)
    [weight] = [array for array in model.graph.initializer if array.name == "2.weight:constant"]
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    onnx.save(model, path)
    with pytest.raises(ExportError, match="the first tensor that differs is 2, by"):
        verify_file(path, small(), unlabelled(4))


@both
def test_a_failed_verification_names_the_first_layer_that_differs(
    format: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hwnas.export.compile, "write_graph", write_changed(np.negative))
    with pytest.raises(ExportError, match="the first tensor that differs is 0, by"):
        compile_model(small(), SHAPE, tmp_path / f"net.{format}", verification=data())
    assert not list(tmp_path.iterdir())


@both
def test_no_layer_of_a_good_file_differs(format: Format, tmp_path: Path) -> None:
    path = tmp_path / f"net.{format}"
    compile_model(small(), SHAPE, path)
    assert (
        first_difference(path, small(), module_interface(small(), SHAPE), data(1).inputs, 1e-5)
        is None
    )


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("no_such_module_here:net", SHAPE, "cannot import 'no_such_module_here'"),
        ("math:pi", SHAPE, "expected a torch.nn.Module, got float"),
        ("math:tau_of_nothing", SHAPE, "has no 'tau_of_nothing'"),
        ("torch.nn:ReLU", None, "needs --input-shape"),
        ("nothing-of-this-name", None, "no network, file or folder"),
    ],
)
def test_a_name_that_means_no_network_is_an_error(name: str, shape: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_network(name, shape)


def loaded(shape: tuple[int, int, int]) -> LoadedNetwork:
    module = small()
    return LoadedNetwork(module, module_interface(module, shape), None, True)


def test_an_empty_or_unreadable_folder_of_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        verification_data(str(tmp_path), loaded(SHAPE), count=4)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(UsageError):
        verification_data(str(tmp_path), loaded((3, 8, 8)), count=4)
