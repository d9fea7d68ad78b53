"""Mixed precision: what is cast, what stays float32, and how much it changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from hwnas.nn.build import Network, build
from hwnas.training import losses
from hwnas.training.checkpoint import load_checkpoint
from hwnas.training.compute import CPU, Compute, full_precision, load_scaler, scaler_state
from hwnas.training.evaluation import accuracy, recalibrate
from hwnas.training.images.loader import Data
from hwnas.training.log import EpochLog
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tests.support.tiny import MB33, tiny_data, tiny_space

BF16 = Compute(amp="bf16")
SPACE = tiny_space(MB33)
PLAN = TrainingPlan(epochs=1, batch_size=8, dropout=0.0)


def data_of(compute: Compute) -> Data:
    return tiny_data(40).placed(compute)


def fresh() -> Network:
    torch.manual_seed(0)
    return build(SPACE.architecture(SPACE.default))


@contextmanager
def recorded_types(network: nn.Module, kind: type[nn.Module]) -> Iterator[set[torch.dtype]]:
    """Yield a set that gets the types of the outputs of all modules of a kind."""
    types = set[torch.dtype]()
    handles = [
        part.register_forward_hook(lambda _, __, output: types.add(output.dtype))
        for part in network.modules()
        if isinstance(part, kind)
    ]
    yield types
    for handle in handles:
        handle.remove()


def test_convolutions_are_computed_in_bf16_and_all_that_is_kept_is_float32(
    tmp_path: Path,
) -> None:
    network, path = fresh(), tmp_path / "a.safetensors"
    with recorded_types(network, nn.Conv2d) as types, recorded_types(network, nn.Linear) as logits:
        train(network, data_of(BF16), PLAN, 0, path)
    assert types == logits == {torch.bfloat16}
    state = load_checkpoint(path)[0]
    floats = {value.dtype for value in state.values() if value.is_floating_point()}
    assert floats == {torch.float32}
    assert any(name.startswith("momentum.") for name in state)


def test_losses_are_computed_from_float32_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    types = set[torch.dtype]()
    cross_entropy = nn.functional.cross_entropy

    def recorded(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        loss = cross_entropy(logits, labels, label_smoothing=label_smoothing)
        types.update((logits.dtype, loss.dtype))
        return loss

    monkeypatch.setattr(losses.F, "cross_entropy", recorded)
    train(fresh(), data_of(BF16), PLAN, 0)
    assert types == {torch.float32}


def test_training_in_bf16_is_near_that_in_float32() -> None:
    losses: list[float] = []
    for compute in (CPU, BF16):
        network, logs = fresh(), list[EpochLog]()
        train(network, data_of(compute), PLAN, 0, on_epoch=logs.append)
        losses.append(logs[-1].loss)
    assert losses[1] == pytest.approx(losses[0], rel=3e-2)
    assert losses[1] != losses[0]


def test_evaluation_is_in_bf16_and_recalibration_in_float32() -> None:
    network = fresh()
    with recorded_types(network, nn.Conv2d) as types:
        accuracy(network, data_of(BF16))
    assert types == {torch.bfloat16}
    with recorded_types(network, nn.Conv2d) as types:
        recalibrate(network, data_of(BF16))
    assert types == {torch.float32}


def test_full_precision_changes_half_types_only() -> None:
    for kind in (torch.bfloat16, torch.float16):
        assert full_precision(torch.ones(2, dtype=kind)).dtype == torch.float32
    for kind in (torch.float32, torch.float64):
        values = torch.ones(2, dtype=kind)
        assert full_precision(values) is values


def test_only_fp16_scales_the_loss() -> None:
    assert [Compute(amp=amp).scaler().is_enabled() for amp in ("none", "bf16", "fp16")] == [
        False,
        False,
        True,
    ]
    assert scaler_state(BF16.scaler()) == {}


def scaled_steps(scaler: torch.amp.GradScaler, count: int) -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], 0.1)
    for _ in range(count):
        scaler.scale(weight.sum()).backward()
        scaler.step(optimizer)
        scaler.update()


def test_a_scale_grows_after_as_many_steps_resumed_or_not() -> None:
    def scaler() -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=3)

    first, resumed = scaler(), scaler()
    scaled_steps(first, 5)
    load_scaler(resumed, scaler_state(first))
    assert resumed.get_scale() == first.get_scale() == 8.0
    scaled_steps(resumed, 1)
    assert resumed.get_scale() == 16.0


def test_a_training_in_fp16_leaves_its_scale_in_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    fp16 = Compute(amp="fp16")
    train(fresh(), data_of(fp16), msgspec.structs.replace(PLAN, epochs=2), 0, path)
    scale, steps = load_checkpoint(path)[0]["scale"].tolist()
    assert scale <= 2.0**16 and steps <= 10
    network = fresh()
    train(network, data_of(fp16), msgspec.structs.replace(PLAN, epochs=2), 0, path)
    assert all(value.isfinite().all() for value in network.state_dict().values())
