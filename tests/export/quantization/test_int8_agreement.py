"""Int8 files whose outputs follow from decisions on rounded values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from hwnas.export.compile import compile_model, export_module
from hwnas.export.quantization.int8_agreement import compare_int8
from hwnas.export.quantization.ptq import Int8, int8_quantization
from hwnas.export.verification.images import Verification
from hwnas.export.verification.rounding import exceeded_limit

pytest.importorskip("ai_edge_quantizer")

both = pytest.mark.parametrize("format", ["onnx", "tflite"])
SHAPE = (4, 12, 12)
IMAGES = np.random.default_rng(0).normal(size=(40, *SHAPE)).astype(np.float32)
VERIFICATION, INT8 = Verification(IMAGES[:8]), Int8(IMAGES[8:])


class Boxes(nn.Module):
    """The boxes at the ten places of the best scores, many of which are nearly equal."""

    def __init__(self, sign: int = 1, step: int = 0) -> None:
        """The scores are multiplied by ``sign``; the boxes are those ``step`` places further on."""
        super().__init__()
        torch.manual_seed(0)
        self.score, self.box = nn.Conv2d(4, 1, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.sign, self.step = sign, step

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        scores, boxes = self.score(images).flatten(1), self.box(images).flatten(2)
        _, places = torch.topk(self.sign * scores, 10, dim=1)
        moved = boxes.roll(-self.step, 2).transpose(1, 2)
        best = scores.gather(1, places)
        return moved.gather(1, places.unsqueeze(-1).expand(-1, -1, 4)), best


@both
def test_boxes_in_the_order_of_rounded_scores_are_right(format: Format, tmp_path: Path) -> None:
    path = tmp_path / f"boxes.{format}"
    network = Boxes().eval()
    artifact = export_module(network, SHAPE, path, verification=VERIFICATION, int8=INT8)
    assert artifact.parity is not None and artifact.parity.sqnr_db is not None
    assert artifact.parity.sqnr_db > 25


@both
@pytest.mark.parametrize("other", [Boxes(step=1), Boxes(sign=-1)], ids=["step", "sign"])
def test_boxes_of_other_places_are_refused(other: Boxes, format: Format, tmp_path: Path) -> None:
    path = tmp_path / f"boxes.{format}"
    compile_model(other.eval(), SHAPE, path, int8=INT8)
    parity = compare_int8(path, Boxes().eval(), VERIFICATION)
    assert exceeded_limit(parity, int8_quantization(format))
