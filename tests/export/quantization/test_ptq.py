"""Int8 files by post-training quantisation: their outputs, their contents, and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx.numpy_helper import to_array
from torch import nn

import hwnas.export.quantization.tflite
from hwnas.architecture.artifact import Format
from hwnas.architecture.block import Block
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import ExportError, UsageError
from hwnas.export.compile import compile_model
from hwnas.export.graph.trace import trace
from hwnas.export.quantization.int8_agreement import compare_int8
from hwnas.export.quantization.ptq import Int8, int8_quantization, value_ranges, weighted_layers
from hwnas.export.recipe import find_recipe
from hwnas.export.verification.images import Verification
from hwnas.export.verification.run_model import file_outputs
from hwnas.export.verification.verify import torch_outputs
from hwnas.nn.build import untrained
from hwnas.processes import JsonWorker

pytest.importorskip("ai_edge_quantizer")

SHAPE = (3, 12, 12)
FORMATS: tuple[Format, ...] = get_args(Format)
both = pytest.mark.parametrize("format", FORMATS)
BLOCKS = (
    Block("conv", 3, 8, 3, 2, 1, 12),
    Block("mbconv", 8, 8, 3, 1, 3, 6),
    Block("mbconv", 8, 16, 5, 2, 3, 6, "hswish"),
    Block("logits", 16, 5, 1, 1, 1, 3),
)


def images(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A network as after training: its norms have statistics, and it predicts every class."""
    torch.manual_seed(0)
    network = untrained(BLOCKS).train()
    with torch.no_grad():
        for _ in range(50):
            network(torch.randn(64, *SHAPE))
        logits = network.eval()(torch.from_numpy(images(256)))
        head = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
        head.weight /= logits.std(0)[:, None]
        head.bias.copy_(-logits.mean(0) / logits.std(0) + head.bias / logits.std(0))
    predicted = torch_outputs(network, images(256)).argmax(axis=1)
    assert max(np.bincount(predicted)) < 128
    return network


@both
def test_an_int8_file_predicts_the_classes_that_pytorch_predicts(
    format: Format, network: nn.Module, tmp_path: Path
) -> None:
    verification = Verification(images(200, seed=1))
    path = tmp_path / f"model.{format}"
    artifact = compile_model(network, SHAPE, path, verification=verification, int8=Int8(images(64)))
    assert artifact.precision == "int8" and artifact.calibration == "minmax"
    assert artifact.parity is not None and artifact.parity.label_agreement is not None
    assert artifact.parity.label_agreement > 0.9
    assert artifact.parity.label_agreement == artifact.parity.accuracy_artifact
    assert 1e-4 < artifact.parity.max_relative_error < 0.4


@both
def test_the_weights_are_stored_in_eight_bits(
    format: Format, network: nn.Module, tmp_path: Path
) -> None:
    wide = untrained((Block("conv", 3, 256, 3, 1, 1, 12), Block("conv", 256, 128, 3, 1, 1, 12)))
    fp32 = compile_model(wide, SHAPE, tmp_path / f"fp32.{format}")
    int8 = compile_model(wide, SHAPE, tmp_path / f"int8.{format}", int8=Int8(images(2)))
    assert 3.5 < fp32.size_bytes / int8.size_bytes < 4


