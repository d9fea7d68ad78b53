"""Searches of the space with real supernets, one line of ``searches.jsonl`` each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from hwnas.files import append_line, read_json, read_lines, write_json
from hwnas.latency_models.cost import CostTable
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.observation import Observation
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.registry import load_strategy, parse_options
from hwnas.search.strategy import SearchContext
from hwnas.training.images.augment import NO_AUGMENTATION
from hwnas.training.seeds import derived_seed, seeded
from tools.evaluate.exhaustive.problem import (
    BATCH_SIZE,
    Choices,
    Images,
    architecture,
    load_images,
    space,
)
from tools.evaluate.exhaustive.ranking.scores import all_logits
from tools.evaluate.exhaustive.table import Table
from tools.lib.clock import Clock

PERCENTILES = (25, 50, 75)
"""Budgets, as percentiles of the latencies of all networks."""
WINDOW = 0.89, 0.99
"""Predicted latencies between which a search chooses, as shares of the budget."""
SCREENED = 8
"""Networks that a search proposes; the first whose measured latency keeps the budget counts."""
MEASURED = 24
"""Networks that the latency model is fitted to."""
PLAN = SearchPlan(
    warmup_epochs=12, search_epochs=12, batch_size=BATCH_SIZE, augmentation=NO_AUGMENTATION
)
WARM_UP = msgspec.structs.replace(PLAN, search_epochs=0)
ARCH_LEARNING_RATE = 0.1
"""Learning rate of architecture parameters of ``--effort quick``."""


class Method(NamedTuple):
    """A strategy with its options."""

    strategy: str
    options: Mapping[str, str] = MappingProxyType({})
    """Options as on the command line."""
    search: str = ""
    """Method with the same search, which chooses its networks otherwise; empty: none."""


METHODS: dict[str, Method] = {
    "random": Method("random"),
    "evolution": Method("evolution"),
    "NSGA-II": Method("nsga2"),
    "ProxylessNAS": Method("proxyless", {"choice": "most-probable"}),
    "ProxylessNAS, judged": Method("proxyless", search="ProxylessNAS"),
    "ProxylessNAS, two paths, judged": Method("proxyless", {"estimator": "two"}),
    "REINFORCE": Method("reinforce", {"choice": "most-probable", "reward": "accuracy"}),
    "REINFORCE, probability": Method("reinforce", {"choice": "most-probable"}),
    "REINFORCE, judged": Method("reinforce", search="REINFORCE, probability"),
}
UNIFORM = ("random", "evolution", "nsga2")
"""Strategies whose supernet is trained on uniform paths: it is the same for all of them."""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """One search."""

    method: str
    runtime: str
    percentile: int
    seed: int
    candidates: tuple[Choices, ...]
    """Proposed networks, the most promising first."""
    cpu_s: float
    """Processor time of the supernet's training and of the choice."""
    supernet: tuple[float, ...] = ()
    """Scores of all networks with the supernet's weights on the validation images, in the table's
    order; empty for a supernet that another method's line has."""


def search_all(work: Path, table: Table, seeds: int, methods: tuple[str, ...]) -> Iterator[Search]:
    """Run the searches that are missing in ``work/searches.jsonl``, seed by seed; yield each when
    it ends."""
    file = work / "searches.jsonl"
    done = {(line.method, line.runtime, line.percentile, line.seed) for line in stored(work)}
    images = load_images()
    costs = {runtime: cost_table(table, runtime) for runtime in table.latency_ms}
    for seed, runtime, percentile, name in product(
        range(seeds), table.latency_ms, PERCENTILES, methods
    ):
        if (name, runtime, percentile, seed) in done:
            continue
        budget_ms = table.budget_ms(runtime, percentile)
        search = _Search(work / "supernets", images, costs[runtime], budget_ms, name, seed)
        line = search.run(runtime, percentile)
        append_line(file, line)
        yield line


def stored(work: Path) -> list[Search]:
    return list(read_lines(work / "searches.jsonl", Search))


