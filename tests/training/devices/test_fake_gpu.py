"""The fake GPU of the tests computes as the CPU does and refuses what CUDA refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.machines.fake_gpu import (
    BLOCKING_COPY,
    NAME,
    needs_fake_gpu,
    record_host_reads,
    refuse_float64,
)

pytestmark = needs_fake_gpu

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: list[Optimizer] = [
    lambda parameters: torch.optim.SGD(parameters, 0.1, 0.9, nesterov=True),
    lambda parameters: torch.optim.Adam(parameters, 0.01),
]


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(8, 3),
    )


def train_steps(network: nn.Module, optimizer: torch.optim.Optimizer, device: str) -> None:
    torch.manual_seed(1)
    images = torch.randn(6, 3, 5, 5).to(device, non_blocking=True)
    labels = (torch.arange(6) % 3).to(device, non_blocking=True)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels, label_smoothing=0.1).backward()
        optimizer.step()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_gives_the_weights_of_the_cpu_bit_by_bit(optimizer: Optimizer) -> None:
    on_cpu = small_network()
    before = deepcopy(on_cpu.state_dict())
    on_gpu = deepcopy(on_cpu).to(NAME)
    train_steps(on_cpu, optimizer(on_cpu.parameters()), "cpu")
    train_steps(on_gpu, optimizer(on_gpu.parameters()), NAME)
    for name, value in on_gpu.state_dict().items():
        assert value.device.type == NAME
        assert torch.equal(value.cpu(), on_cpu.state_dict()[name])
    assert not torch.equal(before["0.weight"], on_cpu.state_dict()["0.weight"])


def test_moving_a_network_keeps_its_parameters_and_its_memory_format() -> None:
    network = small_network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = list(network.parameters())
    network.to(NAME)
    assert all(now is then for now, then in zip(network.parameters(), parameters, strict=True))
    assert parameters[0].device.type == NAME
    assert parameters[0].is_contiguous(memory_format=torch.channels_last)


def test_a_state_dict_survives_the_way_to_the_device_and_back() -> None:
    source, target = small_network(), small_network().to(NAME)
    for value in source.state_dict().values():
        value.add_(1)
    target.load_state_dict(source.state_dict())
    for name, value in target.state_dict().items():
        assert torch.equal(value.cpu(), source.state_dict()[name])


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, other: x + other,
        lambda x, other: other * x,
        lambda x, other: torch.cat((x, other)),
        lambda x, other: F.linear(x, other),
        lambda x, other: other[x.long()],
    ],
)
def test_tensors_of_both_devices_do_not_mix(operation: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(RuntimeError, match="expected all tensors on fakegpu"):
        operation(torch.ones(2, 2, device=NAME), torch.ones(2, 2))


def test_scalars_and_indices_of_the_cpu_are_taken_as_on_cuda() -> None:
    x = torch.arange(4.0, device=NAME)
    assert (x * torch.tensor(2.0)).tolist() == [0, 2, 4, 6]
    assert x[torch.tensor([3, 1])].tolist() == [3, 1]
    x[torch.tensor([0])] = 5.0
    assert x.tolist() == [5, 1, 2, 3]


def test_a_generator_of_the_cpu_is_refused() -> None:
    with pytest.raises(RuntimeError, match="expected a generator on fakegpu, got one on cpu"):
        torch.multinomial(torch.ones(3, device=NAME), 1, generator=torch.Generator())


def test_operations_that_wait_for_the_device_are_recorded() -> None:
    x = torch.arange(3.0, device=NAME)
    with record_host_reads() as reads:
        x[0].item()
        x.tolist()
        x[x > 1]
        torch.empty(3).copy_(x)
    assert reads == ["_local_scalar_dense", "_to_copy", "index", "copy_"]


def test_copies_to_the_device_for_which_the_host_waits_are_recorded() -> None:
    x, host = torch.arange(3.0, device=NAME), torch.ones(3)
    with record_host_reads() as reads:
        host.to(NAME)
        torch.tensor([1.0, 2.0], device=NAME)
        x.copy_(host)
        x[torch.tensor([2, 0])]
    assert reads == [BLOCKING_COPY] * 4
    with record_host_reads() as reads:
        host.to(NAME, non_blocking=True)
        x.copy_(host, non_blocking=True)
        x[torch.arange(2, device=NAME)]
    assert reads == []


def test_float64_is_refused_on_demand() -> None:
    x = torch.ones(2, device=NAME)
    assert x.double().dtype == torch.float64
    with refuse_float64():
        with pytest.raises(TypeError, match=r"fakegpu has no torch\.float64"):
            x.double()
        with pytest.raises(TypeError, match=r"fakegpu has no torch\.float64"):
            torch.ones(2, dtype=torch.float64).to(NAME)
        assert (x + 1).tolist() == [2, 2]


def test_a_training_step_is_not_recorded() -> None:
    network = small_network().to(NAME)
    with record_host_reads() as reads:
        train_steps(network, OPTIMIZERS[0](network.parameters()), NAME)
    assert reads == []
