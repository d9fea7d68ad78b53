"""Training on another device is that on the CPU, bit by bit, and waits for it seldom."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from hwnas.nn.build import Network, build
from hwnas.training import loop
from hwnas.training.checkpoint import load_checkpoint, read_place
from hwnas.training.compute import CPU, Compute
from hwnas.training.evaluation import accuracy, recalibrate
from hwnas.training.images.augment import Augmentation
from hwnas.training.log import EpochLog
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tests.support.machines.fake_gpu import (
    NAME,
    needs_fake_gpu,
    record_host_reads,
    refuse_float64,
)
from tests.support.machines.killed import Killed
from tests.support.tiny import MB36, tiny_data, tiny_space

pytestmark = needs_fake_gpu

GPU = Compute(device=NAME)
SPACE = tiny_space(MB36)
DATA = tiny_data(40)._replace(classes=3)
AUGMENTATIONS = {
    "shift": Augmentation(),
    "crop": Augmentation(
        min_crop_area=0.25, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1, cutout=0.3
    ),
    "mix": Augmentation(mixup=0.2, cutmix=1.0),
}
PLAN = TrainingPlan(epochs=2, batch_size=8, dropout=0.0)
EVERY_OPTION = TrainingPlan(
    epochs=2,
    batch_size=8,
    dropout=0.0,
    accumulate=2,
    ema=0.9,
    clip_norm=0.5,
    label_smoothing=0.1,
    decay_all=True,
    small_share=0.5,
    whole_share=0.3,
    layer_decay=0.9,
    head_rate=2.0,
    probe=True,
    frozen_norms=True,
    class_weights="balanced",
)


@pytest.fixture(autouse=True)
def no_float64() -> Iterator[None]:
    """Architectures and sums may need float64, but on the host: MPS devices have none."""
    with refuse_float64():
        yield


def fresh(compute: Compute) -> Network:
    torch.manual_seed(0)
    return compute.place(build(SPACE.architecture(SPACE.default)))


def trained(compute: Compute, plan: TrainingPlan, teacher: nn.Module | None = None) -> Network:
    network = fresh(compute)
    train(network, DATA.placed(compute), plan, seed=0, teacher=teacher)
    return network


def other_network() -> Network:
    torch.manual_seed(1)
    return build(SPACE.architecture(SPACE.default))


def assert_same(ours: nn.Module, expected: nn.Module) -> None:
    weights = expected.state_dict()
    for name, value in ours.state_dict().items():
        assert torch.equal(value.cpu(), weights[name].cpu()), name


@pytest.mark.parametrize("kind", AUGMENTATIONS)
@pytest.mark.parametrize("on_device", [True, False], ids=["on the device", "on the host"])
def test_training_is_that_of_the_cpu_wherever_the_images_are(
    kind: str, on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = msgspec.structs.replace(PLAN, augmentation=AUGMENTATIONS[kind])
    expected = trained(CPU, plan)
    if not on_device:
        monkeypatch.setattr("hwnas.training.images.loader.DEVICE_SHARE", 0.0)
    images = DATA.placed(GPU).images
    assert isinstance(images, Tensor) and images.device.type == (NAME if on_device else "cpu")
    assert_same(trained(GPU, plan), expected)


def test_images_come_back_from_the_device() -> None:
    back = DATA.placed(GPU).placed(CPU)
    assert isinstance(back.images, Tensor) and back.images.device.type == "cpu"
    for batch, expected in zip(back.in_order(), DATA.in_order(), strict=True):
        assert all(map(torch.equal, batch, expected))


def test_every_option_of_a_plan_computes_the_same_there() -> None:
    teacher = other_network()
    expected = trained(CPU, EVERY_OPTION, CPU.place(deepcopy(teacher)))
    assert_same(trained(GPU, EVERY_OPTION, GPU.place(teacher)), expected)


def test_the_best_epoch_is_that_of_the_cpu() -> None:
    networks: list[Network] = []
    for compute in (CPU, GPU):
        networks.append(fresh(compute))
        data, plan = DATA.placed(compute), msgspec.structs.replace(PLAN, patience=1)
        train(networks[-1], data, plan, seed=0, valid=tiny_data(20).placed(compute))
    assert_same(networks[1], networks[0])


def test_accuracy_and_recalibrated_statistics_are_those_of_the_cpu() -> None:
    on_cpu, on_gpu = (trained(compute, PLAN) for compute in (CPU, GPU))
    assert accuracy(on_gpu, DATA.placed(GPU)) == accuracy(on_cpu, DATA)
    before = deepcopy(on_cpu)
    recalibrate(on_cpu, DATA)
    recalibrate(on_gpu, DATA.placed(GPU))
    assert_same(on_gpu, on_cpu)
    with pytest.raises(AssertionError):
        assert_same(on_cpu, before)


def test_evaluation_reads_the_device_once() -> None:
    network, data = fresh(GPU), tiny_data(520).placed(GPU)
    with record_host_reads() as reads:
        accuracy(network, data)
    assert reads == ["_local_scalar_dense"]
    with record_host_reads() as reads:
        recalibrate(network, data)
    assert reads == []


def cut(network: nn.Module, checkpoint: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until a step that fails; every step before it has left a checkpoint."""
    passes = iter(range(step + 1))

    def die_at_last(*_: object) -> None:
        if next(passes) == step:
            raise Killed

    network.register_forward_pre_hook(die_at_last)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "CHECKPOINT_INTERVAL_S", 0.0)
        patch.setattr(loop, "READ_STEPS", 1)
        device = next(network.parameters()).device.type
        data = DATA.placed(CPU if device == "cpu" else GPU)
        train(network, data, PLAN, 0, checkpoint)


