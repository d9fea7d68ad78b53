"""The interface of a search strategy: its traits, its options, its methods.

A strategy declares the properties that its callers depend on in `StrategyTraits`, and its own
options as a struct. `hwnas.search.registry.load_strategy` checks both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeVar

import msgspec
import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Genotype
from hwnas.errors import UsageError
from hwnas.latency_models.cost import Costs, CostTable
from hwnas.nn.elastic.slices import NO_SLICES, TrainedSlices
from hwnas.search.log import OnLine, SearchMetrics
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.spaces.space import SearchSpace
from hwnas.training.compute import CPU, Compute
from hwnas.training.images.loader import Batch, Data


class StrategyTraits(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of a strategy that its callers depend on."""

    parallel: bool = False
    """Whether several ranks of ``torchrun`` may share each batch (`ParallelStrategy`)."""
    own_loop: bool = False
    """Whether it runs its own loop, `OwnLoop.search`, instead of alternating steps."""
    judges: bool = False
    """Whether it evaluates networks with its trained supernet (`JudgingStrategy`)."""
    uses_objective: bool = True
    """Whether latency enters its loss or its reward by an objective (`hwnas.search.objective`)."""
    warm_up_uses_costs: bool = False
    """Whether its warm-up depends on costs, so that searches for other budgets cannot start from
    it."""
    recalibrates: bool = True
    """Whether the statistics of its batch norms belong to many networks, so that they must be
    computed again before a network is evaluated."""
    weights_ignore_costs: bool = False
    """Whether the training of its supernet is independent of costs, so that one supernet serves
    every budget."""
    step_macs: Callable[[Any], float] | None = None
    """Returns the MACs of one step per image in a space; ``None`` if a step runs one network."""
    total_steps: Callable[[SearchPlan, int], int] | None = None
    """Returns the number of steps up to the end of a round; ``None`` if they are those of the
    epochs."""


class StrategyOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the options of a strategy, with a default for each field."""

    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Names of options that do not change a result, so that they may differ when a run is
    resumed."""

    @property
    def judges(self) -> bool:
        """Whether a strategy with `StrategyTraits.judges` evaluates networks under these
        options."""
        return True

    def check(self) -> None:
        """Raise an `HwnasError` for a value that can't be used here; called before any work."""


class NoOptions(StrategyOptions, frozen=True):
    """Options of a strategy that has none."""


T = TypeVar("T", bound=msgspec.Struct)


def _ignore(message: str) -> None:
    pass


