"""A search on another device is that on the CPU, and waits for it seldom."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hwnas.latency_models.cost import cost_table
from hwnas.search import loop
from hwnas.search.blackbox.random import RandomSearch
from hwnas.search.cells import early_stopping
from hwnas.search.cells.darts import Darts, DartsSecond
from hwnas.search.cells.ista.one_stage import IstaOneStage
from hwnas.search.cells.ista.two_stage import Ista
from hwnas.search.cells.pc_darts import PartialDarts
from hwnas.search.log import LogLine, OnLine
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.proxyless.gradient import ProxylessGradient, ProxylessOptions
from hwnas.search.proxyless.reinforce import Reinforce
from hwnas.search.strategy import SearchContext, StepResult
from hwnas.spaces.cells.space import CellSpace
from hwnas.training.checkpoint import load_checkpoint
from hwnas.training.compute import CPU, Compute
from hwnas.training.evaluation import accuracy
from hwnas.training.images.loader import Batch, Data
from tests.support.machines.fake_gpu import (
    NAME,
    needs_fake_gpu,
    record_host_reads,
    refuse_float64,
)
from tests.support.machines.killed import Killed
from tests.support.networks.eas_search import Searched
from tests.support.tiny import MB33, MB36, tiny_costs, tiny_data, tiny_space

pytestmark = needs_fake_gpu

GPU = Compute(device=NAME)
CHAIN = tiny_space(MB33, MB36)
OPS = ("skip_connect", "sep_conv_3x3", "max_pool_3x3")
CELLS, WIDE_CELLS = (
    CellSpace("cells-norm", (1, 8, 8), 3, channels, 3, "cifar", "pool and skip", OPS, 2)
    for channels in (4, 8)
)
PLAN = SearchPlan(warmup_epochs=1, search_epochs=1, batch_size=8, weight_steps=1)
TRAIN, VALID = tiny_data(40), tiny_data(16, seed=1)
EPOCHS, ARCH_STEPS = 2, 5
FEW_TRAIN, FEW_VALID = tiny_data(16, 8), tiny_data(8, 8, seed=1)

STRATEGIES = {
    "full": (ProxylessGradient, CHAIN),
    "two": (ProxylessGradient, CHAIN),
    "reinforce": (Reinforce, CHAIN),
    "random": (RandomSearch, CHAIN),
    "cells full": (ProxylessGradient, CELLS),
    "darts": (Darts, CELLS),
    "darts-2": (DartsSecond, CELLS),
    "pc-darts": (PartialDarts, WIDE_CELLS),
    "ista": (Ista, CELLS),
    "ista-one-stage": (IstaOneStage, CELLS),
}
each = pytest.mark.parametrize("name", STRATEGIES)
GRADIENTS = {"full": 2, "darts": 3, "ista": 2, "reinforce": 1, "random": 0, "ista-one-stage": 0}
"""What an architecture step copies to the host: gradients of what the host computes, or rewards."""

SECOND_DERIVATIVES = ("darts", "darts-2", "pc-darts")
"""Their eigenvalues are of a backward pass twice, which sums in another order."""

Strategy = ProxylessGradient | RandomSearch | Darts | Ista


@pytest.fixture(autouse=True)
def short_power_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The curvature of DARTS takes most of the time of its search."""
    monkeypatch.setattr(early_stopping, "POWER_STEPS", 2)


@pytest.fixture(autouse=True)
def no_float64() -> Iterator[None]:
    """Architectures and sums may need float64, but on the host: MPS devices have none."""
    with refuse_float64():
        yield


def started(name: str, compute: Compute) -> Strategy:
    kind, space = STRATEGIES[name]
    chain = space is CHAIN
    torch.manual_seed(0)
    context = SearchContext(
        space=space,
        costs=tiny_costs(CHAIN) if chain else cost_table(space, lambda b: 1e-6 * b.macs, 0.0),
        budget_ms=2.5 if chain else 1.0,
        generator=torch.Generator().manual_seed(0),
        arch_learning_rate=0.05,
        compute=compute,
        options=ProxylessOptions("two") if name == "two" else None,
    )
    return kind.begin(context)


def images_of(name: str) -> tuple[Data, Data]:
    """Return training and validation images."""
    return (TRAIN, VALID) if STRATEGIES[name][1] is CHAIN else (FEW_TRAIN, FEW_VALID)


def run(
    name: str,
    strategy: Strategy,
    compute: Compute,
    files: SearchFiles | None = None,
    on_line: OnLine | None = None,
) -> None:
    train, valid = (part.placed(compute) for part in images_of(name))
    run_search(strategy, train, valid, PLAN, 0, files, on_line=on_line)