def cost_table(table: Table, runtime: str) -> CostTable:
    """Return the costs by a latency model that is fitted to `MEASURED` random networks, as in a
    user's run."""
    own = space()
    rows = np.random.default_rng(0).choice(len(table.choices), MEASURED, replace=False)
    observations = [
        Observation("network", network.compute_blocks, float(table.latency_ms[runtime][row]))
        for row in rows
        for network in [architecture(own, tuple(map(int, table.choices[row])))]
    ]
    model = fit_model(runtime, observations, source="table", validate=False)
    return model.cost_table(own)


class _Search:
    """One search, whose folder has what an interrupted one continues from."""

    def __init__(
        self,
        folder: Path,
        images: Images,
        costs: CostTable,
        budget_ms: float,
        method: str,
        seed: int,
    ) -> None:
        self.folder, self.images, self.costs, self.budget_ms = folder, images, costs, budget_ms
        self.name, self.method, self.seed = method, METHODS[method], seed

    def run(self, runtime: str, percentile: int) -> Search:
        """Search; the supernet, or its warm-up, is trained once for all budgets of a seed."""
        strategy, name = self._begin(), self.method.strategy
        uniform = name in UNIFORM
        folder = shared = self.folder / f"{'uniform' if uniform else f'{name}-warm-up'}-{self.seed}"
        clock = self._train(strategy, PLAN if uniform else WARM_UP, shared)
        if not uniform:
            searched = self.method.search or self.name
            folder = own = self.folder / f"{searched}-{runtime}-{percentile}-{self.seed}"
            if not own.exists():
                copied = own.with_suffix(".part")
                shutil.copytree(shared, copied, dirs_exist_ok=True)
                copied.rename(own)
            strategy = self._begin()
            clock = self._train(strategy, PLAN, own)
        low_ms, high_ms = (share * self.budget_ms for share in WINDOW)
        seed = derived_seed(self.seed, "derive", runtime, percentile)
        genotypes = strategy.candidates(SCREENED, low_ms, high_ms, seed)
        return Search(
            method=self.name,
            runtime=runtime,
            percentile=percentile,
            seed=self.seed,
            candidates=tuple(genotype.choices for genotype in genotypes),
            cpu_s=clock.spent_s,
            supernet=self._supernet(strategy, folder),
        )

    def _train(self, strategy: Any, plan: SearchPlan, folder: Path) -> Clock:
        """Train the supernet up to the end of a plan, from the checkpoint in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        files = SearchFiles(folder / "search.safetensors", folder / "log.jsonl")
        clock = Clock(folder / "spent.json")
        images, seed = self.images, self.seed
        run = strategy.search if strategy.traits.own_loop else partial(run_search, strategy)
        run(images.train, images.valid, plan, seed, files, on_line=clock.note)
        clock.save()
        return clock

    def _begin(self) -> Any:
        torch.manual_seed(derived_seed(self.seed, "supernet"))
        return load_strategy(self.method.strategy).begin(
            SearchContext(
                space=space(),
                costs=self.costs,
                budget_ms=self.budget_ms,
                generator=seeded(self.seed, "paths"),
                arch_learning_rate=ARCH_LEARNING_RATE,
                options=parse_options(self.method.strategy, self.method.options),
            )
        )

    def _supernet(self, strategy: Any, folder: Path) -> tuple[float, ...]:
        """Return the score of every network with the supernet's weights; it is stored in the
        supernet's folder."""
        if self.method.strategy in UNIFORM and self.name != "random":
            return ()
        file = folder / "scores.json"
        if not file.exists():
            batches = list(self.images.valid.in_order())
            labels = torch.cat([wanted for _, wanted in batches])
            logits = all_logits(strategy.supernet, batches)
            write_json(file, [round(_probability(each, labels), 5) for each in logits])
        return read_json(file, tuple[float, ...])


def _probability(logits: Tensor, labels: Tensor) -> float:
    """Return the score of `hwnas.search.blackbox.judging.SupernetJudge`."""
    return logits.softmax(1).gather(1, labels[:, None]).mean().item()
