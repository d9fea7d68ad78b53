"""Networks of several inputs and outputs are compiled, named and compared output by output."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import hwnas.export.compile
from hwnas.api import export
from hwnas.architecture.artifact import Format
from hwnas.errors import ExportError, UsageError
from hwnas.export.compile import compile_model
from hwnas.export.graph.interface import module_interface
from hwnas.export.recipe import onnx_recipe
from hwnas.export.verification.checks import check_output
from hwnas.export.verification.images import Verification
from hwnas.export.verification.metrics import hidden_error
from hwnas.export.verification.run_model import outputs_at_once, run_file
from hwnas.export.verification.verify import verify
from tests.export.test_parity import both
from tests.export.verification.test_verify import write_changed

SHAPES = {"x": (3, 8, 6), "state": (5,), "ids": "4:int64"}


class Heads(nn.Module):
    """Maps, a recurrent state, an embedding, a constant, an input and integers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
        self.cell, self.words = nn.GRUCell(4, 5), nn.Embedding(9, 3)
        self.register_buffer("anchors", torch.rand(7, 4))

    def forward(self, x: Tensor, state: Tensor, ids: Tensor) -> dict[str, Any]:
        features = self.conv(x).relu()
        state = self.cell(features.mean((2, 3)), state)
        return {
            "maps": [self.head(features), features],
            "state": state,
            "words": self.words(ids),
            "anchors": self.anchors,
            "same": x,
            "next": ids + 1,
            "mask": features > 0.3,
        }


NAMES = ["maps.0", "maps.1", "state_out", "words", "anchors", "same", "next", "mask"]


@both
def test_each_output_is_named_and_compared(format: Format, tmp_path: Path) -> None:
    artifact = export(Heads(), SHAPES, tmp_path / f"net.{format}")
    assert artifact.parity is not None and artifact.parity.accuracy_artifact is None
    assert [output.name for output in artifact.parity.outputs] == NAMES
    assert artifact.parity.max_relative_error < 1e-5
    values = np.zeros((2, 3, 8, 6), np.float32), np.ones((2, 5), np.float32), np.ones((2, 4))
    outputs = run_file(Path(artifact.path), values)
    assert outputs["maps.1"].shape == (2, 1, 4, 8, 6) and outputs["next"].dtype == np.int64
    np.testing.assert_array_equal(outputs["next"], 2)
    assert outputs["mask"].dtype == bool


def test_a_dynamic_batch_is_that_of_every_input_and_output(tmp_path: Path) -> None:
    path, module = tmp_path / "net.onnx", Heads()
    interface = module_interface(module, SHAPES)
    recipe = onnx_recipe("fp32", None, dynamic_batch=True)
    hwnas.export.compile.export_module(module, interface, path, recipe=recipe)
    graph = onnx.load(path).graph
    batches = {each.name: each.type.tensor_type.shape.dim[0] for each in graph.output}
    assert batches.pop("anchors").dim_value == 7
    assert {batch.dim_param for batch in batches.values()} == {"batch"}
    rng = np.random.default_rng(0)
    values = [rng.random((3, *each.item_shape)).astype(each.dtype) for each in interface.inputs]
    with torch.no_grad():
        expected = interface.call(module.eval(), [torch.from_numpy(value) for value in values])
    got = outputs_at_once(path, values)
    np.testing.assert_allclose(got["state_out"], expected["state_out"], atol=1e-6)


