"""Ranks that don't share the same work stop with one line; what ranks exchange, on any device."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import tests.support.machines.fake_gpu as fake_gpu
from hwnas.errors import UsageError
from hwnas.nn.build import build
from hwnas.nn.supernet import Supernet
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchPlan
from hwnas.search.proxyless.gradient import ProxylessGradient
from hwnas.training import distributed
from hwnas.training.compute import CPU, Compute
from hwnas.training.distributed import (
    RanksDiffer,
    average,
    average_gradients,
    check_alike,
    process_group,
    rank,
    ranks,
    synced_norms,
)
from hwnas.training.images.augment import Augmentation
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tests.support.machines.ranks import rank_environment, run_on_two_ranks
from tests.support.tiny import tiny_costs, tiny_data, tiny_space

SPACE = tiny_space(widths=(8, 16))
PLAN = TrainingPlan(
    epochs=2,
    batch_size=16,
    peak_learning_rate=0.05,
    dropout=0.0,
    augmentation=Augmentation(flip=False),
)


class OtherPaths(ProxylessGradient):
    """A search whose second rank draws other paths."""

    def _sample(self) -> list[int]:
        return [(choice + rank()) % 2 for choice in super()._sample()]


def search_other_paths(number: int) -> None:
    costs, generator = tiny_costs(SPACE), torch.Generator()
    strategy = OtherPaths(Supernet(SPACE), costs, 2.0, generator)
    plan = SearchPlan(warmup_epochs=1, search_epochs=1, batch_size=16)
    run_search(strategy, tiny_data(32), tiny_data(32), plan, 0, None)


def train_other_labels(number: int) -> None:
    data = tiny_data(32)
    train(network(), data._replace(labels=data.labels.roll(number)), PLAN, seed=0)


def train_more_images(number: int) -> None:
    train(network(), tiny_data(32 + 16 * number), PLAN, seed=0)


def average_on_both_devices(number: int) -> None:
    host, device = (nn.Parameter(torch.zeros(3, device=kind)) for kind in ("cpu", fake_gpu.NAME))
    without = nn.Parameter(torch.zeros(2))
    for factor, parameter in ((1.0, host), (10.0, device)):
        parameter.grad = torch.full_like(parameter, factor * (1 + number))
    average_gradients([host, without, device])
    assert host.grad is not None and device.grad is not None and without.grad is None
    assert host.grad.tolist() == [1.5] * 3
    assert device.grad.device.type == fake_gpu.NAME
    assert device.grad.cpu().tolist() == [15.0] * 3


def normalise_in_bf16(number: int) -> None:
    norm = nn.BatchNorm2d(2)
    images = torch.randn(8, 2, 3, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = nn.BatchNorm2d(2)(images.float())
    with synced_norms(norm):
        output = norm(images[4 * number : 4 * number + 4])
    assert output.dtype == torch.bfloat16
    mine = expected[4 * number : 4 * number + 4]
    torch.testing.assert_close(output.float(), mine, atol=0.02, rtol=0.01)
    assert norm.running_mean is not None and norm.running_mean.dtype == torch.float32
    torch.testing.assert_close(norm.running_mean, 0.1 * images.float().mean((0, 2, 3)))


def train_on_a_second_device(number: int) -> None:
    """The weights of two ranks are compared with those of this process alone."""
    together = trained_on(Compute(device=fake_gpu.NAME))
    with pytest.MonkeyPatch.context() as alone:
        alone.setattr("torch.distributed.is_initialized", lambda: False)
        assert ranks() == 1
        expected = trained_on(CPU)
    for value, other in zip(together.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(value.cpu(), other, rtol=2e-3, atol=2e-4)


def network() -> nn.Module:
    torch.manual_seed(7)
    return build(SPACE.architecture(SPACE.default))


def trained_on(compute: Compute) -> nn.Module:
    trained = compute.place(network())
    train(trained, tiny_data(32).placed(compute), PLAN, seed=0)
    return trained


STOPPED: dict[Callable[[int], None], str] = {
    search_other_paths: "rank 1 of 2: the paths of a step are not those of rank 0",
    train_other_labels: "rank 1 of 2: images or labels are not those of rank 0",
    train_more_images: "rank 1 of 2: images or labels are not those of rank 0",
}
ON_A_SECOND_DEVICE = average_on_both_devices, train_on_a_second_device


def on_rank(number: int, port: int, folder: Path) -> None:
    """Write the error of each function to a file with its name; an empty file: no error."""
    os.environ.update(rank_environment(number, port))
    with process_group():
        for function in (*STOPPED, normalise_in_bf16, *ON_A_SECOND_DEVICE):
            try:
                function(number)
                error = ""
            except (RanksDiffer, AssertionError, RuntimeError, NotImplementedError) as raised:
                error = str(raised)
            (folder / f"{function.__name__}-{number}").write_text(error)


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the errors; one start of two processes serves all tests, as it takes longer
    than their work."""
    folder = tmp_path_factory.mktemp("ranks")
    assert run_on_two_ranks(on_rank, folder) == [0, 0]
    return folder


@pytest.mark.parametrize("function", STOPPED, ids=lambda function: function.__name__)
def test_ranks_that_do_not_share_the_same_work_end_with_one_line(
    errors: Path, function: Callable[[int], None]
) -> None:
    for number in range(2):
        assert (errors / f"{function.__name__}-{number}").read_text() == STOPPED[function]


def test_a_synced_norm_computes_in_float32_and_keeps_the_type_of_its_input(errors: Path) -> None:
    for number in range(2):
        assert (errors / f"{normalise_in_bf16.__name__}-{number}").read_text() == ""


@fake_gpu.needs_fake_gpu
@pytest.mark.parametrize("function", ON_A_SECOND_DEVICE, ids=lambda function: function.__name__)
def test_tensors_of_a_device_that_gloo_does_not_know_are_summed_on_the_host(
    errors: Path, function: Callable[[int], None]
) -> None:
    for number in range(2):
        assert (errors / f"{function.__name__}-{number}").read_text() == ""


def test_a_process_alone_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_communicate", lambda call: pytest.fail("exchanged"))
    check_alike([1, 2], "values are")
    assert average([1.0, 2.0]) == [1.0, 2.0]
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = gradient = torch.ones(2)
    average_gradients([parameter])
    assert parameter.grad is gradient and gradient.tolist() == [1.0, 1.0]
    norm, images = nn.BatchNorm2d(1), torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    with synced_norms(norm):
        assert norm(images).flatten().tolist() == pytest.approx([-1.0, 1.0], abs=1e-4)


def test_a_norm_of_a_gpu_has_all_that_pytorchs_synchronised_norm_has() -> None:
    """That norm itself needs several GPUs."""
    norm, images = nn.BatchNorm2d(3), torch.randn(2, 3, 4, 4)
    distributed._sync(norm, on_cuda=True)
    assert type(norm) is nn.SyncBatchNorm
    assert vars(norm).keys() == vars(nn.SyncBatchNorm(3)).keys()
    torch.testing.assert_close(norm.eval()(images), nn.BatchNorm2d(3).eval()(images))


def test_a_rank_takes_the_gpu_of_its_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    message = "--device cuda:1: this rank has the GPU of its own number, cuda:0; expected"
    with pytest.raises(UsageError, match=message), process_group("cuda:1"):
        pass
