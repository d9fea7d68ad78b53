"""EAS: children are trained once, the budget is kept, an interrupted search resumes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
import torch

from hwnas.architecture.architecture import Block
from hwnas.errors import BudgetError, HwnasError, UsageError
from hwnas.files import append_line
from hwnas.latency_models.cost import cost_table
from hwnas.nn.build import build
from hwnas.plugins import load
from hwnas.search.eas import model_pool
from hwnas.search.eas.model_pool import Member, read_family
from hwnas.search.eas.schedule import Schedule
from hwnas.search.eas.strategy import Eas, EasRandom, trained_networks
from hwnas.search.log import read_log
from hwnas.search.plan import SearchPlan
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.space import cell_space
from hwnas.spaces.mobile.space import Candidate, MobileSpace, Stage
from hwnas.training.evaluation import accuracy
from hwnas.training.pool import Outcome
from hwnas.training.seeds import seeded
from tests.support.machines.killed import Killed
from tests.support.networks.eas_search import (
    MACS_PER_MS,
    PLAN,
    SPACE,
    TRAIN,
    VALID,
    InProcess,
    Searched,
    costs,
    files,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    with pytest.MonkeyPatch.context() as patch:
        return Searched(tmp_path_factory.mktemp("whole"), patch).run()


def tree(searched: Searched) -> list[tuple[object, ...]]:
    """Return what must be equal after an interrupted search."""
    return [(m.name, m.key, m.parent, m.steps, m.choices, m.accuracy) for m in searched.family]


def test_a_schedule_has_four_phases_and_trains_all_children() -> None:
    assert Schedule.of(SearchPlan(children=8)) == Schedule(2, 4)
    assert Schedule.of(SearchPlan(children=450)) == Schedule(10, 45)
    assert Schedule.of(SearchPlan(children=450)).phase == 11
    assert Schedule(10, 4).end(3) == 8


def test_the_family_grows_from_the_start_within_the_budget(whole: Searched) -> None:
    root, *children = whole.family
    assert (root.name, root.parent, root.choices) == ("n0", "", SPACE.start.choices)
    names = {member.name for member in whole.family}
    assert all(member.parent in names and member.accuracy is not None for member in children)
    assert all(member.latency_ms <= 0.94 * 6.0 for member in whole.family)
    assert any(member.steps and member.params > root.params for member in children)
    grown_from = {member.parent for member in children}
    assert len(grown_from) > 1  # the parent changes while there is room to grow
    assert all(
        member.latency_ms <= 0.8 * 6.0 for member in whole.family if member.name in grown_from
    )


def test_the_log_has_a_line_for_each_trained_network(whole: Searched) -> None:
    lines = read_log(whole.files.log)
    assert [line.step for line in lines] == list(range(trained_networks(PLAN, 1)))
    assert [line.phase for line in lines][:2] == ["warm-up", "search"]
    assert all(line.expected_ms is not None for line in lines)


def test_a_child_starts_with_the_function_of_its_parent(whole: Searched) -> None:
    """Without training it is about as accurate; the noise that breaks symmetry is small."""
    strategy = whole.strategy
    filled = strategy.candidates(2, 5.4, 5.8, 1)
    derived = [member for member in whole.family if member.state == "derived"]
    assert derived
    for member in derived:
        genotype = next(g for g in filled if g.choices == member.choices)
        inherited = accuracy(strategy.network(genotype), VALID)
        assert member.accuracy is not None and abs(inherited - member.accuracy) <= 1 / len(
            VALID.labels
        )


def test_candidates_fill_the_window_and_the_best_comes_first(whole: Searched) -> None:
    genotypes = whole.strategy.candidates(3, 5.4, 5.8, 0)
    latencies_ms = [whole.strategy.costs.network_ms(genotype.choices) for genotype in genotypes]
    assert (
        len({SPACE.architecture(genotype).digest for genotype in genotypes}) == len(genotypes) == 3
    )
    assert all(5.4 <= latency_ms <= 5.8 for latency_ms in latencies_ms)
    with torch.no_grad():
        assert whole.strategy.network(genotypes[0]).eval()(torch.zeros(1, 1, 12, 12)).shape == (
            1,
            3,
        )


def test_where_nothing_is_fast_enough_the_fastest_is_the_candidate(whole: Searched) -> None:
    [only] = whole.strategy.candidates(3, 0.01, 0.02, 0)
    trained = [member for member in whole.family if member.state == "trained"]
    fastest = min(trained, key=lambda member: member.latency_ms)
    assert SPACE.architecture(only).digest == fastest.digest


def test_an_interrupted_search_ends_with_the_same_family(
    whole: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(InProcess):
        def train(self, folders: Sequence[Path]) -> Iterator[Outcome]:
            for ended in super().train(folders):
                if len(self.trained) == 6:
                    raise Killed
                yield ended

    first = Searched(tmp_path, monkeypatch, workers=Dying())
    with pytest.raises(Killed):
        first.run()
    again = Searched(tmp_path, monkeypatch).run()
    evaluated = [row for row in tree(whole) if row[5] is not None]
    assert tree(again) == evaluated[: len(tree(again))]
    assert not set(first.workers.trained) & set(again.workers.trained)  # nothing is trained twice
    assert read_log(again.files.log) == read_log(whole.files.log)


def test_members_of_an_interrupted_episode_do_not_change_its_parent(
    whole: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = count()

    def dying(path: Path, member: Member) -> None:
        if next(lines) == 4:  # in the middle of an episode's lines
            raise Killed
        append_line(path, member)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(model_pool, "append_line", dying)
        Searched(tmp_path, patch).run()
    again = Searched(tmp_path, monkeypatch).run()
    assert tree(again) == tree(whole)[: len(tree(again))]


def test_a_second_round_continues_the_first_and_trains_half_as_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Searched(tmp_path, monkeypatch).run()
    before = len(first.family)
    again = Searched(tmp_path, monkeypatch, budget_ms=5.0).run(rounds=2)
    assert 0 < len(again.family) - before <= 4
    assert all(member.latency_ms <= 0.94 * 5.0 for member in again.family[before:])
    assert [line.epoch for line in read_log(again.files.log)][-1] == 5


def test_a_start_network_over_the_budget_is_shrunk_and_distilled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_ms = costs().network_ms(SPACE.default.choices)
    monkeypatch.setattr(type(SPACE), "start", property(lambda space: space.default))
    searched = Searched(tmp_path, monkeypatch, budget_ms=0.8 * whole_ms).run()
    root, small, *others = searched.family
    assert root.latency_ms > 0.8 * whole_ms and small.latency_ms <= 0.7 * 0.8 * whole_ms
    assert small.parent == "n0" and all(step.startswith("narrower") for step in small.steps)
    assert all(member.latency_ms <= 0.94 * 0.8 * whole_ms for member in others)
    (tmp_path / "b").mkdir()
    refused = Searched(tmp_path / "b", monkeypatch, budget_ms=0.8 * whole_ms, shrink=False)
    with pytest.raises(BudgetError, match=r"start network of small takes .* shrink=false"):
        refused.run()
    assert refused.family == []  # raised before any training
    (tmp_path / "c").mkdir()
    with pytest.raises(BudgetError, match="so does the smallest"):
        Searched(tmp_path / "c", monkeypatch, budget_ms=0.02).run()


def test_if_corrected_costs_exclude_all_members_the_best_is_shrunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(SPACE), "start", property(lambda space: space.default))
    first = Searched(tmp_path, monkeypatch, budget_ms=0.4).run()
    before = len(first.family)
    again = Searched(tmp_path, monkeypatch, budget_ms=0.2).run(rounds=2)
    small, *others = again.family[before:]
    assert small.steps[0].startswith("narrower") and small.latency_ms <= 0.7 * 0.2
    assert all(member.latency_ms <= 0.94 * 0.2 for member in others)


def test_a_crashed_worker_costs_one_retry_and_at_most_one_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = Searched(tmp_path, monkeypatch, workers=InProcess({1: 1, 3: 2})).run()
    states = [member.state for member in searched.family]
    assert states.count("failed") == 1 and states[1] == "trained"
    assert [("again" in warning, "left out" in warning) for warning in searched.warnings] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    assert "out of memory?" in searched.warnings[-1] and "\n" not in searched.warnings[-1]
    failed = next(member for member in searched.family if member.state == "failed")
    assert failed.error.startswith("killed by SIGKILL")
    assert failed.name not in {member.parent for member in searched.family}


def test_a_search_whose_children_all_fail_reports_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = InProcess(dict.fromkeys(range(1, 20), 2))
    with pytest.raises(HwnasError, match=r"all 2 networks of the search failed: killed by"):
        Searched(tmp_path, monkeypatch, workers=broken).run()


def test_random_actions_learn_nothing_and_cost_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = Searched(tmp_path, monkeypatch, kind=EasRandom)
    before = {k: v.clone() for k, v in searched.strategy.controller.state_dict().items()}
    searched.run()
    after = searched.strategy.controller.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(read_log(searched.files.log)) == 9


def test_a_search_repeated_from_its_start_trains_nothing_again(
    tmp_path: Path, whole: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first episode on, the folder contains all members, including those of later
    episodes."""
    shutil.copytree(whole.files.log.parent, tmp_path / "search")
    (tmp_path / "search" / whole.files.log.name).unlink()
    again = Searched(tmp_path, monkeypatch).run()
    assert again.workers.trained == []
    assert tree(again) == tree(whole)