@pytest.mark.parametrize("step", [3, 5, 7])
@pytest.mark.parametrize(
    ("first", "then"), [(GPU, GPU), (GPU, CPU), (CPU, GPU)], ids=["there", "back", "forth"]
)
def test_a_training_that_was_cut_off_within_an_epoch_ends_as_the_undisturbed_one(
    first: Compute, then: Compute, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the device, or on the other one."""
    expected, checkpoint = trained(CPU, PLAN), tmp_path / "a.safetensors"
    cut(fresh(first), checkpoint, step, monkeypatch)
    notes = load_checkpoint(checkpoint)[1]
    assert read_place(notes).step == step
    network, logs = fresh(then), list[EpochLog]()
    train(network, DATA.placed(then), PLAN, 0, checkpoint, logs.append)
    assert_same(network, expected)
    assert [log.epoch for log in logs] == list(range(step // 5 + 1, PLAN.epochs + 1))


@pytest.mark.parametrize("on_device", [True, False], ids=["on the device", "on the host"])
@pytest.mark.parametrize("kind", [*AUGMENTATIONS, "every option"])
def test_the_host_waits_for_sums_of_loss_and_accuracy_only_every_so_many_steps(
    kind: str, on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once for the weights at the end of an epoch, which must be finite."""
    monkeypatch.setattr(loop, "READ_STEPS", 2)
    monkeypatch.setattr(loop, "CHECKPOINT_INTERVAL_S", math.inf)
    if not on_device:
        monkeypatch.setattr("hwnas.training.images.loader.DEVICE_SHARE", 0.0)
    plan, teacher = EVERY_OPTION, GPU.place(other_network())
    if kind in AUGMENTATIONS:
        plan, teacher = msgspec.structs.replace(PLAN, augmentation=AUGMENTATIONS[kind]), None
    network, data, counts = fresh(GPU), DATA.placed(GPU), list[int]()
    with record_host_reads() as reads:
        train(
            network,
            data,
            plan,
            0,
            teacher=teacher,
            on_progress=lambda _: counts.append(len(reads)),
        )
    # steps 2, 4 and 5 of each epoch, and one read between the epochs
    first = counts[0]  # after what a training does before its first step
    assert [count - first for count in counts] == [0, 1, 2, 4, 5, 6]
    assert set(reads[first - 1 :]) == {"_to_copy", "_local_scalar_dense"}
