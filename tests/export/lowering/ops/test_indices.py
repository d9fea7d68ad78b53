"""Indices that are computed: argmax, top-k, sorting; and sampling at computed points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from hwnas.export.compile import export_module
from hwnas.export.graph.interface import module_interface
from hwnas.export.recipe import onnx_recipe
from hwnas.export.verification.images import Verification
from hwnas.export.verification.run_model import file_outputs, run_file
from hwnas.export.verification.ties import settle_ties
from hwnas.networks.onnx_file import load_onnx
from tests.export.test_parity import Function, both
from tests.support.networks.onnx_files import difference, noise, one_node, save

Outputs = dict[str, Any]
MAP = (5, 6, 7)


def compiled(
    function: Callable[..., Any], path: Path, images: Any = None, shape: tuple[int, ...] = MAP
) -> Outputs:
    """Compile a function to ``path``; return its outputs on noise, by name."""
    images = noise((4, *shape)) if images is None else images
    export_module(Function(function).eval(), shape, path, verification=Verification(images))
    return run_file(path, [images])


def largest(x: Tensor) -> dict[str, Tensor]:
    values, places = x.max(1)
    return {
        "classes": x.argmax(1),
        "all": x.argmin().reshape(1, 1),
        "rows": x.argmax(2, keepdim=True),
        "values": values,
        "places": places,
        "columns": x.min(-1)[1],
    }


def ordered(x: Tensor) -> dict[str, Tensor]:
    flat = x.flatten(1)
    scores, places = flat.topk(9)
    return {
        "scores": scores,
        "places": places,
        "smallest": x.topk(2, dim=1, largest=False)[0],
        "smallest places": x.topk(2, dim=1, largest=False)[1],
        "sorted": torch.sort(x, dim=2)[0],
        "order": x.argsort(dim=3, descending=True),
    }


@both
@pytest.mark.parametrize("function", [largest, ordered])
def test_indices_are_those_of_pytorch(
    function: Callable[[Tensor], dict[str, Tensor]], format: Format, tmp_path: Path
) -> None:
    images = noise((4, *MAP))
    outputs = compiled(function, tmp_path / f"net.{format}", images)
    for place in range(len(images)):
        expected = function(torch.from_numpy(images[place : place + 1]))
        for name, values in expected.items():
            assert outputs[name].dtype == values.numpy().dtype
            np.testing.assert_array_equal(outputs[name][place], values.numpy(), name)


@both
def test_indices_are_numbers_for_what_follows(format: Format, tmp_path: Path) -> None:
    outputs = compiled(
        lambda x: (x.argmax(1) * 2 + 1, x.argmax(1).float() / 3), tmp_path / f"n.{format}"
    )
    doubled, third = outputs.values()
    np.testing.assert_allclose((doubled - 1) / 6, third, atol=1e-6)


@both
def test_a_classifier_may_give_the_class_alone(format: Format, tmp_path: Path) -> None:
    """One index for each image, without a further axis; also from an ONNX file."""
    images = noise((4, *MAP))
    function = Function(lambda x: x.mean((2, 3)).argmax(1)).eval()
    export_module(function, MAP, tmp_path / "n.onnx", verification=Verification(images))
    network, interface = load_onnx(tmp_path / "n.onnx", None)
    for place, module in enumerate((function, network)):
        path = tmp_path / f"{place}.{format}"
        export_module(module, interface, path, verification=Verification(images))
        [classes] = run_file(path, [images]).values()
        assert classes.dtype == np.int64 and classes.shape == (4, 1)
        np.testing.assert_array_equal(classes[:, 0], images.mean((2, 3)).argmax(1))


@both
def test_floats_become_integers_by_rounding_towards_zero(format: Format, tmp_path: Path) -> None:
    images = 3 * noise((4, *MAP))
    whole, rest = compiled(
        lambda x: (x.long(), x - x.int()), tmp_path / f"n.{format}", images
    ).values()
    assert whole.dtype == np.int64 and whole.min() < 0 < whole.max()
    np.testing.assert_array_equal(whole[:, 0], np.trunc(images))
    np.testing.assert_allclose(rest[:, 0], images - np.trunc(images), atol=1e-6)


def half_shuffled(x: Tensor) -> Tensor:
    """A network in which two channels are equal up to rounding."""
    mean = x.mean(1, keepdim=True)
    return torch.cat([mean * 3, (mean + mean) + mean, mean - 9], 1).argmax(1)


@both
def test_values_that_are_equal_up_to_rounding_may_have_either_index(
    format: Format, tmp_path: Path
) -> None:
    outputs = compiled(half_shuffled, tmp_path / f"net.{format}")
    assert {0, 1} >= set(np.unique(next(iter(outputs.values()))).tolist())


def test_another_index_is_right_only_if_its_value_is_as_large() -> None:
    images = np.zeros((2, 3, 2, 2), np.float32)
    images[:, 1] = 1
    images[0, 2, 0, 0] = 1 + 1e-6
    network = Function(lambda x: x.argmax(1)).eval()
    interface = module_interface(network, (3, 2, 2))
    expected = {"logits": torch.from_numpy(images).argmax(1).numpy()[:, None]}
    given = {"logits": np.ones_like(expected["logits"])}
    settled = settle_ties(network, interface, [images], given, expected, 1e-4)
    assert (settled["logits"] == expected["logits"]).all()
    given["logits"][1, 0, 0, 0] = 2
    settled = settle_ties(network, interface, [images], given, expected, 1e-4)
    assert settled["logits"][1, 0, 0, 0] == 2
    given["logits"][1, 0, 0, 0] = 7
    assert settle_ties(network, interface, [images], given, expected, 1e-4)["logits"].max() == 7


class Warp(nn.Module):
    """A map sampled at points that the image decides on."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.offsets, self.settings = nn.Conv2d(3, 2, 3, padding=1), settings

    def forward(self, x: Tensor) -> Tensor:
        points = 1.3 * self.offsets(x).tanh().permute(0, 2, 3, 1)
        return F.grid_sample(x, points, **self.settings)


