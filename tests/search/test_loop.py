"""A resumed search ends as an uninterrupted one."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor

from hwnas.errors import HwnasError, UsageError
from hwnas.latency_models.cost import CostTable
from hwnas.nn.supernet import Supernet
from hwnas.search.blackbox.random import RandomSearch
from hwnas.search.blackbox.strategies import Evolution
from hwnas.search.log import LogLine, read_log
from hwnas.search.loop import _learning_rate, run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.proxyless.gradient import ProxylessGradient
from hwnas.search.proxyless.reinforce import Reinforce
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.space import cell_space
from hwnas.spaces.mobile.space import FUSED
from hwnas.training.images.augment import Augmentation
from tests.support.machines.killed import Killed
from tests.support.tiny import MB33, MB76, tiny_costs, tiny_data, tiny_space

SPACE = tiny_space(MB33, MB76, FUSED[1])
PLAN = SearchPlan(warmup_epochs=2, search_epochs=2, batch_size=8)
TRAIN, VALID = tiny_data(48), tiny_data(20, seed=1)
EPOCHS = PLAN.warmup_epochs + PLAN.search_epochs
STRATEGIES = (ProxylessGradient, Reinforce, RandomSearch)
each = pytest.mark.parametrize("kind", STRATEGIES, ids=lambda kind: kind.__name__)


Chain = ProxylessGradient | Reinforce | RandomSearch


def started(kind: type[Chain]) -> Chain:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    return kind.begin(
        SearchContext(
            space=SPACE,
            costs=tiny_costs(SPACE),
            budget_ms=2.5,
            generator=generator,
            arch_learning_rate=0.05,
        )
    )


@pytest.mark.parametrize("kind", [Reinforce, Evolution])
def test_a_search_over_chains_refuses_a_space_of_cells(
    kind: type[Reinforce] | type[Evolution],
) -> None:
    space = cell_space((1, 28, 28), 10)
    costs = CostTable(tuple((1.0,) * len(decision.candidates) for decision in space.decisions), 0.0)
    with pytest.raises(UsageError, match="'cells' has decisions that several"):
        kind.begin(
            SearchContext(space=space, costs=costs, budget_ms=2.5, generator=torch.Generator())
        )


def files_in(folder: Path) -> SearchFiles:
    folder.mkdir(exist_ok=True)
    return SearchFiles(folder / "search.safetensors", folder / "log.jsonl")


def kill_in(epoch: int):
    """Return a callback that raises `Killed` at the second line of an epoch."""
    seen = 0

    def on_line(line: LogLine) -> None:
        nonlocal seen
        seen += line.epoch == epoch
        if seen == 2:
            raise Killed

    return on_line


def run(strategy: Chain, files: SearchFiles, on_line=None, rounds: int = 1) -> dict[str, Tensor]:
    run_search(strategy, TRAIN, VALID, PLAN, 0, files, rounds, on_line)
    return {name: value.clone() for name, value in strategy.state_dict().items()}


@each
def test_a_search_interrupted_in_any_epoch_ends_as_an_uninterrupted_one(
    kind, tmp_path: Path
) -> None:
    whole = files_in(tmp_path / "whole")
    expected = run(started(kind), whole)
    for epoch in range(EPOCHS):
        files = files_in(tmp_path / f"cut-{epoch}")
        with pytest.raises(Killed):
            run(started(kind), files, kill_in(epoch))
        # a kill between log and checkpoint leaves lines of an epoch that is not done
        with open(files.log, "ab") as log:
            log.write(
                msgspec.json.encode(
                    LogLine(loss=1, accuracy=0, epoch=epoch, step=99, phase="search")
                )
            )
            log.write(b'\n{"epoch": 0, "st')
        state = run(started(kind), files)
        assert state.keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in state.items())
        assert files.log.read_bytes() == whole.log.read_bytes()
        assert files.checkpoint.read_bytes() == whole.checkpoint.read_bytes()


@each
def test_a_finished_search_is_not_run_again(kind, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    expected, log = run(started(kind), files), files.log.read_bytes()
    state = run(started(kind), files, on_line=kill_in(0))
    assert all(torch.equal(value, expected[name]) for name, value in state.items())
    assert files.log.read_bytes() == log


def test_a_further_round_is_half_as_long_resumed_or_not(tmp_path: Path) -> None:
    files, strategy = files_in(tmp_path / "on"), started(ProxylessGradient)
    run(strategy, files)
    expected = run(strategy, files, rounds=2)
    assert max(line.epoch for line in read_log(files.log)) == EPOCHS  # one epoch more: 0 … 4
    again = files_in(tmp_path / "again")
    run(started(ProxylessGradient), again)
    state = run(started(ProxylessGradient), again, rounds=2)
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


@each
def test_log_lines_have_the_metrics_of_their_steps(kind, tmp_path: Path) -> None:
    files, reported = files_in(tmp_path), []
    run(started(kind), files, reported.append)
    lines = read_log(files.log)
    assert reported == lines
    steps = [(line.epoch, line.step) for line in lines]
    assert steps == sorted(steps) and lines[-1].step == EPOCHS * 6 - 1
    assert {(line.epoch, line.phase) for line in lines} == {
        (0, "warm-up"),
        (1, "warm-up"),
        (2, "search"),
        (3, "search"),
    }
    for line in lines:
        assert math.isfinite(line.loss) and 0 <= line.accuracy <= 1
        if kind is RandomSearch:
            assert line.entropy is line.expected_ms is line.multiplier is None
        else:
            assert line.entropy is not None and 0.5 < line.entropy <= 1
            assert line.expected_ms is not None and 0.5 < line.expected_ms < 4
    if kind is ProxylessGradient:  # the multiplier moves with the architecture only
        assert {line.multiplier for line in lines if line.phase == "warm-up"} == {0.0}
        assert lines[-1].multiplier != 0


@each
def test_every_epoch_has_its_own_order_and_paths(kind, tmp_path: Path) -> None:
    """With a learning rate of 0, equal epochs would have equal losses."""
    plan = SearchPlan(3, 0, 8, warmup_learning_rate=0.0, weight_steps=1)
    files = files_in(tmp_path)
    run_search(started(kind), TRAIN, VALID, plan, 0, files)
    epochs = [[line.loss for line in read_log(files.log) if line.epoch == n] for n in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first line", "second line", "last line"])
@pytest.mark.parametrize("epoch", [1, 3], ids=["warm-up", "search"])
def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_checkpoint(
    epoch: int, place: int, tmp_path: Path
) -> None:
    """Also in the last step of an epoch, which the log may omit."""
    files, strategy = files_in(tmp_path), started(ProxylessGradient)
    checkpoints: list[bytes] = []
    seen = 0

    def poison(line: LogLine) -> None:
        nonlocal seen
        if line.epoch == epoch:
            if seen == place:
                checkpoints.append(files.checkpoint.read_bytes())
                assert isinstance(strategy.supernet, Supernet)
                with torch.no_grad():
                    strategy.supernet.stem.get_parameter("0.conv.weight").fill_(torch.nan)
            seen += 1

    with pytest.raises(HwnasError, match="loss is not finite at step") as caught:
        run(strategy, files, poison)
    assert "\n" not in str(caught.value)
    assert files.checkpoint.read_bytes() == checkpoints[0]
    assert max(line.epoch for line in read_log(files.log)) == epoch - 1


def test_the_learning_rate_rises_falls_and_restarts_for_the_search() -> None:
    plan = SearchPlan(warmup_epochs=5, search_epochs=4)
    warm_up = [_learning_rate(plan, step, 20) for step in range(100)]
    search = [_learning_rate(plan, step, 20) for step in range(100, 300)]
    assert warm_up[0] == pytest.approx(0.1 * plan.warmup_learning_rate)
    assert warm_up.index(max(warm_up)) == 9  # the end of the first tenth
    assert max(warm_up) == pytest.approx(plan.warmup_learning_rate, rel=0.03)
    assert 0 < warm_up[-1] < 1e-3 * plan.warmup_learning_rate
    assert search[0] == plan.search_learning_rate
    assert search[80:] == pytest.approx([0.1 * plan.search_learning_rate] * 120)
    assert search == sorted(search, reverse=True)


@pytest.mark.parametrize("kind", [ProxylessGradient, Reinforce])
def test_architecture_steps_see_validation_images_as_they_are(
    kind: type[Chain], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = started(kind)
    seen: dict[str, list[Tensor]] = {"weight_step": [], "architecture_step": []}
    for name, images in seen.items():
        step = getattr(strategy, name)

        def noted(batch, *rest, step=step, images=images):
            images.append(batch[0].clone())
            return step(batch, *rest)

        monkeypatch.setattr(strategy, name, noted)
    plan = msgspec.structs.replace(
        PLAN,
        warmup_epochs=0,
        weight_steps=1,
        arch_batch_size=10,
        augmentation=Augmentation(shift=0.3),
    )
    run_search(strategy, TRAIN, VALID, plan, 0, files_in(tmp_path / "run"))
    trained, judged = seen["weight_step"], seen["architecture_step"]
    assert len(judged) == len(trained) == plan.search_epochs * len(TRAIN.labels) // 8
    assert {len(batch) for batch in judged} == {10}
    stored = VALID.normalise(VALID.read(torch.arange(len(VALID.labels))))
    for image in torch.cat(judged):
        assert any(torch.equal(image, other) for other in stored)
    plain = TRAIN.normalise(TRAIN.read(torch.arange(len(TRAIN.labels))))
    moved = [all(not torch.equal(image, other) for other in plain) for image in torch.cat(trained)]
    assert sum(moved) > len(moved) / 2


def test_without_a_warm_up_the_search_starts_at_once() -> None:
    plan = SearchPlan(warmup_epochs=0)
    assert _learning_rate(plan, 0, 20) == plan.search_learning_rate
