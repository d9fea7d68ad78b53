"""A file of unknown origin is compared by the limits of its precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.architecture.artifact import Format
from hwnas.errors import ExportError
from hwnas.export.compile import compile_model
from hwnas.export.metadata.precision import precision_of
from hwnas.export.quantization.ptq import Int8
from hwnas.export.verification.images import Verification
from hwnas.export.verify_file import verify_file
from tests.export.test_parity import both

pytest.importorskip("ai_edge_quantizer")

SHAPE = (3, 12, 12)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def network(seed: int) -> nn.Sequential:
    """Return a network of odd operations that predicts its classes equally often."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.PReLU(8), nn.Conv2d(8, 8, 3, 1, 1, groups=2), nn.Mish(),
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.AvgPool2d(3, 2, 1), nn.Softsign(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3), nn.Softmax(1),
    )  # fmt: skip
    net.eval()
    with torch.no_grad():
        logits = net[:-1](torch.from_numpy(images(64)))
        head = net[-2]
        assert isinstance(head, nn.Linear)
        head.weight /= logits.std(0)[:, None]
        head.bias.copy_((head.bias - logits.mean(0)) / logits.std(0))
    return net


@both
def test_an_int8_file_is_judged_by_the_limits_of_int8(format: Format, tmp_path: Path) -> None:
    path = tmp_path / f"net.{format}"
    compile_model(network(0), SHAPE, path, int8=Int8(images(64)))
    assert precision_of(path) == "int8"
    parity = verify_file(path, network(0), Verification(images(64, 1)))
    assert parity.max_relative_error > 1e-4
    assert parity.sqnr_db is not None and parity.sqnr_db > 15
    assert parity.label_agreement is not None and parity.label_agreement > 0.8


@both
def test_the_int8_file_of_another_network_is_exit_4_with_the_layer(
    format: Format, tmp_path: Path
) -> None:
    path = tmp_path / f"net.{format}"
    compile_model(network(0), SHAPE, path, int8=Int8(images(64)))
    message = r"net\.\w+: the int8 file .*; the first layer that differs is 0, with a signal-to-no"
    with pytest.raises(ExportError, match=message) as caught:
        verify_file(path, network(1), Verification(images(64, 1)))
    assert caught.value.exit_code == 4


@both
def test_the_layer_that_was_changed_in_an_int8_file_is_named(
    format: Format, tmp_path: Path
) -> None:
    path, changed = tmp_path / f"net.{format}", network(0)
    compile_model(changed, SHAPE, path, int8=Int8(images(64)))
    convolution = changed[2]
    assert isinstance(convolution, nn.Conv2d)
    convolution.weight.data.neg_()
    with pytest.raises(ExportError, match="the first layer that differs is 2, with"):
        verify_file(path, changed, Verification(images(64, 1)))


@both
def test_a_float32_file_is_judged_by_the_limit_of_float32(format: Format, tmp_path: Path) -> None:
    path, net = tmp_path / f"net.{format}", network(0)
    compile_model(net, SHAPE, path)
    assert precision_of(path) == "fp32"
    assert verify_file(path, net, Verification(images(4))).sqnr_db is None
    head = net[-2]
    assert isinstance(head, nn.Linear)
    head.bias.data[0] += 0.1
    with pytest.raises(ExportError, match=r"differs from PyTorch by .* the limit is 0.0001"):
        verify_file(path, net, Verification(images(4)))
