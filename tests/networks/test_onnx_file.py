"""ONNX files of any origin are compiled, compared with ONNX Runtime, or refused in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import hwnas
from hwnas.architecture.artifact import Format
from hwnas.cli.export import export
from hwnas.errors import ExportError, HwnasError, InvalidFile, UsageError
from hwnas.export.compile import compile_model
from hwnas.export.verification.metrics import relative_error
from hwnas.export.verification.run_model import run_file
from hwnas.networks.onnx_file import load_onnx
from tests.export.test_parity import both
from tests.support.networks.onnx_files import in_onnxruntime, noise, save

node = helper.make_node


def two_heads(path: Path) -> Path:
    """Write a network of two outputs, one of them a map, with a free batch."""
    nodes = [
        node("Conv", ["x", "w"], ["features"], name="stem", pads=[1, 1, 1, 1]),
        node("Relu", ["features"], ["active"], name="act"),
        node("GlobalAveragePool", ["active"], ["pooled"], name="pool"),
        node("Flatten", ["pooled"], ["scores"], name="flat"),
        node("Upsample", ["active", "scales"], ["mask"], name="up", mode="nearest"),
    ]
    constants = {"w": noise((5, 3, 3, 3)), "scales": np.array([1, 1, 2, 2], np.float32)}
    outputs = ("scores", "mask")
    return save(path, nodes, ("batch", 3, 8, 9), constants, opset=9, outputs=outputs)


@both
def test_a_file_is_compiled_to_both_formats_with_its_names(format: Format, tmp_path: Path) -> None:
    source = two_heads(tmp_path / "source.onnx")
    artifact = hwnas.export(source, None, tmp_path / f"net.{format}")
    image = noise((1, 3, 8, 9), seed=5)
    outputs = run_file(Path(artifact.path), [image], ["x"])
    expected = dict(zip(("scores", "mask"), in_onnxruntime(source, image), strict=True))
    assert set(outputs) == set(expected)
    assert max(relative_error(outputs[name][0], expected[name]) for name in expected) < 1e-5


def test_the_command_says_what_the_file_was_compared_with(tmp_path: Path) -> None:
    source = two_heads(tmp_path / "source.onnx")
    out = tmp_path / "net"
    result = CliRunner().invoke(export, [str(source), "--format", "tflite", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert f"beside ONNX Runtime on {source}" in result.output
    assert out.with_suffix(".tflite").exists()


def test_a_wrong_file_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate compares with ONNX Runtime: a reader that is wrong is found."""
    from hwnas.export.onnx_reader.registry import READS

    monkeypatch.setitem(READS, "Relu", lambda node, x: torch.sigmoid(x))
    source = two_heads(tmp_path / "source.onnx")
    with pytest.raises(ExportError, match=r"differs from ONNX Runtime on .*source.onnx"):
        hwnas.export(source, None, tmp_path / "net.tflite")
    assert not (tmp_path / "net.tflite").exists()


def test_free_sizes_are_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "free.onnx", [node("Relu", ["x"], ["y"])], ("n", 3, "height", "width"))
    with pytest.raises(UsageError, match=r"3xheightxwidth; expected --input-shape, e.g. 3x224x224"):
        load_onnx(path)
    with pytest.raises(UsageError, match=r"3xheightxwidth, not 4x8x8"):
        load_onnx(path, (4, 8, 8))
    _, interface = load_onnx(path, (3, 8, 10))
    assert [value.shape for value in interface.inputs] == [(1, 3, 8, 10)]


def test_a_first_axis_of_another_size_is_no_batch(tmp_path: Path) -> None:
    path = save(tmp_path / "state.onnx", [node("Exp", ["x"], ["y"])], (2, 1, 5))
    artifact = hwnas.export(path, None, tmp_path / "state.tflite")
    [output] = run_file(Path(artifact.path), [noise((3, 2, 1, 5))]).values()
    np.testing.assert_allclose(output, np.exp(noise((3, 2, 1, 5))), rtol=1e-5)


