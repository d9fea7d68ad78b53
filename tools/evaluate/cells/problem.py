"""Space, data and budgets of the searches: the same for every method."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec

from hwnas.console import QuietConsole
from hwnas.data.datasets import Dataset, load_dataset
from hwnas.latency_models.cost import CostTable, cost_table
from hwnas.spaces.cells.layout import Norm
from hwnas.spaces.cells.space import CellSpace, cell_space
from hwnas.specialize.setup.target import find_target, model_of
from hwnas.training.images.loader import Data, as_data
from hwnas.training.seeds import derived_seed

METHODS = {
    "DARTS, first order": "darts",
    "DARTS, second order": "darts-2",
    "PC-DARTS": "pc-darts",
    "ISTA-NAS, two-stage": "ista",
    "ISTA-NAS, one-stage": "ista-one-stage",
    "ProxylessNAS": "proxyless",
    "random search": "random",
}


class Size(msgspec.Struct, frozen=True):
    """Sizes and budgets; stored with every result, so that results of other sizes are never
    reused."""

    channels: int = 8
    layers: int = 5
    train_images: int = 4000
    """Images of the training split, drawn once; the children are trained on all of them."""
    valid_images: int = 1000
    batch_size: int = 64
    search_minutes: float = 5.0
    """Processor time of each search."""
    child_epochs: int = 12
    budget_share: float = 1.0
    """Budget as a share of the cost of DARTS's published cells."""
    ranked: int = 8
    """Number of architectures for the rank correlation."""
    arch_learning_rate: float = 0.03


class Problem(NamedTuple):
    """One data set with its space and costs."""

    name: str
    size: Size
    dataset: Dataset
    train: Data
    valid: Data
    test: Data
    spaces: dict[Norm, CellSpace]
    costs: dict[Norm, CostTable]
    budget_ms: float

    def norm_of(self, strategy: str) -> Norm:
        return "pool and skip" if strategy == "ista-one-stage" else "none"

    @property
    def window_ms(self) -> tuple[float, float]:
        return 0.8 * self.budget_ms, self.budget_ms


def make_problem(data: str, size: Size, costs: str) -> Problem:
    """Load images and costs: ``macs`` is 1 ms per million MACs, others a target's latency model."""
    dataset = load_dataset(data)
    train, valid, test = (
        as_data(split, dataset) for split in (dataset.train, dataset.valid, dataset.test)
    )
    norms: tuple[Norm, ...] = ("none", "pool and skip")
    spaces: dict[Norm, CellSpace] = {
        norm: cell_space(
            dataset.input_shape, dataset.num_classes, size.channels, size.layers, norm=norm
        )
        for norm in norms
    }
    tables: dict[Norm, CostTable] = {norm: _costs(space, costs) for norm, space in spaces.items()}
    plain = spaces["none"]
    budget_ms = size.budget_share * tables["none"].network_ms(plain.default.choices)
    return Problem(
        dataset.name,
        size,
        dataset,
        train.sample(size.train_images, derived_seed(0, "front ends")),
        valid.sample(size.valid_images, derived_seed(0, "front ends")),
        test,
        spaces,
        tables,
        budget_ms,
    )


def _costs(space: CellSpace, costs: str) -> CostTable:
    if costs == "macs":
        return cost_table(space, lambda block: block.macs / 1e6, 0.0)
    return model_of(find_target(costs), space, QuietConsole()).cost_table(space)


def folder_of(work: Path, problem: Problem) -> Path:
    """Return the folder for results of this data set and size."""
    digest = derived_seed(0, problem.name, msgspec.json.encode(problem.size).decode()) % 10**8
    folder = work / f"{problem.name}-{digest:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def ranked_architectures(problem: Problem) -> list[tuple[int, ...]]:
    """Return random choices within the budget window, the same for every method and seed."""
    rng, costs = Random(0), problem.costs["none"]
    low_ms, high_ms = 0.5 * problem.budget_ms, 1.5 * problem.budget_ms
    architectures: list[tuple[int, ...]] = []
    for _ in range(10_000):
        choices = problem.spaces["none"].random(rng).choices
        if low_ms <= costs.network_ms(choices) <= high_ms and choices not in architectures:
            architectures.append(choices)
        if len(architectures) == problem.size.ranked:
            return architectures
    raise SystemExit("too few random networks have 50 to 150 % of the budget")
