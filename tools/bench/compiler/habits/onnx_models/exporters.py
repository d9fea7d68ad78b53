"""ONNX models as ``torch.onnx.export`` writes them, by TorchScript and by dynamo."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from onnx import ModelProto
from torch import Tensor, nn

from tools.bench.compiler.habits.onnx_models.writing import exported
from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


class Head(nn.Module):
    """Convolutions, a resize to another map's size, a view of the shape, and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 2, 1)
        self.bn, self.fc = nn.BatchNorm2d(6), nn.Linear(6 * 64, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = F.silu(self.bn(self.a(x)))
        b = F.interpolate(F.hardswish(self.b(a)), size=a.shape[-2:], mode="bilinear")
        y = (a + b).view(x.size(0), -1)
        return F.softmax(self.fc(y), -1), b


class Attend(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 3, 24, activation="gelu", batch_first=True)
        self.net, self.table = nn.TransformerEncoder(layer, 1), nn.Embedding(10, 12)

    def forward(self, ids: Tensor) -> Tensor:
        return self.net(self.table(ids) + torch.arange(ids.shape[1]).unsqueeze(-1) * 0.1)


IMAGE = torch.zeros(1, 3, 16, 16)


for opset in (11, 13, 17):

    def script_export(opset: int = opset) -> ModelProto:
        axes = {"x": {0: "batch", 2: "height", 3: "width"}}
        return exported(
            Head(), IMAGE, dynamo=False, opset_version=opset, input_names=["x"], dynamic_axes=axes
        )

    CASES.add(f"torch script exporter, dynamic axes, opset {opset}", (3, 16, 16))(script_export)


@CASES.add("torch dynamo exporter")
def dynamo() -> ModelProto:
    return exported(Head(), IMAGE, dynamo=True)


@CASES.add("torch dynamo exporter of an encoder")
def dynamo_encoder() -> ModelProto:
    return exported(Attend(), torch.zeros(1, 7, dtype=torch.long), dynamo=True)


@CASES.add("torch script exporter of an encoder", "7:int64")
def script_encoder() -> ModelProto:
    ids = torch.zeros(1, 7, dtype=torch.long)
    axes = {"ids": {0: "batch", 1: "tokens"}}
    return exported(
        Attend(), ids, dynamo=False, opset_version=14, input_names=["ids"], dynamic_axes=axes
    )


@CASES.add("torch script exporter of an LSTM with states")
def script_lstm() -> ModelProto:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(5, 4, 2, bidirectional=True, batch_first=True)

        def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Any:
            y, (h, c) = self.rnn(x, (h, c))
            return y, h, c

    states = torch.zeros(4, 1, 4)
    return exported(Wrapped(), torch.zeros(1, 6, 5), states, states, dynamo=False, opset_version=14)
