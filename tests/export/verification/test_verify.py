"""A file appears only if it computes in its runtime what the module computes in PyTorch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hwnas.export.compile
from hwnas.architecture.artifact import Artifact, Format, Precision
from hwnas.errors import ExportError, InvalidFile, UnknownName, UsageError
from hwnas.export.compile import compile_model, export_module
from hwnas.export.graph.interface import module_interface
from hwnas.export.graph.nodes import Conv, Graph
from hwnas.export.recipe import find_recipe, read_recipe
from hwnas.export.verification.checks import check_classes
from hwnas.export.verification.images import Verification
from hwnas.export.verification.metrics import relative_error
from hwnas.export.verification.module_outputs import module_outputs
from hwnas.export.verification.verify import torch_outputs, verify
from hwnas.shipped import shipped

FORMATS: tuple[Format, ...] = get_args(Format)
both = pytest.mark.parametrize("format", FORMATS)
SHAPE = (2, 8, 8)
LIMIT = 1e-4


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 3),
    )  # fmt: skip


def data(count: int = 20) -> Verification:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, *SHAPE)).astype(np.float32)
    return Verification(images, rng.integers(3, size=count))


def write_changed(change: Any) -> Any:
    """Return a `write_graph` that changes the weights of every convolution."""
    write = hwnas.export.compile.write_graph

    def changed(graph: Graph, recipe: Any, path: Path, *more: Any) -> None:
        nodes = tuple(
            msgspec.structs.replace(node, weight=change(node.weight))
            if isinstance(node, Conv)
            else node
            for node in graph.nodes
        )
        write(msgspec.structs.replace(graph, nodes=nodes), recipe, path, *more)

    return changed


@both
def test_a_good_file_has_a_parity_and_a_digest(format: Format, tmp_path: Path) -> None:
    module, (images, labels, _) = small_net(), data()
    path = tmp_path / "new folder" / f"model.{format}"
    artifact = compile_model(module, SHAPE, path, verification=data())
    with torch.no_grad():
        best = module.eval()(torch.from_numpy(images)).argmax(dim=1).numpy()
    parity = artifact.parity
    assert parity is not None and parity.images == 20 and parity.max_relative_error < 1e-5
    assert parity.accuracy_artifact == parity.accuracy_torch == (best == labels).mean()
    assert artifact.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert artifact.size_bytes == path.stat().st_size
    assert artifact.runtime == find_recipe(format).runtime
    assert list(path.parent.iterdir()) == [path]
    assert msgspec.json.decode(msgspec.json.encode(artifact), type=Artifact) == artifact


@both
def test_without_images_a_file_has_no_parity(format: Format, tmp_path: Path) -> None:
    artifact = compile_model(small_net(), SHAPE, tmp_path / f"model.{format}")
    assert artifact.parity is None and Path(artifact.path).exists()


@both
def test_training_flags_are_restored(format: Format, tmp_path: Path) -> None:
    module = small_net()
    compile_model(module, SHAPE, tmp_path / f"model.{format}", verification=data())
    assert all(part.training for part in module.modules())


@both
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (np.negative, "differs from PyTorch by .* image [0-9]+; the limit is 0.0001"),
        (lambda w: np.where(w == w.max(), np.float32(np.nan), w), "not finite for image 0"),
    ],
)
def test_a_file_with_wrong_weights_is_rejected_and_removed(
    format: Format, change: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hwnas.export.compile, "write_graph", write_changed(change))
    path = tmp_path / f"model.{format}"
    with pytest.raises(
        ExportError, match=f"model.{format}: {find_recipe(format).runtime} .*{message}"
    ):
        compile_model(small_net(), SHAPE, path, verification=data())
    assert not list(tmp_path.iterdir())


@both
def test_a_file_that_the_runtime_cannot_open_is_rejected_and_removed(
    format: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nonsense(graph: Graph, recipe: Any, path: Path, *more: Any) -> None:
        path.write_bytes(b"nonsense" * 10)

    monkeypatch.setattr(hwnas.export.compile, "write_graph", nonsense)
    with pytest.raises(ExportError, match=r"/model\.[a-z]+: [a-z]+ cannot open it: "):
        compile_model(small_net(), SHAPE, tmp_path / f"model.{format}")
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_an_existing_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"older")
    with pytest.raises(ExportError):
        compile_model(nn.Sequential(nn.Conv2d(3, 2, 1)), SHAPE, path)
    assert path.read_bytes() == b"older" and list(tmp_path.iterdir()) == [path]


@both
def test_images_of_another_shape_are_refused(format: Format, tmp_path: Path) -> None:
    path, (images, labels, _) = tmp_path / f"model.{format}", data()
    compile_model(small_net(), SHAPE, path)
    with pytest.raises(ExportError, match=r"its input is .* the images have shape"):
        verify(path, small_net(), Verification(images[:, :, :6], labels))


@both
def test_a_feature_map_is_compared_without_classes(format: Format, tmp_path: Path) -> None:
    path = tmp_path / f"model.{format}"
    parity = compile_model(nn.Conv2d(2, 3, 1), SHAPE, path, verification=data()).parity
    assert parity is not None and parity.accuracy_artifact is None
    assert [(each.name, each.shape) for each in parity.outputs] == [("logits", (1, 3, 8, 8))]


def test_relative_error_is_relative_to_the_largest_output() -> None:
    assert relative_error(np.array([[1.0, -8.5]]), np.array([[1.1, -8.0]])) == 0.5 / 8.0
    assert relative_error(np.zeros((1, 2)), np.zeros((1, 2))) == 0.0


def test_another_class_is_rejected_where_pytorch_is_sure() -> None:
    expected = np.array([[5.0, 0.0], [1.0, 1.0 - 1.5e-5]])
    got = expected + np.array([[0.0, 0.0], [-1e-5, 1e-5]])
    with pytest.raises(ExportError, match=r"predicts class 1 for image 1, PyTorch 0 by a margin"):
        check_classes(got, expected, "model.onnx: onnxruntime")


def test_another_class_is_accepted_where_the_margin_is_below_the_error() -> None:
    expected = np.array([[5.0, 0.0], [1.0, 1.0 - 0.5e-5]])
    got = expected + np.array([[0.0, 0.0], [-1e-5, 1e-5]])
    check_classes(got, expected, "model.onnx: onnxruntime")
    assert relative_error(got, expected) == pytest.approx(2e-6)


def test_the_limit_is_that_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = msgspec.structs.replace(find_recipe("onnx"), max_relative_error=0.0)
    monkeypatch.setattr("hwnas.export.verification.verify.find_recipe", lambda *_: strict)
    with pytest.raises(ExportError, match="the limit is 0"):
        compile_model(small_net(), SHAPE, tmp_path / "model.onnx", verification=data())


def test_every_shipped_recipe_is_valid() -> None:
    files = list((shipped("export") / "recipes").iterdir())
    recipes = {file.name.removesuffix(".toml"): read_recipe(file) for file in files}
    assert set(recipes) == {
        f"{format}-{precision}" for format in FORMATS for precision in get_args(Precision)
    }
    for name, recipe in recipes.items():
        assert name == f"{recipe.format}-{recipe.precision}"
    assert all(find_recipe(format).max_relative_error == LIMIT for format in FORMATS)


def test_a_misspelt_field_of_a_recipe_is_named(tmp_path: Path) -> None:
    text = (shipped("export") / "recipes" / "onnx-fp32.toml").read_text()
    (tmp_path / "bad.toml").write_text(text.replace("opset  ", "opsett "))
    with pytest.raises(InvalidFile, match="unknown field `opsett`"):
        read_recipe(tmp_path / "bad.toml")


def test_an_unknown_recipe_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(
        UnknownName,
        match=r"Known: onnx-fp16, onnx-fp32, onnx-int8, onnx-int8-dynamic, onnx-int8-w.*, tf",
    ):
        find_recipe("caffe")  # type: ignore[arg-type]


def test_without_labels_the_classes_of_pytorch_count_as_right(tmp_path: Path) -> None:
    verification = Verification(data().images)
    path = tmp_path / "model.onnx"
    artifact = compile_model(small_net(), SHAPE, path, verification=verification)
    assert artifact.parity is not None
    assert artifact.parity.accuracy_torch == artifact.parity.accuracy_artifact == 1.0


def test_an_exported_module_is_verified_on_noise_by_default(tmp_path: Path) -> None:
    artifact = export_module(small_net(), SHAPE, tmp_path / "model.tflite")
    assert artifact.format == "tflite"
    assert artifact.parity is not None and artifact.parity.images == 16


def test_a_path_with_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.pt: expected a file name that ends in \.onnx"):
        export_module(small_net(), SHAPE, tmp_path / "model.pt")


class OwnNormalisation(nn.Module):
    """Overwrites its images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.sub_(0.5).div_(0.25)
        return x.mean((2, 3))