def test_a_path_is_that_of_the_current_folder(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child that quantises is started once, wherever that was."""
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        compile_model(network, SHAPE, Path("model.tflite"), int8=Int8(images(8)))
        assert [path.name for path in folder.iterdir()] == ["model.tflite"]


def test_the_same_network_gives_the_same_bytes(network: nn.Module, tmp_path: Path) -> None:
    for format in FORMATS:
        files = [tmp_path / f"{number}.{format}" for number in range(2)]
        int8 = Int8(images(8))
        first, second = (compile_model(network, SHAPE, file, int8=int8) for file in files)
        assert first.sha256 == second.sha256


def test_onnx_activations_are_unsigned_and_weights_signed_per_channel(
    network: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    compile_model(network, SHAPE, path, int8=Int8(images(8)))
    model = onnx.load(str(path))
    arrays = {array.name: to_array(array) for array in model.graph.initializer}
    zeros = {
        arrays[node.input[2]].dtype for node in model.graph.node if node.op_type == "QuantizeLinear"
    }
    assert zeros == {np.dtype(np.uint8)}
    weights = [array for array in arrays.values() if array.ndim == 4]
    assert {array.dtype for array in weights} == {np.dtype(np.int8)}
    suffix = "weight:constant_scale"
    scales = [array.size for name, array in arrays.items() if name.endswith(suffix)]
    assert min(scales) > 1
    assert max(int(np.abs(array.astype(int)).max()) for array in weights) <= 64  # reduce_range


def test_a_tflite_file_has_int8_inputs_and_outputs(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    compile_model(network, SHAPE, path, int8=Int8(images(8)))
    model: Any = open_model(str(path), "litert")
    assert model._inputs[0]["dtype"] is np.int8 and model._outputs[0]["dtype"] is np.int8


@both
def test_layers_left_in_float_reduce_the_error_of_the_logits(
    format: Format, network: nn.Module, tmp_path: Path
) -> None:
    verification = Verification(images(64, seed=2))
    names = weighted_layers(trace(network, SHAPE))
    assert len(names) == 8

    def error(float_layers: tuple[str, ...]) -> float:
        path = tmp_path / f"{len(float_layers)}.{format}"
        compile_model(network, SHAPE, path, int8=Int8(images(64), float_layers=float_layers))
        expected = torch_outputs(network, verification.images)
        outputs = file_outputs(path, verification.images)
        assert compare_int8(path, network, verification).images == 64
        return float(np.square(outputs - expected).mean())

    assert error(names) < 0.8 * error(())


@both
@pytest.mark.parametrize(("calibration", "outlier"), [("percentile", 1000), ("entropy", 300)])
def test_percentile_and_entropy_ignore_an_outlier_and_minmax_does_not(
    calibration: str, outlier: float, format: Format, network: nn.Module, tmp_path: Path
) -> None:
    verification = Verification(images(64, seed=3))
    with_outlier = images(32)
    with_outlier[0, 0, 0, 0] = outlier
    parities = []
    for method in ("minmax", calibration):
        path = tmp_path / f"{method}.{format}"
        settings = msgspec.structs.replace(int8_quantization(format, method), percentile=99.8)
        compile_model(network, SHAPE, path, int8=Int8(with_outlier, settings))
        parities.append(compare_int8(path, network, verification))
    assert parities[1].max_relative_error < 0.5 * parities[0].max_relative_error


def test_ranges_cover_all_images(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    compile_model(network, SHAPE, path)
    calibration = images(16)
    ranges = value_ranges(path, Int8(calibration))
    assert ranges["images"] == (calibration.min(), calibration.max())
    logits = torch_outputs(network, calibration)
    assert ranges["logits"] == pytest.approx((logits.min(), logits.max()), rel=1e-4)
    assert not any("weight" in name for name in ranges)


@both
def test_without_usable_calibration_images_there_is_no_file(
    format: Format, network: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / f"model.{format}"
    bad = images(2)
    bad[1, 0, 3, 3] = np.nan
    for calibration, message in (
        (images(0), "needs calibration images"),
        (bad, "not finite"),
        (np.zeros((8, *SHAPE)), "all 8 calibration images are the same image of a single colour"),
    ):
        with pytest.raises(ExportError, match=message):
            compile_model(network, SHAPE, path, int8=Int8(calibration))
    assert list(tmp_path.iterdir()) == []


@both
def test_a_file_that_loses_too_much_accuracy_is_rejected(
    format: Format, network: nn.Module, tmp_path: Path
) -> None:
    given = images(64, seed=4)
    verification = Verification(given, torch_outputs(network, given).argmax(axis=1))
    path = tmp_path / f"model.{format}"
    settings = msgspec.structs.replace(
        int8_quantization(format, "percentile"),
        percentile=0.1,  # nearly all values are cut off
    )
    clipping = Int8(images(8), settings)
    message = (
        r"model\.(onnx|tflite): the int8 file has accuracy .* the largest loss allowed is .*; "
        "leaving the noisiest half of the layers in float32 is not enough"
    )
    with pytest.raises(ExportError, match=message):
        compile_model(network, SHAPE, path, verification=verification, int8=clipping)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_calibration_and_an_unknown_layer_are_named(
    network: nn.Module, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no calibration named 'max'.* minmax, percentile"):
        int8_quantization("tflite", "max")
    int8 = Int8(images(4), float_layers=("blocks.0",))
    with pytest.raises(UsageError, match=r"no layer named 'blocks.0', did you mean 'blocks"):
        compile_model(network, SHAPE, tmp_path / "model.onnx", int8=int8)


@both
def test_images_outside_the_calibrated_range_are_named(
    format: Format, network: nn.Module, tmp_path: Path
) -> None:
    path, verification = tmp_path / f"model.{format}", Verification(255 * images(16, seed=4))
    message = r"calibration images range from -\d.*verified on from -\d.*: \d\d% of their values"
    with pytest.raises(ExportError, match=message):
        compile_model(network, SHAPE, path, verification=verification, int8=Int8(images(8)))
    assert list(tmp_path.iterdir()) == []


class PaddedMaximum(nn.Module):
    """Takes maxima of values of both signs, where padding must be the lowest number."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 36, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = torch.nn.functional.max_pool2d(self.conv(images) - 1, 3, 2, 1)
        value = torch.nn.functional.pad(value, (1, 0, 0, 1), value=-torch.inf)
        return self.head(torch.nn.functional.max_pool2d(value, 2, 1).flatten(1))


@both
def test_infinite_padding_takes_no_levels(format: Format, tmp_path: Path) -> None:
    path, verification = tmp_path / f"model.{format}", Verification(images(64, seed=4))
    artifact = compile_model(
        PaddedMaximum().eval(), SHAPE, path, verification=verification, int8=Int8(images(64))
    )
    assert artifact.parity is not None and artifact.parity.sqnr_db is not None
    assert artifact.parity.sqnr_db > 25


@both
def test_a_value_that_never_changes_has_a_range(format: Format, tmp_path: Path) -> None:
    torch.manual_seed(0)
    dead = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(256, 3)
    )
    with torch.no_grad():
        dead[0].bias.fill_(-1e3)  # type: ignore[operator,union-attr]
        dead[2].weight[1], dead[2].bias[1] = 0.0, 0.0  # type: ignore[index]
    path = tmp_path / f"model.{format}"
    verification = Verification(images(16, seed=4))
    artifact = compile_model(
        dead.eval(), SHAPE, path, verification=verification, int8=Int8(images(16))
    )
    assert artifact.parity is not None and artifact.parity.label_agreement == 1


