"""Files that take pixels: exact at the borders too; what stands in a file and in the manifest."""

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
from hwnas.export.compile import compile_model
from hwnas.export.graph.trace import trace
from hwnas.export.metadata.manifest import manifest
from hwnas.export.metadata.preprocessing import (
    NAME,
    InputNote,
    Preprocessing,
    folded,
    taking_pixels,
)
from hwnas.export.verification.metrics import relative_error
from hwnas.export.verification.verify import file_outputs, torch_outputs
from hwnas.nn.build import untrained

FORMATS: tuple[Format, ...] = get_args(Format)
both = pytest.mark.parametrize("format", FORMATS)
SHAPE = (3, 12, 12)
SAID = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), ("a", "b", "c", "d", "e"), inside=True)
BLOCKS = (Block("conv", 3, 8, 3, 2, 1, 12), Block("logits", 8, 5, 1, 1, 1, 6))


def pixels(count: int = 8) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE)).astype(np.float32)


def normalised(images: Any) -> Any:
    mean, std = (np.array(one, np.float32)[:, None, None] for one in (SAID.mean, SAID.std))
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
def test_a_file_of_pixels_gives_what_the_network_gives_for_normalised_images(
    format: Format, make: Any, tmp_path: Path
) -> None:
    path = tmp_path / f"model.{format}"
    compile_model(make(), SHAPE, format, path, preprocessing=SAID)
    expected = torch_outputs(make(), normalised(pixels()))
    assert relative_error(file_outputs(path, format, pixels()), expected) < 5e-6


def test_it_is_folded_into_a_convolution_without_padding_only() -> None:
    for make, saved in ((unpadded, 1), (padded, 0)):
        graph = trace(taking_pixels(make(), SAID), SHAPE)
        assert len(graph.nodes) - len(folded(graph).nodes) == saved


def test_a_naive_fold_would_be_wrong_at_the_borders() -> None:
    """Why: zeros of padding are the mean colour before, and black after folding."""
    conv = nn.Conv2d(3, 4, 3, padding=1)
    scale = torch.tensor([1 / (255 * std) for std in SAID.std])
    shift = torch.tensor([-m / s for m, s in zip(SAID.mean, SAID.std, strict=True)])
    naive = nn.Conv2d(3, 4, 3, padding=1)
    with torch.no_grad():
        naive.weight.copy_(conv.weight * scale[:, None, None])
        assert conv.bias is not None and naive.bias is not None
        naive.bias.copy_(conv.bias + torch.einsum("oihw,i->o", conv.weight, shift))
    right, wrong = torch_outputs(conv, normalised(pixels())), torch_outputs(naive, pixels())
    np.testing.assert_allclose(wrong[..., 1:-1, 1:-1], right[..., 1:-1, 1:-1], atol=1e-5)
    assert np.abs(wrong - right).max() > 0.1


@both
def test_int8_keeps_pixels_apart(format: Format, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    path = tmp_path / f"model.{format}"
    compile_model(
        padded(), SHAPE, format, path, precision="int8", calibration=pixels(), preprocessing=SAID
    )
    expected = torch_outputs(padded(), normalised(pixels()))
    assert relative_error(file_outputs(path, format, pixels()), expected) < 0.1


def note_in(path: Path) -> InputNote:
    if path.suffix == ".onnx":
        found = {one.key: one.value for one in onnx.load(str(path)).metadata_props}[NAME]
        return msgspec.json.decode(found, type=InputNote)
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(path.read_bytes(), 0)
    entries = {model.Metadata(n).Name(): model.Metadata(n) for n in range(model.MetadataLength())}
    buffer = model.Buffers(entries[NAME.encode()].Buffer())
    return msgspec.json.decode(bytes(buffer.DataAsNumpy()), type=InputNote)


@both
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_file_says_what_it_takes_and_what_its_classes_are_called(
    format: Format, precision: Any, tmp_path: Path
) -> None:
    pytest.importorskip("ai_edge_quantizer")
    path = tmp_path / f"model.{format}"
    calibration = pixels() if precision == "int8" else None
    compile_model(
        padded(), SHAPE, format, path,
        precision=precision, calibration=calibration, preprocessing=SAID,
    )  # fmt: skip
    note = note_in(path)
    assert (note.takes, note.mean, note.std, note.labels) == (
        "pixels", SAID.mean, SAID.std, SAID.labels
    )  # fmt: skip
    assert note.layout == ("NHWC" if format == "tflite" else "NCHW")


def test_the_manifest_gives_ranges_and_the_scale_of_int8(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    outside = msgspec.structs.replace(SAID, inside=False)
    path = tmp_path / "model.tflite"
    artifact = compile_model(
        padded(), SHAPE, "tflite", path,
        precision="int8", calibration=normalised(pixels()), preprocessing=outside,
    )  # fmt: skip
    [file] = manifest((artifact,), outside, SHAPE)["files"]
    assert file["path"] == "model.tflite" and file["input"]["dtype"] == "int8"
    assert file["input"]["shape"] == [1, 12, 12, 3] and file["output"]["shape"] == [1, 5]
    np.testing.assert_allclose(file["input"]["range"][1], (-0.4 / 0.25, 0.6 / 0.25))
    least, most = (
        file["input"]["scale"] * (value - file["input"]["zero_point"]) for value in (-128, 127)
    )
    shown = normalised(pixels())
    assert least == pytest.approx(shown.min(), abs=0.05)
    assert most == pytest.approx(shown.max(), abs=0.05)
