"""A trained network is tuned, cut and trained further on another device as on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.latency_models.cost import NetworkCosts
from hwnas.nn.build import build
from hwnas.nn.elastic.norms import reestimate
from hwnas.nn.elastic.slices import NO_SLICES, TrainedSlices
from hwnas.search.elastic.strategy import Elastic
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.strategy import SearchContext
from hwnas.spaces.elastic.space import elastic_space
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.compute import CPU, Compute
from hwnas.training.images.augment import Augmentation
from hwnas.training.images.loader import Data
from hwnas.training.job import Teacher, TrainingJob, TrainingResult, run_job
from hwnas.training.plan import TrainingPlan
from tests.support.machines.fake_gpu import NAME, needs_fake_gpu, refuse_float64

pytestmark = needs_fake_gpu

GPU = Compute(device=NAME)
SIZE = 40
HALF, QUARTER = SIZE // 2, SIZE // 4
STEM = Block("conv", 3, 16, 3, 2, 1, SIZE, "relu")
FAMILIES: dict[str, tuple[Block, ...]] = {
    "mobile": (
        STEM,
        Block("mbconv", 16, 16, 5, 1, 3, HALF, "hswish", True),
        Block("fused_mbconv", 16, 16, 3, 1, 3, HALF),
        Block("uib", 16, 16, 3, 1, 3, HALF, "relu", start_kernel_size=5),
        Block("logits", 16, 4, 1, 1, 1, HALF),
    ),
    "resnet": (
        STEM,
        Block("basic", 16, 16, 3, 1, 1, HALF, "relu"),
        Block("bottleneck", 16, 24, 3, 2, 1, HALF, "relu", group_width=8),
        Block("basic_se", 24, 24, 3, 1, 1, QUARTER, "relu", True, gate="sigmoid"),
        Block("logits", 24, 4, 1, 1, 1, QUARTER),
    ),
    "convnext": (
        Block("conv_bn", 3, 16, 2, 2, 1, SIZE),
        Block("layer_norm", 16, 16, 1, 1, 1, HALF),
        Block("convnext", 16, 16, 7, 1, 3, HALF, "gelu"),
        Block("global_pool", 16, 16, 1, 1, 1, HALF),
        Block("logits", 16, 4, 1, 1, 1, 1),
    ),
    "vgg": (
        Block("double_conv", 3, 16, 3, 2, 4, SIZE, "relu"),
        Block("double_conv", 16, 16, 3, 1, 1.5, HALF, "relu"),
        Block("hidden", 16, 12, 4, 1, 1, HALF, "relu"),
        Block("logits", 12, 4, 1, 1, 1, 1),
    ),
    "shufflenet": (
        STEM,
        Block("shuffle_unit", 16, 16, 3, 1, 1, HALF, "relu"),
        Block("logits", 16, 4, 1, 1, 1, HALF),
    ),
    "ofa": (
        STEM,
        Block("mbconv", 16, 16, 7, 1, 3, HALF, "hswish", True),
        Block("bottleneck", 16, 24, 3, 2, 1, HALF, "relu"),
        Block("logits", 24, 4, 1, 1, 1, QUARTER),
    ),
}
SLICES: dict[str, TrainedSlices] = {
    "ofa": {1: {size: torch.eye(size**2) for size in (5, 3)}, 2: {}},
}
PLAN = TrainingPlan(
    epochs=2,
    batch_size=8,
    peak_learning_rate=0.01,
    dropout=0.0,
    augmentation=Augmentation(min_crop_area=0.6, brightness=0.2, saturation=0.2),
    ema=0.9,
    clip_norm=5.0,
    layer_decay=0.9,
    probe=True,
    frozen_norms=True,
    patience=2,
)


@pytest.fixture(autouse=True)
def no_float64() -> Iterator[None]:
    """Closed forms need float64, but on the host: MPS devices have none."""
    with refuse_float64():
        yield


def photos(count: int, seed: int) -> Data:
    """Colour noise in which the label decides which channel is brighter."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    size = (count, 3, SIZE, SIZE)
    images = torch.randint(0, 150, size, generator=generator, dtype=torch.uint8)
    for label in range(3):
        images[labels == label, label] += 100
    channel = (3, 1, 1)
    return Data(
        images.contiguous(memory_format=torch.channels_last),
        labels,
        torch.full(channel, 0.35),
        torch.full(channel, 0.25),
        4,
    )