def test_only_int8_recipes_have_quantization_settings() -> None:
    for format in FORMATS:
        assert find_recipe(format, "int8").quantization is not None
        assert find_recipe(format).quantization is None
        assert find_recipe(format).max_relative_error is not None


class GroupsAndDivision(nn.Module):
    """What the quantisers cannot do: a grouped transposed convolution, a divisor near zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.up = nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 8, 2, 2, groups=4)
        self.head = nn.Linear(8 * 400, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = self.up(self.conv(images))
        value = value / (value.square().mean((2, 3), keepdim=True) + 1e-6).sqrt()
        return self.head(value.flatten(1))


@both
def test_operations_that_cannot_be_quantised_stay_in_float(format: Format, tmp_path: Path) -> None:
    path, verification = tmp_path / f"model.{format}", Verification(images(64, seed=4))
    artifact = compile_model(
        GroupsAndDivision().eval(), SHAPE, path, verification=verification, int8=Int8(images(64))
    )
    assert artifact.parity is not None and artifact.parity.sqnr_db is not None
    assert artifact.parity.sqnr_db > 20


def test_a_crash_of_the_quantiser_is_an_error(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashing = JsonWorker("os", "ai-edge-quantizer")  # ends at once, without an answer
    monkeypatch.setattr(hwnas.export.quantization.tflite, "QUANTISER", crashing)
    with pytest.raises(ExportError, match=r"model.tflite: ai-edge-quantizer ended with status 0$"):
        compile_model(network, SHAPE, tmp_path / "model.tflite", int8=Int8(images(4)))
    assert list(tmp_path.iterdir()) == []