def test_weights_of_sixteen_bits_are_compared_as_float32(tmp_path: Path) -> None:
    weights = noise((4, 6)).astype(np.float16)
    nodes = [
        node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        node("MatMul", ["half", "w"], ["product"]),
        node("Cast", ["product"], ["y"], to=TensorProto.FLOAT),
    ]
    path = save(tmp_path / "half.onnx", nodes, (1, 4), {"w": weights})
    artifact = hwnas.export(path, None, tmp_path / "half.tflite")
    [output] = run_file(Path(artifact.path), [noise((1, 4))]).values()
    expected = noise((1, 4)) @ weights.astype(np.float32)
    np.testing.assert_allclose(output[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("NonMaxSuppression", ["x", "x"], ["y"], name="nms")], r"node 'nms' \(NonMax"),
        ([node("Foo", ["x"], ["y"], name="f", domain="acme")], r"'f' \(acme.Foo\) is of a domain"),
        ([node("ConvTranspose", ["x", "x"], ["y"], name="c")], r"'c' \(ConvT.*weight that depends"),
        ([node("Reshape", ["x", "shape"], ["y"], name="r")], r"node 'r' \(Reshape\) cannot be"),
        ([node("Relu", ["z"], ["y"], name="lost")], r"node 'lost' \(Relu\) reads 'z'"),
        ([node("QuantizeLinear", ["x", "scale"], ["y"], name="q")], r"'q' \(Quant.*--precision"),
        ([node("NonZero", ["x"], ["y"], name="nz")], r"'nz' \(NonZero\) takes values that depend"),
    ],
)  # fmt: skip
def test_a_refusal_names_node_and_operator(nodes: list[Any], expected: str, tmp_path: Path) -> None:
    constants = {"shape": np.array([7, 7]), "scale": np.float32(0.1)}
    path = save(tmp_path / "odd.onnx", nodes, (1, 3, 8, 8), constants)
    with pytest.raises(HwnasError, match=expected) as refusal:
        compile_model(*load_onnx(path), tmp_path / "odd.tflite")
    assert "\n" not in str(refusal.value) and str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "pointer of Git LFS"),
        (b"\x00\x01\x02 no protobuf", "no readable ONNX file"),
        (b"", "no readable ONNX file"),
    ],
)
def test_a_damaged_file_is_refused(data: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(data)
    with pytest.raises(InvalidFile, match=expected):
        load_onnx(path)


def external(path: Path, location: str, length: int = 48) -> Path:
    """Write a network whose 12 weights lie in another file."""
    save(path, [node("MatMul", ["x", "w"], ["y"])], (1, 3), {"w": np.ones((3, 4), np.float32)})
    model = onnx.load(path)
    [tensor] = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_are_read_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.arange(12, dtype=np.float32).tobytes())
    network, _ = load_onnx(external(tmp_path / "net.onnx", "w.bin"))
    expected = torch.ones(1, 3) @ torch.arange(12.0).reshape(3, 4)
    assert torch.equal(network(torch.ones(1, 3)), expected)


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", "link.bin", ""])
def test_external_data_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(48))
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(InvalidFile, match="expected a file in the same folder"):
        load_onnx(external(folder / "net.onnx", location))


def test_external_data_that_are_cut_off_are_named(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(20))
    with pytest.raises(InvalidFile, match=r"w\.bin: is cut short: 20 .* net\.onnx needs 48"):
        load_onnx(external(tmp_path / "net.onnx", "w.bin"))
    with pytest.raises(InvalidFile, match="which is not beside it"):
        load_onnx(external(tmp_path / "net.onnx", "gone.bin"))


def test_constants_that_are_inputs_are_no_inputs(tmp_path: Path) -> None:
    path = save(tmp_path / "old.onnx", [node("Add", ["x", "b"], ["y"])], (1, 3), {"b": noise((3,))})
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [3]))
    path.write_bytes(model.SerializeToString())
    network, interface = load_onnx(path)
    assert interface.input_names == ("x",)
    assert torch.equal(network(torch.zeros(1, 3))[0], torch.from_numpy(noise((3,))))


def test_a_branch_that_is_known_is_computed(tmp_path: Path) -> None:
    def branch(name: str, op: str) -> Any:
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([node(op, ["x"], [name])], name, [], [output])

    branches = {"then_branch": branch("a", "Exp"), "else_branch": branch("b", "Abs")}
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Size", ["shape"], ["rank"]),
        node("Equal", ["rank", "four"], ["is_map"]),
        node("If", ["is_map"], ["y"], **branches),
    ]
    path = save(tmp_path / "if.onnx", nodes, (1, 2, 3, 3), {"four": np.array(4)})
    network, _ = load_onnx(path)
    assert torch.equal(network(-torch.ones(1, 2, 3, 3)), (-torch.ones(1, 2, 3, 3)).exp())


class Patches(nn.Module):
    """Patches, attention and GELU, as a transformer for images has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        return self.head(self.layer(tokens).mean(1))


@pytest.mark.parametrize("opset", [14, 17, 20])
def test_what_exporters_write_out_is_read_as_its_operators(opset: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path, module = tmp_path / "net.onnx", Patches().eval()
    with pytest.warns():
        torch.onnx.export(
            module, (torch.zeros(1, 3, 16, 16),), str(path), dynamo=False, opset_version=opset
        )
    network, _ = load_onnx(path)
    ops = [step.node.op for step in network.steps]
    assert ops.count("Gelu") == 1 and ops.count("LayerNormalization") == 2 and "Erf" not in ops
    artifact = hwnas.export(path, None, tmp_path / "net.tflite")
    image = torch.from_numpy(noise((1, 3, 16, 16)))
    [output] = run_file(Path(artifact.path), [image.numpy()]).values()
    with torch.no_grad():
        assert relative_error(output[0], module(image).numpy()) < 1e-5


def test_a_constant_of_text_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "text.onnx", [node("Identity", ["x"], ["y"])], (1, 3))
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.array(["a"], object), "labels"))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidFile, match="'labels' is of type string"):
        load_onnx(path)


def test_the_file_that_is_compiled_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = save(tmp_path / "net.onnx", [helper.make_node("Relu", ["x"], ["y"])], [1, 3, 4, 4])
    before = file.read_bytes()
    with pytest.raises(UsageError, match=r"net\.onnx: is the file that is compiled; choose"):
        hwnas.export("net.onnx", None, file)
    assert file.read_bytes() == before
