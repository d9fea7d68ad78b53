"""Files for images of any height and width: what they give at other sizes, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.artifact import Artifact
from hwnas.errors import ExportError, UsageError
from hwnas.export.compile import export_module
from hwnas.export.quantization.ptq import Int8
from hwnas.export.recipe import onnx_recipe
from hwnas.export.verification.verify import torch_outputs
from hwnas.networks.onnx_file import load_onnx
from tests.export.test_parity import Function
from tests.support.networks.onnx_files import in_onnxruntime, noise

SHAPE = (3, 24, 20)


def exported(module: nn.Module, path: Path, **settings: Any) -> Artifact:
    torch.manual_seed(0)
    recipe = onnx_recipe("fp32", settings.pop("opset", None), settings.pop("batch", False), True)
    return export_module(module.eval(), SHAPE, path, recipe=recipe, **settings)


class Pyramid(nn.Module):
    """Features at two sizes, the smaller resized to the larger by what that is."""

    def __init__(self, resize: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.head, self.resize = nn.Conv2d(8, 4, 1), resize

    def forward(self, x: Tensor) -> Tensor:
        large = torch.relu(self.first(x))
        small = self.resize(torch.relu(self.second(large)), large)
        return F.interpolate(self.head(large + small), x.shape[2:], mode="bilinear")


def to_size(small: Tensor, large: Tensor) -> Tensor:
    return F.interpolate(small, large.shape[2:], mode="bilinear", align_corners=True)


def by_two(small: Tensor, large: Tensor) -> Tensor:
    return F.interpolate(small, scale_factor=2, mode="nearest")


@pytest.mark.parametrize("opset", [15, 17, 18])
@pytest.mark.parametrize(("resize", "multiple"), [(to_size, 1), (by_two, 4)])
def test_a_map_has_the_size_of_its_image(
    resize: Callable[[Tensor, Tensor], Tensor], multiple: int, opset: int, tmp_path: Path
) -> None:
    network, path = Pyramid(resize), tmp_path / "net.onnx"
    artifact = exported(network, path, opset=opset)
    assert len(artifact.sizes) == 2
    for height, width in ((7, 9), (13, 31), (24, 20)):
        images = noise((1, 3, multiple * height, multiple * width))
        [outputs] = in_onnxruntime(path, images)
        expected = torch_outputs(network.eval(), images)
        np.testing.assert_allclose(outputs, expected, atol=1e-5)


class Turned(nn.Module):
    """Resizes a map whose height and width are exchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        turned = torch.relu(self.conv(x)).permute(0, 1, 3, 2)
        resized = F.interpolate(turned, scale_factor=2, mode="bilinear")
        return torch.tanh(resized).permute(0, 1, 3, 2)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("channels", [1, 4])
def test_a_turned_map_is_resized_at_any_size(channels: int, batch: bool, tmp_path: Path) -> None:
    network, path = Turned(channels), tmp_path / "net.onnx"
    exported(network, path, batch=batch)
    for height, width in ((7, 9), (13, 31), (24, 20)):
        images = noise((1 + batch, 3, height, width))
        [outputs] = in_onnxruntime(path, images)
        expected = network(torch.from_numpy(images)).detach().numpy()
        np.testing.assert_allclose(outputs, expected, atol=1e-5)


def tokens(x: Tensor) -> Tensor:
    """Attention between the pixels of a smaller map, as a matrix of them."""
    small = F.avg_pool2d(x, 4)
    flat = small.flatten(2).transpose(1, 2)
    mixed = torch.softmax(flat @ flat.transpose(1, 2), -1) @ flat
    return mixed.transpose(1, 2).reshape(small.shape)


@pytest.mark.parametrize(
    "function",
    [
        tokens,
        lambda x: x[:, :, 1:-1, 2:] + x[:, :, 2:, :-2],
        lambda x: x[:, :, ::2, 1::3],
        lambda x: F.pad(F.channel_shuffle(x.repeat(1, 2, 1, 1), 2), (1, 2, 0, 1)),
        lambda x: x.mean((2, 3)),
        lambda x: x.argmax(1),
        lambda x: F.max_pool2d(x, 3, 2, 1) - x.mean(1, keepdim=True)[:, :, ::2, ::2],
        lambda x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2),
    ],
)
@pytest.mark.parametrize("batch", [False, True])
def test_functions_of_any_size(
    function: Callable[[Tensor], Tensor], batch: bool, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    try:
        exported(Function(function), path, batch=batch)
    except ExportError as error:
        assert batch and "batch" in str(error)  # with a size alone, all of them are possible
        return
    images = noise((1, 3, 26, 34))
    [outputs] = in_onnxruntime(path, images)
    np.testing.assert_allclose(outputs, function(torch.from_numpy(images)).numpy(), atol=1e-5)


def flat_classifier() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 22 * 18, 5))


class Positions(nn.Module):
    """A sum with weights for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(1, 3, *SHAPE[1:]))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (flat_classifier, r"cannot be dynamic: Sequential does not accept .* \(in 2\)$"),
        (Positions, r"cannot be dynamic: Positions does not accept .*must match"),
        (lambda: nn.AdaptiveAvgPool2d(5), r"depends on the size of the image \(it gives"),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.Upsample((7, 9), mode="bicubic")),
            r"^1.*: depends on the size of the image",
        ),
    ],
)
def test_the_layer_that_fixes_the_size_is_named(
    make: Callable[[], nn.Module], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        exported(make(), tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_what_has_no_height_is_refused(tmp_path: Path) -> None:
    recipe = onnx_recipe("fp32", None, False, True)
    with pytest.raises(UsageError, match=r"needs an input \[C, H, W\]; the inputs: input \[1, 4\]"):
        export_module(nn.Linear(4, 2).eval(), (4,), tmp_path / "net.onnx", recipe=recipe)
    int8 = Int8(noise((4, *SHAPE)))
    with pytest.raises(UsageError, match="cannot be combined with int8"):
        exported(Pyramid(by_two), tmp_path / "net.onnx", int8=int8)


def test_a_file_of_any_size_is_compiled_again(tmp_path: Path) -> None:
    exported(Pyramid(to_size), tmp_path / "net.onnx")
    network, interface = load_onnx(tmp_path / "net.onnx", (3, 16, 28))
    recipe = onnx_recipe("fp32", None, False, True)
    export_module(network, interface, tmp_path / "again.onnx", recipe=recipe)
    images = noise((1, 3, 21, 23))
    [outputs], [expected] = (
        in_onnxruntime(tmp_path / name, images) for name in ("again.onnx", "net.onnx")
    )
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