def searched(name: str, compute: Compute) -> Strategy:
    strategy = started(name, compute)
    run(name, strategy, compute)
    return strategy


def assert_same(name: str, state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state.keys() == expected.keys()
    tolerance = 1e-7 if name in SECOND_DERIVATIVES else 0.0
    for key, value in expected.items():
        torch.testing.assert_close(state[key].cpu(), value, rtol=tolerance, atol=tolerance, msg=key)


@each
def test_a_search_is_that_of_the_cpu(name: str) -> None:
    expected, strategy = searched(name, CPU).state_dict(), searched(name, GPU)
    assert_same(name, strategy.state_dict(), expected)
    weights = strategy.supernet.state_dict().values()
    assert {value.device.type for value in weights} == {NAME}


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_weight_step_reads_nothing_and_an_architecture_step_gradients(name: str) -> None:
    strategy = started(name, GPU)
    [batch] = images_of(name)[1].placed(GPU).in_order()
    strategy.begin_epoch(warm_up=True)
    with record_host_reads() as reads:
        strategy.weight_step(batch, 0.1)
    assert reads == []
    with record_host_reads() as reads:
        strategy.architecture_step(batch)
    assert reads == ["_to_copy"] * GRADIENTS[name]
    with record_host_reads() as reads:
        strategy.metrics()
    assert reads == []


@pytest.mark.parametrize("name", ["random", "full"])
def test_the_losses_of_a_search_are_read_only_every_so_many_steps(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "READ_STEPS", 4)
    monkeypatch.setattr(loop, "CHECKPOINT_INTERVAL_S", math.inf)
    strategy, lines = started(name, GPU), list[LogLine]()
    with record_host_reads() as reads:
        run(name, strategy, GPU, on_line=lines.append)
    steps = [line.step for line in lines]
    assert steps == [0, 4, 8, 8]  # the last one is that of the architecture step
    # the loss of a line and the sum since the last one; the sum and all weights after an epoch
    expected = 2 * len(lines) + 2 * EPOCHS + GRADIENTS[name] * ARCH_STEPS
    assert len(reads) == expected


def cut(name: str, compute: Compute, files: SearchFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search until the last weight step, which fails; each step before it left a checkpoint."""
    strategy = started(name, compute)
    last = EPOCHS * len(images_of(name)[0].labels) // PLAN.batch_size - 1
    numbers = iter(range(last + 1))
    weight_step = strategy.weight_step

    def dying_step(batch: Batch, learning_rate: float) -> StepResult:
        if next(numbers) == last:
            raise Killed
        return weight_step(batch, learning_rate)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "READ_STEPS", 1)
        patch.setattr(loop, "CHECKPOINT_INTERVAL_S", 0.0)
        patch.setattr(strategy, "weight_step", dying_step)
        run(name, strategy, compute, files)
    assert load_checkpoint(files.checkpoint)[1]["place"].split()[0] == str(last)


@pytest.mark.parametrize(
    ("name", "first", "then"),
    [
        ("two", GPU, GPU),
        ("two", GPU, CPU),
        ("two", CPU, GPU),
        ("reinforce", GPU, GPU),
        ("darts", GPU, GPU),
        ("ista-one-stage", GPU, CPU),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_a_search_that_was_cut_off_within_an_epoch_ends_as_the_undisturbed_one(
    name: str, first: Compute, then: Compute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the device, or on the other one."""
    files = SearchFiles(tmp_path / "search.safetensors", tmp_path / "log.jsonl")
    cut(name, first, files, monkeypatch)
    strategy = started(name, then)
    run(name, strategy, then, files)
    assert_same(name, strategy.state_dict(), searched(name, CPU).state_dict())


def test_eas_trains_networks_on_the_device_and_grows_them_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = SearchPlan(warmup_epochs=1, batch_size=8, children=2, child_epochs=1)
    searches: list[Searched] = []
    for number, compute in enumerate((CPU, GPU)):
        (tmp_path / str(number)).mkdir()
        search = Searched(tmp_path / str(number), monkeypatch, compute=compute)
        searches.append(search.run(plan=plan))
    on_cpu, on_gpu = searches
    for member, expected in zip(on_gpu.family, on_cpu.family, strict=True):
        assert member.choices == expected.choices
        assert member.loss == pytest.approx(expected.loss, rel=1e-5)
    genotype = on_gpu.strategy.family.genotype(on_gpu.family[-1])
    network = on_gpu.strategy.network(genotype)
    assert accuracy(network, on_gpu.images[1]) == on_gpu.family[-1].accuracy
