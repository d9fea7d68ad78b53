"""Training on another device is that on the CPU, bit by bit, and waits for it seldom."""

from __future__ import annotations

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
from tests.support.machines.fake_gpu import NAME, needs_fake_gpu, record_host_reads
from tests.support.machines.killed import Killed
from tests.support.tiny import MB36, tiny_data, tiny_space

pytestmark = needs_fake_gpu

GPU = Compute(device=NAME)
SPACE = tiny_space(MB36)
DATA = tiny_data(40)._replace(classes=3)
AUGMENTATIONS = {
    "shift": Augmentation(),
    "crop": Augmentation(min_crop_area=0.25, brightness=0.2, contrast=0.2, cutout=0.3),
    "mix": Augmentation(mixup=0.2, cutmix=1.0),
}
PLAN = TrainingPlan(epochs=2, batch_size=8, dropout=0.0)


def fresh(compute: Compute) -> Network:
    torch.manual_seed(0)
    return compute.place(build(SPACE.architecture(SPACE.default)))


def trained(compute: Compute, plan: TrainingPlan, teacher: nn.Module | None = None) -> Network:
    network = fresh(compute)
    train(network, DATA.placed(compute), plan, seed=0, teacher=teacher)
    return network


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
    plan = msgspec.structs.replace(
        PLAN, accumulate=2, ema=0.9, clip_norm=0.5, label_smoothing=0.1, decay_all=True
    )
    torch.manual_seed(1)
    teacher = build(SPACE.architecture(SPACE.default))
    expected = trained(CPU, plan, CPU.place(deepcopy(teacher)))
    assert_same(trained(GPU, plan, GPU.place(teacher)), expected)


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


def test_the_host_reads_sums_of_loss_and_accuracy_only_every_so_many_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And once for the weights at the end of an epoch, which must be finite."""
    monkeypatch.setattr(loop, "READ_STEPS", 2)
    network, data, counts = fresh(GPU), DATA.placed(GPU), list[int]()
    with record_host_reads() as reads:
        train(network, data, PLAN, 0, on_progress=lambda _: counts.append(len(reads)))
    assert set(reads) == {"_to_copy", "_local_scalar_dense"}
    # steps 2, 4 and 5 of each epoch, and one read between the epochs
    assert counts == [1, 2, 3, 5, 6, 7]