TRAIN, VALID = photos(24, 0), photos(16, 1)


def original(family: str) -> Architecture:
    return Architecture(Genotype(family, ()), FAMILIES[family], (3, SIZE, SIZE), 4)


def searched(family: str, compute: Compute, folder: Path) -> Elastic:
    """Tune the network of a family and measure its cuts."""
    torch.manual_seed(0)
    network = build(original(family))
    reestimate(network, (images for images, _ in TRAIN.in_order()))
    space = elastic_space(family, original(family))
    context = SearchContext(
        space=space,
        costs=NetworkCosts(space, lambda blocks: {b: b.macs / 1e6 for b in blocks}, 0.01),
        budget_ms=1.0,
        generator=torch.Generator(),
        weights=network.state_dict(),
        slices=SLICES.get(family, NO_SLICES),
        compute=compute,
    )
    strategy = Elastic.begin(context)
    files = SearchFiles.of_run(folder)
    files.log.parent.mkdir(parents=True)
    train, valid = (part.placed(compute) for part in (TRAIN, VALID))
    strategy.search(train, valid, SearchPlan(tuning=PLAN), 0, files)
    return strategy


def chosen(strategy: Elastic) -> list[Genotype]:
    costs = strategy.costs
    return strategy.candidates(2, 0.0, 0.9 * costs.largest_ms, 0)


def trained_member(
    strategy: Elastic, member: Genotype, compute: Compute, folder: Path
) -> TrainingResult:
    """Train a member in a lower resolution, with the whole network as its teacher."""
    folder.mkdir()
    architecture = strategy.space.architecture(member)
    save_checkpoint(folder / "initial.safetensors", strategy.network(member).state_dict(), {})
    whole = strategy.network(strategy.space.largest)
    save_checkpoint(folder / "teacher.safetensors", whole.state_dict(), {})
    job = TrainingJob(
        architecture=architecture,
        data="",
        plan=msgspec.structs.replace(PLAN, frozen_norms=False, class_weights="balanced"),
        initial="initial.safetensors",
        teacher=Teacher(strategy.space.original),
        compute=compute,
    )
    size = architecture.input_shape[1]
    smaller = VALID._replace(images=VALID.tensors()[0][:, :, :size, :size])
    return run_job(job, folder, images=(TRAIN.placed(compute), smaller.placed(compute)))


def assert_same(ours: nn.Module, expected: nn.Module) -> None:
    weights = expected.state_dict()
    for name, value in ours.state_dict().items():
        assert torch.equal(value.cpu(), weights[name].cpu()), name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_tuned_and_cut_as_on_the_cpu(family: str, tmp_path: Path) -> None:
    on_cpu, on_gpu = (searched(family, compute, tmp_path / compute.kind) for compute in (CPU, GPU))
    assert on_gpu.increments == on_cpu.increments
    members = chosen(on_cpu)
    assert members and chosen(on_gpu) == members
    assert {value.device.type for value in on_gpu.network(members[0]).state_dict().values()} == {
        NAME
    }
    assert_same(on_gpu.network(members[0]), on_cpu.network(members[0]))


def test_a_member_is_trained_with_a_teacher_as_on_the_cpu(tmp_path: Path) -> None:
    results: list[TrainingResult] = []
    for compute in (CPU, GPU):
        strategy = searched("mobile", compute, tmp_path / compute.kind)
        member = strategy.space.smallest
        assert strategy.space.architecture(member).input_shape[1] < SIZE
        results.append(trained_member(strategy, member, compute, tmp_path / f"{compute.kind}-job"))
    on_cpu, on_gpu = (msgspec.structs.replace(each, seconds=0, loss=0) for each in results)
    assert on_gpu == on_cpu
    # the device sums the losses of many steps in float32
    assert results[1].loss == pytest.approx(results[0].loss, rel=1e-5)
    ours, expected = (
        load_checkpoint(tmp_path / f"{compute.kind}-job" / "network.safetensors")[0]
        for compute in (GPU, CPU)
    )
    assert all(torch.equal(value, expected[name]) for name, value in ours.items())
