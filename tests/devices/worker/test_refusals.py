"""What runtimes refuse, in hwnas's words: made-up files of each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from hwnas.devices.external_data import check_present, external_files, files_beside
from hwnas.devices.worker.model import BadModel, InputTensor, input_shapes
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import InvalidFile
from tests.conftest import NetWriter

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def onnx_bytes(
    op: str = "Relu",
    domain: str = "",
    opset: int = 17,
    ir_version: int = 8,
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """Return an ONNX file of one node."""
    node = helper.make_node(op, ["x"], ["y"], name="the_node", domain=domain)
    ends = [helper.make_tensor_value_info(name, kind, [1, 3]) for name in "xy"]
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    graph = helper.make_graph([node], "graph", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version).SerializeToString()


def refusal(path: Path, content: bytes) -> str:
    """Return the runtime's reason for refusing a file: one line, without lines of the runtime's
    source code."""
    path.write_bytes(content)
    runtime = {".onnx": "onnxruntime", ".tflite": "litert"}[path.suffix]
    with pytest.raises(BadModel) as refused:
        open_model(str(path), runtime)
    message = refused.value.why
    assert "\n" not in message and "ONNXRuntimeError" not in message and ".cc" not in message
    return message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (onnx_bytes(ir_version=99), "IR version 99, but ONNX Runtime 1.* reads up to "),
        (onnx_bytes(opset=99), "opset 99 of ai.onnx, but ONNX Runtime 1.* knows up to "),
        (onnx_bytes("Thing", "my.ops"), "the operator Thing of the domain my.ops is not one of "),
        (onnx_bytes("NoSuch", "com.microsoft"), "the operator NoSuch of the domain com.microsoft "),
        (onnx_bytes("Frob"), "the operator Frob (node 'the_node') does not exist in opset 17"),
        (onnx_bytes()[:-30], "not a whole ONNX file; was it copied completely?"),
        (onnx_bytes()[2:], "no IR version is stated in the file"),
        (
            onnx_bytes("Identity", kind=TensorProto.BFLOAT16),
            "input x takes bfloat16; expected floats of 16, ",
        ),
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html></html>", "a web page, not ONNX"),
        (b"PK\x03\x04" + bytes(30), "a ZIP archive, as PyTorch and Keras write, not ONNX"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(30), "TFLite, not ONNX"),
    ],
)
def test_an_onnx_file_is_refused_in_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    message = refusal(tmp_path / "net.onnx", content)
    for part in expected.split("*"):
        assert part in message


def edited(file: Path, edit: Callable[[Any], None]) -> bytes:
    """Return a TFLite file after a change of its objects."""
    model: Any = schema.ModelT.InitFromPackedBuf(file.read_bytes())
    edit(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def custom(name: str) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = name

    return edit


def newer_operator(model: Any) -> None:
    model.operatorCodes[0].version = 99


def newer_schema(model: Any) -> None:
    model.version = 7


def test_a_tflite_file_is_refused_in_one_line(tmp_path: Path, write_net: NetWriter) -> None:
    good = write_net(tmp_path / "good.tflite")
    cases = [
        (edited(good, custom("MyOp")), "the custom operator MyOp is not one of LiteRT "),
        (edited(good, custom("FlexErf")), "the operator FlexErf is TensorFlow's own and not one "),
        (edited(good, newer_operator), " in version 99 is newer than LiteRT "),
        (edited(good, newer_schema), "schema version 7, but LiteRT "),
        (good.read_bytes()[:-200], "not a whole TFLite file; was it copied completely?"),
        (b"", "an empty file"),
        (onnx_bytes(), "ONNX, not TFLite"),
    ]
    for content, expected in cases:
        assert expected in refusal(tmp_path / "net.tflite", content)


def external(path: Path, location: str, **place: int) -> Path:
    """Write a network whose weights lie in another file, at a place if that is stated."""
    weight = numpy_helper.from_array(np.ones((3, 4), np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {**place, "location": location}.items():
        weight.external_data.add(key=key, value=str(value))
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    graph = helper.make_graph([node], "graph", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph), path)
    return path


def test_weights_in_other_files_are_found_without_the_onnx_package(tmp_path: Path) -> None:
    path = external(tmp_path / "net.onnx", "w.bin")
    with pytest.raises(InvalidFile, match=r"its weights are in w\.bin, which is not beside it"):
        check_present(path)
    (tmp_path / "w.bin").write_bytes(LFS)
    with pytest.raises(InvalidFile, match=r"w\.bin: is a pointer of Git LFS"):
        check_present(path)
    (tmp_path / "w.bin").write_bytes(bytes(48))
    check_present(path)
    assert external_files(path) == [tmp_path / "w.bin"]
    below = external(tmp_path / "below.onnx", "data/w.bin")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(bytes(48))
    assert external_files(below) == [tmp_path / "data" / "w.bin"]
    with pytest.raises(InvalidFile, match="are copied beside it only"):
        files_beside(below)


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", ""])
def test_weights_outside_of_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(InvalidFile, match="expected a file in the same folder"):
        external_files(external(tmp_path / "net.onnx", location))


@pytest.mark.parametrize("content", [b"", b"no model", LFS, onnx_bytes()[:-30]])
def test_a_damaged_file_has_no_weights_elsewhere(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    assert external_files(tmp_path / "net.onnx") == []


def test_weights_in_other_files_that_are_cut_short_are_named(tmp_path: Path) -> None:
    path = external(tmp_path / "net.onnx", "w.bin", offset=8, length=48)
    (tmp_path / "w.bin").write_bytes(bytes(56))
    check_present(path)
    (tmp_path / "w.bin").write_bytes(bytes(55))
    with pytest.raises(
        InvalidFile, match=r"w\.bin: is cut short: 55 bytes of weights, net\.onnx needs 56"
    ):
        check_present(path)


def test_the_example_of_a_shape_is_an_image_where_every_size_is_free() -> None:
    for shape, example in ((("N", "C", "H", "W"), "3x224x224"), (("N", 1, "H", 32), "1x224x32")):
        with pytest.raises(BadModel, match=f"--input-shape {example}$"):
            input_shapes("net.onnx", [InputTensor("x", shape, "float32")])
