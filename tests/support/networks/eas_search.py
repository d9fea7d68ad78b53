"""A small EAS search: its space, images and plan, and workers that train in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import msgspec
import pytest
import torch

from hwnas.latency_models.cost import NetworkCosts
from hwnas.search.eas.model_pool import Member, read_family
from hwnas.search.eas.strategy import Eas, EasOptions
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.strategy import SearchContext
from hwnas.training.compute import CPU, Compute
from hwnas.training.job import TrainingJob, run_job
from hwnas.training.pool import Outcome
from hwnas.training.seeds import seeded
from tests.support.networks.grown import small_space
from tests.support.tiny import tiny_data

SPACE = small_space(depth=5, widths=(4, 8, 12, 16))
TRAIN, VALID = tiny_data(48), tiny_data(24, seed=1)
PLAN = SearchPlan(warmup_epochs=8, batch_size=8, children=8, child_epochs=2)
MACS_PER_MS = 1e5


def costs() -> NetworkCosts:
    return NetworkCosts(
        SPACE, lambda blocks: {block: block.macs / MACS_PER_MS for block in blocks}, 0.01
    )


class InProcess:
    """Trains in this process; ``broken`` has the number of failures by the child's number."""

    def __init__(self, broken: dict[int, int] | None = None) -> None:
        self.trained: list[str] = []
        self.broken = broken or {}
        self._turns: dict[str, int] = {}

    def train(self, folders: Sequence[Path]) -> Iterator[Outcome]:
        for folder in folders:
            turn = self._turns.setdefault(folder.name, len(self._turns))
            if self.broken.get(turn, 0) > 0:
                self.broken[turn] -= 1
                yield folder, "killed by SIGKILL (out of memory?)"
                continue
            run_job(
                msgspec.json.decode((folder / "job.json").read_bytes(), type=TrainingJob), folder
            )
            self.trained.append(folder.name)
            yield folder, ""


def files(folder: Path) -> SearchFiles:
    (folder / "search").mkdir(exist_ok=True)
    (folder / "checkpoints").mkdir(exist_ok=True)
    return SearchFiles(folder / "checkpoints" / "search.safetensors", folder / "search/log.jsonl")


class Searched:
    """A search with its workers, files and warnings."""

    def __init__(
        self,
        folder: Path,
        patch: pytest.MonkeyPatch,
        budget_ms: float = 6.0,
        workers: InProcess | None = None,
        kind: type[Eas] = Eas,
        shrink: bool = True,
        compute: Compute = CPU,
    ) -> None:
        self.workers, self.files = workers or InProcess(), files(folder)
        self.warnings: list[str] = []
        self.images = TRAIN.placed(compute), VALID.placed(compute)
        patch.setattr("hwnas.search.eas.strategy.workers_at", lambda address: self.workers)
        torch.manual_seed(0)
        context = SearchContext(
            space=SPACE,
            costs=costs(),
            budget_ms=budget_ms,
            generator=seeded(0, "paths"),
            warn=self.warnings.append,
            options=EasOptions(shrink=shrink),
            compute=compute,
        )
        self.strategy = kind.begin(context)

    def run(self, rounds: int = 1, plan: SearchPlan = PLAN) -> Searched:
        self.strategy.search(*self.images, plan, 0, self.files, rounds)
        return self

    @property
    def family(self) -> list[Member]:
        return read_family(self.files.log.parent / "children")


class FakeRay(ModuleType):
    """The part of Ray that hwnas uses; tasks run when their results are fetched."""

    def __init__(self, broken: int = 0) -> None:
        super().__init__("ray")
        self.broken, self.addresses = broken, list[str]()
        self.gpu_shares = list[float]()

    def init(self, address: str, **options: object) -> None:
        self.addresses.append(address)

    def put(self, value: object) -> object:
        return value

    def remote(self, function: Any) -> Any:
        fake = self

        class Task:
            def options(self, **given: object) -> Task:
                assert given["num_cpus"] == 1
                fake.gpu_shares.append(cast(float, given["num_gpus"]))
                return self

            def remote(self, *arguments: Any) -> Any:
                return lambda: fake._run(function, arguments)

        return Task()

    def wait(self, tasks: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return tasks[-1:], tasks[:-1]  # not in the order of the call

    def get(self, task: Any) -> Any:
        return task()

    def _run(self, function: Any, arguments: Any) -> Any:
        if self.broken:
            self.broken -= 1
            raise RuntimeError("The worker died unexpectedly\n  while executing a task.")
        return function(*arguments)
