"""Strategy elastic: tuning a trained network and choosing what to cut."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.errors import UsageError
from hwnas.latency_models.cost import NetworkCosts
from hwnas.nn.build import Network, build
from hwnas.nn.elastic.member import ClosedForms
from hwnas.nn.elastic.slices import NO_SLICES, TrainedSlices
from hwnas.nn.elastic.statistics import collect, elastic_places
from hwnas.nn.resized import resized
from hwnas.search.elastic.divergence import Divergence
from hwnas.search.elastic.shortlist import random_members, resolution_costs, shortlist
from hwnas.search.elastic.state import TunedFiles
from hwnas.search.elastic.strategy import Elastic, ElasticOptions
from hwnas.search.log import read_log
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.strategy import SearchContext
from hwnas.spaces.elastic.space import ElasticSpace, elastic_space
from hwnas.spaces.mobile.space import mobile_space
from hwnas.training.checkpoint import load_checkpoint
from hwnas.training.compute import Compute
from hwnas.training.evaluation import label_probability
from hwnas.training.images.loader import Data
from hwnas.training.plan import TrainingPlan

SIZE = 48
IMAGES = torch.randn(24, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def trained() -> Architecture:
    blocks = (
        Block("conv", 3, 8, 3, 2, 1, SIZE),
        Block("mbconv", 8, 16, 5, 2, 6, 24),
        Block("mbconv", 16, 16, 3, 1, 3, 12),
        Block("mbconv", 16, 16, 5, 1, 6, 12),
        Block("logits", 16, 4, 1, 1, 1, 12),
    )
    return Architecture(Genotype("trained", ()), blocks, (3, SIZE, SIZE), 4)


def randomised(network: Network) -> Network:
    """Give every tensor random values, the statistics of batch norms too."""
    generator = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            scale = 0.5 / max(1, value[0].numel()) ** 0.5 if value.ndim > 1 else 0.1
            centre = 1.0 if name.endswith(("running_var", "norm.weight")) else 0.0
            value.copy_(centre + scale * noise)
    return network.eval()


@pytest.fixture(scope="module")
def space() -> ElasticSpace:
    return elastic_space("tiny", trained())


@pytest.fixture(scope="module")
def divergence(space: ElasticSpace) -> Divergence:
    network = randomised(build(trained()))
    statistics = collect(network, [IMAGES], elastic_places(network))
    return Divergence(space, ClosedForms(network, trained().blocks, statistics), IMAGES)


def costs_of(space: ElasticSpace) -> NetworkCosts:
    """Costs that are the MACs in millions."""
    return NetworkCosts(space, lambda blocks: {b: b.macs / 1e6 for b in blocks}, 0.01)


def test_the_whole_network_answers_as_itself(space: ElasticSpace, divergence: Divergence) -> None:
    assert divergence.of(space.largest) == pytest.approx(0, abs=1e-6)


def test_a_member_changes_the_answers(space: ElasticSpace, divergence: Divergence) -> None:
    smallest = space.smallest
    cut = divergence.of_network(divergence.member(smallest), smallest.choices[0])
    assert cut > 1e-4
    # its projections are solved again before it is judged
    refitted = divergence.of_network(divergence.refitted(smallest), smallest.choices[0])
    assert divergence.of(smallest) == pytest.approx(refitted, rel=1e-3) and refitted < cut


def test_an_increment_is_the_divergence_of_that_cut_alone(
    space: ElasticSpace, divergence: Divergence
) -> None:
    increments = divergence.increments(0)
    assert [len(row) for row in increments] == [len(space.cuts[place]) for place in space.elastic]
    for number, row in enumerate(increments):
        assert row[0] == 0
        choices = [0] * len(increments)
        choices[number] = len(row) - 1
        alone = divergence.of_network(divergence.member(space.genotype(0, choices)), 0)
        assert row[-1] == pytest.approx(alone, rel=1e-3)


def test_the_shortlist_has_the_best_member_of_each_resolution(
    space: ElasticSpace, divergence: Divergence
) -> None:
    costs, increments = costs_of(space), divergence.increments(0)
    high_ms = 0.55 * costs.largest_ms
    low_ms = 0.9 * high_ms
    members = shortlist(space, costs, increments, low_ms, high_ms, 1, seed=0)

    def score(choices: tuple[int, ...]) -> float:
        return sum(row[choice] for row, choice in zip(increments, choices, strict=True))

    every = product(*(range(len(row)) for row in increments))
    inside = [
        choices
        for choices in every
        if low_ms <= costs.network_ms(space.genotype(0, choices).choices) <= high_ms
    ]
    best = min(inside, key=score)
    assert score(tuple(members[0].choices[1:])) == pytest.approx(score(best))
    sizes = [member.choices[0] for member in members]
    assert sizes == sorted(set(sizes))


def test_a_resolution_at_which_the_whole_network_is_fast_enough_ends_the_shortlist(
    space: ElasticSpace, divergence: Divergence
) -> None:
    costs = costs_of(space)
    middle_ms = costs.network_ms(space.genotype(1).choices)
    members = shortlist(
        space, costs, divergence.increments(0), middle_ms, 1.01 * middle_ms, 2, seed=0
    )
    assert members[-1] == space.genotype(1)
    assert {member.choices[0] for member in members} == {0, 1}


def test_random_members_keep_the_window(space: ElasticSpace) -> None:
    costs = costs_of(space)
    low_ms, high_ms = 0.4 * costs.largest_ms, 0.5 * costs.largest_ms
    members = random_members(space, costs, low_ms, high_ms, 6, seed=0)
    assert len(set(members)) > 2
    assert all(costs.network_ms(member.choices) <= high_ms for member in members)
    assert random_members(space, costs, low_ms, high_ms, 6, seed=0) == members


def test_the_costs_of_a_resolution_are_those_of_its_members(space: ElasticSpace) -> None:
    costs = costs_of(space)
    table = resolution_costs(space, costs, 1)
    choices = tuple(len(space.cuts[place]) - 1 for place in space.elastic)
    expected = costs.network_ms(space.genotype(1, choices).choices)
    assert table.network_ms(choices) == pytest.approx(expected)


def data(count: int) -> Data:
    images = torch.randint(256, (count, 3, SIZE, SIZE), dtype=torch.uint8)
    labels = torch.arange(count) % 4
    half = torch.full((3, 1, 1), 0.5)
    return Data(images, labels, half, half, 4)


def search(
    space: ElasticSpace,
    folder: Path,
    weights: dict[str, Tensor] | None,
    slices: TrainedSlices = NO_SLICES,
) -> Elastic:
    context = SearchContext(
        space=space,
        costs=costs_of(space),
        budget_ms=1.0,
        generator=torch.Generator(),
        weights=weights,
        slices=slices,
        options=ElasticOptions(),
    )
    strategy = Elastic.begin(context)
    torch.manual_seed(0)
    plan = SearchPlan(tuning=TrainingPlan(epochs=1, batch_size=16, warmup_epochs=0.2))
    files = SearchFiles.of_run(folder)
    files.log.parent.mkdir(parents=True, exist_ok=True)
    strategy.search(data(64), data(16), plan, 0, files)
    return strategy


@pytest.fixture(scope="module")
def run(space: ElasticSpace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Elastic]:
    folder = tmp_path_factory.mktemp("run")
    return folder, search(space, folder, randomised(build(trained())).state_dict())


def test_the_teacher_is_the_tuned_network(run: tuple[Path, Elastic], space: ElasticSpace) -> None:
    folder, strategy = run
    tuned = TunedFiles.of(SearchFiles.of_run(folder))
    assert tuned.read().architecture == space.original
    weights, _ = load_checkpoint(tuned.weights)
    whole = strategy.network(space.largest).state_dict()
    assert weights.keys() == whole.keys()
    assert all(torch.equal(weights[name], whole[name]) for name in weights)
    initial = randomised(build(trained())).state_dict()
    assert not torch.equal(weights["blocks.0.conv.weight"], initial["blocks.0.conv.weight"])


def test_a_finished_search_is_not_repeated(run: tuple[Path, Elastic], space: ElasticSpace) -> None:
    folder, strategy = run
    again = search(space, folder, None)
    assert again.increments == strategy.increments
    genotype = space.smallest
    before, now = (each.network(genotype).state_dict() for each in (strategy, again))
    assert all(torch.equal(before[name], now[name]) for name in before)


def test_matrices_of_a_supernet_make_kernels_of_the_tuned_ones(
    space: ElasticSpace, tmp_path: Path
) -> None:
    initial = randomised(build(trained())).state_dict()
    matrix = torch.eye(9) + 0.3 * torch.randn(9, 9, generator=torch.Generator().manual_seed(4))
    strategy = search(space, tmp_path, initial, {3: {3: matrix}})
    number = space.elastic.index(3)
    choices = [0] * len(space.elastic)
    choices[number] = [cut.name for cut in space.cuts[3]].index("4/6 width, smaller kernel")
    genotype, name = space.genotype(0, choices), "blocks.3.layers.depthwise.conv.weight"
    tuned = strategy.network(space.largest).state_dict()[name]
    assert not torch.equal(tuned, initial[name])
    expected = (tuned[:64, 0, 1:4, 1:4].reshape(64, 9) @ matrix.T).view(64, 1, 3, 3)
    for each in (strategy, search(space, tmp_path, None)):  # the second opens what the first left
        torch.testing.assert_close(each.network(genotype).state_dict()[name], expected)


def test_candidates_give_the_labels_of_validation_images_the_highest_probability(
    run: tuple[Path, Elastic], space: ElasticSpace
) -> None:
    _, strategy = run
    high_ms = 0.6 * strategy.costs.largest_ms
    candidates = strategy.candidates(4, 0.9 * high_ms, high_ms, seed=0)
    assert len(candidates) > 1
    images, labels = strategy.judging
    probabilities: list[float] = []
    for candidate in candidates:
        network = strategy.network(candidate)  # with the weights that its training begins with
        with torch.no_grad():
            logits = network(resized(images, space.sizes[candidate.choices[0]]))
        probabilities.append(label_probability(logits, labels))
        assert strategy.probability(candidate) == pytest.approx(probabilities[-1], abs=1e-5)
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(strategy.costs.network_ms(each.choices) <= high_ms for each in candidates)


def test_how_far_answers_change_does_not_decide(
    run: tuple[Path, Elastic], space: ElasticSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member whose answers are less sure, but right, is preferred to a surer one."""
    _, strategy = run
    high_ms = 0.6 * strategy.costs.largest_ms
    candidates = strategy.candidates(4, 0.9 * high_ms, high_ms, seed=0)
    least, best = candidates[-1], candidates[0]
    turned = {least: 0.9, best: 0.1}
    monkeypatch.setattr(strategy, "probability", lambda each: turned.get(each, 0.5))
    monkeypatch.setattr(strategy.divergence, "of", lambda each: {least: 9.0}.get(each, 0.1))
    again = strategy.candidates(4, 0.9 * high_ms, high_ms, seed=0)
    assert again[0] == least and again[-1] == best


