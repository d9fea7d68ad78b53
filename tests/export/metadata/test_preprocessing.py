"""Files that normalise pixels themselves, and the description of inputs in file and manifest."""

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
from hwnas.architecture.block import Block
from hwnas.export.compile import compile_model
from hwnas.export.graph.trace import trace
from hwnas.export.metadata.input import NAME, InputMetadata, Preprocessing
from hwnas.export.metadata.manifest import export_manifest
from hwnas.export.metadata.preprocessing import fold_input_affine, with_normalisation
from hwnas.export.quantization.ptq import Int8
from hwnas.export.verification.metrics import relative_error
from hwnas.export.verification.run_model import file_outputs
from hwnas.export.verification.verify import torch_outputs
from hwnas.nn.build import untrained

FORMATS: tuple[Format, ...] = get_args(Format)
both = pytest.mark.parametrize("format", FORMATS)
SHAPE = (3, 12, 12)
PIXELS = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), tuple("abcde"), embedded=True)
BLOCKS = (Block("conv", 3, 8, 3, 2, 1, 12), Block("logits", 8, 5, 1, 1, 1, 6))


def pixels(count: int = 8) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE)).astype(np.float32)


def normalised(images: Any) -> Any:
    mean, std = (np.array(row, np.float32)[:, None, None] for row in (PIXELS.mean, PIXELS.std))
    return (images / 255 - mean) / std


def padded() -> nn.Module:
    torch.manual_seed(0)
    return untrained(BLOCKS).eval()


def unpadded() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    ).eval()


@both
@pytest.mark.parametrize("make", [padded, unpadded])
def test_a_file_of_pixels_equals_the_network_on_normalised_images(
    format: Format, make: Any, tmp_path: Path
) -> None:
    path = tmp_path / f"model.{format}"
    compile_model(make(), SHAPE, path, preprocessing=PIXELS)
    expected = torch_outputs(make(), normalised(pixels()))
    assert relative_error(file_outputs(path, pixels()), expected) < 5e-6


def test_the_normalisation_is_folded_only_without_padding() -> None:
    for make, removed in ((unpadded, 1), (padded, 0)):
        graph = trace(with_normalisation(make(), PIXELS), SHAPE)
        assert len(graph.nodes) - len(fold_input_affine(graph).nodes) == removed


def test_a_naive_fold_would_be_wrong_at_the_borders() -> None:
    """Zero padding is the mean colour before folding, and black after it."""
    conv = nn.Conv2d(3, 4, 3, padding=1)
    scale = torch.tensor([1 / (255 * std) for std in PIXELS.std])
    shift = torch.tensor([-m / s for m, s in zip(PIXELS.mean, PIXELS.std, strict=True)])
    naive = nn.Conv2d(3, 4, 3, padding=1)
    with torch.no_grad():
        naive.weight.copy_(conv.weight * scale[:, None, None])
        assert conv.bias is not None and naive.bias is not None
        naive.bias.copy_(conv.bias + torch.einsum("oihw,i->o", conv.weight, shift))
    right, wrong = torch_outputs(conv, normalised(pixels())), torch_outputs(naive, pixels())
    np.testing.assert_allclose(wrong[..., 1:-1, 1:-1], right[..., 1:-1, 1:-1], atol=1e-5)
    assert np.abs(wrong - right).max() > 0.1


@both
def test_int8_still_distinguishes_pixels(format: Format, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    path = tmp_path / f"model.{format}"
    compile_model(padded(), SHAPE, path, int8=Int8(pixels()), preprocessing=PIXELS)
    expected = torch_outputs(padded(), normalised(pixels()))
    assert relative_error(file_outputs(path, pixels()), expected) < 0.1


def embedded_metadata(path: Path) -> InputMetadata:
    if path.suffix == ".onnx":
        entries = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
        return msgspec.json.decode(entries[NAME], type=InputMetadata)
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(path.read_bytes(), 0)
    entries = {model.Metadata(n).Name(): model.Metadata(n) for n in range(model.MetadataLength())}
    buffer = model.Buffers(entries[NAME.encode()].Buffer())
    return msgspec.json.decode(bytes(buffer.DataAsNumpy()), type=InputMetadata)


@both
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_file_describes_its_input_and_names_its_classes(
    format: Format, precision: Any, tmp_path: Path
) -> None:
    pytest.importorskip("ai_edge_quantizer")
    path = tmp_path / f"model.{format}"
    int8 = Int8(pixels()) if precision == "int8" else None
    compile_model(padded(), SHAPE, path, int8=int8, preprocessing=PIXELS)
    metadata = embedded_metadata(path)
    assert (metadata.takes, metadata.labels) == ("pixels", PIXELS.labels)
    assert (metadata.mean, metadata.std) == (PIXELS.mean, PIXELS.std)
    assert metadata.layout == ("NHWC" if format == "tflite" else "NCHW")


def test_the_manifest_gives_ranges_and_the_scale_of_int8(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    normalising = msgspec.structs.replace(PIXELS, embedded=False)
    path = tmp_path / "model.tflite"
    int8 = Int8(normalised(pixels()))
    artifact = compile_model(padded(), SHAPE, path, int8=int8, preprocessing=normalising)
    [file] = export_manifest((artifact,), normalising, SHAPE)["files"]
    assert file["path"] == "model.tflite" and file["input"]["dtype"] == "int8"
    assert file["input"]["shape"] == (1, 12, 12, 3) and file["output"]["shape"] == [1, 5]
    np.testing.assert_allclose(file["input"]["range"][1], (-0.4 / 0.25, 0.6 / 0.25))
    low, high = (
        file["input"]["scale"] * (value - file["input"]["zero_point"]) for value in (-128, 127)
    )
    images = normalised(pixels())
    assert low == pytest.approx(images.min(), abs=0.05)
    assert high == pytest.approx(images.max(), abs=0.05)