class SearchContext(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a search starts from."""

    space: SearchSpace
    costs: Costs
    budget_ms: float
    generator: torch.Generator
    """Draws paths and initial architecture parameters."""
    arch_learning_rate: float = 1e-3
    share_weights: bool = True
    """Whether candidates of a block share weights by slicing (`hwnas.nn.supernet`)."""
    objective: str = ""
    """How latency enters (`hwnas.search.objective.OBJECTIVES`); empty: the strategy's default."""
    compute: Compute = CPU
    """Device and precision of weights and images. Architecture parameters, draws and costs stay on
    the host in float32 or float64."""
    accumulate: int = 1
    """Parts of a batch that are computed one after another (`SearchPlan.accumulate`)."""
    gpus: tuple[str, ...] = ()
    """GPUs for trainings in separate processes, as in CUDA_VISIBLE_DEVICES."""
    data: str = ""
    """The data set as `hwnas.data.datasets.load_dataset` takes it, for trainings in separate
    processes; empty: they get the images in a file."""
    group_by: str = ""
    """See `hwnas.data.photos.labelled.ReadingOptions`."""
    weights: Mapping[str, Tensor] | None = None
    """Weights of the network that the space is cut from (`hwnas.spaces.elastic`)."""
    slices: TrainedSlices = NO_SLICES
    """Blocks of that network that were trained to be cut."""
    options: msgspec.Struct | None = None
    """An instance of the strategy's `Options`; ``None``: its defaults."""
    warn: Callable[[str], None] = _ignore
    """Called with one line about a problem that does not stop the search."""
    stage: Callable[[str], AbstractContextManager[object]] = nullcontext
    """Entered with the name of a part of the search whose time is reported separately."""

    @property
    def table(self) -> CostTable:
        """The costs of a space of independent decisions. Raises `UsageError` for another space."""
        if not isinstance(self.costs, CostTable):
            raise UsageError(
                f"the layers of the space {self.space.name!r} depend on each other: it has no "
                "table of costs, and only strategy 'eas' searches it"
            )
        return self.costs

    def options_as(self, kind: type[T]) -> T:
        """Return the options as an instance of ``kind``; its defaults if there are none."""
        options = kind() if self.options is None else self.options
        if not isinstance(options, kind):
            raise UsageError(f"options are {type(options).__name__}; expected {kind.__name__}")
        return options


class StepResult(NamedTuple):
    """Loss and accuracy of a step, scalars that are still on the device of the batch.

    The loop decides when to read them, because the host has to wait for values on a GPU.
    """

    loss: Tensor
    accuracy: Tensor


class Strategy(Protocol):
    """A search algorithm. It uses batches and a table of costs, but no device and no latency
    model."""

    traits: ClassVar[StrategyTraits]
    Options: ClassVar[type[msgspec.Struct]]
    """Its own options, a struct with ``forbid_unknown_fields`` and a default for each field."""

    @staticmethod
    def check(space: SearchSpace) -> None:
        """Raise `UsageError` for a space that this strategy cannot search."""
        ...

    @classmethod
    def begin(cls, context: SearchContext) -> Self:
        """Return the search before its first step; weights are drawn from torch's generator.

        The space is checked here too.
        """
        ...

    def network(self, genotype: Genotype) -> nn.Module:
        """Return the stand-alone network of a genotype with a copy of the search's weights."""
        ...

    def inherits(self, genotype: Genotype) -> bool:
        """Return whether the final training of a network starts from the weights of `network`."""
        ...

    def set_costs(self, costs: Any, budget_ms: float) -> None:
        """Continue with other costs (as in `SearchContext`), e.g. corrected by measurements."""
        ...

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        """Return distinct genotypes inside the latency window, the most promising first."""
        ...

    def preferences(self) -> tuple[list[list[float]], CostTable] | None:
        """Return the probability of each candidate and the costs they were learnt under."""
        ...


class SteppedStrategy(Strategy, Protocol):
    """A search of alternating steps, which `hwnas.search.loop.run_search` runs."""

    generator: torch.Generator
    """Draws paths; the loop seeds it at the start of each epoch and of each weight step."""

    def begin_epoch(self, warm_up: bool) -> None:
        """Prepare an epoch before its first step; not called if a search resumes within the
        epoch."""
        ...

    def weight_step(self, batch: Batch, learning_rate: float) -> StepResult:
        """Train the weights on a batch of training data."""
        ...

    def architecture_step(self, batch: Batch) -> StepResult | None:
        """Train the architecture parameters on a batch of validation data; ``None`` if there are
        none."""
        ...

    def metrics(self) -> SearchMetrics:
        """Return the state of the search after a step, for its log."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return the complete state of the search at any step, from which it can continue."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


class ParallelStrategy(SteppedStrategy, Protocol):
    """A strategy with `StrategyTraits.parallel`: each step is one on the batch that all ranks
    share."""

    costs: CostTable

    @property
    def supernet(self) -> nn.Module: ...


class JudgingStrategy(SteppedStrategy, Protocol):
    """A strategy with `StrategyTraits.judges`: its `candidates` evaluates many networks."""

    def judge_on(self, valid: Data, plan: SearchPlan, images: int, seed: int) -> None:
        """Set the validation images on which `candidates` evaluates networks; called after the
        steps of each round.

        ``images`` is the number of training images, for `SearchPlan.queries`.
        """
        ...


class OwnLoop(Strategy, Protocol):
    """A strategy with `StrategyTraits.own_loop`, e.g. a search that trains whole networks."""

    def search(
        self,
        train: Data,
        valid: Data,
        plan: SearchPlan,
        seed: int,
        files: SearchFiles,
        rounds: int = 1,
        on_line: OnLine | None = None,
    ) -> None:
        """Search up to the end of round ``rounds``; work that is in ``files`` is not repeated."""
        ...
