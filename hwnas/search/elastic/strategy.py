"""Elastic: tune a trained network on the data, then cut it to the budget.

1. The whole network is tuned on the training images. It is a result in itself, and the teacher of
   every smaller network.
2. Statistics of its inner channels give the weights of every cut in closed form
   (`hwnas.nn.elastic.member`), and the effect of each single cut on the predictions is measured.
3. The best members within a latency window are solutions of a knapsack for each resolution. Their
   projections are solved again for their own inputs, and the members with the highest probability
   of the validation images' labels are chosen.

The idea of a knapsack over independent effects is that of HALP (Shen et al., NeurIPS 2022,
arXiv:2110.10811) and SPDY (Frantar and Alistarh, ICML 2022, arXiv:2201.13096); the nested networks
in a trained one are those of Once-for-all (Cai et al., ICLR 2020, arXiv:1908.09791).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import msgspec
import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Genotype
from hwnas.errors import UsageError
from hwnas.files import read_lines, write_json
from hwnas.latency_models.cost import NetworkCosts
from hwnas.nn.build import Network, build
from hwnas.nn.elastic.member import ClosedForms
from hwnas.nn.elastic.statistics import collect, elastic_places
from hwnas.nn.resized import resized
from hwnas.pretrained.network import loaded
from hwnas.search.elastic.divergence import CHUNK_IMAGES, Divergence
from hwnas.search.elastic.shortlist import random_members, shortlist
from hwnas.search.elastic.state import (
    ElasticState,
    TunedFiles,
    TunedNetwork,
    read_state,
    write_state,
)
from hwnas.search.log import LogLine, OnLine, write_log
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.strategy import SearchContext, StrategyOptions, StrategyTraits
from hwnas.spaces.elastic.space import ElasticSpace
from hwnas.spaces.space import SearchSpace
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.evaluation import accuracy, label_probability
from hwnas.training.images.loader import Batch, Data
from hwnas.training.job import TrainingJob, run_job
from hwnas.training.log import EpochLog

STATISTICS_IMAGES = 256
"""Training images whose statistics the closed forms use."""
DIVERGENCE_IMAGES = 128
"""Training images on which predictions are compared."""
MEMBERS_PER_SIZE = 2
"""Members of each resolution on the shortlist."""
BEST_SIZES = 3
"""Number of resolutions of which all members of the shortlist are judged; of other resolutions the
first member is."""
JUDGED_IMAGES = 512
"""Most validation images on which members are judged."""
ORIGINAL = "original"
"""Folder of the whole network's training, in the folder of the search."""


class ElasticOptions(StrategyOptions, frozen=True):
    """Options of strategy ``elastic``."""

    ranking: Literal["probability", "random"] = "probability"
    """How members are chosen: by the mean probability of the labels of validation images;
    ``random``: by latency alone, as a baseline."""


def tuned_epochs(plan: SearchPlan, rounds: int) -> int:
    """Return the epochs in which the whole network is tuned."""
    return plan.tuning.epochs


