"""Int8 files by post-training quantisation: what they compute, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hwnas.architecture.artifact import Format
from hwnas.architecture.ops import Block
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import ExportError, UsageError
from hwnas.export.compile import compile_model
from hwnas.export.graph.trace import trace
from hwnas.export.quantization.ptq import layers, quantization_of
from hwnas.export.recipe import find_recipe
from hwnas.export.tflite.quantize import activation_ranges
from hwnas.export.verification.int8_agreement import compared
from hwnas.export.verification.verify import file_outputs, torch_outputs
from hwnas.nn.build import untrained

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
    """As after training: its norms have seen data, and no class is seen in most images."""
    torch.manual_seed(0)
    network = untrained(BLOCKS).train()
    with torch.no_grad():
        for _ in range(50):
            network(torch.randn(64, *SHAPE))
        logits = network.eval()(torch.from_numpy(images(256)))
        head = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
        head.weight /= logits.std(0)[:, None]
        head.bias.copy_(-logits.mean(0) / logits.std(0) + head.bias / logits.std(0))
    seen = labels_of(network, images(256))
    assert max(np.bincount(seen)) < 128
    return network


def labels_of(network: nn.Module, shown: Any) -> Any:
    return torch_outputs(network, shown).argmax(axis=1)


@both
def test_an_int8_file_sees_the_classes_that_pytorch_sees(
    format: Format, network: nn.Module, tmp_path: Path
) -> None:
    shown = images(200, seed=1)
    labels = labels_of(network, shown)
    path = tmp_path / f"model.{format}"
    artifact = compile_model(
        network, SHAPE, format, path, shown, labels, precision="int8", calibration=images(64)
    )
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
    sizes = [
        compile_model(wide, SHAPE, format, tmp_path / f"{precision}.{format}", **more).size_bytes
        for precision, more in (
            ("fp32", {}),
            ("int8", {"precision": "int8", "calibration": images(2)}),
        )
    ]  # fmt: skip
    assert 3.5 < sizes[0] / sizes[1] < 4


def test_a_file_made_twice_is_the_same(network: nn.Module, tmp_path: Path) -> None:
    for format in FORMATS:
        made = [
            compile_model(
                network, SHAPE, format, tmp_path / f"{n}.{format}",
                precision="int8", calibration=images(8),
            ).sha256
            for n in range(2)
        ]  # fmt: skip
        assert made[0] == made[1]


def test_onnx_activations_are_unsigned_and_weights_signed_per_channel(
    network: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    compile_model(network, SHAPE, "onnx", path, precision="int8", calibration=images(8))
    model = onnx.load(str(path))
    made = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    zeros = {
        made[node.input[2]].dtype for node in model.graph.node if node.op_type == "QuantizeLinear"
    }
    assert zeros == {np.dtype(np.uint8)}
    weights = [array for array in made.values() if array.ndim == 4]
    assert {array.dtype for array in weights} == {np.dtype(np.int8)}
    scales = [array.size for name, array in made.items() if name.endswith("weight:constant_scale")]
    assert sorted(scales)[0] > 1
    assert max(int(np.abs(array.astype(int)).max()) for array in weights) <= 64  # reduce_range


def test_a_tflite_file_takes_and_gives_int8(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    compile_model(network, SHAPE, "tflite", path, precision="int8", calibration=images(8))
    model: Any = open_model(str(path), "litert")
    assert model._input["dtype"] is np.int8 and model._output["dtype"] is np.int8


@both
def test_layers_left_in_float_bring_the_logits_nearer(
    format: Format, network: nn.Module, tmp_path: Path
) -> None:
    shown = images(64, seed=2)
    labels = labels_of(network, shown)
    names = layers(trace(network, SHAPE))
    assert len(names) == 8

    def error(kept: tuple[str, ...]) -> float:
        path = tmp_path / f"{len(kept)}.{format}"
        compile_model(
            network, SHAPE, format, path,
            precision="int8", calibration=images(64), float_layers=kept,
        )  # fmt: skip
        expected, got = torch_outputs(network, shown), file_outputs(path, format, shown)
        assert compared(path, format, network, shown, labels).images == 64
        return float(np.square(got - expected).mean())

    assert error(names) < 0.8 * error(())


@both
def test_percentile_cuts_a_rare_large_value_and_minmax_does_not(
    format: Format, network: nn.Module, tmp_path: Path
) -> None:
    shown = images(64, seed=3)
    spoiled = images(32)
    spoiled[0, 0, 0, 0] = 1000.0
    labels = labels_of(network, shown)
    parities = []
    for calibration in ("minmax", "percentile"):
        path = tmp_path / f"{calibration}.{format}"
        how = msgspec.structs.replace(quantization_of(format, calibration), percentile=99.8)
        compile_model(
            network, SHAPE, format, path,
            precision="int8", calibration=spoiled, quantization=how,
        )  # fmt: skip
        parities.append(compared(path, format, network, shown, labels))
    assert parities[1].max_relative_error < 0.5 * parities[0].max_relative_error


def test_ranges_are_those_of_all_images(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    compile_model(network, SHAPE, "tflite", path)
    shown = images(16)
    ranges = activation_ranges(path, shown, quantization_of("tflite"))
    assert ranges["images"] == (shown.min(), shown.max())
    logits = torch_outputs(network, shown)
    assert ranges["logits"] == pytest.approx((logits.min(), logits.max()), rel=1e-4)
    assert not any("weight" in name for name in ranges)


@both
def test_without_usable_calibration_images_there_is_no_file(
    format: Format, network: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / f"model.{format}"
    bad = images(2)
    bad[1, 0, 3, 3] = np.nan
    for given, said in ((images(0), "needs calibration images"), (bad, "not finite")):
        with pytest.raises(ExportError, match=said):
            compile_model(network, SHAPE, format, path, precision="int8", calibration=given)
    assert list(tmp_path.iterdir()) == []


@both
def test_a_file_that_loses_too_much_is_not_kept(
    format: Format, network: nn.Module, tmp_path: Path
) -> None:
    shown = images(64, seed=4)
    labels = labels_of(network, shown)
    path = tmp_path / f"model.{format}"
    with pytest.raises(ExportError, match=r"model\.(onnx|tflite): in int8 .* allowed is a loss"):
        compile_model(
            network, SHAPE, format, path, shown, labels,
            precision="int8", calibration=images(8) * 1e-3,  # every value is clipped
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_entropy_is_offered_for_onnx_only(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'entropy' is not offered for tflite; known: minmax, p"):
        quantization_of("tflite", "entropy")
    artifact = compile_model(
        network, SHAPE, "onnx", tmp_path / "model.onnx", images(64, 5),
        labels_of(network, images(64, 5)), precision="int8", calibration=images(32),
        quantization=quantization_of("onnx", "entropy"),
    )  # fmt: skip
    assert artifact.calibration == "entropy"


def test_every_recipe_of_int8_says_how_and_none_of_fp32_does() -> None:
    for format in FORMATS:
        assert find_recipe(format, "int8").quantization is not None
        assert find_recipe(format).quantization is None
        assert find_recipe(format).max_relative_error is not None