@pytest.mark.parametrize("opset", [16, 20])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_points_are_sampled_in_onnx(mode: str, opset: int, tmp_path: Path) -> None:
    padding = {"bilinear": "zeros", "nearest": "border", "bicubic": "reflection"}[mode]
    module = Warp(mode=mode, padding_mode=padding, align_corners=mode != "nearest").eval()
    recipe = onnx_recipe("fp32", opset, False)
    artifact = export_module(module, (3, 8, 9), tmp_path / "net.onnx", recipe=recipe)
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-4
    network, interface = load_onnx(tmp_path / "net.onnx")
    export_module(network, interface, tmp_path / "again.onnx")


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_points_are_sampled_in_tflite(
    mode: str, padding: str, align_corners: bool, tmp_path: Path
) -> None:
    """Points reach three times as far as the map, so that they are reflected twice."""
    module = nn.Sequential(
        nn.Conv2d(2, 2, 1, bias=False),
        Function(
            lambda x: F.grid_sample(
                torch.cat((x, x * 2), 1),
                torch.clamp(x[:, :, :5].permute(0, 2, 3, 1) * 2, -3, 3),
                mode,
                padding,
                align_corners,
            )
        ),
    )
    nn.init.dirac_(module[0].weight)  # type: ignore[arg-type]
    images = np.random.default_rng(0).normal(size=(3, 2, 7, 6)).astype(np.float32)
    artifact = export_module(module, (2, 7, 6), tmp_path / "net.tflite")
    expected = module(torch.from_numpy(images)).detach().numpy()
    assert (expected != 0).any()
    outputs = file_outputs(Path(artifact.path), images)
    assert np.abs(outputs - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_indices_of_extremes_are_read(op: str, last: int, tmp_path: Path) -> None:
    shape = (1, 4, 5, 6)
    nodes = [
        helper.make_node("Round", ["x"], ["r"]),  # many equal values
        helper.make_node(op, ["r"], ["i"], axis=2, keepdims=0, select_last_index=last),
        helper.make_node("Cast", ["i"], ["y"], to=1),
    ]
    assert difference(save(tmp_path / "net.onnx", nodes, shape), shape) == 0


def test_the_largest_elements_are_read(tmp_path: Path) -> None:
    path = one_node(
        tmp_path / "net.onnx",
        "TopK",
        (1, 4, 9),
        np.array([3]),
        axis=1,
        largest=0,
        outputs=["y", "places"],
    )
    assert difference(path, (1, 4, 9)) == 0
