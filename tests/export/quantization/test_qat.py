"""Quantisation-aware fine-tuning: it rounds as the int8 file does, and training adapts to it."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

from hwnas.architecture.block import Block
from hwnas.export.compile import compile_model
from hwnas.export.quantization.ptq import Int8
from hwnas.export.quantization.qat import FakeActivation, FakeWeight, quantisation_aware
from hwnas.export.verification.run_model import file_outputs
from hwnas.export.verification.verify import torch_outputs
from hwnas.nn.build import untrained
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tests.support.tiny import tiny_data

BLOCKS = (
    Block("conv", 1, 8, 3, 2, 1, 12),
    Block("mbconv", 8, 8, 3, 1, 3, 6),
    Block("mbconv", 8, 8, 3, 1, 3, 6, "hswish", True),
    Block("logits", 8, 3, 1, 1, 1, 6),
)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return untrained(BLOCKS)


def test_a_weight_is_rounded_by_at_most_half_a_step_of_its_channel() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 4, 3, 3) * torch.logspace(-3, 2, 6)[:, None, None, None]
    change = (FakeWeight(8)(weight) - weight).abs().flatten(1).amax(1)
    steps = weight.abs().flatten(1).amax(1) / 127
    assert (change <= steps * 0.501).all() and (change > 0.2 * steps).all()


def test_rounding_commutes_with_folding_the_norm() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5).eval()
    nn.init.uniform_(norm.weight, -2, 2)
    assert norm.running_mean is not None and norm.running_var is not None
    nn.init.uniform_(norm.running_var, 0.1, 3)
    rounding = FakeWeight(8)

    mean, variance = norm.running_mean, norm.running_var

    def folded(weight: torch.Tensor) -> torch.Tensor:
        return fuse_conv_bn_weights(weight, None, mean, variance, norm.eps, norm.weight, norm.bias)[
            0
        ]

    torch.testing.assert_close(folded(rounding(conv.weight)), rounding(folded(conv.weight)))


def test_an_activation_range_always_contains_zero() -> None:
    rounding = FakeActivation().train()
    got = rounding(torch.tensor([2.0, 5.0]))
    assert (rounding.low, rounding.high) == (0, 5)
    torch.testing.assert_close(got, torch.tensor([2.0, 5.0]), atol=5 / 255 / 2, rtol=0)
    assert rounding.eval()(torch.tensor([9.0])).item() == pytest.approx(5)


def test_afterwards_the_network_has_its_parameters_trained() -> None:
    network = small_network()
    names = list(network.state_dict())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with quantisation_aware(network) as rounded:
        assert any(parametrize.is_parametrized(part) for part in network.modules())
        train(rounded, tiny_data(), TrainingPlan(epochs=1, batch_size=16), seed=0)
    assert set(network.state_dict()) == set(names)
    assert not any(parametrize.is_parametrized(part) for part in network.modules())
    changed = [name for name in names if not torch.equal(before[name], network.state_dict()[name])]
    assert len(changed) > len(names) / 2


def test_the_rounded_network_is_closer_to_the_int8_file_than_float(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    data = tiny_data(96)
    network = small_network()
    train(network, data, TrainingPlan(epochs=6, batch_size=16, dropout=0), seed=0)
    network.eval()
    images = next(data.in_order())[0].numpy()
    path = tmp_path / "model.tflite"
    compile_model(network, (1, 12, 12), path, int8=Int8(images))
    file = file_outputs(path, images)
    plain = torch_outputs(network, images)
    with quantisation_aware(network) as rounded, torch.no_grad():
        for part in rounded.modules():
            part.training = isinstance(part, FakeActivation)  # observe ranges, keep norms
        rounded(torch.from_numpy(images))
        rounded.eval()
        got = rounded(torch.from_numpy(images)).numpy()
    assert np.abs(got - file).mean() < 0.85 * np.abs(plain - file).mean()


def test_maps_in_the_size_of_others_are_rounded_and_sizes_are_not() -> None:
    text = "avg_pool k2 s2 / conv 8 bias / sigmoid / resize from 3 0 / mul from 0 4"
    blocks = (*BLOCKS[:1], Block("piece", 8, 8, 1, 1, 1, 6, piece=text), *BLOCKS[3:])
    torch.manual_seed(0)
    network, images = untrained(blocks), next(tiny_data(8).in_order())[0]
    plain = network.eval()(images)
    with quantisation_aware(network) as rounded, torch.no_grad():
        rounded.train()
        rounded(images)
        got = rounded.eval()(images)
    assert 0 < (got - plain).abs().max() < 0.2 * plain.abs().max()


def remaining_loss(seed: int) -> float:
    """Return the loss with 2-bit weights after training with them, relative to before."""
    torch.manual_seed(seed)
    data, network = tiny_data(96), small_network()
    train(network, data, TrainingPlan(epochs=12, batch_size=16), seed=seed)
    plan = TrainingPlan(epochs=24, batch_size=16, peak_learning_rate=0.05)
    with quantisation_aware(network, weight_bits=2) as rounded:
        rounded.train()
        images, labels = next(data.in_order())
        with torch.no_grad():
            before = F.cross_entropy(rounded(images), labels).item()
        train(rounded, data, plan, seed=seed + 1)
        return F.cross_entropy(rounded(images), labels).item() / before


def test_training_reduces_the_loss_of_two_bit_weights() -> None:
    assert fmean(map(remaining_loss, range(4))) < 0.9