def test_the_controller_learns_from_every_episode(whole: Searched) -> None:
    torch.manual_seed(0)
    fresh = Eas(SPACE, costs(), 6.0).controller.state_dict()
    learnt = whole.strategy.controller.state_dict()
    assert any(not torch.equal(fresh[name], learnt[name]) for name in fresh)


def test_only_spaces_whose_networks_grow_are_accepted() -> None:
    assert load("strategy", "eas") is Eas and load("strategy", "eas-random") is EasRandom
    with pytest.raises(UsageError, match=r"the space 'cells' doesn't support; .* densenet"):
        Eas.check(cell_space((1, 28, 28), 10))


def test_a_chain_of_mbconvs_grows_within_the_budget_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = MobileSpace(
        "small",
        (1, 12, 12),
        3,
        (Block("conv", 1, 8, 3, 2, 1, 12),),
        (Stage(8, 2, 1), Stage(16, 2, 2)),
        tuple(Candidate("mbconv", kernel, ratio) for kernel in (3, 5) for ratio in (2, 4)),
        16,
    )
    costs = cost_table(space, lambda block: block.macs / MACS_PER_MS, 0.01)
    workers, budget_ms = InProcess(), 0.7 * costs.largest_ms
    monkeypatch.setattr("hwnas.search.eas.strategy.workers_at", lambda address: workers)
    torch.manual_seed(0)
    strategy = Eas.begin(
        SearchContext(space=space, costs=costs, budget_ms=budget_ms, generator=seeded(0, "paths"))
    )
    strategy.search(TRAIN, VALID, PLAN, 0, files(tmp_path))
    root, *children = read_family(tmp_path / "search" / "children")
    assert root.latency_ms < 0.5 * budget_ms
    assert children and all(member.latency_ms <= 0.94 * budget_ms for member in children)
    kinds = {step.split()[0] for member in children for step in member.steps}
    assert kinds == {"wider", "larger", "deeper"}
    genotypes = strategy.candidates(3, 0.9 * budget_ms, budget_ms, seed=0)
    assert all(
        0.9 * budget_ms <= costs.network_ms(genotype.choices) <= budget_ms for genotype in genotypes
    )
    network = build(space.architecture(genotypes[0]))
    network.load_state_dict(
        strategy.network(genotypes[0]).state_dict()
    )  # the training starts with these weights


def test_accuracies_in_the_log_are_shares(whole: Searched) -> None:
    assert all(line.accuracy <= 1 for line in read_log(whole.files.log))
