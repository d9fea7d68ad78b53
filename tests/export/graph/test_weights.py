"""Conversion of a module's weights to the arrays of the graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.export.graph import weights
from hwnas.export.graph.nodes import Conv, Linear
from hwnas.export.graph.trace import trace


def test_weights_scaled_in_chunks_equal_weights_scaled_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((7, 5, 3, 3)).astype(np.float32)
    scale = rng.random((7, 1, 1, 1)) * 10.0 ** np.arange(-42, 0, 6).reshape(-1, 1, 1, 1)
    monkeypatch.setattr(weights, "CHUNK_WEIGHTS", 100)  # two rows
    scaled = weights.scale_weights(values, scale)
    np.testing.assert_array_equal(scaled, weights.flush_denormals(values * scale))
    assert not scaled[0].any()  # denormals become zeros


def test_later_changes_of_the_module_do_not_change_the_graph() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    graph = trace(module, (3, 3, 3))
    conv, *_, linear = graph.nodes
    assert isinstance(conv, Conv) and isinstance(linear, Linear)
    before = conv.weight.copy(), conv.bias.copy(), linear.weight.copy(), linear.bias.copy()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    after = conv.weight, conv.bias, linear.weight, linear.bias
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