def test_a_space_without_a_trained_network_is_refused() -> None:
    with pytest.raises(UsageError, match="add --from NETWORK"):
        Elastic.check(mobile_space((3, 32, 32), 10))


def test_a_member_that_is_refitted_answers_more_like_the_whole_network(
    space: ElasticSpace, divergence: Divergence
) -> None:
    genotype = space.genotype(0, [len(space.cuts[place]) - 1 for place in space.elastic])
    refitted = divergence.refitted(genotype)
    with torch.no_grad():
        whole, before, after = (
            network(IMAGES).log_softmax(1)
            for network in (divergence.member(space.largest), divergence.member(genotype), refitted)
        )
    change = [(whole.exp() * (whole - each)).sum(1).mean() for each in (before, after)]
    assert change[1] < change[0]


def test_the_log_has_each_epoch_of_the_tuning_once(
    space: ElasticSpace, tmp_path: Path, run: tuple[Path, Elastic]
) -> None:
    files, done = SearchFiles.of_run(tmp_path), run[0] / "search" / "original"
    shutil.copytree(done, files.log.parent / "original")
    (files.log.parent / "original" / "result.json").unlink()  # killed before the search's own log
    files.log.write_bytes((run[0] / "search" / "log.jsonl").read_bytes() * 2)
    search(space, tmp_path, randomised(build(trained())).state_dict())
    assert [(line.epoch, line.phase) for line in read_log(files.log)] == [(0, "tuning")]


def test_a_member_is_on_the_device_of_the_search(
    run: tuple[Path, Elastic], space: ElasticSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed: list[nn.Module] = []
    monkeypatch.setattr(Compute, "place", lambda _, network: placed.append(network) or network)
    member = run[1].network(space.smallest)
    assert placed == [member]