class Pair(NamedTuple):
    boxes: Tensor
    scores: Tensor


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (lambda x: (x + 1, x * 2), ["output_0", "output_1"]),
        (lambda x: Pair(x + 1, x * 2), ["boxes", "scores"]),
        (lambda x: [x + 1, {"deep": (x * 2, None)}], ["output_0", "output_1.deep.0"]),
        (lambda x: {"images": x + 1}, ["images_out"]),
        (lambda x: (x + 1).sum(), ["logits"]),
    ],
)
def test_outputs_are_named_by_their_place(form: Any, names: list[str], tmp_path: Path) -> None:
    class Returns(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return form(x)

    artifact = export(Returns(), (2, 3, 4), tmp_path / "net.onnx")
    assert artifact.parity is not None
    assert [output.name for output in artifact.parity.outputs] == names


def test_output_names_can_be_given(tmp_path: Path) -> None:
    class Cell(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.tanh(), x * 2

    cell = Cell()
    artifact = export(cell, [(3,)], tmp_path / "net.tflite", output_names=("h", "c"))
    assert artifact.parity is not None
    assert [output.name for output in artifact.parity.outputs] == ["h", "c"]
    message = r"1 output names \(h\), but the network has 2 outputs \(output_0, output_1\)"
    with pytest.raises(UsageError, match=message):
        export(cell, [(3,)], tmp_path / "other.tflite", output_names=("h",))


def test_an_optional_argument_is_passed_by_name(tmp_path: Path) -> None:
    class Optional(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None, *, bias: Tensor) -> Tensor:
            return x + bias if mask is None else x * mask + bias

    artifact = export(Optional(), {"bias": (4,), "x": (4,)}, tmp_path / "net.onnx")
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-6
    assert [each.name for each in onnx.load(artifact.path).graph.input] == ["x", "bias"]


def test_unknown_and_missing_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no input 'stat', did you mean 'state'"):
        export(Heads(), {**SHAPES, "stat": (5,)}, tmp_path / "net.onnx")
    with pytest.raises(ExportError, match="a shape is missing for ids"):
        export(Heads(), [(3, 8, 6), (5,)], tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="4 shapes are given"):
        export(Heads(), [(3, 8, 6), (5,), "4:int64", (1,)], tmp_path / "net.onnx")


@both
def test_a_difference_in_one_output_is_found_behind_large_values_of_another(
    format: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x * 1e9, self.conv(x)

    monkeypatch.setattr(hwnas.export.compile, "write_graph", write_changed(np.negative))
    with pytest.raises(ExportError, match=r"in the output output_1; the limit is 0\.0001"):
        export(Large(), (3, 4, 4), tmp_path / f"net.{format}")
    assert not list(tmp_path.iterdir())


@both
def test_outputs_of_zeros_do_not_hide_a_wrong_layer(
    format: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.append(nn.Linear(4, 3))
    nn.init.zeros_(module[-1].weight)  # type: ignore[arg-type]
    assert export(module, (3, 4, 4), tmp_path / f"net.{format}").parity is not None
    monkeypatch.setattr(hwnas.export.compile, "write_graph", write_changed(np.negative))
    with pytest.raises(ExportError, match=r"the value .* differs from PyTorch"):
        export(module, (3, 4, 4), tmp_path / f"wrong.{format}")


@both
def test_values_that_vanish_do_not_hide_a_wrong_layer(
    format: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of a signal after such layers is mostly rounding, or denormal."""
    module = nn.Sequential(*(nn.Conv2d(4, 4, 1, bias=False) for _ in range(3)), nn.Flatten())
    module.append(nn.Linear(64, 3))
    for layer, scale in zip(module, (1.0, 1e-20, 1e-21), strict=False):
        layer.weight.data *= scale  # type: ignore[union-attr, operator]
    assert export(module, (4, 4, 4), tmp_path / f"net.{format}").parity is not None
    monkeypatch.setattr(hwnas.export.compile, "write_graph", write_changed(np.negative))
    with pytest.raises(ExportError, match=r"differs from PyTorch"):
        export(module, (4, 4, 4), tmp_path / f"wrong.{format}")


def test_small_channels_and_images_are_compared_on_their_own() -> None:
    expected = np.array([[[1e6, 1.0]], [[2e6, 2.0]], [[1.0, 1e-5]]])
    wrong = expected * np.array([1.0, 1.5])
    assert hidden_error(expected, expected) == 0.0
    assert hidden_error(wrong, expected) == pytest.approx(0.5, rel=0.01)
    with pytest.raises(ExportError, match="of an image or channel whose values are small"):
        check_output(wrong, expected, 1e-4, "net.onnx: onnxruntime")


def test_a_network_that_gives_nan_is_refused(tmp_path: Path) -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)).sqrt()

    with pytest.raises(ExportError, match="PyTorch gives a value that is not finite for image"):
        export(Root(), (3, 4, 4), tmp_path / "net.onnx")


@both
def test_inputs_are_left_as_they_are(format: Format, tmp_path: Path) -> None:
    class Overwrites(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return x.mul_(2).mean((2, 3)), y.add_(1)

    arrays = np.ones((2, 3, 4, 4), np.float32), np.ones((2, 5), np.float32)
    verification = Verification(arrays[0], None, arrays[1:])
    path = tmp_path / f"net.{format}"
    compile_model(Overwrites(), [(3, 4, 4), (5,)], path, verification=verification)
    verify(path, Overwrites(), verification)
    assert all((array == 1).all() for array in arrays)
