"""A CUDA device computes what the CPU computes, and repeats it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hwnas.nn.build import build
from hwnas.specialize.setup.work.synthetic import Workload, begin_synthetic_search, synthetic_data
from hwnas.training.compute import CPU, Compute, resolve_compute
from hwnas.training.images.augment import Augmentation
from hwnas.training.log import EpochLog
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tests.support.machines.killed import Killed
from tools.bench.gpu.agreement import TOLERANCES, compare, works
from tools.bench.gpu.scale import Scale

pytestmark = pytest.mark.gpu

GPU = Compute("cuda:0")
WORKLOAD = Workload((3, 32, 32), 10, batch_size=16, epoch_images=64)
PLAN = TrainingPlan(epochs=2, batch_size=16, augmentation=Augmentation(brightness=0.2))


def trained(
    compute: Compute, checkpoint: Path | None = None, killed_after: int = 0
) -> dict[str, Tensor]:
    compute.start()
    torch.manual_seed(0)
    space = WORKLOAD.space
    network = compute.place(build(space.architecture(space.default)))

    def on_epoch(line: EpochLog) -> None:
        if line.epoch == killed_after:
            raise Killed

    train(network, synthetic_data(WORKLOAD, compute), PLAN, 0, checkpoint, on_epoch)
    return {name: value.cpu() for name, value in network.state_dict().items()}


def test_a_training_gives_the_same_weights_twice() -> None:
    first, second = trained(GPU), trained(GPU)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_training_that_is_killed_and_resumed_gives_the_same_weights(tmp_path: Path) -> None:
    path, expected = tmp_path / "checkpoint.safetensors", trained(GPU)
    with pytest.raises(Killed):
        trained(GPU, path, killed_after=1)
    assert all(torch.equal(value, expected[name]) for name, value in trained(GPU, path).items())


@pytest.mark.parametrize("title", list(works(Scale("cuda:0", small=True))))
def test_it_agrees_with_the_cpu_in_float64(title: str) -> None:
    scale = Scale("cuda:0", small=True)
    in_float64, _ = compare(title, works(scale)[title], scale)
    assert in_float64["difference"] <= 1e3 * TOLERANCES["float64"]


def test_auto_is_the_first_cuda_device() -> None:
    assert resolve_compute().device == "cuda:0"


@pytest.mark.parametrize("estimator", ["full", "two"])
def test_architecture_parameters_stay_on_the_host_in_bf16(estimator: str) -> None:
    compute = Compute("cuda:0", "bf16") if torch.cuda.is_bf16_supported() else GPU
    search = begin_synthetic_search(WORKLOAD.space, compute, estimator)  # type: ignore[arg-type]
    batch = next(synthetic_data(WORKLOAD, compute).in_order(16))
    search.weight_step(batch, 0.01)
    assert search.architecture_step(batch) is not None
    assert search.arch_logits.device == torch.device(CPU.device)
    assert bool(search.arch_logits.isfinite().all())