class Elastic:
    """Cuts a trained network to a latency budget."""

    traits: ClassVar = StrategyTraits(
        own_loop=True,
        uses_objective=False,
        weights_ignore_costs=True,
        recalibrates=False,
        total_steps=tuned_epochs,
    )
    Options: ClassVar[type[msgspec.Struct]] = ElasticOptions

    def __init__(self, context: SearchContext, space: ElasticSpace) -> None:
        self.space, self.context = space, context
        self.options = context.options_as(ElasticOptions)
        self.set_costs(context.costs, context.budget_ms)
        self.divergence: Divergence
        self.increments: list[list[float]]
        self.judging: Batch
        """Validation images on the host, normalised, with their labels."""
        self._probabilities: dict[Genotype, float] = {}

    @staticmethod
    def check(space: SearchSpace) -> None:
        """Raise `UsageError` for a space that is not cut from a trained network."""
        if not isinstance(space, ElasticSpace):
            raise UsageError(
                f"strategy 'elastic' cuts a trained network, and the space {space.name!r} has "
                "none: add --from NETWORK (`hwnas networks list` shows them)"
            )

    @classmethod
    def begin(cls, context: SearchContext) -> Self:
        cls.check(context.space)
        assert isinstance(context.space, ElasticSpace)
        return cls(context, context.space)

    def set_costs(self, costs: object, budget_ms: float) -> None:
        assert isinstance(costs, NetworkCosts)
        self.costs, self.budget_ms = costs, budget_ms

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
        """Tune the whole network and measure its cuts, unless ``files`` have both.

        The tuned network is written to `TunedFiles`.
        """
        images, _ = _normalised(train, max(STATISTICS_IMAGES, DIVERGENCE_IMAGES), seed)
        self.judging = _normalised(valid, JUDGED_IMAGES, seed)
        if files.checkpoint.exists():
            state = read_state(files.checkpoint)
            self._open(state, images)
        else:
            with self.context.stage("tune"):
                network, accuracy = self._tuned(train, valid, plan, seed, files, on_line)
            with self.context.stage("cut"):
                state = self._measured(network, accuracy, images, seed)
            write_state(files.checkpoint, state)
        tuned = TunedFiles.of(files)
        save_checkpoint(tuned.weights, state.weights, {})
        write_json(tuned.description, TunedNetwork(self.space.original, state.accuracy))

    def network(self, genotype: Genotype) -> nn.Module:
        """Return a member on the device of the search, with weights that are solved from front to
        back on the host."""
        return self.context.compute.place(self.divergence.refitted(genotype))

    def inherits(self, genotype: Genotype) -> bool:
        """Return true: all members are trained further from their weights."""
        return True

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        """Return members in the window, the most promising first."""
        if self.options.ranking == "random":
            return random_members(self.space, self.costs, low_ms, high_ms, count, seed)
        members = shortlist(
            self.space, self.costs, self.increments, low_ms, high_ms, MEMBERS_PER_SIZE, seed
        )
        # a whole network at a resolution is a baseline, and is trained anyway
        whole = {self.space.genotype(size) for size in range(len(self.space.sizes))}
        cut = [member for member in dict.fromkeys(members) if member not in whole]
        return self._most_probable(cut)[:count]

    @torch.no_grad()
    def probability(self, genotype: Genotype) -> float:
        """Return the `label_probability` of a member on validation images, with its weights before
        training.

        Closed forms alone favour small resolutions with few cuts: refitting helps members with many
        cuts most (`tools.evaluate.pretrained.resolutions`).
        """
        if genotype not in self._probabilities:
            images, labels = self.judging
            network = self.divergence.refitted(genotype)
            images = resized(images, self.space.sizes[genotype.choices[0]])
            logits = torch.cat([network(part) for part in images.split(CHUNK_IMAGES)])
            self._probabilities[genotype] = label_probability(logits, labels)
        return self._probabilities[genotype]

    def _most_probable(self, members: Sequence[Genotype]) -> list[Genotype]:
        """Return the judged members, those of the highest probability first: the first member of
        each resolution, and all members of the best `BEST_SIZES`."""
        by_size: dict[int, list[Genotype]] = {}
        for member in members:
            by_size.setdefault(member.choices[0], []).append(member)
        sizes = sorted(by_size.values(), key=lambda same: -self.probability(same[0]))
        judged = [member for same in sizes[:BEST_SIZES] for member in same]
        judged += [same[0] for same in sizes[BEST_SIZES:]]
        return sorted(judged, key=lambda member: -self.probability(member))

    def preferences(self) -> None:
        return None

    def _tuned(
        self,
        train: Data,
        valid: Data,
        plan: SearchPlan,
        seed: int,
        files: SearchFiles,
        on_line: OnLine | None,
    ) -> tuple[Network, float]:
        """Return the whole network after its training on the data, and its validation accuracy.

        A training that was interrupted is resumed. A plan of 0 epochs does not change the network.
        """
        if plan.tuning.epochs == 0:
            network = build(self.space.original)
            network.load_state_dict(self._initial())
            network = self.context.compute.place(network.eval())
            value = accuracy(network, valid)
            return network.cpu(), value
        folder = files.log.parent / ORIGINAL
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "initial.safetensors").exists():
            save_checkpoint(folder / "initial.safetensors", self._initial(), {})
        job = TrainingJob(
            architecture=self.space.original,
            data=self.context.data,
            group_by=self.context.group_by,
            plan=plan.tuning,
            initial="initial.safetensors",
            seed=seed,
            compute=self.context.compute,
        )

        def report(line: EpochLog) -> None:
            # of all epochs, so that a kill neither loses a line nor repeats one
            write_log(files.log, map(_logged, read_lines(folder / "log.jsonl", EpochLog)))
            if on_line is not None:
                on_line(_logged(line))

        result = run_job(job, folder, images=(train, valid), on_epoch=report)
        network = build(self.space.original)
        network.load_state_dict(load_checkpoint(folder / "network.safetensors")[0])
        return network.eval(), result.validation_accuracy

    def _measured(
        self, network: Network, accuracy: float, images: Tensor, seed: int
    ) -> ElasticState:
        """Return the state of the search: the statistics of the network, and its increments."""
        places = [place for place in elastic_places(network) if place in self.space.elastic]
        statistics = collect(network, images[:STATISTICS_IMAGES].split(32), places, seed=seed)
        weights, slices = network.state_dict(), self.context.slices
        state = ElasticState(weights, accuracy, statistics, [], slices)
        self._open(state, images)
        self.increments = self.divergence.increments(self.space.default.choices[0])
        return state._replace(increments=self.increments)

    def _initial(self) -> dict[str, Tensor]:
        if self.context.weights is None:
            raise UsageError("strategy 'elastic' needs the weights of a trained network")
        return loaded(self.space.original, dict(self.context.weights)).state_dict()

    def _open(self, state: ElasticState, images: Tensor) -> None:
        network = build(self.space.original)
        network.load_state_dict(state.weights)
        blocks = self.space.original.blocks
        forms = ClosedForms(network.eval(), blocks, state.statistics, state.slices)
        self.divergence = Divergence(self.space, forms, images[:DIVERGENCE_IMAGES])
        self.increments = state.increments


def _logged(line: EpochLog) -> LogLine:
    """Return an epoch of the tuning as a line of the search's log."""
    return LogLine(
        loss=line.loss,
        accuracy=line.accuracy,
        epoch=line.epoch - 1,
        step=line.epoch,
        phase="tuning",
    )


def _normalised(data: Data, count: int, seed: int) -> Batch:
    """Return up to ``count`` random images on the host, as the network expects them, and their
    labels."""
    sample = data.sample(count, seed)
    with torch.no_grad():
        images, labels = zip(*sample.in_order(), strict=True)
        return torch.cat(images).cpu(), torch.cat(labels).cpu()
