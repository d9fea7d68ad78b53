"""Reads and writes at places that the network computes, against PyTorch's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from hwnas.errors import ExportError
from hwnas.export.compile import export_module
from hwnas.export.quantization.ptq import Int8
from hwnas.export.recipe import onnx_recipe
from hwnas.export.verification.images import Verification
from hwnas.export.verification.run_model import run_file
from tests.export.test_parity import Function, both
from tests.support.networks.onnx_files import noise

MAP = (5, 6, 7)
CONSTANT = torch.arange(4 * 6 * 3).reshape(4, 6, 3) % 5
TABLE = torch.arange(40.0).reshape(8, 5)
READS: dict[str, Callable[[Tensor], Tensor]] = {
    "sorted": lambda x: x.gather(2, x.argsort(2)),
    "fewer rows": lambda x: x.gather(2, x[:, :3, :, 2:4].topk(4, dim=2)[1]),
    "whole rows": lambda x: x.gather(1, x.mean((2, 3)).argsort(1)[..., None, None].expand(x.shape)),
    "repeated": lambda x: x.gather(
        1, x.mean((2, 3)).topk(2, dim=1)[1].view(-1, 2, 1, 1).repeat(1, 1, 6, 1)
    ),
    "of a constant": lambda x: TABLE.expand(len(x), 8, 5).gather(1, x[:, :, :3, 0].argmax(2, True)),
    "at constants": lambda x: x[:, :4].gather(2, CONSTANT[None].expand(len(x), -1, -1, -1)),
    "take_along_dim": lambda x: x.take_along_dim(x.argmin(3, keepdim=True), 3),
    "index_select": lambda x: x[:1].index_select(2, x[0, 0].mean(1).topk(4)[1]),
    "row of each image": lambda x: x[torch.arange(len(x)), x.mean((2, 3)).argmax(1)],
    "rows of each image": lambda x: x[
        torch.arange(len(x))[:, None], x.mean((2, 3)).topk(3, dim=1)[1]
    ],
    "apart": lambda x: x[torch.arange(len(x)), :, x.mean((1, 3)).argmax(1)],
    "in the middle": lambda x: x[:, :, x[0, 0].mean(1).topk(3)[1]],
    "two axes": lambda x: x[:, x[0].mean((1, 2)).topk(3)[1], x[0, 0].mean(1).topk(3)[1]],
    "a table": lambda x: TABLE[x[:, :, :3, 0].argmax(2)],
    "a table of two axes": lambda x: TABLE[x.argmax(1), x.argmin(1)],
    "constants apart": lambda x: x[:, [0, 3, 1], :, [2, 2, 5]],
    "a mask and a list": lambda x: x[:, torch.eye(5, 6, dtype=torch.bool), [1, 2, 3, 4, 0]],
    "from the end": lambda x: x[:, :, x[0].mean((0, 2)).topk(3)[1] - 6],
}  # fmt: skip
WRITES: dict[str, Callable[[Tensor], Tensor]] = {
    "largest": lambda x: torch.zeros_like(x).scatter(3, *x.topk(3, dim=3)[::-1]),
    "a number": lambda x: x.scatter(1, x.argmax(1, keepdim=True), -1.5),
    "a part": lambda x: x.scatter(2, x[:, :3, :2, :4].argsort(2), x[:, 2:, 1:, 3:]),
    "whole rows": lambda x: x.scatter(
        1, x.mean((2, 3)).topk(2, dim=1)[1][..., None, None].expand(-1, -1, 6, 7), x[:, :2] * 2
    ),
    "sums": lambda x: x.scatter_add(2, (x * 3).round().long() % 6, x * 2),
    "sums of rows": lambda x: torch.zeros(len(x), 3, 7).scatter_add(
        1, ((x[:, 0, :, :1] * 9).round().long() % 3).expand(-1, -1, 7), x[:, 0]
    ),
    "reduce": lambda x: x.scatter_reduce(1, x[:, :2].argsort(1), x[:, 2:4], "sum"),
    "at constants": lambda x: x[:, :4].scatter(2, CONSTANT[None, :, :2], x[:, :4] * 2),
    "sums at constants": lambda x: x[:, :4].scatter_add(2, CONSTANT[None], x[:, :4, :, :3]),
    "index_add": lambda x: x.index_add(2, CONSTANT[0, :, 0], x * 2, alpha=0.5),
    "index_copy": lambda x: x.index_copy(1, torch.tensor([3, 0]), x[:, :2] + 9),
    "index_fill": lambda x: x.index_fill(3, torch.tensor([3, 0]), 7.0),
    "put": lambda x: x.index_put(
        (torch.arange(len(x))[:, None], x.mean((2, 3)).topk(2, dim=1)[1]), x[:, 3:] * 2
    ),
    "put at constants": lambda x: x.index_put(
        (torch.tensor([0]), torch.tensor([2, 4]), torch.tensor([1, 5])), x[0, :2, 0]
    ),
    "put sums": lambda x: x.index_put(
        (torch.zeros(6, dtype=torch.int64), x[0, :, :, 0].argmax(0)), x[0, :1, 0], accumulate=True
    ),
    "where a mask is true": lambda x: x.index_put((x > 0.5,), torch.tensor(-1.0)),
}  # fmt: skip


def overwritten(x: Tensor) -> Tensor:
    y = x * 2
    y[:, :, [1, 3]] = x[:, :, :2]
    y[x < -1] = 0.0
    y[torch.arange(len(x)), x.mean((2, 3)).argmax(1)] += 1
    return y


def largest_difference(function: Any, path: Path, **settings: Any) -> float:
    images = noise((3, *MAP))
    module = Function(function).eval()
    export_module(module, MAP, path, verification=Verification(images), **settings)
    outputs = next(iter(run_file(path, [images]).values()))
    expected = [function(torch.from_numpy(images[n : n + 1])).numpy() for n in range(3)]
    return float(np.abs(outputs.reshape(3, -1) - np.stack(expected).reshape(3, -1)).max())


@both
@pytest.mark.parametrize("name", READS)
def test_elements_are_read_at_computed_places(name: str, format: Format, tmp_path: Path) -> None:
    assert largest_difference(READS[name], tmp_path / f"net.{format}") == 0


@both
@pytest.mark.parametrize("name", [*WRITES, "overwritten"])
def test_elements_are_written_at_computed_places(name: str, format: Format, tmp_path: Path) -> None:
    function = overwritten if name == "overwritten" else WRITES[name]
    assert largest_difference(function, tmp_path / f"net.{format}") < 1e-5


@pytest.mark.parametrize(
    "function",
    [READS[name] for name in ("sorted", "whole rows", "row of each image", "rows of each image")]
    + [WRITES[name] for name in ("largest", "a number", "whole rows", "sums")],
)
def test_places_hold_for_every_batch(function: Any, tmp_path: Path) -> None:
    images = noise((3, *MAP))
    recipe = onnx_recipe("fp32", 17, True)
    path, module = tmp_path / "net.onnx", Function(function).eval()
    export_module(module, MAP, path, recipe=recipe, verification=Verification(images))
    [got] = onnxruntime.InferenceSession(path).run(None, {"images": images})
    np.testing.assert_allclose(
        np.asarray(got), function(torch.from_numpy(images)).numpy(), atol=1e-5
    )


@both
def test_writes_at_places_are_quantised_without_a_word(
    format: Format, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    norm = nn.LayerNorm(7)
    module = Function(lambda x: norm(WRITES["index_add"](x).mean(2))).eval()
    images = noise((24, *MAP))
    verification = Verification(images[16:])
    path = tmp_path / f"net.{format}"
    export_module(module, MAP, path, int8=Int8(images[:16]), verification=verification)
    assert path.exists() and not caplog.records


def test_older_opsets_have_no_sums_at_computed_places(tmp_path: Path) -> None:
    recipe = onnx_recipe("fp32", 15, False)
    module = Function(WRITES["sums"]).eval()
    with pytest.raises(ExportError, match="sums at computed places need opset 16 or later"):
        export_module(module, MAP, tmp_path / "net.onnx", recipe=recipe)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: x[x > 0], "mask of values, so that the number of elements depends"),
        (lambda x: x.scatter_reduce(1, x.argsort(1), x, "amax"), "reduce='amax' is not supported"),
    ],
)
def test_what_no_file_can_compute_says_why(function: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=why):
        export_module(Function(function).eval(), MAP, tmp_path / "net.onnx")