@both
def test_images_that_a_network_overwrites_are_compared_unchanged(
    format: Format, tmp_path: Path
) -> None:
    images = data(5).images
    before = images.copy()
    artifact = compile_model(
        OwnNormalisation(), SHAPE, tmp_path / f"net.{format}", verification=Verification(images)
    )
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-6
    np.testing.assert_array_equal(images, before)


class OneImage(nn.Module):
    """Computes something else for several images than for one."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.head = form, nn.Linear(SHAPE[0], 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.form == "view":
            return self.head(x.mean((2, 3)).view(1, -1))
        if self.form == "squeeze":
            return self.head(x.mean((2, 3)).squeeze())
        return self.head((x - x.mean(0, keepdim=True) + x.amax((2, 3), keepdim=True)).mean((2, 3)))


@both
@pytest.mark.parametrize("form", ["view", "squeeze", "mean of the batch"])
def test_a_network_for_one_image_is_compared_image_by_image(
    form: str, format: Format, tmp_path: Path
) -> None:
    images = Verification(data(5).images)
    artifact = compile_model(OneImage(form), SHAPE, tmp_path / f"net.{format}", verification=images)
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-5


class MixesImages(nn.Module):
    """Gives zeros for dark images, and for others a value that depends on the whole batch."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * (x.pow(2).mean() + 1).rsqrt()).relu().sum((2, 3))


def test_a_network_that_mixes_the_images_of_a_batch_gets_each_alone() -> None:
    images = np.stack([np.full((2, 3, 3), value, np.float32) for value in (-1.0, 0.5, 2.0)])
    alone = [torch_outputs(MixesImages(), image[None]) for image in images]
    np.testing.assert_array_equal(torch_outputs(MixesImages(), images), np.concatenate(alone))


def test_pytorch_has_all_its_threads_again_after_a_comparison() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        module, inputs = nn.Linear(2, 2), [np.zeros((1, 2), np.float32)]
        module_outputs(module, module_interface(module, [(2,)]), inputs)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
