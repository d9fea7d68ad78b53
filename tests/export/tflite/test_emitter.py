"""The structure of the compiler's TFLite files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from hwnas.architecture.architecture import Block
from hwnas.errors import ExportError
from hwnas.export.graph.nodes import GridSample, Node
from hwnas.export.graph.trace import trace
from hwnas.export.tflite.emitter import write_tflite
from hwnas.export.tflite.flatbuffer import ALIGNMENT_BYTES, Flatbuffer
from hwnas.export.tflite.model_builder import EMITTERS
from hwnas.nn.blocks.layers import SqueezeExcite
from hwnas.nn.build import untrained

SHAPE = (3, 12, 10)


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6()),
        *(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Hardswish()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    )


def written(module: nn.Module, path: Path, shape: tuple[int, int, int] = SHAPE) -> Any:
    write_tflite(trace(module, shape), path)
    return schema.ModelT.InitFromPackedBuf(path.read_bytes())


def ops(model: Any) -> list[str]:
    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    codes = [names[code.builtinCode] for code in model.operatorCodes]
    return [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


def test_activations_are_fused_and_nothing_is_transposed(
    tmp_path: Path,
) -> None:
    names = "PAD CONV_2D DEPTHWISE_CONV_2D HARD_SWISH MEAN FULLY_CONNECTED"
    assert ops(written(small_net(), tmp_path / "net.tflite")) == names.split()


def test_squeeze_excite_needs_neither_transpose_nor_reshape(tmp_path: Path) -> None:
    model = written(SqueezeExcite(8, 4), tmp_path / "net.tflite", (8, 6, 6))
    assert ops(model) == ["MEAN", "CONV_2D", "CONV_2D", "ADD", "MUL", "MUL"]


def test_a_pad_is_written_only_where_same_pads_differently(tmp_path: Path) -> None:
    def count(size: int, kernel_size: int, stride: int, padding: int) -> int:
        conv = nn.Conv2d(3, 4, kernel_size, stride, padding)
        return ops(written(conv, tmp_path / "net.tflite", (3, size, size))).count("PAD")

    assert count(12, 3, 1, 1) == 0 and count(13, 5, 1, 2) == 0
    assert count(13, 3, 2, 1) == 0  # odd size: SAME is symmetric
    assert count(12, 3, 2, 1) == 1  # even size: SAME pads at the end only
    assert count(12, 3, 1, 0) == 0 and count(12, 1, 2, 0) == 0
    assert count(12, 3, 1, 2) == 1


def test_the_padding_of_tensorflow_is_written_as_same(tmp_path: Path) -> None:
    def written_ops(padding: Literal["symmetric", "same"], size: int) -> list[str]:
        blocks = (
            Block("conv", 3, 8, 3, 2, 1, size, padding=padding),
            Block("max_pool", 8, 8, 3, 2, 1, size // 2, padding=padding),
            Block("mbconv", 8, 8, 5, 2, 3, size // 4, padding=padding),
        )
        shape = (3, size, size)
        return ops(written(untrained(blocks), tmp_path / "net.tflite", shape))

    names = ["CONV_2D", "MAX_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D"]
    assert written_ops("same", 32) == names
    assert [op for op in written_ops("symmetric", 32) if op not in names] == ["PAD", "PADV2", "PAD"]


def test_the_signature_names_images_and_logits(tmp_path: Path) -> None:
    model = written(small_net(), tmp_path / "net.tflite")
    graph, (signature,) = model.subgraphs[0], model.signatureDefs
    (first,), (last,) = signature.inputs, signature.outputs
    names = (signature.signatureKey, first.name, last.name)
    assert names == (b"serving_default", b"images", b"logits")
    assert [first.tensorIndex] == list(graph.inputs) and [last.tensorIndex] == list(graph.outputs)
    assert list(graph.tensors[first.tensorIndex].shape) == [1, 12, 10, 3]
    assert list(graph.tensors[last.tensorIndex].shape) == [1, 5]


def test_the_file_names_its_producer_and_has_the_tflite_identifier(tmp_path: Path) -> None:
    assert written(small_net(), tmp_path / "net.tflite").description == b"hwnas"
    assert (tmp_path / "net.tflite").read_bytes()[4:8] == b"TFL3"


def test_a_dilated_depthwise_convolution_has_version_2(tmp_path: Path) -> None:
    model = written(nn.Conv2d(3, 3, 3, dilation=2, groups=3), tmp_path / "net.tflite")
    assert [code.version for code in model.operatorCodes] == [2]


def test_weights_are_aligned_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    model = written(small_net(), path)
    data = path.read_bytes()
    weights = [bytes(buffer.data) for buffer in model.buffers if buffer.data is not None]
    long = [weight for weight in weights if np.frombuffer(weight, np.uint8).any()]
    assert len(long) >= 6
    for weight in long:
        offsets = range(0, len(data), ALIGNMENT_BYTES)
        assert any(data.startswith(weight, offset) for offset in offsets)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.tflite", tmp_path / "second.tflite"
    write_tflite(trace(small_net(), SHAPE), first)
    write_tflite(trace(small_net(), SHAPE), second)
    assert first.read_bytes() == second.read_bytes()


def test_a_file_over_two_gibibytes_is_refused() -> None:
    file = Flatbuffer()
    file.tensor("images", (1, 4))
    file.value("logits", np.broadcast_to(np.float32(1), (1 << 29,)))
    with pytest.raises(ExportError, match=r"2\.15 GB are more than the 2 GiB of a \.tflite file"):
        list(file.pack(3, ["images"], ["logits"]))


def test_every_kind_of_node_can_be_emitted_except_sampling_which_is_written_out() -> None:
    assert set(EMITTERS.functions) == set(Node.__subclasses__()) - {GridSample}
